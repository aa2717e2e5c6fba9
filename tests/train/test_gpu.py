"""On NVIDIA GPUs: every precision learns what single precision does, what is killed goes on, and a step's time is told by the GPU's clock.

Skips where there is none. Nothing here is compared bit for bit: kernels of a GPU add up in whatever order.
"""

from __future__ import annotations

import os
import signal
import statistics

import pytest
import torch

from workbench import runs

GPUS = torch.cuda.device_count()
pytestmark = pytest.mark.skipif(not GPUS, reason="needs an NVIDIA GPU")
STEPS = 60


@pytest.fixture(scope="module")
def trained(live, small):
    """Trains the small model for so many steps of 512 tokens, with what hardware is asked for."""

    def made(steps: int = STEPS, accumulate: int = 2, **hardware) -> dict:
        return small(name="gpu", tokens=steps * 512, batch={"sequences": 4, "accumulate": accumulate},
                     hardware={"ranks": 1, "accelerator": "gpu", **hardware})

    return made


@pytest.fixture(scope="module")
def single(live, trained):
    """The training of one rank in single precision."""
    return runs.run(trained(), live)


def end(run: runs.Run) -> float:
    """The loss over the last ten steps."""
    return statistics.mean(loss for _, loss in run.curve("loss")[-10:])


@pytest.mark.parametrize(("hardware", "within"), [
    ({"recompute": True}, 0.01), ({"compile": True}, 0.01), ({"precision": "bf16-mixed"}, 0.05), ({"precision": "bf16-true"}, 0.15),
    ({"precision": "16-mixed"}, 0.2)])  # whose scaler leaves out some of the first steps
def test_each_way_of_computing_learns_what_single_precision_does(live, trained, single, hardware, within):
    done = runs.run(trained(**hardware), live)
    assert len(done.curve("loss")) == STEPS and end(done) < done.curve("loss")[0][1] - 1
    assert end(done) == pytest.approx(end(single), abs=within)


def test_auto_is_the_gpu_and_the_estimate_is_of_it(live, trained, single):
    said = next(e.data for e in single.events(kinds=["mark"]) if e.name == "estimate")
    assert said["gpus"] == 1 and 0 < said["memory"] < torch.cuda.get_device_properties(0).total_memory
    auto = runs.run(trained(accelerator="auto"), live)
    assert end(auto) == pytest.approx(end(single), abs=0.01)


def test_killed_it_goes_on(live, trained):
    whole = runs.run(trained(steps=300), live)
    run = runs.submit(trained(steps=300) | {"name": "gpu-killed"}, live)
    for event in run.follow():
        if event.kind == "mark" and event.name == "checkpoint":
            ranks = next(e.data["ranks"] for e in reversed(run.events(kinds=["mark"])) if e.name == "ranks")
            os.kill(ranks[0]["pid"], signal.SIGKILL)
            break
    run.wait(120)
    assert run.state == "done" and any(e.name == "restart" for e in run.events(kinds=["mark"]))
    assert [s for s, _ in run.curve("loss")] == list(range(1, 301))
    assert end(run) == pytest.approx(end(whole), abs=0.05)


def test_vitals_tell_the_gpus_memory_and_a_steps_parts_by_its_clock(live, trained):
    run = runs.run(trained(steps=600) | {"name": "gpu-vitals"}, live)
    told = [r for e in run.events(kinds=["vitals"]) for r in e.data["ranks"] if r.get("step_seconds")]
    assert told and all(0 < r["gpu_memory"] < r["gpu_memory_limit"] for r in told)
    last = told[-1]
    parts = [last[f"{p}_seconds"] for p in ("forward", "backward", "optimizer")]
    assert min(parts) > 0 and sum(parts) < 1.5 * last["step_seconds"] and last["blocked_seconds"] == 0


@pytest.mark.skipif(GPUS < 2, reason="needs two GPUs")
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_gpus_learn_what_one_does(live, trained, single, strategy):
    done = runs.run(trained(accumulate=1, ranks=2, strategy=strategy), live)
    assert end(done) == pytest.approx(end(single), abs=0.01)
