"""Runs through their doors: submitted, found again, attached from other processes, stopped, failed."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from distributed import Client

from workbench import driver, runs
from workbench.dataset import Dataset
from workbench.errors import NotFoundError, RunFailedError, SourceError
from workbench.journal import ENDED, Journal
from workbench.spec import load_spec
from workbench.workspace import Workspace

DIGITS = {"word": "data", "name": "digits", "sources": [{"kind": "digits"}], "steps": [{"step": "exact-duplicates"}]}


def docs(megabytes: float, name: str = "docs") -> dict:
    return {"word": "data", "name": name, "sources": [{"kind": "python-docs", "max_megabytes": megabytes}]}


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("runs")).open()
    yield workspace
    runs.shut_down(workspace)


def test_submit_returns_at_once_and_the_result_is_there_for_any_process(live):
    run = runs.submit(DIGITS, live)
    assert run.state in ("queued", "running")
    run.wait(120)
    assert run.state == "done" and run.result["dataset"] == "digits"
    code = (f"from workbench import attach; r = attach({run.id!r}); print(r.state, r.output.digest, "
            "len([e for e in r.events(kinds=['state'])]))")
    out = subprocess.run([sys.executable, "-c", code], env={**os.environ, "WORKBENCH_ROOT": str(live.root)}, capture_output=True,
                         text=True, timeout=60)
    assert out.stdout.split() == ["done", run.result["digest"], "3"], out.stderr


def test_the_same_spec_is_found_and_again_repeats_it_to_the_same_digest(live):
    first = runs.run(DIGITS, live)
    assert runs.submit(DIGITS, live).id == first.id
    again = runs.run(DIGITS, live, again=True)
    assert again.id != first.id and again.result["digest"] == first.result["digest"]


def test_a_result_that_was_deleted_is_made_anew(live):
    first = runs.run(DIGITS, live)
    manifest = first.output.path / "manifest.json"
    manifest.unlink()
    second = runs.run(DIGITS, live)
    assert second.id != first.id and second.output.digest == first.result["digest"]


def test_the_submitter_may_die(live):
    code = f"import workbench; print(workbench.submit({docs(0.3, 'orphan')!r}).id, flush=True); import os; os.kill(os.getpid(), 9)"
    out = subprocess.run([sys.executable, "-c", code], env={**os.environ, "WORKBENCH_ROOT": str(live.root)}, capture_output=True,
                         text=True, timeout=60)
    assert out.returncode == -9
    run = runs.attach(out.stdout.strip(), live).wait(120)
    assert run.state == "done" and run.output.name == "orphan"


def test_stop_ends_it_and_it_can_be_asked_again(live):
    run = runs.submit(docs(6, "stopped"), live)
    deadline = time.monotonic() + 120
    while not run.events(kinds=["progress"]) and run.state not in ENDED:
        assert time.monotonic() < deadline, f"it is {run.state} and says nothing"
        time.sleep(0.02)
    run.stop()
    run.wait(30, check=False)
    assert run.state == "stopped"
    assert [e.name for e in run.events(kinds=["state"])][-2:] == ["stopping", "stopped"]
    with pytest.raises(NotFoundError):
        Dataset.open("stopped", live)


def test_here_and_on_the_cluster_give_the_same_digest(live, tmp_path):
    here = runs.submit(docs(0.3, "docs"), Workspace(tmp_path).open(), place="here")
    there = runs.run(docs(0.3, "docs"), live)
    assert here.state == "done" and here.result["digest"] == there.result["digest"]


def test_a_failure_keeps_what_where_why_and_the_traceback(live):
    # One record can't be split three ways: refused only once the data is read.
    (live.root / "one.txt").write_text("A single short paragraph that nothing can be held out from, long enough to be kept as it is.")
    run = runs.submit({"word": "data", "name": "one", "sources": [{"kind": "files", "paths": ["one.txt"]}]}, live)
    with pytest.raises(RunFailedError, match=run.id):
        run.wait(60)
    assert run.state == "failed"
    assert set(run.failure) >= {"what", "where", "kind", "traceback", "hint", "host"}
    assert run.failure["what"] and "Traceback" in run.failure["traceback"] and "line" in run.failure["where"]


def test_what_fails_since_its_worker_ends_is_left_to_the_next_driver(workspace):
    journal, spec = Journal(workspace), load_spec(DIGITS)
    inputs = driver.runner("data")[0].inputs(spec, workspace)

    def recorded(name):
        return journal.add("data", name, name, spec.model_dump(mode="json"), inputs, place="here")[0].id

    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as closed:
        pass
    left, failed = recorded("left"), recorded("failed")
    driver.drive(str(workspace.root), left, closed, leaving=lambda _: True)
    assert journal.get(left).state == "running"
    driver.drive(str(workspace.root), left)
    assert (journal.get(left).state, journal.get(left).attempt) == ("done", 2)
    driver.drive(str(workspace.root), failed, closed)
    assert journal.get(failed).state == "failed"


def test_what_can_not_run_is_refused_before_it_is_recorded(live):
    before = len(runs.listed(live))
    with pytest.raises(SourceError, match="nowhere"):
        runs.submit({"word": "data", "name": "x", "sources": [{"kind": "files", "paths": ["nowhere/*.txt"]}]}, live)
    assert len(runs.listed(live)) == before


def test_an_unknown_run_names_the_near_one(live):
    run = runs.run(DIGITS, live)
    with pytest.raises(NotFoundError, match="Did you mean"):
        runs.attach(run.id[:-1] + "x", live)


def test_progress_has_a_rate_and_time_left(live):
    run = runs.run(docs(0.3, "rated"), live)
    said = [e.data for e in run.events(kinds=["progress"])]
    assert said and all({"done", "total", "unit", "rate", "left"} <= set(p) for p in said)
