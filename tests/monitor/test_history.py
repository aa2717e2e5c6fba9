"""The past of metrics: kept, thinned, read as curves; and rules tried against it."""

from __future__ import annotations

import math

import numpy as np

from workbench.monitor.history import RAW, History
from workbench.monitor.spec import Absence, Threshold
from workbench.monitor.trial import trial


def heat(**rooms: float) -> dict:
    return {"heat": [({"room": r}, v) for r, v in rooms.items()]}


def test_a_curve_comes_back_with_gaps_where_nobody_looked(workspace):
    history = History(workspace, "m")
    for at in (0.0, 2.0, 4.0, 100.0, 102.0):
        history.add(heat(a=at, b=1.0), 1000 + at)
    found = history.curve("heat", {"room": "a"}, gap=6)
    assert found[[0, 1, 2, 4, 5]].tolist() == [[1000, 0], [1002, 2], [1004, 4], [1100, 100], [1102, 102]]
    assert math.isnan(found[3, 1]) and 1004 < found[3, 0] < 1100
    assert history.curve("heat", {}, 1101, 1200).tolist() == [[1102, 102]]  # of several series the greatest
    assert history.last() == 1102 and History(workspace, "other").last() is None
    assert history.newest() == {"heat": [({"room": "a"}, 102.0), ({"room": "b"}, 1.0)]}


def test_counters_become_rates_over_a_restart_and_are_added_up(workspace):
    history = History(workspace, "m")
    for at, a, b in ((0, 10, 5), (2, 14, 5), (4, 3, 9)):
        history.add({"asked_total": [({"code": "200"}, a), ({"code": "500"}, b)]}, 1000.0 + at)
    assert history.curve("asked_total", {"code": "200"}).tolist() == [[1002, 2], [1004, 1.5]]
    assert history.curve("asked_total", {}).tolist() == [[1002, 2], [1004, 3.5]]


def test_old_looks_are_kept_as_minutes(workspace):
    history, start = History(workspace, "m"), 1_000_000 * 60.0
    for n in range(120):
        history.add(heat(a=float(n % 60)), start + n)
    history.add(heat(a=7.0), start + RAW + 300)
    assert history.database.row("SELECT COUNT(*) AS n FROM looks")["n"] == 1
    assert [tuple(r) for r in history.database.rows("SELECT at, low, high, last FROM minutes")] == [
        (start, 0, 59, 59), (start + 60, 0, 59, 59)]
    found = history.curve("heat", {"room": "a"})
    assert found[[0, 1, 3]].tolist() == [[start, 59], [start + 60, 59], [start + RAW + 300, 7]] and np.isnan(found[2, 1])


def test_a_rule_is_tried_against_what_was_seen(workspace):
    history = History(workspace, "m")
    for n, value in enumerate([1, 5, 5, 5, 1, 5, 1, 5, 5, 5, 5]):
        history.add({**heat(a=value), "other": [({}, 1.0)] if n < 4 else []}, 1000.0 + 2 * n)
    found = trial(Threshold(name="hot", metric="heat", above=3, lasts=4), history, 0, 2000)
    assert [(f["labels"], f["began"], f["ended"]) for f in found["fired"]] == [({"room": "a"}, 1006, 1008), ({"room": "a"}, 1018, None)]
    assert (found["looks"], found["seconds"], found["series"], found["least"], found["greatest"]) == (11, 20, 1, 1, 5)
    assert len(trial(Threshold(name="hot", metric="heat", above=3), history, 0, 2000)["fired"]) == 3
    [gone] = trial(Absence(name="gone", metric="other", lasts=4), history, 0, 2000)["fired"]
    assert (gone["began"], gone["ended"]) == (1012, None)
    assert trial(Threshold(name="hot", metric="nothing", above=3), history, 0, 2000)["series"] == 0
