"""What a step costs beside a hand-written loop, and what a second rank brings: medians of one run.

    python tests/benchmarks/training.py [turns]

Ours is ``fit`` as ranks carry it out, with every callback and heartbeat; the other is a plain loop over torch's DDP with the same
model, optimizer and batches. Each rank has a core of its own, and trainings take turns of a few steps. Where there is a GPU, the
largest model of ours in bfloat16 is set against what the GPU reaches in a plain matrix product, and against a plain loop.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
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
from workbench.train.ranks.control import Control
from workbench.train.reading.tokens import Tokens
from workbench.train.spec import TrainSpec
from workbench.train.strategy import DDP_OPTIONS

WARM, TURN = 20, 8
"""Steps before the clock, and steps of a turn."""
GPU_WARM, GPU_STEPS = 15, 40


class Clock:
    """What a rank spends on the steps of its turns; while it is another's turn it waits for its pipe.

    The speed of a shared machine drifts by more than what is looked for here: turns of a second meet the same drift.
    """

    def __init__(self, pipe: Any, first: int, turns: int, length: int, waited: Callable[[], float] = lambda: 0.0):
        self.pipe, self.first, self.turns, self.length, self.waited = pipe, first, turns, length, waited
        self.rows: list[dict[str, float]] = []
        self._at: tuple[float, float, float] | None = None

    def begin(self, step: int) -> None:
        """Before a step."""
        if step < self.first or (step - self.first) % self.length or len(self.rows) == self.turns:
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.process_time(), time.monotonic(), self.waited()
        if self._at is not None:
            self.rows.append({n: (b - a) / self.length for n, a, b in zip(("cpu", "wall", "wait"), self._at, now, strict=True)})
        self.pipe.send({"kind": "turn"})
        self.pipe.recv()
        self._at = time.process_time(), time.monotonic(), self.waited()


class Driver(Control):
    """A rank's end of the control pipe, whose driver is only a clock."""

    def __init__(self, rank: int, world: int, pipe: Any, **turns: int):
        super().__init__(pipe, rank, world)
        self.clock = Clock(pipe, waited=lambda: self.vitals.module.batches.waited, **turns)
        threading.Thread(target=self._beat, daemon=True).start()  # nobody listens: the pipe says whose turn it is

    def begin(self, step: int) -> None:
        self.clock.begin(step)
        super().begin(step)


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


def ours(plan: dict[str, Any], rank: int, pipe: Any, turns: dict[str, int]) -> list[dict[str, float]]:
    """Figures of each turn, as we train."""
    driver, spent = Driver(rank, plan["world"], pipe, **turns), []
    inner = callbacks.Curves.on_train_batch_end

    def timed(self, trainer, module, outputs, *rest):
        outputs["loss"].item()  # what the device still computes is no cost of a point
        begin = time.thread_time()  # not what others do on this core meanwhile
        inner(self, trainer, module, outputs, *rest)
        spent.append(time.thread_time() - begin)

    if plan["world"] == 1:  # with more ranks a mean over them is in it
        callbacks.Curves.on_train_batch_end = timed
    fit.fit(driver, plan)
    point = sum(spent[WARM:]) / max(1, len(spent[WARM:])) / 4  # loss, rate, norm, tokens a second
    return [row | {"point": point} for row in driver.clock.rows]


def by_hand(plan: dict[str, Any], rank: int, pipe: Any, turns: dict[str, int]) -> list[dict[str, float]]:
    """The same by a loop that somebody writes who needs nothing else of it."""
    clock = Clock(pipe, **turns)
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
    for step in range(1, plan["steps"] + 1):
        clock.begin(step)
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
    return clock.rows


def rank(number: int, work: Callable, plan: dict[str, Any], pipe: Any, store: str, turns: dict[str, int]) -> None:
    """One rank, on a core of its own."""
    world = plan["world"]
    os.environ.update(RANK=str(number), WORLD_SIZE=str(world), LOCAL_RANK=str(number), NODE_RANK="0", MASTER_ADDR="127.0.0.1")
    if plan["accelerator"] == "cpu":
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[number]})
        torch.set_num_threads(1)
    dist.init_process_group("gloo" if plan["accelerator"] == "cpu" else "cpu:gloo,cuda:nccl", store=dist.FileStore(store, world),
                            rank=number, world_size=world)
    pipe.send({"kind": "figures", "rows": work(plan, number, pipe, turns)})
    dist.barrier()
    dist.destroy_process_group()


class Gang:
    """The ranks of a training, each at the other end of a pipe."""

    def __init__(self, work: Callable, plan: dict[str, Any], folder: Path, turns: dict[str, int], start: str = "fork"):
        folder.mkdir()
        told = plan | {"directory": str(folder), "checkpoints": f"{folder}/checkpoints", "out": f"{folder}/model"}
        self.pipes, self.children = [], []
        for number in range(plan["world"]):
            here, there = Pipe()
            child = get_context(start).Process(target=rank, args=(number, work, told, there, f"{folder}/store", turns))
            child.start()
            there.close()
            self.pipes.append(here)
            self.children.append(child)

    def until(self, kind: str) -> list[dict[str, Any]]:
        """Read what all ranks say until each has said a thing."""
        found = []
        for pipe in self.pipes:
            message = pipe.recv()
            while message["kind"] != kind:
                message = pipe.recv()
            found.append(message)
        return found

    def go(self) -> None:
        """The next turn is theirs."""
        for pipe in self.pipes:
            pipe.send("go")

    def figures(self) -> list[dict[str, float]]:
        """Of each turn: CPU of all ranks, the rest of rank 0."""
        rows = [m["rows"] for m in self.until("figures")]
        for child in self.children:
            child.join()
        return [turn[0] | {"cpu": sum(r["cpu"] for r in turn)} for turn in zip(*rows, strict=True)]


def by_turns(trainings: dict[str, tuple[Callable, dict[str, Any]]], turns: int, first: int = WARM, length: int = TURN,
             start: str = "fork") -> dict[str, list[dict[str, float]]]:
    """What trainings that take turns found, by their names: a row a turn."""
    with tempfile.TemporaryDirectory(prefix="training-") as folder:
        gangs = {name: Gang(work, plan, Path(folder, str(n)), {"first": first, "turns": turns, "length": length}, start)
                 for n, (name, (work, plan)) in enumerate(trainings.items())}
        for gang in gangs.values():
            gang.until("turn")
        for number in range(turns):
            for gang in list(gangs.values())[::-1 if number % 2 else 1]:  # to be first or last is nobody's lot
                gang.go()
                gang.until("turn")
        found = {}
        for name, gang in gangs.items():
            gang.go()
            found[name] = gang.figures()
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


def on_cpu(folder: Path, turns: int) -> None:
    """The rows that need no GPU."""
    tokens = stream(folder, 2_000_000, 2048)
    steps = WARM + TURN * turns + 2
    one, two = (plan_of(tokens, folder, steps, ranks=n, accelerator="cpu") for n in (1, 2))
    # Two processes with the same work differ too, by where their memory lies: two of each, and what they are against each other.
    found = by_turns({"mine": (ours, two), "hand": (by_hand, two), "mine too": (ours, two), "hand too": (by_hand, two)}, turns)

    def middle(name: str, figure: str) -> float:
        return statistics.median(r[figure] for r in found[name])

    def ratio(one: Sequence[str], other: Sequence[str], figure: str) -> float:
        mean = [[statistics.fmean(r[figure] for r in rows) for rows in zip(*map(found.get, names), strict=True)] for names in (one, other)]
        return statistics.median(a / b for a, b in zip(*mean, strict=True))

    print(f"medians of {turns} turns of {TURN} steps, ratios turn by turn\n| figure | here | must reach |\n|---|---|---|")
    print(f"| CPU a step, 2 ranks: ours / by hand | {middle('mine', 'cpu') * 1e3:.1f} / {middle('hand', 'cpu') * 1e3:.1f} ms = "
          f"{ratio(['mine', 'mine too'], ['hand', 'hand too'], 'cpu'):.3f} (against itself {ratio(['mine'], ['mine too'], 'cpu'):.3f}, "
          f"by hand {ratio(['hand'], ['hand too'], 'cpu'):.3f}) | 1.03 |")
    found = by_turns({"mine": (ours, two), "hand": (by_hand, two), "alone": (ours, one), "hand alone": (by_hand, one)}, turns)
    print(f"| tokens/s, 1 → 2 ranks | {1024 / middle('alone', 'wall'):,.0f} → {2048 / middle('mine', 'wall'):,.0f} = "
          f"{2 * ratio(['alone'], ['mine'], 'wall'):.2f} (by hand {2 * ratio(['hand alone'], ['hand'], 'wall'):.2f}) | 1.8 |")
    print(f"| data wait, share of a step | {middle('mine', 'wait') / middle('mine', 'wall'):.2%} | 1 % |")
    print(f"| in the loop, a point | {middle('alone', 'point') * 1e6:.1f} µs | 20 µs |", flush=True)


def on_gpu(folder: Path, turns: int) -> None:
    """The rows of a GPU."""
    tokens, context, sequences = stream(folder, 20_000_000, 50_304), 1024, 16
    plan = plan_of(tokens, folder, GPU_WARM + GPU_STEPS * turns + 2, ranks=1, size="100M", context=context, sequences=sequences,
                   accelerator="gpu", precision="bf16-mixed", compile=True)
    rate = matmul_rate()
    model = fit.objective(plan).model
    layers, width = model.config.num_hidden_layers, model.config.hidden_size
    count = sum(p.numel() for p in model.parameters())
    # Six operations a parameter and token, and the products of attention (Chowdhery et al., "PaLM", 2022, appendix B).
    operations = (6 * count + 12 * layers * width * context) * sequences * context
    found = by_turns({"ours": (ours, plan), "a plain loop": (by_hand, plan)}, turns, GPU_WARM, GPU_STEPS, "spawn")
    for name, rows in found.items():
        wall = statistics.median(r["wall"] for r in rows)
        print(f"| {count / 1e6:.0f} M in bf16, {name} | {sequences * context / wall:,.0f} tokens/s, {operations / wall / rate:.1%} of "
              f"{rate / 1e12:.0f} TFLOP/s | 50 % |", flush=True)


def main() -> None:
    """Print the rows."""
    asked = int(sys.argv[1]) if len(sys.argv) > 1 else None
    for part, turns in [(on_cpu, asked or 20)] + [(on_gpu, asked or 5)] * torch.cuda.is_available():
        with tempfile.TemporaryDirectory(prefix="training-") as folder:
            part(Path(folder), turns)


if __name__ == "__main__":
    main()
