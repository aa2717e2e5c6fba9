"""What a training will take, from one trial step: seconds and bytes, measured and not guessed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..drawing import ago
from ..errors import StorageError
from ..storage import digest_json, write_atomic
from ..workspace import Workspace
from .plan import Plan
from .spec import TrainSpec

if TYPE_CHECKING:
    from .cost import Rates
    from .objective import Objective

OPTIMIZER_COPIES = {"muon": 1, "adamw": 2}
"""Numbers that an optimizer keeps for each parameter of a matrix."""
OVERHEAD = 1.15
"""What a step takes beside its passes (the ranks' exchange, the optimizer), and what comes between steps, as measured."""


def trial(module: Objective) -> dict[str, Any]:
    """Seconds and memory of one forward and backward pass of the first batch; leaves the module as it was.

    Returns
    -------
    dict
        ``step_seconds`` (the second of two passes: the first also pays for memory and threads), ``memory`` (bytes that
        this process held of its own at its peak, the optimizer's state added).
    """
    import torch

    cuda = torch.cuda.is_available() and module.plan["accelerator"] in ("auto", "gpu")
    if cuda:
        module = module.to("cuda")
        torch.cuda.reset_peak_memory_stats()
    device = next(module.parameters()).device
    batch = module.transfer_batch_to_device(module.batches.at(0)[1], device, 0)
    seconds = 0.0
    for _ in range(2):
        begin = time.monotonic()
        loss = module.loss(batch)
        loss.backward()
        if cuda:
            torch.cuda.synchronize()
        seconds = time.monotonic() - begin
    peak = torch.cuda.max_memory_allocated() if cuda else own_peak()
    module.zero_grad(set_to_none=True)
    weights = sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad)
    # Beside what the trial used: the optimizer's state, and DDP's buckets, which hold the gradients once more.
    memory = peak + weights * (OPTIMIZER_COPIES[module.plan["optimizer"]] + (module.world > 1))
    return {"step_seconds": seconds * module.share.accumulate, "memory": int(memory), "threads": torch.get_num_threads(),
            "gpu": int(cuda)}


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
        ``seconds``, ``memory`` (bytes, all ranks together), ``step_seconds``, ``steps``, ``tokens``, ``cores`` and ``gpus`` at work.
    """
    step = max(t["step_seconds"] for t in trials) * OVERHEAD
    steps = plan["steps"]
    return {"seconds": step * steps, "memory": sum(t["memory"] for t in trials), "step_seconds": step, "steps": steps,
            "tokens": plan["trained"], "cores": sum(t["threads"] for t in trials), "gpus": sum(t["gpu"] for t in trials)}


def with_cost(whole: dict[str, Any], rates: Rates) -> dict[str, Any]:
    """What it needs, with ``kwh`` and ``money`` (None where nothing has a price): while it trains all its cores are busy."""
    return whole | rates.of_time(whole["seconds"], whole.get("cores", 0), whole.get("gpus", 0))


def remember(workspace: Workspace, spec: TrainSpec, plan: dict[str, Any], said: dict[str, Any]) -> None:
    """Keep what a trial found, for every spec whose steps are like these: no trial is made twice."""
    kept = {"step_seconds": said["step_seconds"], "memory": said["memory"], "cores": said["cores"], "gpus": said["gpus"],
            "trial_seconds": said.get("trial_seconds"), "at": time.time()}
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
                "notes": list(plan.said)}
    except (OSError, ValueError, KeyError):
        return {}


def _file(workspace: Workspace, spec: TrainSpec, sequences: int) -> Path:
    cost = [spec.objective.model_dump(), spec.model.model_dump(), sequences, spec.batch.accumulate,
            spec.hardware.model_dump(exclude={"hang_seconds"}), spec.optimizer or spec.objective.OPTIMIZER]
    if spec.sweep is not None and spec.hardware.threads is None:  # a trial leaves cores to those beside it
        cost.append("beside others")
    return workspace.path("cache", "estimates", f"train-{digest_json(cost)[:20]}.json")
