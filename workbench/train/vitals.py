"""How a rank fares, read once a second by its heartbeat: where a step's time goes, processor, memory, power."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections import deque
from typing import Any

import lightning.pytorch as pl
import psutil
import torch

PARTS = ("wait", "forward", "backward", "blocked", "starved", "optimizer")
"""Where the time of a step goes: waiting for data; the two passes; within the backward pass, standing still for the other
ranks, or for a core that others use; the optimizer, with what else is done between the passes and the step's end."""

WEIGHED = 5.0
"""Seconds for which a measured memory is believed."""


class Vitals(pl.Callback):
    """Share of a core, seconds of a step and of its parts, memory; told to the driver with each heartbeat.

    The backward pass waits for the other ranks' gradients without using its thread, so on a CPU the time that passed, less the
    time that the thread used and less that for which it stood in the kernel's queue for a core, is the wait for them. A GPU's
    queue hides that: its parts are read from its own clock, and the wait is what the passes take beyond the trial's, which met no
    other rank.
    """

    def __init__(self, module: pl.LightningModule, trial: float | None = None):
        self.module, self.trial = module, trial
        self.steps = 0
        self.spent = dict.fromkeys(PARTS, 0.0)
        self._at = self._used = self._queued = 0.0
        self._queue: int | None = None
        self._memory, self._weighed = 0, -math.inf
        self._moments: deque[tuple[str, torch.cuda.Event]] = deque()
        self._before = (time.monotonic(), time.process_time(), 0, dict(self.spent))

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        for optimizer in trainer.optimizers if self._on_gpu else ():
            optimizer.register_step_post_hook(lambda *_: self._moment("optimizer"))

    def on_train_batch_start(self, *_: Any) -> None:
        self._at = time.monotonic()
        self._moment("")

    def on_before_backward(self, *_: Any) -> None:
        if self._on_gpu:
            self._moment("forward")
            return
        now = time.monotonic()
        self.spent["forward"] += now - self._at
        self._at, self._used, self._queued = now, time.thread_time(), self._in_queue()

    def on_after_backward(self, trainer: pl.Trainer, *_: Any) -> None:
        if self._on_gpu:
            self._moment("backward")
            return
        now = time.monotonic()
        passed = now - self._at
        self.spent["backward"] += passed
        queued = self._in_queue() - self._queued
        self.spent["starved"] += queued
        if trainer.world_size > 1:
            self.spent["blocked"] += max(0.0, passed - (time.thread_time() - self._used) - queued)
        self._at = now

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int) -> None:  # noqa: ARG002
        if not self._on_gpu:
            self.spent["optimizer"] += time.monotonic() - self._at
        self.steps += (index + 1) % module.share.accumulate == 0

    @property
    def _on_gpu(self) -> bool:
        return self.module.device.type == "cuda"

    def _moment(self, part: str) -> None:
        """Put a mark behind a part of a step into the GPU's queue, and read those that it has come past: nobody waits for it."""
        if not self._on_gpu:
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._moments.append((part, event))
        while len(self._moments) > 1 and self._moments[1][1].query():
            _, begin = self._moments.popleft()
            part, end = self._moments[0]
            if part:  # what lies before a batch begins is none
                self.spent[part] += begin.elapsed_time(end) / 1000

    def _in_queue(self) -> float:
        """Seconds for which this thread was ready and had no core (Linux; 0 elsewhere)."""
        try:
            if self._queue is None:
                self._queue = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
            return int(os.pread(self._queue, 64, 0).split()[1]) / 1e9 if self._queue >= 0 else 0.0
        except (OSError, IndexError, ValueError):
            self._queue = -1
            return 0.0

    def _weigh(self) -> int:
        """Bytes that are this process's alone. The kernel goes through all its pages for that (ms of a core): not each second."""
        now = time.monotonic()
        if now - self._weighed >= WEIGHED:
            self._memory, self._weighed = psutil.Process().memory_full_info().uss, now
        return self._memory

    def __call__(self) -> dict[str, Any]:
        """``cpu`` (1: a whole core), ``step_seconds``, ``wait_seconds`` (for data), the other parts a step, ``memory`` and
        ``memory_limit`` (bytes); on a GPU also ``gpu_memory``, ``gpu_memory_limit``, ``watts``.
        """
        self.spent["wait"] = self.module.batches.waited
        now = (time.monotonic(), time.process_time(), self.steps, dict(self.spent))
        passed, used, steps = (n - b for n, b in zip(now[:3], self._before[:3], strict=True))
        parts = {k: max(0.0, now[3][k] - self._before[3][k]) for k in PARTS}
        self._before = now
        found: dict[str, Any] = {"cpu": used / max(passed, 1e-9), "step_seconds": passed / steps if steps else None,
                                 "memory": self._weigh(), "memory_limit": memory_limit()}
        found |= {f"{k}_seconds": v / steps if steps else None for k, v in parts.items()}
        device = self.module.device
        if device.type == "cuda":
            free, total = torch.cuda.mem_get_info(device)
            found |= {"gpu_memory": total - free, "gpu_memory_limit": total}
            with contextlib.suppress(Exception):  # the driver's library may be missing
                found["watts"] = torch.cuda.power_draw(device) / 1000
            if steps and self.trial and self.module.world > 1:
                found["blocked_seconds"] = max(0.0, found["forward_seconds"] + found["backward_seconds"] - self.trial)
        return found


def memory_limit() -> int:
    """Bytes that this rank can have: an equal part, with the other ranks beside it, of its container's or the machine's."""
    total = psutil.virtual_memory().total
    with contextlib.suppress(OSError, ValueError), open("/sys/fs/cgroup/memory.max") as file:
        total = min(total, int(file.read()))
    return total // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
