"""kill -9 while a model is assessed: the run ends as if undisturbed, and no half assessment is seen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

from workbench import cluster, runs
from workbench.assessment import Assessment, standing
from workbench.journal import ENDED
from workbench.model import Model

SPEC = {"word": "assess", "model": "docs-lm"}


def test_kill_of_every_worker(taught):
    undisturbed = runs.submit(SPEC, taught, place="here").result
    run = runs.submit(SPEC, taught, again=True)
    while run.state not in ENDED and not any(run.directory.glob("probe-*.json")):
        time.sleep(0.01)
    kept = {p.name: json.loads(p.read_text())["at"] for p in run.directory.glob("probe-*.json")}
    for pid in cluster.connect(taught).run(os.getpid).values():
        os.kill(pid, signal.SIGKILL)
    run.wait(250)
    assert run.result == undisturbed and run.entry.attempt >= 2
    # What was measured before the kill was not measured again.
    assert kept and kept.items() <= {p.name: json.loads(p.read_text())["at"] for p in run.directory.glob("probe-*.json")}.items()
    assert taught.audit.verify() == 2


def test_kill_of_the_process_that_assesses(taught):
    code = ("from workbench import runs; from workbench.workspace import Workspace; w = Workspace.find();"
            f"[runs.submit({SPEC!r}, w, again=True, place='here') for _ in range(99)]")
    child = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "WORKBENCH_ROOT": str(taught.root)})
    while not list(taught.path("runs").glob("*/probe-1.json")):
        time.sleep(0.01)
    child.kill()
    child.wait()
    for folder in taught.path("assessments").glob("*/[!.]*"):
        assert Assessment(folder).verdict().passed and Assessment(folder).card
    run = runs.submit(SPEC, taught, again=True, place="here")
    assert run.result["passed"] and standing(taught, Model.open("docs-lm", taught).digest).passed
    assert taught.audit.verify() >= 1
