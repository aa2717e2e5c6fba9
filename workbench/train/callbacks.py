"""What happens between the steps of a rank: freezing together, curves, held-out measures, samples, checkpoints."""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist

from ..errors import WorkbenchError
from . import estimate, parallel
from .ranks.rank import Control

REPORT_SECONDS = 0.25


class DivergedError(WorkbenchError):
    """A training whose loss or gradient is no number any more: going on from a checkpoint would end there again."""


class Freeze(pl.Callback):
    """Hold the rank at a step's beginning while a stop is agreed, and end after the agreed step."""

    def __init__(self, control: Control):
        self.control = control

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.control.begin(trainer.global_step + 1)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if self.control.stop_at is not None and trainer.global_step >= self.control.stop_at:
            trainer.should_stop = True


class Curves(pl.Callback):
    """The mean loss over all ranks, the learning rate and the gradient's norm of each step, sent in batches by rank 0: by a thread,
    since waking whoever reads the pipe costs several times what a step's points do.

    What came since the last checkpoint but one, and what the driver has not said to have written down, is kept in each checkpoint:
    it is sent again after a restart, so that no point is missing for a driver that died with unread ones, or heard nothing for a while.

    Parameters
    ----------
    sure : gives the step up to which points may be sent while it trains: with copies in memory, that which no dying rank takes along.
    """

    def __init__(self, control: Control, sure: Callable[[], float] = lambda: math.inf):
        self.control, self.sure = control, sure
        self.rows: deque[list[float]] = deque()
        self.recent: list[list[float]] = []
        self.losses: list[torch.Tensor] = []
        self.began, self.said = 0.0, False
        self._sending, self._over = threading.Lock(), threading.Event()

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:  # noqa: ARG002
        self.again()
        if self.control.rank == 0:
            self._over.clear()
            threading.Thread(target=self._send, args=(self._over,), name="curves", daemon=True).start()

    def again(self) -> None:
        """Say what came before once more, if it was not yet: one that begins with its last step trains nothing, and no hook is called."""
        if self.control.rank == 0 and self.recent and not self.said:
            self.control.send("steps", rows=self.recent, again=True)
        self.said = True

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:  # noqa: ARG002
        self._over.set()
        self.flush(over=True)

    def on_exception(self, *_: Any) -> None:
        self._over.set()
        with contextlib.suppress(OSError):  # what came before what was raised
            self.flush()

    def _send(self, over: threading.Event) -> None:
        while not over.wait(REPORT_SECONDS):
            self.flush()

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, index: int) -> None:  # noqa: ARG002
        if not self.losses:
            self.began = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int) -> None:  # noqa: ARG002
        self.losses.append(outputs["loss"])
        if len(self.losses) < module.share.accumulate:
            return
        losses, self.losses = self.losses, []
        mean = losses[0] if len(losses) == 1 else sum(losses[1:], losses[0].clone())  # Lightning has divided each by how many there are
        if self.control.world > 1:
            mean = mean.float() if len(losses) > 1 or mean.dtype != torch.float32 else mean.clone()
            dist.all_reduce(mean)
            mean /= self.control.world
        step, loss, norm, now = trainer.global_step, mean.item(), float(module.norm), time.monotonic()
        row = [step, loss, module.rate, norm, time.time(), now - self.began]
        finite = math.isfinite(loss) and (math.isfinite(norm) or module.plan["precision"] == "16-mixed")
        what = "loss" if not math.isfinite(loss) else "gradient"
        if not finite and (module.plan["diverged"] == "skip" or step in module.plan["skip"]):
            if self.control.rank == 0:
                self.control.send("skipped", step=step, what=what)
            return
        if self.control.rank == 0:
            self.rows.append(row)
            self.recent.append(row)
            written = written_down(self.control, module.plan, step)
            while self.recent[0][0] <= written:
                self.recent.pop(0)
        if step == 1 or not finite or step == module.plan["steps"] or trainer.should_stop:
            self.flush(over=not finite)
        if not finite:
            raise DivergedError(f"the {what} is no number any more", where=f"step {step}", received=str(loss if what == "loss" else norm),
                                 hint=f"Lower learning_rate (now {module.plan['learning_rate']:g}) or raise warmup "
                                     f"(now {module.plan['warmup']} steps), and train again")

    def flush(self, *, over: bool = False) -> None:
        """Send what was gathered and is sure, or all where the training is over; returns once it is sent, whoever sends it."""
        with self._sending:
            self._flush(math.inf if over else self.sure())

    def _flush(self, sure: float) -> None:
        rows = []
        while self.rows and self.rows[0][0] <= sure:  # only whoever sends takes any away
            rows.append(self.rows.popleft())
        if rows:
            self.control.send("steps", rows=rows)

    def state_dict(self) -> dict[str, Any]:
        return {"recent": self.recent}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.recent = state_dict["recent"]


def written_down(control: Control, plan: dict[str, Any], step: int) -> int:
    """The step up to which nothing that was said need be said again, after whatever loss."""
    return min(step - 2 * plan["every"]["checkpoint"], 0 if control.known is None else control.known)


class FirstSteps(pl.Callback):
    """What a step takes, by the training's own second and third, where no trial could be made before it: the first also pays for memory,
    threads and compilers.

    Parameters
    ----------
    module : what knows the device.
    """

    def __init__(self, control: Control, module: Any):
        self.control, self.module = control, module
        self.reached, self.ends = 0, []

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.reached = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.reached or len(self.ends) > 2:
            return
        self.reached = trainer.global_step
        self.ends.append(time.monotonic())
        if len(self.ends) > 2:
            took = min(end - begin for begin, end in itertools.pairwise(self.ends))
            self.control.send("trial", of="steps", step_seconds=took, **estimate.held(self.module.device))


class HeldOut(pl.Callback):
    """The measure on a fixed part of the validation split, every so many steps; all ranks share the work.

    The last ones are kept in each checkpoint and told again after a restart, as ``Curves`` does with its points.
    """

    def __init__(self, control: Control):
        self.control, self.said = control, False
        self.recent: list[list[float]] = []
        self.final: list[float] = []

    @property
    def last(self) -> list[float]:
        """Step and value of the last one; empty before there is one."""
        return self.final or (self.recent[-1] if self.recent else [])

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:  # noqa: ARG002
        self.again()

    def again(self) -> None:
        """Say what came before once more, if it was not yet."""
        if self.control.rank == 0 and not self.said:
            for step, value in self.recent:
                self.control.send("held-out", step=int(step), value=value)
        self.said = True

    def add(self, plan: dict[str, Any], step: int, value: float) -> None:
        """One more; those before it that are written down go."""
        written = written_down(self.control, plan, step)
        self.recent = [*(r for r in self.recent if r[0] > written), [step, value]]

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int) -> None:  # noqa: ARG002
        if _due(trainer, module, "evaluate", index) and trainer.global_step < module.plan["steps"]:
            value = module.held_out(module.WINDOWS)
            self.add(module.plan, trainer.global_step, value)
            if self.control.rank == 0:
                self.control.send("held-out", step=trainer.global_step, value=value, beside=dict(getattr(module, "beside", {})))
        elif trainer.global_step == module.plan["steps"] and _whole(module, index) and (module.plan.get("keep") or {}).get("best"):
            # For its checkpoint alone, beside the others': the curve ends with the measure of the whole split.
            self.final = [trainer.global_step, module.held_out(module.WINDOWS)]

    def state_dict(self) -> dict[str, Any]:
        return {"recent": self.recent}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.recent = state_dict["recent"]


class Before(pl.Callback):
    """What the model could before it learned anything: held-out measures and samples, told as of step 0.

    Weights before the first step are a function of the seed, so they are made once more and measured behind the first step
    that this process makes: the first step does not wait for it, and no restart can lose it.
    """

    def __init__(self, control: Control):
        self.control, self.due = control, True

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int) -> None:  # noqa: ARG002
        if not self.due or not _whole(module, index):
            return
        self.due = False
        fresh = module.fresh().to(module.device)
        table = module.scores(module.WINDOWS, fresh)
        if self.control.rank == 0:
            self.control.send("before", windows=table.tolist())
            for made in module.shown(0, fresh):
                self.control.send("sample", step=0, **made)


class Samples(pl.Callback):
    """What the model makes as it learns, with a random state of its own; by rank 0, or by all where each has but a part of it."""

    def __init__(self, control: Control):
        self.control = control

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int) -> None:  # noqa: ARG002
        last = trainer.global_step == module.plan["steps"] and _whole(module, index)
        if (self.control.rank == 0 or module.is_cut) and (last or _due(trainer, module, "sample", index)):
            with parallel.eager(module.plan):
                found = module.shown(trainer.global_step)
            for made in found:
                if self.control.rank == 0:
                    self.control.send("sample", step=trainer.global_step, **made)


def _whole(module: pl.LightningModule, index: int) -> bool:
    return (index + 1) % module.share.accumulate == 0


def _due(trainer: pl.Trainer, module: pl.LightningModule, what: str, index: int) -> bool:
    return _whole(module, index) and trainer.global_step % module.plan["every"][what] == 0
