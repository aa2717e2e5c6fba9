"""However a model is cut over ranks it learns the same; what devices can't carry is refused with what would fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.fabric.accelerators import MPSAccelerator  # the one that others ask

from workbench.errors import ClusterError, SpecError
from workbench.model import load_weights
from workbench.train import devices, strategy
from workbench.train.plan import planned
from workbench.train.spec import TrainSpec

CUT = ("fsdp", "tensor", "mesh", "one")
ROUNDING = 5e-6
"""Of a loss of about five: single precision has seven digits, and a cut model adds up in another order."""


def trained(folder: Path, *ways: str) -> dict[str, dict]:
    """What ways of ``cut_ranks`` told; none named: all but those that take long."""
    done = subprocess.run([sys.executable, "-W", "ignore", Path(__file__).with_name("cut_ranks.py"), folder, *ways], capture_output=True,
                          text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, dict] = defaultdict(lambda: {"loss": {}, "norm": {}, "samples": {}})
    for message in (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")):
        way = found[message["name"]]
        if message["kind"] == "steps" and message.get("again"):
            continue  # from before the checkpoint
        if message["kind"] == "steps":
            way["loss"] |= {row[0]: row[1] for row in message["rows"]}
            way["norm"] |= {row[0]: row[3] for row in message["rows"]}
        elif message["kind"] == "sample":
            way["samples"][message["step"]] = message["text"]
        else:
            way[message["kind"]] = message
    return found


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> tuple[Path, dict[str, dict]]:
    """What each way of ``cut_ranks`` told, and the folder with what it left."""
    folder = tmp_path_factory.mktemp("cut")
    return folder, trained(folder)


@pytest.mark.parametrize("way", CUT)
def test_losses_norms_and_measures_are_ddps_but_for_rounding(told, way):
    whole, other = told[1]["ddp"], told[1][way]
    assert sorted(other["loss"]) == [1, 2, 3, 4] and whole["loss"][4] < whole["loss"][1] - 1
    assert other["loss"] == pytest.approx(whole["loss"], abs=ROUNDING)
    assert other["norm"] == pytest.approx(whole["norm"], rel=1e-5) and min(whole["norm"].values()) > 0.5  # each is clipped
    assert other["held-out"]["value"] == pytest.approx(whole["held-out"]["value"], abs=ROUNDING)
    assert other["done"]["value"] == pytest.approx(whole["done"]["value"], abs=ROUNDING)
    assert other["done"]["parameters"] == whole["done"]["parameters"] and other["before"]["windows"] == whole["before"]["windows"]


@pytest.mark.parametrize("way", [*CUT, "true"])
def test_the_exported_model_is_whole_and_in_single_precision(told, way):
    whole, other = (load_weights(told[0] / name / "model" / "model.safetensors") for name in ("ddp", way))
    assert {k: (v.shape, v.dtype) for k, v in other.items()} == {k: (v.shape, v.dtype) for k, v in whole.items()}
    assert all(v.dtype == torch.float32 for v in whole.values())
    if way != "true":
        assert max((other[k] - whole[k]).abs().max() for k in whole) < 1e-4


def test_what_it_makes_is_made_by_all_ranks_of_a_cut_model(told):
    assert len({told[1][way]["samples"][4] for way in ("ddp", "one")}) == 1
    assert all(sorted(told[1][way]["samples"]) == [0, 4] for way in CUT)


def test_recomputing_changes_no_bit(told):
    assert told[1]["recompute"]["loss"] == told[1]["ddp"]["loss"]
    assert told[1]["recompute"]["norm"] == told[1]["ddp"]["norm"]


@pytest.mark.skipif(not os.environ.get("WORKBENCH_SOAK"), reason="minutes of a compiler's work: set WORKBENCH_SOAK=1")
def test_compiled_it_learns_the_same(told, tmp_path):
    compiled, plain = trained(tmp_path, "compiled")["compiled"], told[1]["one"]
    assert compiled["loss"] == pytest.approx(plain["loss"], abs=ROUNDING)
    assert compiled["done"]["value"] != plain["done"]["value"]  # rounded otherwise: by other kernels
    assert compiled["norm"] == pytest.approx(plain["norm"], rel=1e-4)
    assert compiled["held-out"]["value"] == pytest.approx(plain["held-out"]["value"], abs=ROUNDING)
    names = [set(load_weights(folder / "model" / "model.safetensors")) for folder in (tmp_path / "compiled", told[0] / "one")]
    assert names[0] == names[1]  # what is compiled keeps its parameters' names


def test_half_precision_learns_nearly_the_same(told):
    found = told[1]
    assert found["bf16"]["loss"] != found["ddp"]["loss"] and found["bf16"]["loss"] == pytest.approx(found["ddp"]["loss"], abs=0.02)
    assert found["fsdp-bf16"]["loss"] == pytest.approx(found["bf16"]["loss"], abs=0.005)
    assert found["true"]["loss"] == pytest.approx(found["ddp"]["loss"], abs=0.05)


@pytest.mark.parametrize(("before", "after"), [("ddp", "mesh"), ("mesh", "ddp")])
def test_a_checkpoint_goes_on_under_another_cut(told, before, after):
    found = told[1][f"{before} to {after}"]
    assert sorted(found["loss"]) == [3, 4]
    assert found["loss"] == pytest.approx({s: told[1]["ddp"]["loss"][s] for s in (3, 4)}, abs=ROUNDING)


@pytest.mark.parametrize(("hardware", "more", "words"), [
    ({"ranks": 3, "tensor": 2}, {}, "expected a divisor of the ranks: 1, 3"),
    ({"ranks": 8, "tensor": 8}, {}, "a model of 1M has 4 heads; expected one of 1, 2, 4"),
    ({"ranks": 2, "tensor": 2, "strategy": "ddp"}, {}, "expected auto or fsdp"),
    ({"ranks": 1, "strategy": "fsdp"}, {}, "expected auto, or ranks=2"),
    ({"ranks": 4, "tensor": 2, "min_ranks": 2}, {}, "expected no min_ranks"),
    ({"precision": "16-mixed", "accelerator": "cpu"}, {}, "expected bf16-mixed or 32-true"),
    ({"precision": "16-mixed", "strategy": "fsdp"}, {}, "expected bf16-mixed or 32-true"),
    ({"strategy": "fsdp"}, {"objective": {"kind": "gan"}}, "expected strategy=auto"),
    ({"precision": "bf16-true"}, {"objective": {"kind": "diffusion"}}, "expected bf16-mixed or 32-true"),
    ({"compile": True}, {"objective": {"kind": "module", "module": "a:B"}}, "a module's own to do"),
    ({"min_ranks": 1}, {"objective": {"kind": "module", "module": "a:B"}}, "received 1 with 2 ranks, and a module's own dataloader"),
    ({"max_ranks": 4, "min_ranks": 2}, {"objective": {"kind": "module", "module": "a:B"}}, "expected no max_ranks"),
    ({"strategy": "fsdp", "accelerator": "tpu"}, {}, "expected cpu, gpu or auto"),
    ({"accelerator": "tpu"}, {}, "received 2 on tpu"), ({"accelerator": "mps"}, {}, "expected 1"),
    ({"tensor": 2}, {"objective": {"kind": "diffusion"}}, "expected tensor=1, with strategy=fsdp"),
    ({"tensor": 2}, {"objective": {"kind": "sft", "base": "b"}}, "objective.adapter=null")])
def test_what_does_not_go_together_is_refused_with_what_would_fit(hardware, more, words):
    with pytest.raises(SpecError) as caught:
        devices.refuse(TrainSpec(data="x", hardware=hardware, **more))
    assert words in str(caught.value) and "1 problem" in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has what is to be missing")
@pytest.mark.parametrize(("hardware", "words"), [
    ({"accelerator": "gpu"}, "accelerator=cpu"), ({"accelerator": "tpu"}, "accelerator=cpu"), ({"accelerator": "mps"}, "accelerator=cpu"),
    ({"precision": "16-mixed"}, "precision=bf16-mixed")])
def test_what_a_ranks_own_device_lacks_is_said_before_anything_is_built(hardware, words):
    plan = planned(TrainSpec(data="x", hardware=hardware), 1_000_000).to_dict()
    with pytest.raises(ClusterError) as caught:
        devices.carry(plan)
    assert words in caught.value.hint


@pytest.mark.skipif(torch.cuda.is_available(), reason="takes its GPU first")
def test_on_an_apple_gpu_the_default_trains_on_the_cpu_and_one_rank_on_the_gpu(monkeypatch):
    monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: True))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "NODE_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    plan, said = planned(TrainSpec(data="x"), 1_000_000).to_dict(), []
    two, one = (devices.carry(plan | {"world": world}, said.append) for world in (2, 1))
    assert (two["accelerator"], one["accelerator"]) == ("cpu", "mps")
    assert said == ["2 ranks train on the CPU: over mps ranks don't meet; hardware.ranks=1 trains on it"]
    for made, kind in ((two, "cpu"), (one, "mps")):  # Lightning refuses what does not go together as a trainer is made
        trainer = pl.Trainer(strategy=strategy.strategy(made, made["world"]), accelerator=made["accelerator"], devices=1, logger=False,
                             enable_checkpointing=False)
        assert trainer.strategy.root_device.type == kind and trainer.num_devices == 1


def test_ranks_that_share_out_matrices_read_as_one():
    whole, shared = (planned(TrainSpec(data="x", hardware={"ranks": ranks, "tensor": ranks // 2}), 1_000_000) for ranks in (2, 4))
    assert (whole.chunks, whole.steps) == (shared.chunks, shared.steps) == (2, whole.steps)
