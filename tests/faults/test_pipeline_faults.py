"""kill -9 of a pipeline's driver, of papermill's process, of a kernel: the next start goes on, nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import time

import psutil
import pytest
import yaml

from workbench import processes, runs
from workbench.journal import ENDED
from workbench.pipeline.notebook import _bearing

WAIT = """import pathlib, time
counted = pathlib.Path("begun")
counted.write_text(counted.read_text() + "x" if counted.exists() else "x")
while not pathlib.Path("go").exists():
    time.sleep(0.05)"""


@pytest.fixture
def held(workspace):
    """A pipeline whose second step waits for a file; started, with that step at work."""
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook

    folder = workspace.root / "held"
    folder.mkdir(parents=True)
    for name, code in {"first": "print(1)", "waits": WAIT, "last": "print(3)"}.items():
        nbformat.write(new_notebook(cells=[new_code_cell(code)]), folder / f"{name}.ipynb")
    steps = [{"name": "first", "notebook": "first.ipynb"}, {"name": "waits", "notebook": "waits.ipynb", "needs": ["first"]},
             {"name": "last", "notebook": "last.ipynb", "needs": ["waits"]}]
    (folder / "pipeline.yaml").write_text(yaml.safe_dump({"word": "pipeline", "name": "held", "steps": steps}))
    run = runs.submit(folder / "pipeline.yaml", workspace)
    until(lambda: (folder / "begun").exists() or run.state in ENDED)
    assert run.state == "running", run.failure
    return folder, run


def until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def told(run: runs.Run) -> list[tuple[str, str]]:
    return [(e.data["node"], e.data["state"]) for e in run.events(kinds=["mark"]) if e.name == "step"]


def named(mark: str, word: str) -> psutil.Process:
    return next(p for p in _bearing(mark) if any(word in part for part in p.cmdline()))


def test_kill_of_the_driver(held, workspace):
    folder, run = held
    mark = f"{run.id}/waits"
    before = _bearing(mark)
    os.kill(processes.find(workspace, f"run/{run.id}").pid, signal.SIGKILL)
    _, left = psutil.wait_procs(before, timeout=20)  # papermill's process notices, and takes its kernel along
    assert left == [] and len(before) >= 2
    run.recover()
    until(lambda: (folder / "begun").read_text() == "xx")
    (folder / "go").touch()
    run.wait(60)
    assert run.entry.attempt == 2
    # What the first attempt had done was found, not done again.
    assert told(run).count(("first", "running")) == 1 and told(run)[-1] == ("last", "done")
    assert _bearing(mark) == [] and {s["state"] for s in run.result["steps"].values()} == {"done"}


def test_kill_of_everything_at_once(held, workspace):
    folder, run = held
    mark = f"{run.id}/waits"
    for pid in [processes.find(workspace, f"run/{run.id}").pid, *(p.pid for p in _bearing(mark))]:
        os.kill(pid, signal.SIGKILL)
    (folder / "go").touch()
    run.wait(60)
    assert run.state == "done" and _bearing(mark) == [] and (folder / "begun").read_text() == "xx"
    assert json.loads((run.directory / "2-waits.ipynb").read_text())["cells"][0]["execution_count"] == 1


def test_kill_of_papermills_process(held, workspace):
    folder, run = held
    mark = f"{run.id}/waits"
    os.kill(named(mark, "workbench.pipeline.notebook").pid, signal.SIGKILL)
    run.wait(60, check=False)
    assert run.state == "failed" and "the process that executes the notebook was killed (SIGKILL)" in run.failure["what"]
    assert _bearing(mark) == [] and told(run)[-1] == ("last", "skipped")
    (folder / "go").touch()
    again = runs.submit(folder / "pipeline.yaml", workspace)
    again.wait(60)
    assert [s["state"] for s in again.result["steps"].values()] == ["cached", "done", "done"]


def test_kill_of_the_kernel(held):
    run = held[1]
    mark = f"{run.id}/waits"
    os.kill(named(mark, "ipykernel").pid, signal.SIGKILL)
    run.wait(60, check=False)
    assert run.state == "failed" and "waits.ipynb: the kernel died" in run.failure["what"]
    assert _bearing(mark) == [] and (run.directory / "report.html").exists()
