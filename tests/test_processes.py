"""Background processes: recorded, found by any process, told from later ones with the same pid, ended with their trees."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest

from workbench import processes

LOOP = """
import subprocess, sys, time, os
subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
open(os.environ['READY'], 'w').write(os.environ.get('WORKBENCH_STEP', 'none'))
time.sleep(600)
"""


@pytest.fixture
def started(workspace, monkeypatch):
    (workspace.root / "loop_for_test.py").write_text(LOOP)
    monkeypatch.setenv("READY", str(workspace.root / "ready"))
    monkeypatch.setenv("WORKBENCH_STEP", "a-step")
    process = processes.start(workspace, "a/loop", "loop_for_test")
    deadline = time.monotonic() + 60
    while not (workspace.root / "ready").exists() or not (workspace.root / "ready").read_text():
        assert time.monotonic() < deadline and process.alive, "it did not begin"
        time.sleep(0.02)
    yield process
    process.end()


def test_it_is_detached_found_and_does_not_bear_its_starters_step(workspace, started):
    assert processes.find(workspace, "a/loop") == started and processes.listed(workspace) == [started]
    assert os.getsid(started.pid) == started.pid != os.getsid(0)
    assert (workspace.root / "ready").read_text() == "none"
    code = "from workbench import Workspace, processes; print(processes.find(Workspace.find(), 'a/loop').alive)"
    out = subprocess.run([sys.executable, "-c", code], cwd=workspace.root, capture_output=True, text=True)
    assert out.stdout.strip() == "True", out.stderr


def test_end_takes_descendants_along(workspace, started):
    tree = [psutil.Process(started.pid), *psutil.Process(started.pid).children(recursive=True)]
    assert len(tree) == 2
    assert processes.end_all(workspace) == [started]
    _, alive = psutil.wait_procs(tree, timeout=5)
    assert alive == [] and processes.listed(workspace) == [] and processes.find(workspace, "a/loop") is None


def test_another_process_with_the_same_pid_is_not_taken_for_it(workspace):
    processes.record(workspace, replace(processes.current(), name="old", began="another start of the system/100"))
    assert processes.find(workspace, "old") is None
    processes.record(workspace, replace(processes.current(), name="old", began="", created=processes.current().created - 100))
    assert processes.find(workspace, "old") is None  # of a version that noted nothing else
    processes.end_all(workspace)  # and does not end this one


def test_a_clock_that_is_set_back_ends_nothing(workspace, started):
    """The system tells when a process began by the clock as it is now: an hour less than what was recorded."""
    processes.record(workspace, replace(started, created=started.created + 3600))
    assert processes.find(workspace, "a/loop").alive and [p.name for p in processes.listed(workspace)] == ["a/loop"]


def test_a_lock_ends_with_its_holder(workspace):
    code = ("import os, signal\nfrom workbench import Workspace, processes\nwith processes.lock(Workspace.find(), 'x'):\n"
            "    print('held', flush=True)\n    signal.pause()")
    holder = subprocess.Popen([sys.executable, "-c", code], cwd=workspace.root, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(TimeoutError, match="held by another process"), processes.lock(workspace, "x", patience=0.2):
        pass
    holder.kill()
    holder.wait()
    with processes.lock(workspace, "x", patience=5):
        pass
