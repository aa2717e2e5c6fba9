"""When a rank's state is kept: checkpoints by rhythm, at the last step and at a stop; copies in memory in between."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from ...errors import StorageError
from ..ranks.control import Control
from .neighbour import Copies
from .saving import Saver, randomness, restore_randomness
from .states import ORIGIN, begin_afresh, dumped, steady

MOST_BUFFERS = 1 << 20
"""Bytes of buffers up to which each rank's are kept; beyond, those of one rank are all ranks'."""


class Keeper(pl.Callback):
    """Hands the trainer's state over to a ``Saver``, and to ``Copies`` where there are any. Named last: others' states are kept as
    they stand behind the step.

    Parameters
    ----------
    folder : of the run's checkpoints.
    every : steps between checkpoints.
    keep : which stay, as ``checkpoints.prune`` takes it.
    copies, every_copy : copies in memory, and the steps between them.
    measure : gives step and value of the last held-out measure, or none. A checkpoint bears the measure of its own step alone, and
        where the best are kept one is written at each measure.
    branch : the step at which this run branched off from another, whose optimizer is set anew there.
    before : called before a state is taken, so that nothing waits untold in a callback.
    """

    def __init__(self, control: Control, folder: Path, *, every: int, keep: dict[str, Any] | None = None, copies: Copies | None = None,
                 every_copy: int = 1, measure: Callable[[], Sequence[float] | None] = lambda: None,
                 branch: int | None = None, before: Callable[[], None] = lambda: None):
        self.control, self.folder, self.every, self.keep = control, folder, every, keep
        self.branch = branch
        self.copies, self.every_copy, self.measure, self.before = copies, every_copy, measure, before
        self.saver: Saver | None = None
        self.written, self.failing, self.short, self.reached = 0, False, False, -1
        self._own: Any = None

    def on_load_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        origin = checkpoint.get(ORIGIN) or {}
        self._own, self.written = origin.get("own"), origin.get("step", 0)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.reached = trainer.global_step
        if self.branch is not None and self.written == self.branch == trainer.global_step:
            begin_afresh(trainer)
        self.saver = Saver(self.folder, trainer.global_rank, trainer.world_size, keep=self.keep, said=self._said)
        if self._own is not None and self._own["buffers"]:
            module.load_state_dict(self._own["buffers"], strict=False)
        for optimizer in () if module.automatic_optimization else trainer.optimizers:
            optimizer.register_step_pre_hook(self._still)

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, index: int) -> None:  # noqa: ARG002
        self.go_on()  # as late as this: iterators of data draw numbers too

    def go_on(self) -> None:
        """Draw random numbers from where the checkpoint was written; once, before the first batch at the latest."""
        if self._own is not None:
            restore_randomness(self._own["random"])
            self._own = None

    @property
    def sure(self) -> float:
        """Step up to which no rank that dies takes one along, where each step is copied; else there is no such promise."""
        return self.copies.sure if self.copies is not None and self.every_copy == 1 and not self.short else math.inf

    @property
    def best(self) -> int:
        """Checkpoints that are kept for their measure."""
        return (self.keep or {}).get("best", 0)

    def measured_with(self, trainer: pl.Trainer) -> bool:
        """True where the step that was just made is one with a measure."""
        return self._measure_of(trainer.global_step) is not None

    def _measure_of(self, step: int) -> float | None:
        measured = self.measure()
        return measured[1] if measured and measured[0] == step else None

    def done(self) -> None:
        """Wait for the last write: for those who don't know before which step was their last."""
        if self.saver is not None:
            self._wait(stop=False)

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int) -> None:  # noqa: ARG002
        step = trainer.global_step
        if step == self.reached:
            return  # within a step that takes several batches
        before, self.reached = self.reached, step
        last, stop = step >= trainer.max_steps > 0, trainer.should_stop
        due = (step // self.every > before // self.every or last or stop  # a batch may make two steps, one of each optimizer
               or (self.best and self.measured_with(trainer)))
        copy = self.copies is not None and step // self.every_copy > before // self.every_copy and not (last or stop)
        if not due and not copy:
            return
        self.before()
        state, still, own = dumped(trainer), steady(module), {"random": randomness(), "buffers": self._buffers(trainer, module)}
        if copy:
            taken = self.copies.take(state, step, steady=still, own=own)
            if not taken and not self.short:
                self.control.send("warning", text=f"no room for copies in {self.copies.root} at step {step:,}: a lost rank costs the steps "
                                  "since the last checkpoint")
            self.short = not taken
        if due:
            self.saver.save(state, step, steady=still, own=own, measure=self._measure_of(step))
        if last or stop:
            self._wait(stop)

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: torch.optim.Optimizer) -> None:  # noqa: ARG002
        """Behind forward and backward: the step of an optimizer holds all three under Lightning, so its own hook would be too early."""
        self._still()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        self._own = None
        if self.saver is not None:
            self.saver.abandon()

    def _buffers(self, trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, Any]:
        """What a rank has counted by itself, such as a batch norm's means: small, and not the same in every rank."""
        if trainer.world_size == 1:
            return {}
        kept = module.state_dict(keep_vars=True)
        found = {n: b.detach().clone() for n, b in kept.items() if not isinstance(b, torch.nn.Parameter) and isinstance(b, torch.Tensor)}
        return found if sum(b.numel() * b.element_size() for b in found.values()) < MOST_BUFFERS else {}

    def _still(self, *_: Any) -> None:
        self.saver.staged()
        if self.copies is not None:
            self.copies.ready()

    def _wait(self, stop: bool) -> None:
        with self.control.busy("writing the last checkpoint"):
            try:
                self.saver.wait()
            except StorageError as error:
                if stop:  # what was made since would be lost without a word
                    error.what = f"no checkpoint since step {self.written:,}: {error.what}"
                    raise
            finally:
                self.saver.close()

    def _said(self, step: int, failure: StorageError | None) -> None:
        if failure is None:
            self.written, self.failing = step, False
            self.control.send("checkpoint", step=step)
        elif not self.failing:
            self.failing = True
            self.control.send("warning", text=f"no checkpoint since step {self.written:,}: {failure}. Tried again at the next")
