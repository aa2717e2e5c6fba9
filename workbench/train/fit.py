"""A training as each rank carries it out: the objective of its plan under Lightning, from the plan's checkpoint to its last step."""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from . import callbacks, checkpoints, estimate
from .objective import Objective, spaced
from .objectives import KINDS
from .rank import Control
from .states import AtomicCheckpoints
from .strategy import RankDDP
from .vitals import Vitals
from .windows import digest_rows


def objective(plan: dict[str, Any], rank: int = 0, world: int = 1) -> Objective:
    """The module of a plan's objective."""
    module, _, name = KINDS[plan["objective"]["kind"]].module.partition(":")
    return getattr(importlib.import_module(module), name)(plan, rank, world)


def trainer(module: Objective, strategy: pl.strategies.Strategy, watchers: list[pl.Callback], **options: Any) -> pl.Trainer:
    """A Lightning trainer that trains a plan's steps and does nothing that was not asked."""
    plan = module.plan
    return pl.Trainer(max_steps=plan["steps"], max_epochs=-1, strategy=strategy, callbacks=watchers, accelerator=plan["accelerator"],
                      precision=plan["precision"], accumulate_grad_batches=module.share.accumulate, logger=False,
                      enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
                      num_sanity_val_steps=0, **{"devices": 1, "num_nodes": 1, **options})


def fit(control: Control, plan: dict[str, Any]) -> dict[str, Any]:
    """Train from the plan's checkpoint, or from the beginning; runs in every rank.

    Returns
    -------
    dict
        ``step`` reached, ``stopped``; of a finished training also ``value`` (the measure), ``weight`` (of what it was measured
        on), ``windows`` (rows of the table that are measured while training), ``parameters``, ``seconds``, ``memory`` (bytes);
        rank 0 leaves the model in the directory that the plan names.
    """
    module = objective(plan, control.rank, control.world)
    begin = time.monotonic()
    tried: float | None = None
    if plan["checkpoint"] is None:
        found = estimate.trial(module)
        tried = found["step_seconds"]
        control.send("trial", **found)
    first = checkpoints.step_of(Path(plan["checkpoint"])) if plan["checkpoint"] else 0
    _, positions, _ = module.share.batch(first * module.share.accumulate)
    control.send("reads", step=first, windows=module.reading.named(positions), digest=digest_rows(module.reading.rows(positions)))
    control.vitals = Vitals(module, tried)
    watchers = [callbacks.Freeze(control), callbacks.Curves(control), control.vitals, callbacks.HeldOut(control),
                callbacks.Samples(control), callbacks.Checkpoints(control, Path(plan["checkpoints"]))]
    if plan.get("before"):
        watchers.insert(3, callbacks.Before(control))
    lightning = trainer(module, RankDDP(AtomicCheckpoints()), watchers)
    lightning.fit(module, ckpt_path=plan["checkpoint"], weights_only=True)
    if lightning.global_step < plan["steps"]:
        return {"step": lightning.global_step, "stopped": True}
    table = module.scores()
    value, weight = module.measure(table)
    if control.rank == 0:
        module.save(Path(plan["out"]))
    return {"step": lightning.global_step, "stopped": False, "value": value, "weight": weight,
            "windows": table[spaced(len(table), module.WINDOWS)].tolist(), "parameters": module.parameters_count,
            "seconds": time.monotonic() - begin, "memory": estimate.own_peak()}


def dry_run(control: Control, plan: dict[str, Any]) -> dict[str, Any]:
    """What one step takes in this rank, without training."""
    return estimate.trial(objective(plan, control.rank, control.world))
