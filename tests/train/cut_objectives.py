"""Objectives other than pretraining under several strategies: what ``test_cut_objectives`` runs in a process of its own.

    python cut_objectives.py FOLDER

Each line of its output is a JSON object: what rank 0 of a training told, by the training's name.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from answered import base_in, chat_data, pair_data
from cut_ranks import train
from drawn import Drawn

from workbench.dataset import Dataset
from workbench.train.plan import planned
from workbench.train.reading import answers, pixels
from workbench.train.reading import base as bases
from workbench.train.spec import TrainSpec
from workbench.workspace import Workspace

STEPS = 4
LORA = {"rank": 4}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "sft": {"kind": "sft", "adapter": None}, "sft-lora": {"kind": "sft", "adapter": LORA},
    "dpo": {"kind": "dpo", "adapter": None}, "dpo-lora": {"kind": "dpo", "adapter": LORA},
    "diffusion": {"kind": "diffusion", "width": 8, "noise_steps": 20, "sample_steps": 2}}
WAYS: dict[str, dict[str, Any]] = {"ddp": {"ranks": 2}, "fsdp": {"ranks": 2, "strategy": "fsdp"}, "tensor": {"ranks": 2, "tensor": 2},
                                   "recompute": {"ranks": 2, "strategy": "fsdp", "recompute": True}}
TRAININGS = [(kind, way) for kind in OBJECTIVES for way in ("ddp", "fsdp")] + [("sft", "tensor"), ("sft-lora", "recompute")]
RESUMED = [("sft-lora", "ddp"), ("diffusion", "fsdp")]
"""Objective, and what its training with the other of the two strategies goes on under."""


def told(name: str, kind: str, way: str, workspace: Workspace, base: Path, folder: Path, checkpoint: str | None = None) -> dict[str, Any]:
    """What the ranks of a training are told."""
    hardware, objective = WAYS[way], OBJECTIVES[kind]
    tuned = kind != "diffusion"
    data = {"sft": "colours", "dpo": "liked", "dif": "dots"}[kind[:3]]
    dataset = Dataset.open(data, workspace)
    readers = hardware["ranks"] // hardware.get("tensor", 1)
    counted = {"sft": 60, "dpo": 60, "dif": 24}[kind[:3]]
    spec = TrainSpec(data=data, objective={**objective, **({"base": str(base), "context": 64} if tuned else {})}, clip=0.5, warmup=1,
                     batch={"sequences": 2, "accumulate": 2 // readers}, epochs=(STEPS * 4 - 1) / counted, hardware=hardware,
                     learning_rate=3e-3, every={"checkpoint": 2, "evaluate": 2, "sample": 100},
                     prompts=("What colour is sky?",) if tuned else ())
    made = (answers.make(spec, workspace, dataset, bases.found(str(base), workspace)) if tuned else pixels.make(workspace, dataset))
    place = folder / name
    place.mkdir()
    return planned(spec, counted).to_dict() | made.told() | {
        "world": hardware["ranks"], "keep": {"last": 2}, "branch": None, "checkpoint": checkpoint, "before": checkpoint is None,
        "directory": str(place), "checkpoints": str(place / "checkpoints"), "out": str(place / "model")}


def main() -> None:
    """All trainings, one after the other; then those that go on from what another left."""
    torch.set_num_threads(1)  # ranks are forked from here
    folder = Path(sys.argv[1])
    workspace, base = Workspace(folder).open(), base_in(folder / "base")
    chat_data(workspace), pair_data(workspace), Drawn(workspace)
    for kind, way in TRAININGS:
        train(f"{kind} {way}", told(f"{kind} {way}", kind, way, workspace, base, folder), folder)
    for kind, way in RESUMED:
        name, before = f"{kind} on {way}", {"ddp": "fsdp", "fsdp": "ddp"}[way]
        checkpoint = f"{folder}/{kind} {before}/checkpoints/step-{STEPS // 2:09d}"
        train(name, told(name, kind, way, workspace, base, folder, checkpoint), folder)


if __name__ == "__main__":
    main()
