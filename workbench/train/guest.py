"""Around a module that knows nothing of us: what it computes becomes curves, what it logs points, and its data go on where they were."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.strategies import Strategy

from . import callbacks, estimate, live, parallel, vitals
from .devices import place
from .objectives.own import Own
from .ranks.control import Control
from .state.keeper import Keeper
from .state.states import ORIGIN
from .strategy import RankAlone, RankDDP, RankMesh, RankXLA, quiet


class _Guest:
    """For a Lightning strategy, named before its class: its training data can be read on from any batch."""

    own: Own
    keeper: Keeper

    def process_dataloader(self, dataloader: Any) -> Any:
        trainer = self.lightning_module.trainer
        return Resumable(dataloader, self.own, self.keeper) if trainer.training and not trainer.validating else dataloader


class GuestDDP(_Guest, RankDDP):
    """DDP with Lightning's own options: a stock module counts on the buffers of rank 0. Where it steps its optimizers itself, each of
    its passes may leave parameters out.
    """

    def __init__(self, own: Own, keeper: Keeper):
        super().__init__(broadcast_buffers=True, find_unused_parameters=not own.module.automatic_optimization)
        self.own, self.keeper = own, keeper


class _Single(_Guest):
    """For one rank: its data are sampled as those of several are, so that a checkpoint of any number of ranks knows what follows."""

    is_distributed = True
    """what Lightning asks a strategy that is none of its own before it gives the data its sampler"""

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        return {"num_replicas": 1, "rank": 0}


class GuestAlone(_Single, RankAlone):
    """One rank, on whatever device."""

    def __init__(self, own: Own, keeper: Keeper):
        super().__init__(place(own.plan["accelerator"]))
        self.own, self.keeper = own, keeper


class GuestXLA(_Single, RankXLA):
    """One rank on a TPU."""

    def __init__(self, own: Own, keeper: Keeper):
        super().__init__()
        self.own, self.keeper = own, keeper


class GuestMesh(_Guest, RankMesh):
    """The mesh over which a module cuts itself, in its ``configure_model``."""

    def __init__(self, own: Own, keeper: Keeper):
        super().__init__(own.plan["tensor"])
        self.own, self.keeper = own, keeper


def strategy(own: Own, keeper: Keeper) -> Strategy:
    """The strategy for a module of a user's own, as ``strategy.strategy`` chooses it for ours."""
    if own.plan["cuts"]:
        return GuestMesh(own, keeper)
    if own.world > 1:
        return GuestDDP(own, keeper)
    return (GuestXLA if own.plan["accelerator"] == "tpu" else GuestAlone)(own, keeper)


class Trainer(pl.Trainer):
    """Asks any strategy for its samplers' arguments, also one that is none of several ranks."""

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any] | None:
        return self.strategy.distributed_sampler_kwargs


class Resumable:
    """A dataloader whose state is how many batches of the epoch were taken: Lightning keeps it in checkpoints.

    What a sampler chooses is asked for and thrown away unread; an iterable without one is read up to the place.
    """

    def __init__(self, loader: Any, own: Own, keeper: Keeper):
        self.loader, self.own, self.keeper = loader, own, keeper
        self.skip = 0

    def __getattr__(self, name: str) -> Any:
        if name == "loader":
            raise AttributeError(name)
        return getattr(self.loader, name)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        skip, self.skip = self.skip, 0
        sampler = getattr(self.loader, "batch_sampler", None)
        if skip and sampler is not None:
            object.__setattr__(self.loader, "batch_sampler", _Behind(sampler, skip))  # DataLoader forbids it by name alone
        batches = iter(self.loader)
        if skip and sampler is None:
            for _ in range(skip):
                next(batches, None)
        self.keeper.go_on()  # the first batch draws its numbers already
        while True:
            begin = time.monotonic()
            try:
                batch = next(batches)
            except StopIteration:
                break
            finally:
                self.own.waited += time.monotonic() - begin
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Batches taken of this epoch, by how many ranks."""
        progress = self.own.module.trainer.fit_loop.epoch_loop.batch_progress  # what was fetched ahead does not count
        return {"taken": progress.current.ready, "world": self.own.world}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on behind as many samples; a whole epoch's number means the next epoch."""
        skip = round(state["taken"] * state["world"] / self.own.world)
        with contextlib.suppress(TypeError):
            skip = 0 if skip >= len(self) else skip
        self.skip = skip


class _Behind:
    """A batch sampler less its first batches, once."""

    def __init__(self, inner: Any, skip: int):
        self.inner, self.skip = inner, skip

    def __getattr__(self, name: str) -> Any:
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __len__(self) -> int:
        return len(self.inner)

    def __iter__(self) -> Iterator[Any]:
        # Behind the first ``next``, not in ``iter``: with processes that load, a DataLoader makes two iterators and reads the second.
        skip, self.skip = self.skip, 0
        yield from itertools.islice(iter(self.inner), skip, None)


class Told(DummyLogger):
    """What the module logs, as points of the run."""

    def __init__(self, control: Control, curves: Curves):
        super().__init__()
        self.control, self.curves = control, curves

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if self.control.rank == 0:
            own = self.curves.own
            told = ("epoch", own.plan["measure"] if own.module.trainer.validating else "epoch")  # HeldOut tells it, with its step
            rows = [[name, int(step or 0), float(value)] for name, value in metrics.items()
                    if name not in told and isinstance(value, (int, float)) and math.isfinite(value)]
            self.curves.points.extend(rows)

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """They are the spec's options already."""


class Curves(callbacks.Curves):
    """Loss, rate and gradient norm of a module that says nothing of them: from what ``training_step`` gives, and the optimizers."""

    def __init__(self, control: Control, own: Own, sure: Callable[[], float]):
        super().__init__(control, sure)
        self.own = own
        self.points: deque[list[Any]] = deque()
        self.norms: list[torch.Tensor] = []
        self.reached = 0

    @property
    def state_key(self) -> str:
        return "Curves"

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:  # noqa: ARG002
        self.reached = trainer.global_step
        super().on_train_start(trainer, self.own)

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: Any) -> None:  # noqa: ARG002
        found = [p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        norm = (parallel.norm_of if self.own.plan["cuts"] else torch.nn.utils.get_total_norm)(found) if found else torch.zeros(())
        self.norms.append(norm)
        plan = self.own.plan
        if trainer.global_step + 1 in plan["skip"] or (plan["diverged"] == "skip" and not torch.isfinite(norm)):
            optimizer.zero_grad(set_to_none=True)  # without a gradient no optimizer touches weights or its own state
        self.own.rate = optimizer.param_groups[0]["lr"]  # before a schedule has changed it

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int) -> None:  # noqa: ARG002
        loss = outputs.get("loss") if isinstance(outputs, dict) else None
        if isinstance(loss, torch.Tensor):
            self.losses.append(loss.detach().mean().float())
        step = trainer.global_step
        if step == self.reached:
            return
        self.reached = step
        kept = [n.square() for n in self.norms]
        self.own.norm = torch.stack(kept).sum().sqrt() if kept else torch.zeros(())
        self.norms = []
        mean = torch.stack(self.losses).sum() if self.losses else None
        self.losses = []
        if mean is not None and self.control.world > 1:
            dist.all_reduce(mean)
            mean /= self.control.world
        loss, norm, now = None if mean is None else mean.item(), float(self.own.norm), time.monotonic()
        finite = loss is None or math.isfinite(loss)
        if not finite and (self.own.plan["diverged"] == "skip" or step in self.own.plan["skip"]):
            if self.control.rank == 0:
                self.control.send("skipped", step=step, what="loss")
            return
        if self.control.rank == 0:
            row = [step, loss, self.own.rate, norm, time.time(), now - self.began]
            self.rows.append(row)
            written = callbacks.written_down(self.control, self.own.plan, step)
            self.recent = [r for r in [*self.recent, row] if r[0] > written]
        if step == 1 or trainer.should_stop:
            self.flush()
        if not finite:
            self.flush(over=True)
            raise callbacks.DivergedError("the loss is no number any more", where=f"step {step}", received=str(loss),
                                          hint="Look at what training_step computes, or lower the module's learning rate")

    def on_train_epoch_end(self, *_: Any) -> None:
        self.flush()

    def _flush(self, sure: float) -> None:
        super()._flush(sure)
        points = [self.points.popleft() for _ in range(len(self.points))]  # the loop may add to them meanwhile
        if points:
            self.control.send("points", rows=points)


class HeldOut(callbacks.HeldOut):
    """``val_loss``, where the module logs one: the mean over the ranks; before the first step too, and behind the last.

    Before the first step it is Lightning's own check of a module, over all of the validation data: random numbers are as before it
    afterwards.
    """

    state_key = "HeldOut"

    def __init__(self, control: Control, own: Own):
        super().__init__(control)
        self.own = own

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:  # noqa: ARG002
        super().on_train_start(trainer, self.own)

    def on_train_batch_end(self, *_: Any) -> None:
        """Lightning says when there was a validation."""

    def on_validation_batch_end(self, *_: Any) -> None:
        self.control.goes_on("a validation")

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        value = trainer.callback_metrics.get(self.own.plan["measure"])
        if value is None:
            return
        value = value.detach().clone().float().to(module.device)
        if self.control.world > 1:
            dist.all_reduce(value)
            value /= self.control.world
        if trainer.sanity_checking:
            if self.control.rank == 0 and math.isfinite(value.item()):
                self.control.send("before", windows=[[value.item(), 1.0]])
            return
        self.add(self.own.plan, trainer.global_step, value.item())
        if self.control.rank == 0 and math.isfinite(self.last[1]):
            self.control.send("held-out", step=trainer.global_step, value=self.last[1])


class Guarded(Keeper):
    """Where the best are kept: a checkpoint before each validation, which bears its measure once that is known."""

    def measured_with(self, trainer: pl.Trainer) -> bool:
        loop = trainer.fit_loop  # what Lightning asks behind this hook, to begin a validation; private, and a test holds it to that
        return loop.epoch_loop._should_check_val_fx(loop._data_fetcher)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:  # noqa: ARG002
        value = None if trainer.sanity_checking else self._measure_of(trainer.global_step)
        if self.best and value is not None and self.reached == trainer.global_step:
            self.saver.measured(trainer.global_step, value)


class Last(pl.Callback):
    """A validation behind the last step: where steps end a training within an epoch, Lightning makes one only for who stops it."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step >= trainer.max_steps > 0:
            trainer.should_stop = True


class Vitals(vitals.Vitals):
    """How a rank fares with a module of somebody else's."""

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *rest: Any) -> None:  # noqa: ARG002
        super().on_train_batch_end(trainer, self.module, *rest)


class Changes(live.Changes):
    """Another learning rate: in terms of the module's own, as its first optimizer began."""

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:  # noqa: ARG002
        for optimizer in trainer.optimizers[:1]:
            group = optimizer.param_groups[0]
            self.rate = group.get("initial_lr", group["lr"])


class Another(pl.Callback):
    """On another number of ranks an epoch goes on behind as many samples."""

    def __init__(self, own: Own):
        self.own = own

    def on_load_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        before = (checkpoint.get(ORIGIN) or {}).get("world", self.own.world)
        if before == self.own.world:
            return
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
        progress.update({k: round(v * before / self.own.world) for k, v in progress.items()})


def fit(control: Control, plan: dict[str, Any], own: Own, copies: Any) -> dict[str, Any]:
    """Train a module of a user's own from the plan's checkpoint, or from the beginning; what ``fit.fit`` gives."""
    begin = time.monotonic()
    control.vitals = watching = Vitals(own)
    curves, held_out = Curves(control, own, lambda: keeper.sure), HeldOut(control, own)
    keeper = Guarded(control, Path(plan["checkpoints"]), every=plan["every"]["checkpoint"], keep=plan.get("keep"), copies=copies,
                      every_copy=plan["every"].get("copies") or 1, measure=lambda: held_out.last, branch=plan.get("branch"),
                      before=curves.flush)
    asked = [Changes(control, plan), live.Profile(control, Path(plan["directory"]) / "profile")]
    watchers = [callbacks.Freeze(control), *asked, curves, watching, held_out, Another(own), keeper, Last()]
    if plan["checkpoint"] is None:  # a trial would change what is not ours to put back
        watchers.insert(-3, callbacks.FirstSteps(control, own))
    before = -1 if plan.get("before") and not plan["checkpoint"] else 0
    trainer = Trainer(strategy=strategy(own, keeper), callbacks=watchers, accelerator=plan["accelerator"], precision=plan["precision"],
                      devices=1, num_nodes=1, accumulate_grad_batches=plan["accumulate"], logger=Told(control, curves),
                      log_every_n_steps=1, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                      num_sanity_val_steps=before, default_root_dir=plan["directory"], **own.limits())
    quiet(trainer)
    trainer.fit(own.module, datamodule=own.data, ckpt_path=plan["checkpoint"], weights_only=True if plan["checkpoint"] else None)
    control.fares(last=True)
    curves.again()
    held_out.again()
    curves.flush(over=True)
    if copies is not None:
        control.exchange("done")  # until all have their last checkpoint behind them, any may need what lies here
        copies.remove()
    step = trainer.global_step
    whole = step >= (own.own["steps"] or math.inf) or trainer.current_epoch >= (own.own["epochs"] or math.inf)
    if control.stop_at is not None and not whole:
        return {"step": step, "stopped": True}
    with control.busy("the model"):
        keeper.done()
        own.export(Path(plan["out"]))
    value = held_out.last[1] if held_out.last and math.isfinite(held_out.last[1]) else None
    return {"step": step, "stopped": False, "value": value, "weight": 1.0, "windows": [] if value is None else [[value, 1.0]],
            "parameters": own.parameters_count, "seconds": time.monotonic() - begin, "memory": estimate.own_peak()}


