"""kill -9 of the driver's worker, the scheduler and a detached driver: the run ends as if undisturbed."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest

from workbench import cluster, processes, runs
from workbench.journal import ENDED
from workbench.workspace import Workspace

SPEC = {"word": "data", "name": "docs", "sources": [{"kind": "python-docs", "max_megabytes": 1.5}]}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("undisturbed")).open()
    return runs.submit(SPEC, workspace, place="here").result["digest"]


@pytest.fixture
def live(tmp_path):
    workspace = Workspace(tmp_path).open()
    yield workspace
    runs.shut_down(workspace)
    assert processes.listed(workspace) == []


def at_work(run: runs.Run) -> None:
    while not run.events(kinds=["progress"]) and run.state not in ENDED:
        time.sleep(0.01)


def only_whole_versions(workspace: Workspace) -> None:
    for folder in workspace.path("datasets").glob("*/*"):
        if not folder.name.startswith("."):
            assert (folder / "manifest.json").exists()


DELAYS = [0.0, 0.3, 0.7, 1.5, 3.0] if os.environ.get("WORKBENCH_SOAK") else [0.3]


@pytest.mark.parametrize("delay", DELAYS)
def test_kill_of_every_worker_at_once(live, undisturbed, delay):
    run = runs.submit(SPEC, live)
    at_work(run)
    time.sleep(delay)
    for pid in cluster.connect(live).run(os.getpid).values():
        os.kill(pid, signal.SIGKILL)
    run.wait(120)
    assert run.result["digest"] == undisturbed
    only_whole_versions(live)


def test_kill_of_the_scheduler(live, undisturbed):
    run = runs.submit(SPEC, live)
    at_work(run)
    os.kill(processes.find(live, cluster.PROCESS).pid, signal.SIGKILL)
    run.wait(120)
    assert run.result["digest"] == undisturbed
    only_whole_versions(live)


def test_nothing_is_left_after_shut_down(tmp_path):
    workspace = Workspace(tmp_path).open()
    run = runs.submit(SPEC, workspace)
    at_work(run)
    everything = psutil.Process(processes.find(workspace, cluster.PROCESS).pid)
    everything = [everything, *everything.children(recursive=True)]
    runs.shut_down(workspace)
    _, left = psutil.wait_procs(everything, timeout=5)
    assert left == [] and run.state in ENDED and processes.listed(workspace) == []
