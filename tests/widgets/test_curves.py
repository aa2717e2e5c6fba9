from __future__ import annotations

import threading

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from widgets import columns
from widgets.curves import Curve, Curves, extremes
from workbench.events import Event, Events


@given(hnp.arrays(np.float64, st.integers(2, 400), elements=st.floats(-1e6, 1e6) | st.just(float("nan"))), st.integers(1, 40))
def test_thinning_keeps_ends_and_the_extremes_of_each_column(values, columns):
    steps = np.arange(len(values), dtype=float)
    kept = extremes(steps, values, columns)
    assert kept[0] == 0 and kept[-1] == len(values) - 1 and (np.diff(kept) > 0).all()
    column = np.minimum((steps * (columns / (len(values) - 1))).astype(int), columns - 1)
    for c in np.unique(column):
        mine, seen = values[column == c], values[kept][column[kept] == c]
        if np.isfinite(mine).any():
            assert np.nanmin(mine) == np.nanmin(seen) and np.nanmax(mine) == np.nanmax(seen)
        assert np.isnan(mine).any() == np.isnan(seen).any()
    assert len(kept) <= 5 * columns


def test_a_step_written_again_replaces_what_stood_from_there_on():
    curve = Curve(np.array([0.0, 1, 2, 3]), np.array([4.0, 3, 2, 1]))
    curve.add([2, 3, 4], [9, 8, 7])
    assert curve.window().tolist() == [[0, 4], [1, 3], [2, 9], [3, 8], [4, 7]]


def test_a_window_reaches_one_point_beyond_its_ends():
    curve = Curve(np.arange(100.0), np.arange(100.0))
    assert curve.window(10, 20)[:, 0].tolist() == list(range(9, 22))


def test_history_and_news_make_one_curve(workspace):
    events = Events(workspace)
    for step in range(5):
        events.point("run", "loss", step, float(step))
    events.point("run", "loss", 3, 30.0)
    events.point("run", "loss", 5, float("nan"))
    curves = Curves(events, "run")
    assert curves.get("loss").window()[:5].tolist() == [[0, 0], [1, 1], [2, 2], [3, 30], [4, 4]]
    assert np.isnan(curves.get("loss").window()[5, 1])
    fresh = curves.feed([Event(99, "run", "point", 0.0, "loss", 6, 6.0), Event(100, "run", "log", 0.0)])
    assert fresh["loss"].tolist() == [[6, 6]]
    assert curves.get("loss").count == 7 and curves.names() == ["loss"]


def test_a_long_curve_is_mapped_from_a_file_and_goes_on_from_the_events(workspace):
    events = Events(workspace)
    events.append_many([("run", "point", 10.0 + n, "loss", n, float(n) if n != 7 else float("-inf"), {}) for n in range(100)])
    columns.write(workspace, "run", "loss")
    table, _ = columns.mapped(events, "run", "loss")
    assert table.shape == (3, 100) and np.isneginf(table[1, 7]) and table[2, 0] == 10
    events.point("run", "loss", 98, 0.5)  # another attempt: what stood from there on is gone
    events.point("run", "loss", 99, 0.25)
    curves = Curves(events, "run")
    curve = curves._mapped("loss")
    assert curve.count == 100 and curve.window()[-2:].tolist() == [[98, 0.5], [99, 0.25]] and curve.odd() == {"nan": 0, "inf": 1}
    assert curve.window(over="time")[0].tolist() == [10, 0]
    curves.feed([Event(1000, "run", "point", 0.0, "loss", 100, 7.0)])
    assert curve.window()[-1].tolist() == [100, 7]
    assert np.load(columns.path_of(events, "run", "loss"))[1, 99] == 98  # the file is never written to by who reads it
    events.database.execute("DELETE FROM events")
    events.point("run", "loss", 3, 1.0)
    assert columns.mapped(events, "run", "loss") is None  # another database: the file is not believed


def test_a_long_curve_is_a_sample_until_a_process_of_its_own_has_written_it(workspace, monkeypatch):
    monkeypatch.setattr("widgets.curves.LONG", 1000)
    events, read = Events(workspace), threading.Event()
    events.append_many([("run", "point", 0.0, "loss", n, float(n % 97), {}) for n in range(5000)])
    curves = Curves(events, "run", lambda name: read.set())
    sample = curves.seen("loss")
    assert sample.count < 5000 and sample.window()[-1].tolist() == [4999, 4999 % 97]
    assert read.wait(60) and curves.seen("loss").count == 5000
    assert Curves(events, "run").seen("loss").count == 5000  # another kernel has it at once
