"""Runs keep checkpoints by rule, branch off from them, and lose no step where their states are copied in memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from workbench import runs
from workbench.cli.app import app
from workbench.errors import SpecError
from workbench.journal import Journal
from workbench.train.state import checkpoints, memory, saving


def marks(run, name: str) -> list[dict]:
    return [{"step": e.step, **e.data} for e in run.events(kinds=["mark"]) if e.name == name]


def reach(run, step: int) -> int:
    return next(e.step for e in run.follow() if e.kind == "point" and e.step is not None and e.step >= step)


@pytest.fixture(scope="module")
def kept(live, small):
    """A run that is done and kept checkpoints by rule."""
    return runs.run(small(name="kept", keep={"last": 1, "best": 2, "every": 60},
                          every={"checkpoint": 20, "evaluate": 50, "sample": 150}), live)


def test_a_done_run_keeps_what_its_rule_names(kept, undisturbed):
    rows = checkpoints.table(kept.directory / "checkpoints")
    measured = dict(kept.curve("bits_per_byte"))
    assert all(r["whole"] and r["ranks"] == 2 for r in rows)
    assert [m["step"] for m in marks(kept, "checkpoint")] == [20, 40, 50, 60, 80, 100, 120, 140, 150]  # at each measure too
    found = {r["step"]: r["measure"] for r in rows}
    assert measured[100] < measured[50] and found[150] < measured[100]
    assert found == {150: found[150], 120: None, 100: pytest.approx(measured[100]), 60: None}  # none bears what was measured elsewhere
    assert kept.result["digest"] == undisturbed.result["digest"] and kept.rest is None
    assert not (undisturbed.directory / "checkpoints").exists()
    said = subprocess.run([sys.executable, "-m", "workbench.cli", "checkpoints", kept.id, "--json"], cwd=kept.workspace.root,
                          capture_output=True, text=True, check=True)
    assert [(r["step"], r["whole"], r["run"]) for r in json.loads(said.stdout)] == [(r["step"], True, kept.id) for r in rows]


def test_checkpoints_are_listed_for_people_too(workspace, monkeypatch):
    entry, _ = Journal(workspace).add("train", "m", "key", {"word": "train"}, {}, place="here")
    folder = workspace.path("runs", entry.id, "checkpoints")
    for step in (20, 40):
        saving.save({"state_dict": {"w": torch.ones(100, 100)}}, folder, step, measure=2.5)
    next(checkpoints.path_of(folder, 40).glob("shard-*")).write_bytes(b"torn")
    monkeypatch.chdir(workspace.root)
    said = CliRunner().invoke(app, ["checkpoints", entry.id])
    assert said.exit_code == 0, said.output
    lines = [line.split() for line in said.output.splitlines()]
    assert ["20", "2.5"] in [line[:2] for line in lines] and ["40", "–"] in [line[:2] for line in lines]
    assert [word for line in lines for word in line if word in ("yes", "no")] == ["no", "yes"]


def test_a_branch_begins_where_it_says_and_goes_its_own_way(live, small, kept, undisturbed):
    same = runs.run(small(name="same", start=f"{kept.id}@60"), live)
    assert same.result["digest"] == undisturbed.result["digest"] and marks(same, "resumed")[0]["step"] == 60
    other = runs.run(small(name="other", start=f"{kept.id}@60", learning_rate=2e-3, tokens=100 * 512), live)
    rates, before = dict(other.curve("learning_rate")), dict(undisturbed.curve("learning_rate"))
    assert rates[61] < before[61] / 2 and rates[100] < 1e-4
    assert dict(other.curve("loss"))[61] == dict(undisturbed.curve("loss"))[61]  # the weights are those of step 60
    assert dict(other.curve("loss"))[80] != dict(undisturbed.curve("loss"))[80]


@pytest.mark.parametrize(("changes", "why"), [
    ({"start": "{}@60", "model": {"size": "100K", "vocabulary": 600, "context": 64}}, "made another vocabulary"),
    ({"start": "{}@60", "model": {"size": "1M", "vocabulary": 512, "context": 64}}, "made another model"),
    ({"start": "{}@60", "optimizer": "adamw"}, "expected optimizer=muon"),
    ({"start": "{}@61"}, "no checkpoint of step 61"),
    ({"start": "train-nothing"}, "train-nothing")])
def test_a_branch_that_does_not_fit_is_refused(live, small, kept, changes, why):
    spec = small(name="refused", **{**changes, "start": changes["start"].format(kept.id)})
    with pytest.raises(SpecError, match=why):
        runs.submit(spec, live)


def test_a_killed_rank_repeats_no_step_where_states_are_copied(live, small, undisturbed):
    run = runs.submit(small(name="copied", every={"checkpoint": 1000, "evaluate": 60, "sample": 150, "copies": 1}), live)
    for at in (40, 90):
        reach(run, at)
        os.kill(marks(run, "ranks")[-1]["ranks"][1]["pid"], signal.SIGKILL)
    run.wait(120)
    lost, back = marks(run, "restart"), [m for m in marks(run, "resumed") if m.get("copied")]
    assert len(lost) == len(back) == 2
    assert all(b["step"] >= gone["step"] for gone, b in zip(lost, back, strict=True))  # no step that was told is made again
    assert run.result["digest"] == undisturbed.result["digest"]
    assert run.curve("loss") == undisturbed.curve("loss")
    place = memory.place(Path(run.directory))
    assert not place.exists()
