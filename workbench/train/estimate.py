"""What a training will take, from one trial step: seconds and bytes, measured and not guessed."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..drawing import ago
from ..errors import ClusterError, StorageError
from ..storage import digest_json, write_atomic
from ..workspace import Workspace
from .devices import place
from .plan import Plan
from .spec import TrainSpec

if TYPE_CHECKING:
    import torch
    from lightning.pytorch.plugins import Precision

    from .cost import Rates
    from .objective import Objective

OPTIMIZER_COPIES = {"muon": 1, "adamw": 2}
"""Numbers that an optimizer keeps for each parameter of a matrix."""
OVERHEAD = 1.15
"""What a step takes beside its passes (the ranks' exchange, the optimizer), and what comes between steps, as measured."""


def trial(module: Objective) -> dict[str, Any]:
    """Seconds and memory of one forward and backward pass of the first batch, as the plan's steps are made: on the rank's own device, in
    their precision, compiled and recomputed where they are. What the module learned stays as it was.

    Returns
    -------
    dict
        ``step_seconds`` (the second of two passes: the first also pays for memory, threads and a compiler), ``memory`` (bytes that
        this process held of its own at its peak, the optimizer's state added), ``fixed`` (those of them that no smaller batch saves),
        ``limit`` (bytes that there are for it).
    """
    import torch

    plan, device = module.plan, place(module.plan["accelerator"])
    precision = _precision(plan["precision"], device.type)
    limit = room(device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.cuda.reset_peak_memory_stats(device)
    if not plan["cuts"]:  # what is cut is compiled in parts
        module.prepare()
    module = precision.convert_module(module.to(device))
    before = torch.cuda.memory_allocated(device) if device.type == "cuda" else _own_now()
    batch = module.transfer_batch_to_device(precision.convert_input(module.batches.at(0)[1]), device, 0)
    seconds = 0.0
    for _ in range(2):
        begin = time.monotonic()
        with precision.forward_context():
            loss = module.loss(batch)
        loss.backward()
        if device.type != "cpu":
            getattr(torch, device.type).synchronize()
        seconds = time.monotonic() - begin
    found = held(device) | {"limit": limit}
    module.zero_grad(set_to_none=True)
    del loss, batch
    if device.type == "cuda":
        torch.cuda.empty_cache()
    # Beside what the trial used: the optimizer's state, and DDP's buckets, which hold the gradients once more.
    trained = _trained(module)
    later = trained * (OPTIMIZER_COPIES[plan["optimizer"]] + (module.world > 1))
    return found | {"step_seconds": seconds * module.share.accumulate, "memory": int(found["memory"] + later),
                    "fixed": int(before + trained + later)}


def held(device: torch.device) -> dict[str, Any]:
    """``memory`` that this process held at its peak on a device, ``limit`` of what there is for it, ``threads`` and ``gpu`` at work."""
    import torch

    peak = (torch.cuda.max_memory_allocated(device) if device.type == "cuda" else torch.mps.driver_allocated_memory()
            if device.type == "mps" else own_peak())
    return {"memory": int(peak), "limit": room(device), "threads": torch.get_num_threads(), "gpu": int(device.type == "cuda")}


def room(device: torch.device) -> int:
    """Bytes of a device that this process can have: of the machine's memory its ranks have equal parts."""
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory()
    from .vitals import memory_limit

    return memory_limit()


def state(module: Objective) -> int:
    """Bytes of a rank's weights, gradients and optimizer's state: what no smaller batch makes less."""
    whole = sum(p.numel() * p.element_size() for p in module.parameters())
    needed = whole + _trained(module) * (1 + OPTIMIZER_COPIES[module.plan["optimizer"]])
    if module.plan["precision"] == "bf16-true" and next(module.parameters()).element_size() == 4:
        needed //= 2
    return needed // (module.world if module.plan["cuts"] else 1)


def refuse(needed: int, limit: int, where: str) -> None:
    """Raise where what no smaller batch makes less is more than there is: such a training would end at its first step.

    Raises
    ------
    ClusterError
    """
    if needed > limit:
        raise ClusterError("weights, gradients and the optimizer's state do not fit, whatever the batch", where=where,
                           received=f"{needed / 1e9:.1f} GB", allowed=f"{limit / 1e9:.1f} GB or less",
                           hint="Set hardware.strategy=fsdp over more ranks, hardware.precision=bf16-true or a smaller model")


def short(trials: list[dict[str, Any]], plan: dict[str, Any]) -> str | None:
    """What would fit, in a sentence, where a rank's memory is likely not to do; None where it does.

    Examples
    --------
    >>> short([{"memory": 10e9, "fixed": 2e9, "limit": 8e9}], {"sequences": 16})
    'a rank takes about 10.0 GB, and there are 8.0 GB for it: batch.sequences=12 would fit in place of 16'
    >>> short([{"memory": 7e9, "fixed": 2e9, "limit": 8e9}], {"sequences": 16})
    """
    worst = max(trials, key=lambda t: t["memory"] / t.get("limit", math.inf))
    memory, limit, fixed = worst["memory"], worst.get("limit", math.inf), worst.get("fixed")
    if memory <= limit:
        return None
    said = f"a rank takes about {memory / 1e9:.1f} GB, and there are {limit / 1e9:.1f} GB for it"
    if fixed is None:
        return f"{said}: smaller batches take less"
    now = max(1, plan["sequences"] // plan.get("split", 1))
    fits = int(now * (limit - fixed) / (memory - fixed)) if fixed < min(limit, memory) else 0
    if fits:
        return f"{said}: batch.sequences={fits} would fit in place of {now}"
    return f"{said}: not even batch.sequences=1 would fit; hardware.recompute=true, strategy=fsdp or a smaller model takes less"


def _trained(module: Objective) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad)


def _precision(name: str, device: str) -> Precision:
    """Lightning's own way of computing in a precision, as its trainer chooses it."""
    from lightning.pytorch.plugins import HalfPrecision, MixedPrecision, Precision

    if name.endswith("-mixed"):
        return MixedPrecision(name, device)
    return HalfPrecision(name) if name == "bf16-true" else Precision()


def _own_now() -> int:
    import psutil

    return psutil.Process().memory_full_info().uss


def own_peak() -> int:
    """The largest amount of memory that this process held at once, without what it shares with its forkserver."""
    import resource
    import sys

    import psutil

    now = psutil.Process().memory_full_info()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return peak - (now.rss - now.uss)


def whole(trials: list[dict[str, Any]], plan: dict[str, Any]) -> dict[str, Any]:
    """The training's needs from the trials of its ranks.

    Returns
    -------
    dict
        ``seconds``, ``memory`` (bytes, all ranks together), ``step_seconds``, ``steps``, ``tokens``, ``cores`` and ``gpus`` at work;
        ``of`` ("steps" where it is by the training's own first steps); ``short``, a sentence, where memory is likely not to do.
    """
    steps, real = plan["steps"], any(t.get("of") for t in trials)
    step = max(t["step_seconds"] for t in trials) * (1 if real else OVERHEAD)
    found = {"seconds": step * steps, "memory": sum(t["memory"] for t in trials), "step_seconds": step, "steps": steps,
             "tokens": plan["trained"], "cores": sum(t["threads"] for t in trials), "gpus": sum(t["gpu"] for t in trials)}
    lacking = short(trials, plan)
    return found | ({"of": "steps"} if real else {}) | ({"short": lacking} if lacking else {})


def with_cost(whole: dict[str, Any], rates: Rates) -> dict[str, Any]:
    """What it needs, with ``kwh`` and ``money`` (None where nothing has a price): while it trains all its cores are busy."""
    return whole | rates.of_time(whole["seconds"], whole.get("cores", 0), whole.get("gpus", 0))


def remember(workspace: Workspace, spec: TrainSpec, plan: dict[str, Any], said: dict[str, Any]) -> None:
    """Keep what a trial found, for every spec whose steps are like these: no trial is made twice."""
    kept = {"step_seconds": said["step_seconds"], "memory": said["memory"], "cores": said["cores"], "gpus": said["gpus"],
            "trial_seconds": said.get("trial_seconds"), "short": said.get("short"), "at": time.time()}
    try:
        write_atomic(_file(workspace, spec, plan["sequences"]), json.dumps(kept))
    except (OSError, StorageError):  # a workspace that can't be written remembers nothing
        return


def remembered(workspace: Workspace, spec: TrainSpec, plan: Plan) -> dict[str, Any]:
    """What a training will take by an earlier trial of steps like its own; empty where there was none."""
    try:
        kept = json.loads(_file(workspace, spec, plan.sequences).read_text())
        return {"seconds": kept["step_seconds"] * plan.steps, "memory": kept["memory"], "step_seconds": kept["step_seconds"],
                "steps": plan.steps, "tokens": plan.trained, "cores": kept["cores"], "gpus": kept["gpus"],
                "trial_seconds": kept["trial_seconds"], "tried": ago(kept["at"]),
                "notes": [*plan.said, *filter(None, [kept.get("short")])]}
    except (OSError, ValueError, KeyError):
        return {}


def _file(workspace: Workspace, spec: TrainSpec, sequences: int) -> Path:
    cost = [spec.objective.model_dump(), spec.model.model_dump(), sequences, spec.batch.accumulate,
            spec.hardware.model_dump(exclude={"hang_seconds"}), spec.optimizer or spec.objective.OPTIMIZER]
    if spec.sweep is not None and spec.hardware.threads is None:  # a trial leaves cores to those beside it
        cost.append("beside others")
    return workspace.path("cache", "estimates", f"train-{digest_json(cost)[:20]}.json")
