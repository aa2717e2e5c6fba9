"""The same pretraining cut over ranks in several ways: what ``test_parallel`` runs in a process of its own.

    python cut_ranks.py FOLDER

Each line of its output is a JSON object: what rank 0 of a training told, by the training's name.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from workbench.model import learn_tokenizer
from workbench.train import fit
from workbench.train.plan import planned
from workbench.train.reading.tokens import Tokens
from workbench.train.spec import TrainSpec

STEPS = 4
WAYS: dict[str, dict[str, Any]] = {
    "ddp": {"ranks": 2}, "fsdp": {"ranks": 2, "strategy": "fsdp"}, "tensor": {"ranks": 2, "tensor": 2},
    "mesh": {"ranks": 4, "tensor": 2}, "recompute": {"ranks": 2, "recompute": True}, "one": {"ranks": 1},
    "bf16": {"ranks": 2, "precision": "bf16-mixed"}, "fsdp-bf16": {"ranks": 2, "strategy": "fsdp", "precision": "bf16-mixed"},
    "true": {"ranks": 2, "precision": "bf16-true"},
    "compiled": {"ranks": 1, "compile": True},
}
"""Hardware by name. All read the same samples: where ranks are one reader there are fewer, and each accumulates more."""


class Driver:
    """Takes the place of the control pipe."""

    stop_at = None
    vitals = None
    known = None

    def __init__(self, name: str, rank: int, world: int):
        self.name, self.rank, self.world = name, rank, world

    def send(self, kind: str, **data: Any) -> None:
        if self.rank == 0 and kind in ("steps", "held-out", "sample", "before", "warning"):
            data.pop("content", None)
            os.write(1, json.dumps({"name": self.name, "kind": kind, **data}).encode() + b"\n")

    def begin(self, step: int) -> None:
        pass

    def due(self, word: str, step: int) -> list:
        return []

    def busy(self, what: str) -> Any:
        return contextlib.nullcontext(what)

    def fares(self, *, last: bool = False) -> None:
        pass


def texts(folder: Path) -> Tokens:
    """A stream of words to learn from."""
    words = "the quick brown fox jumps over a lazy dog while many small ranks share one large model".split()
    chosen = np.random.default_rng(0).integers(len(words), size=6000)
    text = [" ".join(words[n] for n in chosen[i:i + 50]) for i in range(0, len(chosen), 50)]
    tokenizer = learn_tokenizer(text, 320)
    tokenizer.save_pretrained(folder)
    ids, splits = [tokenizer(t).input_ids for t in text], {}
    for split, part in (("train", ids[:100]), ("validation", ids[100:])):
        stream = np.asarray([0] + [i for one in part for i in [*one, 0]], np.uint16)
        stream.tofile(folder / f"{split}.bin")
        splits[split] = {"documents": len(part), "tokens": len(stream), "bytes": sum(map(len, text)) // 2}
    (folder / "meta.json").write_text(json.dumps({"dataset": "x", "vocabulary": len(tokenizer), "dtype": "uint16", "splits": splits,
                                                  "lengths": [0] + [1] * (len(tokenizer) - 1)}))
    return Tokens(folder)


def plan(name: str, hardware: dict[str, Any], tokens: Tokens, folder: Path, checkpoint: str | None = None, **more: Any) -> dict[str, Any]:
    """What the ranks of a way are told."""
    readers = hardware["ranks"] // hardware.get("tensor", 1)
    spec = TrainSpec(data="words", model={"size": "100K", "context": 32, "vocabulary": 320}, tokens=STEPS * 8 * 32, clip=0.5, warmup=2,
                     batch={"sequences": 2, "accumulate": 4 // readers}, hardware=hardware, prompts=("the quick",),
                     every={"checkpoint": 2, "evaluate": 2, "sample": 100}, **more)
    made = folder / name
    made.mkdir()
    return planned(spec, 100_000).to_dict() | {
        **tokens.told(), "world": hardware["ranks"], "keep": {"last": 2}, "branch": None, "checkpoint": checkpoint,
        "before": checkpoint is None,
        "directory": str(made), "checkpoints": str(made / "checkpoints"), "out": str(made / "model")}


def rank(number: int, name: str, told: dict[str, Any], store: str) -> None:
    """Train as one of the ranks of a way."""
    world = told["world"]
    os.environ.update(RANK=str(number), WORLD_SIZE=str(world), LOCAL_RANK=str(number), NODE_RANK="0", MASTER_ADDR="127.0.0.1")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(store, world), rank=number, world_size=world)
    begin = time.monotonic()
    done = fit.fit(Driver(name, number, world), told)
    if number == 0:
        os.write(1, json.dumps({"name": name, "kind": "done", "took": time.monotonic() - begin, **done}).encode() + b"\n")
    dist.barrier()
    dist.destroy_process_group()


def train(name: str, told: dict[str, Any], folder: Path) -> None:
    """As many processes as ranks, forked from this one."""
    store = f"{folder}/{name}.{len(list(folder.iterdir()))}.store"
    children = [get_context("fork").Process(target=rank, args=(n, name, told, store)) for n in range(told["world"])]
    for child in children:
        child.start()
    for child in children:
        child.join()
        if child.exitcode:
            sys.exit(f"{name}: a rank ended with {child.exitcode}")


def main() -> None:
    """All ways, one after the other; then one that goes on, on a mesh, from what another left."""
    folder = Path(sys.argv[1])
    tokens = texts(folder)
    for name in sys.argv[2:] or [w for w in WAYS if w != "compiled"]:  # a minute of a compiler's work
        more = {"optimizer": name.partition("+")[2]} if "+" in name else {}
        train(name, plan(name, WAYS[name.partition("+")[0]], tokens, folder, **more), folder)
    for before, after in () if sys.argv[2:] else (("ddp", "mesh"), ("mesh", "ddp")):
        name, checkpoint = f"{before} to {after}", f"{folder}/{before}/checkpoints/step-{STEPS // 2:09d}"
        train(name, plan(name, WAYS[after], tokens, folder, checkpoint), folder)


if __name__ == "__main__":
    main()
