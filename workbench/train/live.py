"""What is done in a rank while it trains because somebody asked: another learning rate, a profile of some steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from .ranks.control import Control


class Changes(pl.Callback):
    """Another learning rate from a step on: as the plan's ``changes`` say, and as is agreed while training.

    A checkpoint holds the rates as they were then, so only what begins at a step that is made is applied: a run that goes
    on, and one that repeats it, change at the same steps.

    Parameters
    ----------
    plan : ``learning_rate``, and ``changes``: ``[[step, {"learning_rate": rate}], …]``.
    """

    def __init__(self, control: Control, plan: dict[str, Any]):
        self.control, self.rate, self.step = control, plan["learning_rate"], 0
        self.changes = [(int(step), dict(values)) for step, values in plan.get("changes", ())]

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, index: int) -> None:  # noqa: ARG002
        """Apply what holds from the step that begins on; called for each batch of it."""
        step = trainer.global_step + 1
        if step == self.step:
            return
        if self.step == 0:  # what was changed before the checkpoint is in it
            self.step = trainer.global_step
            self.rate = next((v["learning_rate"] for at, v in reversed(self.changes) if at < step), self.rate)
        self.changes += [(step, values) for values in self.control.due("set", step)]
        for _, values in [c for c in self.changes if self.step < c[0] <= step]:  # with two optimizers, steps are counted by two
            self._set(trainer, values["learning_rate"])
        self.step = step

    def _set(self, trainer: pl.Trainer, rate: float) -> None:
        """Scale what the schedules start from, and what they made of it for this step."""
        before, self.rate = self.rate, rate
        share = rate / before
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["lr"] * share
        for config in trainer.lr_scheduler_configs:
            bases = getattr(config.scheduler, "base_lrs", None)
            if bases is not None:
                config.scheduler.base_lrs = [rate if base == before else base * share for base in bases]


class Profile(pl.Callback):
    """A torch profiler's trace of some steps of this rank, when that is asked for: opens in chrome://tracing or Perfetto."""

    def __init__(self, control: Control, folder: Path):
        self.control, self.folder = control, folder
        self.first = self.last = self.step = 0
        self.profiler: torch.profiler.profile | None = None

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, index: int) -> None:  # noqa: ARG002
        step = trainer.global_step + 1
        if step == self.step:
            return
        self.step = step
        asked = self.control.due("profile", step)
        if self.profiler is None and asked:
            activities = [torch.profiler.ProfilerActivity.CPU]
            if torch.cuda.is_available():
                activities.append(torch.profiler.ProfilerActivity.CUDA)
            self.first, self.last = step, step + asked[-1]["steps"] - 1
            self.profiler = torch.profiler.profile(activities=activities)
            self.profiler.start()

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int) -> None:  # noqa: ARG002
        if self.profiler is not None and (trainer.global_step >= self.last or trainer.should_stop):
            self._finish(trainer.global_step)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:  # noqa: ARG002
        if self.profiler is not None:
            self._finish(trainer.global_step)

    def _finish(self, step: int) -> None:
        profiler, self.profiler = self.profiler, None
        with self.control.busy("writing a profile"):
            profiler.stop()
            self.folder.mkdir(parents=True, exist_ok=True)
            file = self.folder / f"step-{self.first:06d}-rank-{self.control.rank}.json.gz"
            partial = file.with_name(f".{file.name}")
            profiler.export_chrome_trace(str(partial))
            partial.rename(file)
            longest = sorted(profiler.key_averages(), key=lambda row: -row.self_cpu_time_total)[:8]
        self.control.send("profiled", step=self.first, steps=step - self.first + 1, file=file.name,
                          longest=[[row.key, row.self_cpu_time_total / 1e6, row.count] for row in longest])
