"""What a step costs beside a hand-written loop, and what a second rank brings: medians of one run.

    python tests/benchmarks/training.py [rounds]

Ours is ``fit`` as ranks carry it out, with every callback; the other is a plain loop over torch's DDP with the same model, optimizer
and batches. Each rank has a core of its own, and the rounds alternate. Where there is a GPU, the largest model of ours in bfloat16 is
set against what the GPU reaches in a plain matrix product, and against a loop like nanoGPT's.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import Pipe, get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from workbench.model import learn_tokenizer
from workbench.train import callbacks, fit
from workbench.train.objective import schedule
from workbench.train.plan import planned
from workbench.train.reading.tokens import Tokens
from workbench.train.spec import TrainSpec
from workbench.train.strategy import DDP_OPTIONS

WARM, STEPS = 20, 80
"""Steps before the clock, and steps on it."""
GPU_WARM, GPU_STEPS = 15, 40


class Driver:
    """Takes the place of the control pipe, and holds the clocks as steps begin."""

    stop_at = None
    vitals: Any = None

    def __init__(self, rank: int, world: int, pipe: Any, first: int, last: int):
        self.rank, self.world, self.pipe, self.first, self.last = rank, world, pipe, first, last
        self.marks: dict[int, tuple[float, float, float]] = {}

    def send(self, kind: str, **data: Any) -> None:
        self.pipe.send({"kind": kind, **data})

    def begin(self, step: int) -> None:
        if step in (self.first, self.last) and step not in self.marks:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.marks[step] = time.process_time(), time.monotonic(), self.vitals.module.batches.waited

    def due(self, word: str, step: int) -> list:
        return []

    def busy(self, what: str) -> Any:
        return contextlib.nullcontext(what)


def stream(folder: Path, tokens: int, vocabulary: int) -> Tokens:
    """Ids at random: what is learned is no matter here."""
    tokenizer = learn_tokenizer(["the quick brown fox " * 20], 300)
    tokenizer.save_pretrained(folder)
    ids = np.random.default_rng(0).integers(vocabulary, size=tokens).astype(np.uint16)
    for split in ("train", "validation"):
        (ids if split == "train" else ids[:1000]).tofile(folder / f"{split}.bin")
    splits = {s: {"documents": 1, "tokens": n, "bytes": n} for s, n in (("train", tokens), ("validation", 1000))}
    (folder / "meta.json").write_text(json.dumps({"dataset": "x", "vocabulary": vocabulary, "dtype": "uint16", "lengths": [1] * vocabulary,
                                                  "splits": splits}))
    return Tokens(folder)


def plan_of(tokens: Tokens, folder: Path, steps: int, *, ranks: int, size: str = "1M", context: int = 256, sequences: int = 4,
            **hardware: Any) -> dict[str, Any]:
    """What ranks are told."""
    spec = TrainSpec(data="x", model={"size": size, "context": context, "vocabulary": max(300, tokens.vocabulary)}, optimizer="adamw",
                     tokens=steps * sequences * context * ranks, batch={"sequences": sequences}, prompts=(),
                     hardware={"ranks": ranks, **hardware}, every={"checkpoint": 100_000, "evaluate": 100_000, "sample": 100_000})
    return planned(spec, 10**9).to_dict() | {
        **tokens.told(), "world": ranks, "keep": None, "branch": None, "checkpoint": None, "prompts": (), "before": False,
        "directory": str(folder), "checkpoints": str(folder / "checkpoints"), "out": str(folder / "model")}


def ours(plan: dict[str, Any], rank: int, pipe: Any, first: int, last: int) -> dict[str, float]:
    """Figures of the steps between two, as we train."""
    driver, spent = Driver(rank, plan["world"], pipe, first, last), []
    inner = callbacks.Curves.on_train_batch_end

    def timed(self, trainer, module, outputs, *rest):
        outputs["loss"].item()  # what the device still computes is no cost of a point
        begin = time.thread_time()  # not what others do on this core meanwhile
        inner(self, trainer, module, outputs, *rest)
        spent.append(time.thread_time() - begin)

    if plan["world"] == 1:  # with more ranks a mean over them is in it
        callbacks.Curves.on_train_batch_end = timed
    fit.fit(driver, plan)
    before, after = driver.marks[first], driver.marks[last]
    found = {n: (b - a) / (last - first) for n, a, b in zip(("cpu", "wall", "wait"), before, after, strict=True)}
    return found | ({"point": sum(spent[first:last]) / (last - first) / 4} if spent else {})  # loss, rate, norm, tokens a second


def by_hand(plan: dict[str, Any], rank: int, pipe: Any, first: int, last: int) -> dict[str, float]:
    """The same by a loop that somebody writes who needs nothing else of it."""
    module = fit.objective(plan, rank, plan["world"])
    cuda = torch.cuda.is_available() and plan["accelerator"] != "cpu"
    device = torch.device("cuda" if cuda else "cpu")
    model = module.model.to(device)
    if plan["compile"]:
        model = torch.compile(model)
    if plan["world"] > 1:
        model = DistributedDataParallel(model, **DDP_OPTIONS)
    options = module.configure_optimizers()
    optimizer = options["optimizer"]
    if cuda:
        optimizer = torch.optim.AdamW(model.parameters(), lr=plan["learning_rate"], betas=(0.9, 0.95), fused=True)
    half = torch.autocast("cuda", torch.bfloat16) if plan["precision"] == "bf16-mixed" else contextlib.nullcontext()
    marks = {}
    for step in range(1, last + 1):
        if step in (first, last):
            if cuda:
                torch.cuda.synchronize()
            marks[step] = time.process_time(), time.monotonic()
        for group in optimizer.param_groups:
            group["lr"] = plan["learning_rate"] * schedule(step - 1, plan["steps"], plan["warmup"])
        _, batch = module.batches.at(step - 1)
        with half:
            loss = module.loss(batch.to(device, non_blocking=True), model)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), plan["clip"])
        optimizer.step()
        if step % 10 == 0:
            pipe.send({"kind": "loss", "value": loss.item()})
    return {n: (b - a) / (last - first) for n, a, b in zip(("cpu", "wall"), marks[first], marks[last], strict=True)}


def rank(number: int, work: Callable, plan: dict[str, Any], pipe: Any, store: str, first: int, last: int) -> None:
    """One rank, on a core of its own."""
    world = plan["world"]
    os.environ.update(RANK=str(number), WORLD_SIZE=str(world), LOCAL_RANK=str(number), NODE_RANK="0", MASTER_ADDR="127.0.0.1")
    if plan["accelerator"] == "cpu":
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[number]})
        torch.set_num_threads(1)
    dist.init_process_group("gloo" if plan["accelerator"] == "cpu" else "cpu:gloo,cuda:nccl", store=dist.FileStore(store, world),
                            rank=number, world_size=world)
    pipe.send({"kind": "figures", **work(plan, number, pipe, first, last)})
    dist.barrier()
    dist.destroy_process_group()


def measured(work: Callable, plan: dict[str, Any], first: int = WARM, last: int = WARM + STEPS, start: str = "fork") -> dict[str, float]:
    """What the ranks of a training found: CPU of all ranks, the rest of rank 0."""
    with tempfile.TemporaryDirectory(prefix="training-") as folder:
        told = plan | {"directory": folder, "checkpoints": f"{folder}/checkpoints", "out": f"{folder}/model"}
        pipes, children = [], []
        for number in range(plan["world"]):
            here, there = Pipe()
            child = get_context(start).Process(target=rank, args=(number, work, told, there, f"{folder}/store", first, last))
            child.start()
            there.close()
            pipes.append(here)
            children.append(child)
        found = [_drained(pipe) for pipe in pipes]
        for child in children:
            child.join()
        return found[0] | {"cpu": sum(f["cpu"] for f in found)}


def _drained(pipe: Any) -> dict[str, float]:
    found: dict[str, float] = {}
    with contextlib.suppress(EOFError):
        while True:
            message = pipe.recv()
            if message["kind"] == "figures":
                found = {k: v for k, v in message.items() if k != "kind"}
    return found


def matmul_rate(size: int = 8192, rounds: int = 30) -> float:
    """Operations a second of a bfloat16 matrix product on the GPU."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(5):
        a @ b
    torch.cuda.synchronize()
    begin = time.monotonic()
    for _ in range(rounds):
        a @ b
    torch.cuda.synchronize()
    return 2 * size**3 * rounds / (time.monotonic() - begin)


def on_cpu(folder: Path, rounds: int) -> None:
    """The rows that need no GPU."""
    tokens = stream(folder, 2_000_000, 2048)
    steps = WARM + STEPS + 5
    one, two = (plan_of(tokens, folder, steps, ranks=n, accelerator="cpu") for n in (1, 2))
    mine, hand, alone = [], [], []
    for _ in range(rounds):
        mine.append(measured(ours, two))
        hand.append(measured(by_hand, two))
        alone.append(measured(ours, one))

    def middle(rows: list[dict[str, float]], name: str) -> float:
        return statistics.median(r[name] for r in rows)

    print("| figure | here | must reach |\n|---|---|---|")
    print(f"| CPU a step, 2 ranks: ours / by hand | {middle(mine, 'cpu') * 1e3:.1f} / {middle(hand, 'cpu') * 1e3:.1f} ms = "
          f"{middle(mine, 'cpu') / middle(hand, 'cpu'):.3f} | 1.03 |")
    print(f"| tokens/s, 1 → 2 ranks | {1024 / middle(alone, 'wall'):,.0f} → {2048 / middle(mine, 'wall'):,.0f} = "
          f"{2 * middle(alone, 'wall') / middle(mine, 'wall'):.2f} | 1.8 |")
    print(f"| data wait, share of a step | {middle(mine, 'wait') / middle(mine, 'wall'):.2%} | 1 % |")
    print(f"| in the loop, a point | {middle(alone, 'point') * 1e6:.1f} µs | 20 µs |", flush=True)


def on_gpu(folder: Path, rounds: int) -> None:
    """The rows of a GPU."""
    tokens, context, sequences = stream(folder, 20_000_000, 50_304), 1024, 16
    plan = plan_of(tokens, folder, GPU_WARM + GPU_STEPS + 5, ranks=1, size="100M", context=context, sequences=sequences, accelerator="gpu",
                   precision="bf16-mixed", compile=True)
    rate = matmul_rate()
    model = fit.objective(plan).model
    layers, width = model.config.num_hidden_layers, model.config.hidden_size
    count = sum(p.numel() for p in model.parameters())
    # Six operations a parameter and token, and the products of attention (Chowdhery et al., "PaLM", 2022, appendix B).
    operations = (6 * count + 12 * layers * width * context) * sequences * context
    rows = {name: [] for name in ("ours", "nanoGPT's loop")}
    for _ in range(rounds):
        for name, work in (("ours", ours), ("nanoGPT's loop", by_hand)):
            rows[name].append(measured(work, plan, GPU_WARM, GPU_WARM + GPU_STEPS, "spawn")["wall"])
    for name, found in rows.items():
        wall = statistics.median(found)
        print(f"| {count / 1e6:.0f} M in bf16, {name} | {sequences * context / wall:,.0f} tokens/s, {operations / wall / rate:.1%} of "
              f"{rate / 1e12:.0f} TFLOP/s | 50 % |", flush=True)


def main() -> None:
    """Print the rows."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    for part in [on_cpu] + [on_gpu] * torch.cuda.is_available():
        with tempfile.TemporaryDirectory(prefix="training-") as folder:
            part(Path(folder), rounds)


if __name__ == "__main__":
    main()
