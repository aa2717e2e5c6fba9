"""A training as each rank carries it out: the objective of its plan under Lightning, from the plan's checkpoint to its last step."""

from __future__ import annotations

import importlib
import os
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from ..errors import ClusterError
from . import callbacks, devices, estimate, guest, live, parallel
from .objective import Objective, spaced
from .objectives import KINDS
from .ranks.rank import Control
from .reading.windows import digest_rows
from .state import checkpoints, memory, neighbour
from .state.keeper import Keeper
from .strategy import quiet, strategy
from .vitals import Vitals


def objective(plan: dict[str, Any], rank: int = 0, world: int = 1) -> Any:
    """The module of a plan's objective."""
    module, _, name = KINDS[plan["objective"]["kind"]].module.partition(":")
    return getattr(importlib.import_module(module), name)(plan, *parallel.readers(plan, rank, world))


def trainer(module: Objective, how: pl.strategies.Strategy, watchers: list[pl.Callback], **options: Any) -> pl.Trainer:
    """A Lightning trainer that trains a plan's steps and does nothing that was not asked."""
    plan = module.plan
    made = pl.Trainer(max_steps=plan["steps"], max_epochs=-1, strategy=how, callbacks=watchers, accelerator=plan["accelerator"],
                      precision=plan["precision"], accumulate_grad_batches=module.share.accumulate, logger=False,
                      enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
                      num_sanity_val_steps=0, **{"devices": 1, "num_nodes": 1, **options})
    quiet(made)
    return made


def fit(control: Control, plan: dict[str, Any]) -> dict[str, Any]:
    """Train from the plan's checkpoint, or from the beginning; runs in every rank.

    Returns
    -------
    dict
        ``step`` reached, ``stopped``; of a finished training also ``value`` (the measure), ``weight`` (of what it was measured
        on), ``windows`` (rows of the table that are measured while training), ``parameters``, ``seconds``, ``memory`` (bytes);
        rank 0 leaves the model in the directory that the plan names.
    """
    copies, plan = _copies(control, plan)
    plan = devices.carry(plan, lambda text: control.send("warning", text=text) if control.rank == 0 else None)
    module = objective(plan, control.rank, control.world)
    if plan["objective"]["kind"] == "module":
        return guest.fit(control, plan, module, copies)
    begin = time.monotonic()
    tried: float | None = None
    _refuse_too_large(module)
    afresh, whole = plan["checkpoint"] is None, _can_try(plan)
    if afresh and whole:
        found = estimate.trial(module)
        tried = found["step_seconds"]
        control.send("trial", **found)
    first = checkpoints.step_of(Path(plan["checkpoint"])) if plan["checkpoint"] else 0
    _, positions, _ = module.share.batch(first * module.share.accumulate)
    control.send("reads", step=first, windows=module.reading.named(positions), digest=digest_rows(module.reading.rows(positions)))
    control.vitals = Vitals(module, tried)
    curves, held_out = callbacks.Curves(control, lambda: keeper.sure), callbacks.HeldOut(control)
    keeper = Keeper(control, Path(plan["checkpoints"]), every=plan["every"]["checkpoint"], keep=plan.get("keep"), copies=copies,
                    every_copy=plan["every"].get("copies") or 1, measure=lambda: held_out.last, branch=plan.get("branch"),
                    before=curves.flush)
    asked = [live.Changes(control, plan), live.Profile(control, Path(plan["directory"]) / "profile")]
    watchers = [callbacks.Freeze(control), *asked, curves, control.vitals, held_out, callbacks.Samples(control), keeper]
    if plan.get("before"):
        watchers.insert(5, callbacks.Before(control))
    if afresh and not whole:
        watchers.insert(-1, callbacks.FirstSteps(control, module))
    lightning = trainer(module, strategy(plan, control.world), watchers)
    lightning.fit(module, ckpt_path=plan["checkpoint"], weights_only=True)
    control.fares(last=True)
    curves.again()
    held_out.again()
    if copies is not None:
        control.exchange("done")  # until all have their last checkpoint behind them, any may need what lies here
        copies.remove()
    if lightning.global_step < plan["steps"]:
        return {"step": lightning.global_step, "stopped": True}
    with control.busy("the last measure and the model"):
        table = module.scored()
        value, weight = module.measure(table)
        parameters = module.parameters_count
        module.export(Path(plan["out"]))
    return {"step": lightning.global_step, "stopped": False, "value": value, "weight": weight,
            "beside": dict(getattr(module, "beside", {})),
            "windows": table[spaced(len(table), module.WINDOWS)].tolist(), "parameters": parameters,
            "seconds": time.monotonic() - begin, "memory": estimate.own_peak()}


def _copies(control: Control, plan: dict[str, Any]) -> tuple[neighbour.Copies | None, dict[str, Any]]:
    """This rank's copies in memory, where the plan wants them, and the plan with what to begin from: the furthest of all copies, if
    they are further than the checkpoint.
    """
    memory.sweep()
    if not plan["every"].get("copies"):
        return None, plan
    copies = neighbour.Copies(memory.place(Path(plan["directory"])), control.rank, control.world, local_rank=int(os.environ["LOCAL_RANK"]))
    beyond = checkpoints.step_of(Path(plan["checkpoint"])) if plan["checkpoint"] else 0
    found = neighbour.meet(control, copies, beyond, strict=plan["objective"]["kind"] == "module")
    if found is None:
        return copies, plan
    if control.rank == 0:
        control.send("copied", step=checkpoints.step_of(found))
    return copies, plan | {"checkpoint": str(found)}


def dry_run(control: Control, plan: dict[str, Any]) -> dict[str, Any]:
    """What one step takes in this rank, without training.

    Raises
    ------
    ClusterError
        Where only a training itself can tell.
    """
    plan = devices.carry(plan)
    module = objective(plan, control.rank, control.world)
    if not isinstance(module, Objective):
        return module.trial()
    _refuse_too_large(module)
    if not _can_try(plan):
        raise ClusterError("no trial can be made of such a step", where="hardware", received=f"accelerator={plan['accelerator']}"
                           + ", a model that is cut" * plan["cuts"], hint="Run it: the third step tells what all take")
    return estimate.trial(module)


def _can_try(plan: dict[str, Any]) -> bool:
    """True where a rank can make a step by itself: what is cut over GPUs may not fit whole, and a TPU's compiler is Lightning's to ask."""
    return plan["accelerator"] != "tpu" and not (plan["cuts"] and plan["accelerator"] == "gpu")


def _refuse_too_large(module: Objective) -> None:
    accelerator = module.plan["accelerator"]
    if accelerator != "tpu":
        estimate.refuse(estimate.state(module), estimate.room(devices.place(accelerator)), f"rank {module.rank}, {accelerator}")
