"""Panels without a page: what a notebook calls and what a page asks, over real runs."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from widgets import DataPanel, MonitorPanel, TrainPanel
from widgets.asking import slow
from widgets.still import Pending, picture
from workbench.errors import RunFailedError, SpecError
from workbench.events import Events
from workbench.journal import Journal

DIGITS = {"name": "digits", "sources": [{"kind": "digits"}], "steps": []}
WATCH = {"name": "watch", "seconds": 600, "port": 0}


class Page:
    """What a browser would be: asks by messages, and hears what is sent."""

    def __init__(self, panel):
        self.panel, self.heard = panel, []
        self.arrived = threading.Condition()
        panel.send = self.hear

    def hear(self, content: dict[str, Any], buffers: Any = None) -> None:
        with self.arrived:
            self.heard.append((content, buffers or []))
            self.arrived.notify_all()

    def ask(self, name: str, /, **known: Any) -> tuple[dict[str, Any], list[Any]]:
        mark = f"{name}-{len(self.heard)}"
        self.panel._handle_custom_msg({"ask": name, "id": mark, "with": known}, [])
        return self.wait(lambda c: c.get("reply") == mark)

    def wait(self, wanted, patience: float = 90) -> tuple[dict[str, Any], list[Any]]:
        with self.arrived:
            assert self.arrived.wait_for(lambda: any(wanted(c) for c, _ in self.heard), patience)
            return next((c, b) for c, b in self.heard if wanted(c))


def until(condition, patience: float = 120) -> None:
    """Wait for what is to come about; the patience is of a machine that is slow and busy."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


@pytest.fixture
def panel(workspace):
    made = []

    def make(kind, *arguments, **known):
        made.append(kind(*arguments, workspace=workspace, **known))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_spec_is_edited_validated_and_told_in_every_form(panel):
    data = panel(DataPanel)
    page = Page(data)
    assert data.status["state"] == "empty" and data.attention == {}
    page.ask("put", path=["name"], value="mine")
    assert data.status["state"] == "invalid" and "sources" in data.attention["text"]
    page.ask("insert", path=["sources"], index=0, value={"kind": "digits"})
    assert data.status["state"] == "editing" and data.edit["valid"] and data.spec.name == "mine"
    page.ask("put", path=["split", "test"], value=2)
    assert data.attention["action"] == {"label": "Go to", "path": "split.test"}
    with pytest.raises(SpecError, match=r"split\.test"):
        _ = data.spec
    with pytest.raises(SpecError):
        data.run()
    page.ask("undo")
    assert "DataSpec.load" in data.edit["python"] and data.edit["command"].startswith("workbench data --set name=mine")


def test_a_run_is_made_once_shown_after_and_found_by_another_panel(panel, workspace):
    first = panel(DataPanel, DIGITS)
    run = first.run()
    assert run.state == "done" and first.status["state"] == "done"
    until(lambda: first.results.get("next"))
    assert first.results["next"]["word"] == "train" and first.results["read"] == 1797
    second = panel(DataPanel, DIGITS)
    until(lambda: second.status["state"] == "done")  # found by itself, a moment after it is shown
    assert second.run().id == run.id and len(Journal(workspace).entries()) == 1
    attached = panel(DataPanel, run=run.id[:-2])
    assert attached.spec == run.spec and attached.status["state"] == "done"
    assert "digits" in picture(attached) and "done" in picture(attached)


def test_stop_from_the_page_ends_the_waiting_cell(panel):
    monitor = panel(MonitorPanel, WATCH)
    page, ended = Page(monitor), []

    def cell() -> None:
        try:
            monitor.run()
        except RunFailedError as error:
            ended.append(str(error))

    waiting = threading.Thread(target=cell)
    waiting.start()
    until(lambda: monitor.status["state"] == "running")
    begin = time.monotonic()
    page.ask("stop")
    assert monitor.status["state"] == "stopping"
    waiting.join(30)
    assert "was stopped" in ended[0] and monitor.status["state"] == "stopped"
    assert time.monotonic() - begin < 10


def test_a_run_that_cannot_be_is_refused_with_its_reason(panel):
    train = panel(TrainPanel, {"data": "nowhere"})
    until(lambda: train.attention)
    assert 'no dataset "nowhere"' in train.attention["text"] and train.attention["action"]["path"] == "data"
    reply, _ = Page(train).ask("run")
    assert "nowhere" in reply["error"] and train.status["state"] == "editing"


def test_points_written_elsewhere_come_as_they_are_and_thinned(panel, workspace):
    events = Events(workspace)
    entry, _ = Journal(workspace).add("train", "m", "k", {"word": "train", "data": "docs"}, {}, place="here")
    Journal(workspace).claim(entry.id)
    events.append_many([(entry.id, "point", 0.0, "loss", n, float(n % 97), {}) for n in range(50_000)])
    train = panel(TrainPanel, run=entry.id)
    page = Page(train)
    reply, buffers = page.ask("points", name="loss", columns=500)
    points = np.frombuffer(buffers[0]).reshape(-1, 2)
    assert reply["value"]["count"] == 50_000 and len(points) < 2600 and points[-1].tolist() == [49_999, 49_999 % 97]
    events.point(entry.id, "loss", 50_000, -1.0)
    content, buffers = page.wait(lambda c: c.get("points") == entry.id)
    assert content["names"] == ["loss"] and np.frombuffer(buffers[0]).tolist() == [50_000, -1]
    reply, buffers = page.ask("points", name="loss", low=49_990, high=50_000)
    assert np.frombuffer(buffers[0]).reshape(-1, 2)[-1].tolist() == [50_000, -1]


def test_at_most_four_updates_a_second(panel, workspace):
    events = Events(workspace)
    entry, _ = Journal(workspace).add("train", "m", "k", {"word": "train", "data": "docs"}, {}, place="here")
    Journal(workspace).claim(entry.id)
    page = Page(panel(TrainPanel, run=entry.id))
    begin = time.monotonic()
    for step in range(150):
        events.point(entry.id, "loss", step, 1.0)
        time.sleep(0.01)
    until(lambda: sum(len(b[0]) // 16 for c, b in page.heard if "points" in c) == 150)
    assert sum("points" in c for c, _ in page.heard) <= 4 * (time.monotonic() - begin) + 1


def test_a_silent_run_is_lost_sight_of_and_comes_back(panel, workspace):
    journal = Journal(workspace)
    entry, _ = journal.add("train", "m", "k", {"word": "train", "data": "docs"}, {}, place="cluster")
    journal.claim(entry.id)
    journal.database.execute("UPDATE runs SET beat = beat - 100, submitted = submitted - 100 WHERE id = ?", (entry.id,))
    journal.events.database.execute("UPDATE events SET at = at - 100")
    train = panel(TrainPanel, run=entry.id)
    assert train.status["state"] == "lost" and train.attention["action"] == {"label": "Attach again", "ask": "recover"}
    journal.beat(entry.id, 1)
    until(lambda: train.status["state"] == "running", 10)


def test_drafts_are_offered_where_cells_run_and_taken_up_where_nothing_runs_by_itself(panel, monkeypatch):
    first = panel(DataPanel, DIGITS)
    first.editor.put(["split", "test"], 0.2)
    second = panel(DataPanel, DIGITS)
    assert second.spec.split.test == 0.05 and second.attention["action"]["ask"] == "restore"
    Page(second).ask("restore")
    assert second.spec.split.test == 0.2
    monkeypatch.setenv("SERVER_SOFTWARE", "voila/0.5")
    third = panel(DataPanel, DIGITS)
    assert third.spec.split.test == 0.2
    assert isinstance(third.run(), Pending)
    Page(third).ask("discard")
    assert third.spec.split.test == 0.05


def test_visitors_change_nothing(panel, monkeypatch, workspace):
    monkeypatch.setenv("WORKBENCH_READ_ONLY", "1")
    data = panel(DataPanel, DIGITS)
    page = Page(data)
    for name in ("put", "run", "yaml", "undo"):
        assert "visitors" in page.ask(name)[0]["error"]
    assert page.ask("names", kind="dataset")[0]["value"] == []
    assert Journal(workspace).entries() == []


def test_a_subclass_is_asked_by_name_and_its_faults_are_answered(panel):
    class Mine(DataPanel):
        def ask_twice(self, number: int):
            return {"twice": 2 * number}, [b"abc"]

        @slow
        def act_break(self) -> None:
            raise KeyError("here")

    page = Page(panel(Mine, DIGITS))
    assert page.ask("twice", number=4) == ({"reply": "twice-0", "value": {"twice": 8}}, [b"abc"])
    assert "KeyError" in page.ask("break")[0]["error"]
    assert "no answer" in page.ask("nothing")[0]["error"]
    assert "TypeError" in page.ask("twice")[0]["error"]


def test_differences_to_the_last_run(panel):
    data = panel(DataPanel, DIGITS)
    data.run()
    data.editor.put(["split", "test"], 0.2)
    assert data.status["edited"]
    assert Page(data).ask("differences")[0]["value"]["rows"] == [{"path": "split.test", "was": "0.05", "now": "0.2"}]


def test_a_workspace_that_cannot_be_written_keeps_no_drafts_and_still_edits(panel, workspace):
    data = panel(DataPanel, DIGITS)
    (workspace.path("drafts")).write_text("in the way of a directory")
    Page(data).ask("put", path=["split", "test"], value=0.3)
    assert data.spec.split.test == 0.3


def test_a_spec_changed_on_disk_is_taken_up_where_nothing_was_edited_and_offered_where_something_was(panel, tmp_path):
    path = tmp_path / "digits.yaml"
    path.write_text("word: data\nname: digits\nsources: [{kind: digits}]\nsteps: []\n")
    data = panel(DataPanel, str(path))
    page = Page(data)
    path.write_text(path.read_text() + "split: {test: 0.3}\n")
    until(lambda: data.spec.split.test == 0.3)
    until(lambda: "digits.yaml was changed on disk and is taken up" in data.attention.get("text", ""))
    page.ask("put", path=["split", "test"], value=0.2)
    path.write_text(path.read_text().replace("0.3", "0.4"))
    until(lambda: data.attention.get("action", {}).get("label") == "Read it again")
    assert data.spec.split.test == 0.2
    assert "changed on disk since it was read here" in page.ask("save")[0]["error"]
    page.ask("reread")
    assert data.spec.split.test == 0.4
    page.ask("undo")
    assert data.spec.split.test == 0.2
    page.ask("save")
    assert "test: 0.2" in path.read_text()


@pytest.mark.parametrize("differs", [3600, -3600])
def test_a_machine_whose_clock_differs_is_alive_as_long_as_it_gives_signs(panel, workspace, monkeypatch, differs):
    monkeypatch.setattr("widgets.watch.SILENCE", 2.0)
    journal = Journal(workspace)
    entry, _ = journal.add("data", "away", "away", {"word": "data", **DIGITS}, {}, place="process")
    journal.claim(entry.id)

    def beat() -> None:
        journal.database.execute("UPDATE runs SET beat = ? WHERE id = ?", (time.time() + differs, entry.id))

    beat()
    data = panel(DataPanel, run=entry.id)
    monkeypatch.setattr(data.watch, "_recover", lambda: None)  # nobody starts what this test only pretends
    end = time.monotonic() + 4
    beat()
    until(lambda: data.status["state"] == "running")
    while time.monotonic() < end:
        beat()
        time.sleep(0.2)
        assert data.watch.state == "running"
    until(lambda: data.status["state"] == "lost", 10)


def test_a_run_of_a_hundred_thousand_points_is_reopened_whole(panel, workspace):
    journal, events = Journal(workspace), Events(workspace)
    entry, _ = journal.add("train", "long", "long", {"word": "train", "data": "docs"}, {}, place="here")
    journal.claim(entry.id)
    events.append_many([(entry.id, "point", 1.0 + n, "loss", n, 1 / (n + 1), {}) for n in range(100_000)])
    journal.move(entry.id, "failed", failure={"what": "ended"})
    page = Page(panel(TrainPanel, run=entry.id))
    known, (points,) = page.ask("points", name="loss")
    seen = np.frombuffer(points).reshape(-1, 2)
    assert known["value"]["count"] == 100_000 and seen[0].tolist() == [0, 1] and seen[-1].tolist() == [99_999, 1e-5] and len(seen) < 9_000
