"""kill -9 of workers while a model is assessed: the run ends as if undisturbed, and no half assessment is seen."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from workbench import cluster, runs
from workbench.assessment import Assessment
from workbench.errors import NotFoundError
from workbench.journal import ENDED

SPEC = {"word": "assess", "model": "docs-lm"}


@pytest.mark.parametrize("moment", ["at once", "after the first probe"])
def test_kill_of_every_worker(taught, moment):
    undisturbed = runs.submit(SPEC, taught, place="here").result
    run = runs.submit(SPEC, taught, again=True)
    while run.state not in ENDED:
        if run.events(kinds=["progress"]) if moment == "at once" else any(run.directory.glob("probe-*.json")):
            break
        time.sleep(0.01)
    kept = {p.name: json.loads(p.read_text())["at"] for p in run.directory.glob("probe-*.json")}
    for pid in cluster.connect(taught).run(os.getpid).values():
        os.kill(pid, signal.SIGKILL)
    run.wait(200)
    assert run.result == undisturbed and run.entry.attempt >= 2
    # What was measured before the kill was not measured again.
    assert kept.items() <= {p.name: json.loads(p.read_text())["at"] for p in run.directory.glob("probe-*.json")}.items()
    assert bool(kept) == (moment != "at once")
    assert taught.audit.verify() == 2


def test_kill_of_the_process_that_assesses_leaves_no_half(taught):
    import subprocess
    import sys

    code = ("from workbench import runs; from workbench.workspace import Workspace; w = Workspace.find();"
            f"print('began', flush=True); [runs.submit({SPEC!r}, w, again=True, place='here') for _ in range(99)]")
    child = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "WORKBENCH_ROOT": str(taught.root)}, stdout=subprocess.PIPE)
    while not list(taught.path("runs").glob("*/probe-1.json")):
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    for folder in taught.path("assessments").glob("*/*"):
        if not folder.name.startswith("."):
            assert Assessment(folder).verdict().passed and Assessment(folder).card
    try:
        assert Assessment.open("docs-lm", taught).verdict().passed
    except NotFoundError:
        pass
    assert runs.submit(SPEC, taught, place="here").result["passed"] and taught.audit.verify() >= 1
