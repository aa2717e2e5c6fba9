"""How the steps of a run stand, from its marks alone, in any portions, over attempts; and what a run goes on from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import runs
from workbench.events import Event
from workbench.pipeline.board import Board
from workbench.pipeline.run import estimate

NODES = [{"node": "a", "needs": [], "column": 0, "notebook": "a.ipynb", "word": None, "title": "A"},
         {"node": "b", "needs": ["a"], "column": 1, "notebook": "b.ipynb", "word": None, "title": "B"}]


def mark(seq: int, name: str, **data) -> Event:
    return Event(seq, "run", "mark", float(seq), name, data=data)


STORY = [mark(1, "graph", nodes=NODES), mark(2, "step", node="a", state="running", why="new", runs=[]),
         mark(3, "cell", node="a", cell=1, of=2), mark(4, "step", node="a", state="running", why="new", runs=["r"]),
         mark(5, "cell", node="a", cell=2, of=2),
         mark(6, "step", node="a", state="done", why="done", seconds=3.0, runs=["r"]),
         mark(7, "verdict"), mark(8, "cell", node="z", cell=1, of=1),
         mark(9, "step", node="b", state="failed", why="failed", error={"what": "w", "cell": 1})]


@given(st.lists(st.integers(0, len(STORY)), max_size=5))
def test_portions_and_repetitions_change_nothing(cuts):
    whole, pieces = Board(), Board()
    whole.take(STORY)
    for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(STORY)], strict=True):
        pieces.take(STORY[max(0, begin - 2):end])
    assert pieces.steps == whole.steps
    assert (whole.steps["a"].begun, whole.steps["a"].cell, whole.steps["a"].runs) == (2.0, 2, ["r"])
    assert whole.failing.node == "b" and whole.kept == ["a"]


def test_another_attempt_begins_anew_and_an_end_leaves_nothing_at_work():
    board = Board()
    board.take([*STORY, mark(10, "graph", nodes=NODES), mark(11, "step", node="a", state="running", why="again")])
    assert [s.state for s in board.steps.values()] == ["running", "waiting"] and board.failing is None
    board.settle("running")
    assert board.steps["a"].state == "running"
    board.settle("stopped")
    assert board.steps["a"].state == "stopped" and "was stopped" in board.steps["a"].why


def test_a_failed_run_resumes_with_what_it_kept_and_an_estimate_counts_what_is_left(place, write_pipeline, drive):
    pipeline = write_pipeline(place.root / "resumed", {"good": ["print(1)"], "bad": ["x = 1", "1 / 0"], "after": ["2"]},
                              needs={"bad": ["good"], "after": ["bad"]}, name="resumed")
    assert estimate(runs.load_spec(pipeline), place) == {"steps to do": 3, "found": 0}
    run = drive(pipeline, place)
    assert run.state == "failed" and run.rest == {"words": "with bad; kept: good", "steps": ["good"]}
    told = estimate(run.spec, place)
    assert (told["steps to do"], told["found"]) == (2, 1)
    notebook = place.root / "resumed" / "bad.ipynb"
    notebook.write_text(notebook.read_text().replace("1 / 0", "1 / 1"))
    again = run.resume().wait(120)
    assert again.id == run.id and again.state == "done" and {s["state"] for s in again.result["steps"].values()} == {"done"}
    with pytest.raises(Exception, match="nothing left"):
        run.resume()
