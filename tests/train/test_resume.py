"""A stopped or failed training goes on as the same run, from its last checkpoint, to the same weights."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from workbench import runs
from workbench.driver import runner
from workbench.errors import RunFailedError
from workbench.events import Events
from workbench.journal import Journal
from workbench.train.gain import gained
from workbench.train.state import checkpoints


def reach(run: runs.Run, step: int) -> None:
    assert any(e.kind == "point" and e.step is not None and e.step >= step for e in run.follow()), run.failure


def stopped(run: runs.Run, step: int = 60) -> runs.Run:
    reach(run, step)
    run.stop()
    assert run.wait(60, check=False).state == "stopped"
    return run


def test_a_stopped_run_goes_on_to_the_same_weights_and_curves(live, small, undisturbed):
    run = stopped(runs.submit(small(name="resumed"), live))
    newest = checkpoints.listed(run.directory / "checkpoints")[0]
    assert run.rest == {"step": checkpoints.step_of(newest), "words": f"from step {checkpoints.step_of(newest)}"}
    with ThreadPoolExecutor(4) as pool:  # two pages, pressed at once
        assert {r.id for r in pool.map(lambda _: runs.attach(run.id, live).resume(), range(4))} == {run.id}
    run.wait(120)
    assert run.entry.attempt == 2 and run.rest is None
    assert run.result["digest"] == undisturbed.result["digest"]
    for curve in ("loss", "bits_per_byte", "learning_rate", "gradient_norm"):
        assert run.curve(curve) == undisturbed.curve(curve)
    assert run.result["metrics"]["gain"] == undisturbed.result["metrics"]["gain"]
    assert run.worked < run.entry.ended - run.entry.started
    with pytest.raises(RunFailedError, match="is done"):
        run.resume()


def test_a_failed_run_goes_on_too(live, small, undisturbed):
    run = stopped(runs.submit(small(name="mended"), live))
    Journal(live).resume(run.id)
    Journal(live).claim(run.id)
    Journal(live).move(run.id, "failed", failure={"what": "the disk was full", "where": "here"})
    assert run.rest is not None and run.state == "failed"
    assert run.resume().failure is None
    assert run.wait(120).result["digest"] == undisturbed.result["digest"]


def test_what_kept_nothing_starts_over(workspace):
    journal = Journal(workspace)
    for word in ("train", "data"):
        entry, _ = journal.add(word, "m", word, {"word": word}, {}, place="here")
        journal.move(entry.id, "stopped")
        run = runs.attach(entry.id, workspace)
        assert run.rest is None
        with pytest.raises(RunFailedError, match=f"workbench {word} --again"):
            run.resume()
        assert run.state == "stopped"


def test_again_takes_nothing_up(live, small, undisturbed):
    stopped(runs.submit(small(name="afresh"), live))
    again = runs.submit(small(name="afresh"), live, again=True).wait(120)
    assert [s for s, _ in again.curve("loss")] == list(range(1, 151))
    assert again.result["digest"] == undisturbed.result["digest"]


def test_resume_by_the_command_line(live, small):
    run = stopped(runs.submit(small(name="typed", tokens=100 * 512), live), 20)
    command = [sys.executable, "-m", "workbench.cli", "resume", run.id]
    done = subprocess.run(command, cwd=live.root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"{run.id} goes on from step" in done.stderr and run.state == "done"
    again = subprocess.run(command, cwd=live.root, capture_output=True, text=True)
    assert again.returncode == 1 and "is done" in again.stderr and "Traceback" not in again.stderr


def test_a_killed_rank_comes_back_and_is_told_of(live, small):
    run = runs.submit(small(name="bitten", seed=2), live)
    reach(run, 50)
    victim = [e for e in run.events(kinds=["mark"]) if e.name == "ranks"][-1].data["ranks"][1]
    os.kill(victim["pid"], signal.SIGKILL)
    run.wait(120)
    told = {e.name: e.data for e in run.events(kinds=["mark"])}
    assert told["restart"]["ranks"] == [1] and "rank 1 was killed (SIGKILL)" in told["restart"]["why"]
    assert told["back"]["ranks"] == [1] and 0 < told["back"]["seconds"] < 60
    said = [e.data["text"] for e in run.events(kinds=["log"])]
    assert any(line.startswith("rank 1 came back after ") for line in said)


def test_ranks_say_how_they_fare_and_not_too_often(live, small):
    run = runs.submit(small(name="fares", seed=4, tokens=400 * 512), live).wait(120)
    told = run.events(kinds=["vitals"])
    assert told and len(told) <= run.worked + 1
    ranks = next(e.data["ranks"] for e in told if all(r["step_seconds"] for r in e.data["ranks"]))
    assert [r["rank"] for r in ranks] == [0, 1]
    for rank in ranks:
        assert rank["cpu"] > 0 and 0 <= rank["wait_seconds"] < rank["step_seconds"] and 1e7 < rank["memory"] < 2e9


def test_before_and_after_stand_side_by_side(undisturbed):
    gain = undisturbed.result["metrics"]["gain"]
    before = dict(undisturbed.curve("bits_per_byte"))[0]
    scored = json.loads((undisturbed.directory / "before.json").read_text())
    nats, tokens = sum(w[0] for w in scored), 64 * len(scored)
    assert nats / tokens == pytest.approx(math.log(512), rel=0.02)  # every token is as likely as another: nothing is known
    assert gain["before"] == pytest.approx(before) == nats / math.log(2) / sum(w[1] for w in scored)
    assert gain["low"] < gain["difference"] < gain["high"] < -1 and gain["after"] == pytest.approx(gain["before"] + gain["difference"])
    samples = [(e.step, e.data["prompt"]) for e in undisturbed.events(kinds=["sample"])]
    assert samples == [(0, "Return the"), (150, "Return the")]
    assert f"{gain['before']:.3f} → {gain['after']:.3f} bits a byte" in undisturbed.output.card


def test_the_interval_holds_the_difference_that_is():
    import numpy as np

    generator, held = np.random.default_rng(0), 0
    for seed in range(60):
        size = generator.integers(100, 400, 32)
        before = size * 5.5
        after = before - size * generator.normal(3.0, 0.5, 32)
        found = gained(np.stack([before, size], 1), np.stack([after, size], 1), seed=seed)
        held += found["low"] <= -3.0 / np.log(2) <= found["high"]
    assert held >= 50  # 95 % of 60 is 57


def test_an_estimate_is_remembered_for_specs_whose_steps_are_alike(live, small, undisturbed):
    from workbench.train.spec import TrainSpec

    module, _ = runner("train")
    alike = module.remembered(TrainSpec.load(small(learning_rate=3e-3, tokens=300 * 512)), live)
    assert alike["steps"] == 300 and alike["seconds"] == pytest.approx(300 * alike["step_seconds"])
    assert module.remembered(TrainSpec.load(small(batch={"sequences": 3})), live) == {}
    inputs, found, foreseen = runs.foresee(small(seed=77), live, estimate=False)
    assert found is None and foreseen["memory"] == alike["memory"] and inputs["data"]
    assert not [e for e in Events(live).tail() if e.scope.startswith("estimate-")]
