"""Fine-tuning and diffusion learn the same under FSDP2 as under DDP, whole or by an adapter; what can't be cut is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from answered import base_in, chat_data
from cut_objectives import OBJECTIVES, RESUMED, STEPS, TRAININGS

from workbench.errors import SpecError
from workbench.model import load_weights
from workbench.train import run as training
from workbench.train.spec import TrainSpec
from workbench.workspace import Workspace

ROUNDING = 2e-5
"""Of losses up to six: single precision has seven digits, and a cut model adds up in another order."""


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> tuple[Path, dict[str, dict]]:
    """What each training of ``cut_objectives`` told, and the folder with what it left."""
    folder = tmp_path_factory.mktemp("cut")
    done = subprocess.run([sys.executable, "-W", "ignore", Path(__file__).with_name("cut_objectives.py"), folder], capture_output=True,
                          text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, dict] = defaultdict(lambda: {"loss": {}, "norm": {}, "samples": []})
    for message in (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")):
        one = found[message["name"]]
        if message["kind"] == "steps" and not message.get("again"):
            one["loss"] |= {row[0]: row[1] for row in message["rows"]}
            one["norm"] |= {row[0]: row[3] for row in message["rows"]}
        elif message["kind"] == "sample":
            one["samples"].append((message["step"], message["text"]))
        elif message["kind"] != "steps":
            one[message["kind"]] = message
    return folder, found


@pytest.mark.parametrize(("kind", "way"), [t for t in TRAININGS if t[1] != "ddp"])
def test_losses_norms_and_measures_are_ddps_but_for_rounding(told, kind, way):
    whole, other = (told[1][f"{kind} {w}"] for w in ("ddp", way))
    assert sorted(other["loss"]) == list(range(1, STEPS + 1)) and len(set(whole["loss"].values())) == STEPS
    assert other["loss"] == pytest.approx(whole["loss"], abs=ROUNDING)
    assert other["norm"] == pytest.approx(whole["norm"], rel=1e-4)
    assert other["held-out"]["value"] == pytest.approx(whole["held-out"]["value"], abs=ROUNDING)
    assert other["done"]["value"] == pytest.approx(whole["done"]["value"], abs=ROUNDING)
    assert other["done"]["beside"] == pytest.approx(whole["done"]["beside"], abs=ROUNDING)
    assert other["done"]["parameters"] == whole["done"]["parameters"] and other["before"]["windows"] == whole["before"]["windows"]
    assert [s for s, _ in other["samples"]] == [s for s, _ in whole["samples"]] == [0, STEPS]


@pytest.mark.parametrize(("kind", "way"), [t for t in TRAININGS if t[1] != "ddp"])
def test_the_exported_model_is_whole(told, kind, way):
    whole, other = (load_weights(told[0] / f"{kind} {w}" / "model" / "model.safetensors") for w in ("ddp", way))
    assert {k: v.shape for k, v in other.items()} == {k: v.shape for k, v in whole.items()}
    assert max(float((other[k] - whole[k]).abs().max()) for k in whole) < 1e-3
    assert (told[0] / f"{kind} {way}" / "model" / "adapter").exists() == bool(OBJECTIVES[kind].get("adapter"))


@pytest.mark.parametrize(("kind", "way"), RESUMED)
def test_a_checkpoint_goes_on_under_the_other_strategy(told, kind, way):
    found = told[1][f"{kind} on {way}"]
    assert sorted(found["loss"]) == [3, 4]
    assert found["loss"] == pytest.approx({s: told[1][f"{kind} ddp"]["loss"][s] for s in (3, 4)}, abs=ROUNDING)
    assert found["done"]["value"] == pytest.approx(told[1][f"{kind} ddp"]["done"]["value"], abs=ROUNDING)


@pytest.mark.parametrize(("tensor", "layers", "words"), [
    (3, {}, "has 4 heads, 4 key and value heads, 160 inner numbers; expected one of 1, 2, 4"),
    (2, {"q_proj": "query"}, "has no q_proj to share out: its layers are not built as a Llama's; expected tensor=1")])
def test_a_base_that_can_not_be_shared_out_is_refused_before_anything_starts(tmp_path, tensor, layers, words):
    from workbench.model import save_weights

    workspace, base = Workspace(tmp_path).open(), base_in(tmp_path / "base")
    chat_data(workspace)
    weights = load_weights(base / "model.safetensors")
    for old, new in layers.items():
        weights = {k.replace(old, new): v for k, v in weights.items()}
    save_weights(weights, base / "model.safetensors")
    spec = TrainSpec(data="colours", objective={"kind": "sft", "base": "base", "adapter": None},
                     hardware={"ranks": tensor, "tensor": tensor})
    with pytest.raises(SpecError, match=words):
        training.inputs(spec, workspace)
