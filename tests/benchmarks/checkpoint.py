"""What a checkpoint of a 100 M model with AdamW costs the loop: staged lazily, beside torch.save and DCP's async_save.

    python tests/benchmarks/checkpoint.py [rounds] [size]

One process and the same model for all; the ways alternate, each round saves after one step and makes two more. Stalled is what
the loop waits: the call, and for ours what is not copied yet when the next optimizer step comes. The write's time runs from the
call to the moment at which the checkpoint stands on disk, synced. Steps are timed too: what the writing takes from them by
computing beside them is no stall, but it is there.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

from workbench import model as models
from workbench.train.state import memory, saving
from workbench.train.state.neighbour import Copies

SEQUENCES, CONTEXT, VOCABULARY = 1, 128, 16_384


class Loop:
    """A training of random tokens."""

    def __init__(self, size: str):
        torch.manual_seed(0)
        self.model = models.new_llama(models.llama_config(size, VOCABULARY, 1024), 0)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        self.tokens = torch.randint(0, self.model.config.vocab_size, (SEQUENCES, CONTEXT))
        self.before_step: Callable[[], None] = lambda: None
        self.waited = 0.0

    def step(self) -> float:
        """One step; returns its seconds."""
        begin = time.perf_counter()
        self.model(input_ids=self.tokens, labels=self.tokens).loss.backward()
        at = time.perf_counter()
        self.before_step()
        self.waited += time.perf_counter() - at
        self.optimizer.step()
        self.optimizer.zero_grad()
        return time.perf_counter() - begin

    def state(self) -> dict:
        return {"state_dict": self.model.state_dict(), "optimizer_states": [self.optimizer.state_dict()]}

    @property
    def nbytes(self) -> int:
        return sum(p.numel() * 4 for p in self.model.parameters()) * 3


def synchronous(loop: Loop, folder: Path) -> tuple[float, Callable[[], float]]:
    """torch.save, and the disk synced."""
    begin = time.perf_counter()
    with open(folder / "state.pt", "wb") as file:
        torch.save(loop.state(), file)
        file.flush()
        os.fsync(file.fileno())
    took = time.perf_counter() - begin
    return took, lambda: took


class Asynchronous:
    """DCP's async_save by a thread, with its own reused staging."""

    def __init__(self) -> None:
        self.stager = DefaultStager(StagingOptions(use_pinned_memory=False, use_shared_memory=False, use_async_staging=False,
                                                   use_non_blocking_copy=False))

    def __call__(self, loop: Loop, folder: Path) -> tuple[float, Callable[[], float]]:
        begin = time.perf_counter()
        written = dcp.async_save(loop.state(), checkpoint_id=folder / "dcp", async_stager=self.stager)
        took, ended = time.perf_counter() - begin, []
        written.add_done_callback(lambda _: ended.append(time.perf_counter()))

        def wait() -> float:
            written.result()
            while not ended:
                time.sleep(0.001)
            return ended[0] - begin

        return took, wait


class InMemory:
    """Copies in the host's memory, as after each step with every.copies=1: written is when the word stands."""

    def __init__(self, loop: Loop, folder: Path):
        self.copies, self.count = Copies(memory.place(folder), 0, 1, mark="benchmark"), 0
        self.fixed = frozenset(p.data_ptr() for p in loop.model.parameters())

    def __call__(self, loop: Loop, folder: Path) -> tuple[float, Callable[[], float]]:
        self.count += 1
        begin, ended = time.perf_counter(), []
        if not self.copies.take(loop.state(), self.count, steady=self.fixed):
            raise MemoryError("no room for copies")
        took = time.perf_counter() - begin
        threading.Thread(target=lambda: (self.copies.ready(), ended.append(time.perf_counter()))).start()
        loop.before_step = self.copies.ready

        def wait() -> float:
            while not ended:
                time.sleep(0.001)
            return ended[0] - begin

        return took, wait


class Ours:
    """The workbench's Saver."""

    def __init__(self, loop: Loop, folder: Path):
        self.folder, self.count = folder, 0
        self.saver = saving.Saver(folder / "ours", keep={"last": 1})
        self.fixed = frozenset(p.data_ptr() for p in loop.model.parameters())

    def __call__(self, loop: Loop, folder: Path) -> tuple[float, Callable[[], float]]:
        self.count += 1
        begin = time.perf_counter()
        self.saver.save(loop.state(), self.count, steady=self.fixed)
        took = time.perf_counter() - begin
        loop.before_step = self.saver.staged

        def wait() -> float:
            self.saver.wait()
            return self.saver.wrote

        return took, wait


def main() -> None:
    """Print a row for each way."""
    warnings.simplefilter("ignore")
    rounds, size = int(sys.argv[1]) if len(sys.argv) > 1 else 5, sys.argv[2] if len(sys.argv) > 2 else "100M"
    with tempfile.TemporaryDirectory(prefix="checkpoint-", dir=Path.cwd()) as place:
        folder = Path(place)
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        loop = Loop(size)
        loop.step()
        ways = {"torch.save": synchronous, "DCP async_save": Asynchronous(), "workbench": Ours(loop, folder),
                "workbench, copy in memory": InMemory(loop, folder)}
        found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
        alone = []
        for number in range(rounds + 1):
            alone += [[loop.step(), loop.step()]]
            for name, way in ways.items():
                shutil.rmtree(folder / "dcp", ignore_errors=True)
                loop.before_step, loop.waited = lambda: None, 0.0
                stalled, wait = way(loop, folder)
                steps = [loop.step(), loop.step()]
                stalled += loop.waited
                wrote = wait()
                if number:  # the first takes the memory that the others use again
                    found[name].append((stalled, wrote, sum(steps) - sum(alone[-1]) - loop.waited))
        ways["workbench, copy in memory"].copies.remove()
        dist.destroy_process_group()
    print(f"{loop.nbytes / 1e9:.2f} GB, a step alone {statistics.median(map(sum, alone[1:])) / 2:.2f} s, medians of {rounds}")
    print(f"| checkpoint of a model of {size} with AdamW | stall, s | write, s | stall ÷ write | slower steps beside it, s |")
    print("|---|---|---|---|---|")
    for name, rows in found.items():
        stalled, wrote, slower = (statistics.median(r[n] for r in rows) for n in range(3))
        print(f"| {name} | {stalled:.3f} | {wrote:.2f} | {stalled / wrote:.1%} | {slower:.2f} |")


if __name__ == "__main__":
    main()
