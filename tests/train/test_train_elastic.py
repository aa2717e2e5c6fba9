"""A training goes on with the workers that are left and takes up those that come; each step takes the same samples."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from workbench import cluster, runs
from workbench.errors import SpecError
from workbench.spec import load_spec
from workbench.train.ranks import gang as gangs
from workbench.train.ranks.gang import Gang
from workbench.workspace import Workspace


def test_fewer_ranks_then_all_then_what_is_left(live, small, undisturbed, monkeypatch):
    monkeypatch.setattr(gangs, "GROW_AFTER", 0.3)  # so the driver lives here
    monkeypatch.setattr(gangs, "GROW_LOOK", 0.1)
    spec = small(name="elastic", hardware={"min_ranks": 1})
    with Gang(cluster.connect(live), 1, run="other", attempt=1, logs=live.path("logs", "other")) as other:
        other.claim()
        thread = threading.Thread(target=runs.submit, args=(spec, live), kwargs={"place": "here"})
        thread.start()
        run = at_work(live)
        first = step_of(run, 10)
    grown = next(e for e in run.follow(first.seq) if e.kind == "mark" and e.name == "ranks" and len(e.data["ranks"]) == 2)
    step_of(run, first.step + 30, grown.seq)
    worker = grown.data["ranks"][1]["worker"]
    os.kill(cluster.connect(live).run(os.getpid, workers=[worker])[worker], signal.SIGKILL)
    run.wait(100)
    thread.join(30)
    worlds = [len(e.data["ranks"]) for e in run.events(kinds=("mark",)) if e.name == "ranks"]
    assert worlds[:3] == [1, 2, 1]
    assert [e.data["ranks"] for e in run.events(kinds=("mark",)) if e.name == "world"] == worlds
    losses, wanted = dict(run.curve("loss")), dict(undisturbed.curve("loss"))
    assert sorted(losses) == sorted(wanted)
    assert [losses[s] for s in range(1, 151)] == pytest.approx([wanted[s] for s in range(1, 151)], rel=2e-3)
    assert run.curve("learning_rate") == undisturbed.curve("learning_rate")


@pytest.fixture
def following(tmp_path):
    """A workspace with the dataset "docs" whose cluster follows its work, from nothing to two workers."""
    (tmp_path / "workbench.toml").write_text("[cluster]\nminimum = 0\nmaximum = 2\nshrink_seconds = 1\n")
    place = Workspace(tmp_path).open()
    docs = {"word": "data", "name": "docs", "sources": [{"kind": "python-docs", "max_megabytes": 0.3}]}
    runs.submit(docs, place, place="here").wait()
    yield place
    runs.shut_down(place)


@pytest.mark.skipif(not os.environ.get("WORKBENCH_SOAK"), reason="a cluster of its own: set WORKBENCH_SOAK=1")
def test_a_cluster_that_follows_its_work_leaves_workers_that_train(small, following):
    run = runs.run(small(tokens=600 * 512), following)  # longer than an idle worker is kept
    marks = [e for e in run.events(kinds=("mark",)) if e.name in ("ranks", "restart")]
    assert [e.name for e in marks] == ["ranks"] * len(marks) and len(marks[-1].data["ranks"]) == 2
    assert len({r["worker"] for r in marks[-1].data["ranks"]}) == 2
    assert [s for s, _ in run.curve("loss")] == list(range(1, 601))
    no_worker_stays(following)


@pytest.mark.skipif(not os.environ.get("WORKBENCH_SOAK"), reason="a cluster of its own: set WORKBENCH_SOAK=1")
def test_a_run_that_began_with_its_fewest_ranks_makes_a_cluster_grow(small, following):
    run = runs.submit(small(tokens=10**8, hardware={"ranks": 2, "min_ranks": 1}), following)
    grown = next(e for e in run.follow() if e.kind == "mark" and e.name == "ranks" and len(e.data["ranks"]) == 2)
    last = step_of(run, 1, grown.seq).step
    step_of(run, last + 30, grown.seq)
    run.stop()
    run.wait(100, check=False)
    assert run.state == "stopped"
    steps = [s for s, _ in run.curve("loss")]
    assert steps == list(range(1, len(steps) + 1))
    assert not [e for e in run.events(kinds=("mark",)) if e.name == "restart"]
    no_worker_stays(following)


def no_worker_stays(place: Workspace) -> None:
    deadline = time.monotonic() + 60
    while cluster.status(place).workers:
        assert time.monotonic() < deadline, "workers that nothing needs stay"
        time.sleep(0.2)


def at_work(live) -> runs.Run:
    deadline = time.monotonic() + 120
    while not (found := [r for r in runs.listed(live, word="train") if r.state == "running"]):
        assert time.monotonic() < deadline, "no run began"
        time.sleep(0.02)
    return found[0]


def step_of(run: runs.Run, step: int, after: int = 0):
    return next(e for e in run.follow(after) if e.kind == "point" and e.name == "loss" and e.step >= step)


def test_limits_out_of_order_are_refused():
    with pytest.raises(SpecError, match="expected them in rising order"):
        load_spec({"word": "train", "data": "docs", "hardware": {"ranks": 2, "min_ranks": 3}})
