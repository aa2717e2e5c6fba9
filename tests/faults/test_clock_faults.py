"""A clock that is set back by an hour in the middle of a run: signs of life, leases, curves and a restart don't look at it."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from workbench import runs
from workbench.events import Event
from workbench.journal import ENDED
from workbench.workspace import Workspace

CLOCK = """
import mmap, os, struct, time
_at = os.open(os.environ["CLOCK_FILE"], os.O_RDONLY)
_offset = mmap.mmap(_at, 8, prot=mmap.PROT_READ)
_time = time.time
time.time = lambda: _time() + struct.unpack_from("d", _offset)[0]
time.time_ns = lambda: int(time.time() * 1e9)
"""
"""Loaded by every Python that finds it as ``sitecustomize``: the clock is what a file says, for whoever asks for the time of day. The
counters that nobody can set go on. (libfaketime 0.9.10 lets Python's ``time.sleep`` fail with EINVAL.)
"""
pytestmark = pytest.mark.skipif(not os.environ.get("WORKBENCH_SOAK"), reason="a cluster of its own: set WORKBENCH_SOAK=1")
DOCS = {"word": "data", "name": "docs", "sources": [{"kind": "python-docs", "max_megabytes": 0.3}]}
SPEC = {"word": "train", "data": "docs", "name": "timed", "model": {"size": "100K", "vocabulary": 512, "context": 64},
        "tokens": 500 * 512, "batch": {"sequences": 4}, "prompts": [], "every": {"checkpoint": 20, "evaluate": 60}}
ASKING = """
import json, sys
from workbench import runs
from workbench.workspace import Workspace
workspace = Workspace(sys.argv[1])
for line in sys.stdin:
    run = runs.submit(json.loads(line), workspace, again=True)
    print(run.id, flush=True)
    print(run.wait(check=False).state, flush=True)
runs.shut_down(workspace)
"""


@pytest.fixture
def ask(tmp_path):
    """A function that submits a spec where the clock can be set, and one that sets it. Cluster and waiter share that clock; the test
    doesn't, and so never judges by it whether a driver lives.
    """
    workspace, clock = Workspace(tmp_path / "workspace").open(), tmp_path / "clock"

    def put(seconds: float) -> None:
        with open(clock, "r+b" if clock.exists() else "wb") as file:
            file.write(struct.pack("d", seconds))

    put(0.0)
    (tmp_path / "faked").mkdir()
    (tmp_path / "faked" / "sitecustomize.py").write_text(CLOCK)
    runs.submit(DOCS, workspace, place="here").wait()
    paths = [str(tmp_path / "faked"), *filter(None, [os.environ.get("PYTHONPATH")])]
    asking = subprocess.Popen([sys.executable, "-c", ASKING, str(workspace.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                              env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "CLOCK_FILE": str(clock)})

    def submit(spec: dict) -> tuple[runs.Run, Callable[[], str]]:
        asking.stdin.write(json.dumps(spec) + "\n")
        asking.stdin.flush()
        return runs.attach(asking.stdout.readline().strip(), workspace), lambda: asking.stdout.readline().strip()

    yield submit, put
    asking.stdin.close()
    asking.wait(60)


def until(run: runs.Run, wanted: Callable[[Event], bool]) -> Event:
    """The first event of a kind; whether the driver lives is for others to say."""
    after = 0
    while True:
        ended = run.state in ENDED
        for event in run.events(after):
            after = event.seq
            if wanted(event):
                return event
        assert not ended, run.failure
        time.sleep(0.05)


def test_an_hour_that_comes_twice(ask):
    submit, clock = ask
    first, ended = submit(SPEC)
    assert ended() == "done"
    run, ended = submit(SPEC)
    until(run, lambda e: e.kind == "point" and e.name == "loss" and e.step >= 50)
    clock(-3600.0)
    back = until(run, lambda e: e.at < time.time() - 3000)
    until(run, lambda e: e.kind == "point" and e.name == "loss" and e.seq > back.seq)
    victim = next(e for e in run.events(kinds=["mark"]) if e.name == "ranks").data["ranks"][1]["pid"]
    os.kill(victim, signal.SIGKILL)
    assert ended() == "done" and run.entry.attempt == 1
    assert run.result["digest"] == first.result["digest"] and run.curve("loss") == first.curve("loss")
    lost = next(e for e in run.events(kinds=["mark"]) if e.name == "restart")
    again = next(e for e in run.events(kinds=["mark"]) if e.name == "back")
    assert lost.at < time.time() - 3000 and 0 < again.data["seconds"] < 600
    assert 0 < run.result["metrics"]["seconds"] < 600
    assert runs.listed(run.workspace, word="train")[0].id == run.id  # submitted last, whatever the clock said
    third, ended = submit(SPEC)  # and a run that begins in the hour before
    assert ended() == "done" and third.result["digest"] == first.result["digest"]
    assert [r.id for r in runs.listed(run.workspace, word="train")] == [third.id, run.id, first.id]
