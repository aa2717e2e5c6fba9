"""The monitor panel without a page: what it tells, and what a page asks of it, over a real evaluator."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import numpy as np
import pytest

from widgets import MonitorPanel
from widgets.still import picture
from workbench import runs
from workbench.events import Events
from workbench.journal import Journal
from workbench.monitor.history import History
from workbench.monitor.watch import Watch

SPEC = {"word": "monitor", "name": "watch", "port": 0, "interval": 0.2, "builtin": False, "rules": [
    {"rule": "threshold", "name": "room", "metric": "workbench_machine_disk_free_bytes", "below": 5e14,
     "summary": "less than there ever was"},
    {"rule": "threshold", "name": "lost", "metric": "workbench_run_not_finite", "above": 0}]}


class Page:
    """What a browser would be: asks by messages, and hears what is sent."""

    def __init__(self, panel: MonitorPanel):
        self.panel, self.heard, self.arrived = panel, [], threading.Condition()
        panel.send = self.hear

    def hear(self, content: dict[str, Any], buffers: Any = None) -> None:
        with self.arrived:
            self.heard.append((content, buffers or []))
            self.arrived.notify_all()

    def ask(self, name: str, /, **known: Any) -> tuple[Any, list[Any]]:
        mark = f"{name}-{len(self.heard)}"
        self.panel._handle_custom_msg({"ask": name, "id": mark, "with": known}, [])
        content, buffers = self.wait(lambda c: c.get("reply") == mark)
        assert "error" not in content, content
        return content["value"], buffers

    def refused(self, name: str, /, **known: Any) -> str:
        mark = f"{name}-{len(self.heard)}"
        self.panel._handle_custom_msg({"ask": name, "id": mark, "with": known}, [])
        return self.wait(lambda c: c.get("reply") == mark)[0]["error"]

    def wait(self, wanted, patience: float = 30) -> tuple[dict[str, Any], list[Any]]:
        with self.arrived:
            assert self.arrived.wait_for(lambda: any(wanted(c) for c, _ in self.heard), patience)
            return next((c, b) for c, b in self.heard if wanted(c))


def until(condition, patience: float = 30) -> None:
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


@pytest.fixture
def panel(workspace):
    made = []

    def make(*arguments, **known):
        made.append(MonitorPanel(*arguments, workspace=workspace, **known))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def watched(panel, workspace):
    """A panel whose evaluator looks five times a second, and a page at which somebody looks."""
    run = runs.run(SPEC, workspace)
    made = panel(run=run.id)
    page = Page(made)
    page.ask("looking", shown=[{"of": "machine", "metric": "workbench_machine_load", "labels": {}, "over": "time"}])
    until(lambda: made.watching.get("alerts"))
    return made, page


def test_alerts_are_told_acknowledged_and_taken_back(watched, workspace):
    panel, page = watched
    [alert] = panel.watching["alerts"]
    assert (alert["rule"], alert["summary"], alert["bound"]) == ("room", "less than there ever was", "below 500 TB")
    assert alert["acknowledged"] is None
    assert alert["value"].endswith("B") and panel.status["said"] == "watching" and panel.status["words"] == "1 alert"
    assert panel.attention["action"] == {"label": "See it", "tab": "live"} and "room" in panel.attention["text"]
    page.ask("acknowledge", alert=alert["id"], note="<b>soon</b>")
    [known] = panel.watching["alerts"]
    assert known["note"] == "<b>soon</b>" and known["who"] and panel.attention == {}
    assert Watch(workspace, "watch").alerts()[0].note == "<b>soon</b>"
    page.ask("withdraw", alert=alert["id"])
    assert panel.watching["alerts"][0]["acknowledged"] is None
    page.ask("silence", rule="room", seconds=600)
    assert next(r for r in panel.watching["rules"] if r["name"] == "room")["silence"]["who"]
    health = {h["word"]: h["state"] for h in panel.watching["health"]}
    assert (health["machines"], health["monitor"], health["train"]) == ("alert", "ok", "none")
    assert "room" in picture(panel) and "less than there ever was" in picture(panel)


def test_an_evaluator_that_died_is_said_and_started_again(watched, workspace):
    panel, page = watched
    os.kill(Watch(workspace, "watch").process.pid, signal.SIGKILL)
    until(lambda: panel.attention.get("action", {}).get("ask") == "revive")
    assert panel.watching["state"] == "died" and panel.status["state"] == "lost"
    page.ask("revive")
    assert panel.watching["state"] == "watching" and Watch(workspace, "watch").alive
    page.ask("end")
    assert panel.watching["state"] == "ended" and not Watch(workspace, "watch").alive


def test_curves_come_as_they_are_and_as_they_grow(watched, workspace):
    _, page = watched
    _, [raw] = page.ask("series", of="machine", metric="workbench_machine_load")
    first = np.frombuffer(raw).reshape(-1, 2)
    assert len(first) >= 1 and abs(first[-1, 0] - time.time()) < 30
    page.heard.clear()
    content, buffers = page.wait(lambda c: c.get("series") == [["machine", "workbench_machine_load"]])
    came = np.frombuffer(buffers[0]).reshape(-1, 2)
    assert (came[:, 0] > first[-1, 0]).all() and content["now"] >= came[-1, 0]
    journal, events = Journal(workspace), Events(workspace)
    entry, _ = journal.add("train", "m", "k", {"word": "train", "data": "docs"}, {}, place="here")
    journal.claim(entry.id)
    events.append_many([(entry.id, "point", 100.0 + n, "loss", n, 1.0 if n else float("inf"), {}) for n in range(5)])
    value, [raw] = page.ask("series", of="train/m", metric="loss", over="step")
    assert value == {"count": 5, "nan": 0, "inf": 1} and np.frombuffer(raw).reshape(-1, 2)[:, 0].tolist() == [0, 1, 2, 3, 4]
    _, [raw] = page.ask("series", of=f"run/{entry.id}", metric="loss", over="time")
    assert np.frombuffer(raw).reshape(-1, 2)[:, 0].tolist() == [100, 101, 102, 103, 104]
    page.ask("looking", shown=[{"of": "train/m", "metric": "loss", "labels": {}, "over": "step"}])
    events.point(entry.id, "loss", 5, 0.5)
    content, buffers = page.wait(lambda c: c.get("series") == [["train/m", "loss"]])
    assert np.frombuffer(buffers[0]).tolist() == [5, 0.5]
    journal.move(entry.id, "failed")


def test_nothing_is_gathered_while_nobody_looks(watched):
    panel, _ = watched
    panel._looked = -1e9
    until(lambda: not panel._gathering)
    told = panel.watching
    time.sleep(2.5)  # two pulses
    assert panel.watching is told


def test_charts_are_kept_in_the_spec_and_undone(panel, workspace):
    history = History(workspace, "watch")
    history.add({"workbench_machine_load": [({}, 1.0)]}, time.time())
    made = panel({**SPEC, "charts": [{"curves": [{"of": "machine", "metric": "workbench_machine_cpu_ratio"}]}]})
    page = Page(made)
    [offer] = page.ask("offered", text="load machine")[0]
    page.ask("chart", curve=offer)
    page.ask("chart", curve=offer, chart=0)
    assert [[c["metric"] for c in b["curves"]] for b in made.board] == [
        ["workbench_machine_cpu_ratio", "workbench_machine_load"], ["workbench_machine_load"]]
    page.ask("set", chart=1, log=True, smooth=0.05)
    assert made.spec.charts[1].log and made.board[1]["smooth"] == 0.05
    page.ask("unchart", chart=0, curve=0)
    page.ask("unchart", chart=1)
    assert [c.curves[0].metric for c in made.spec.charts] == ["workbench_machine_load"]
    for _ in range(5):
        page.ask("undo")
    assert [c.curves[0].metric for c in made.spec.charts] == ["workbench_machine_cpu_ratio"]


def test_a_rule_is_tried_as_it_is_edited(panel, workspace):
    history, now = History(workspace, "watch"), time.time()
    for n in range(60):
        history.add({"heat": [({}, 5.0 if n % 20 < 5 else 1.0)]}, now - 120 + 2 * n)
    made = panel({"name": "watch", "rules": [{"rule": "threshold", "name": "hot", "metric": "heat", "above": 3}]})
    page = Page(made)
    [tried] = page.ask("trial")[0]
    assert tried["fired"] == 3 and tried["text"].startswith("Would have fired 3 times in the last 1 min") and len(tried["times"]) == 3
    page.ask("put", path=["rules", 0, "above"], value=9)
    [tried] = page.ask("trial")[0]
    assert tried["fired"] == 0 and "its values lay between 1 and 5" in tried["text"]
    page.ask("put", path=["rules", 0, "metric"], value="nothing")
    assert page.ask("trial")[0][0]["text"].startswith("Nothing of nothing was seen")


def test_visitors_acknowledge_nothing_and_a_run_is_opened_below(watched, workspace, monkeypatch):
    panel, page = watched
    page.ask("open", run=panel.watch.run.id, word="monitor")
    assert panel.opened[0].watch.run.id == panel.watch.run.id
    panel.opened[0].close()
    panel.readonly = True
    alert = panel.watching["alerts"][0]["id"]
    for name, known in (("acknowledge", {"alert": alert}), ("end", {}), ("silence", {"rule": "room", "seconds": 1})):
        assert "visitors" in page.refused(name, **known)
    assert Watch(workspace, "watch").alive
