"""A run that begins from a checkpoint of another: which it is, whether it fits, and its first state. Imports no torch."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import NotFoundError, SpecError, StorageError, WorkbenchError
from . import checkpoints

if TYPE_CHECKING:
    from ...workspace import Workspace
    from ..spec import TrainSpec

_SAME = (("objective.kind", "objective"), ("model.size", "model"), ("model.vocabulary", "vocabulary"))
"""Fields in which a branch has to be as the run that it branches off from, and what they make."""


def found(workspace: Workspace, start: str) -> Path:
    """The checkpoint that "run-id" (the furthest that is whole) or "run-id@step" names.

    Raises
    ------
    NotFoundError
        When there is no such run or checkpoint.
    """
    from ...runs import attach

    name, _, step = start.partition("@")
    run = attach(name, workspace)
    folder = workspace.path("runs", run.id, "checkpoints")
    steps = [checkpoints.step_of(p) for p in checkpoints.listed(folder)]
    if step:
        if not step.isdigit() or int(step) not in steps:
            raise NotFoundError(f"no checkpoint of step {step}", where=run.id,
                                allowed=", ".join(map(str, steps)) or "a run that has kept some",
                                hint="A run that is done keeps those of keep.best and keep.every")
        return checkpoints.path_of(folder, int(step))
    path, _ = checkpoints.newest(folder)
    if path is None:
        raise NotFoundError("has kept no checkpoint", where=run.id, hint="Set keep.every or keep.best in the run to begin from: "
                            "when it is done it keeps only those")
    return path


def branched(spec: TrainSpec, workspace: Workspace, inputs: Mapping[str, str]) -> dict[str, str]:
    """What a branch reads: the digest of the checkpoint's manifest, and its step.

    Raises
    ------
    SpecError
        When the spec makes another model than the checkpoint holds.
    """
    from ...runs import attach
    from ..spec import TrainSpec

    try:
        path = found(workspace, spec.start)
        said = checkpoints.verify(path)
    except (NotFoundError, StorageError) as error:
        raise SpecError.one("start", str(error)) from error
    run = path.parent.parent.name
    entry = attach(run, workspace).entry
    before = TrainSpec.load(entry.spec)
    for field, what in _SAME:
        mine, theirs = _at(spec, field), _at(before, field)
        if mine != theirs:
            raise SpecError.one("start", f"{run} made another {what}: {field} is {theirs!r} there and {mine!r} here; expected {theirs!r}")
    if _optimizer(spec) != _optimizer(before):
        raise SpecError.one("start", f"the checkpoint holds what {_optimizer(before)} remembers, this spec steps by {_optimizer(spec)}; "
                            f"expected optimizer={_optimizer(before)}")
    vocabulary = spec.objective.kind == "pretrain"
    if vocabulary and entry.inputs.get("data") != inputs.get("data"):
        raise SpecError.one("start", f"{run} learned its vocabulary from {before.data} as it was then, and this is other text; "
                            f"expected the same version of {before.data}")
    return {"start": checkpoints.digest(said), "start_step": str(said["step"])}


def branched_at(inputs: Mapping[str, str], steps: int) -> int | None:
    """The step at which a run branches off, or none.

    Raises
    ------
    WorkbenchError
        When the run's own steps end there already.
    """
    if "start_step" not in inputs:
        return None
    step = int(inputs["start_step"])
    if step >= steps:
        raise WorkbenchError("nothing is left to train", where="start", received=f"step {step:,}",
                             allowed=f"fewer than the {steps:,} steps of this spec",
                             hint="Raise tokens or epochs, or begin from an earlier step")
    return step


def begin(workspace: Workspace, start: str, step: int, folder: Path) -> Path:
    """Bring the checkpoint of another run here, of the step that was the furthest when the branch was asked for."""
    shutil.rmtree(folder, ignore_errors=True)
    return checkpoints.copy(found(workspace, f"{start.partition('@')[0]}@{step}"), folder)


def _at(spec: TrainSpec, field: str) -> object:
    value: object = spec
    for name in field.split("."):
        value = getattr(value, name)
    return value


def _optimizer(spec: TrainSpec) -> str:
    return spec.optimizer or spec.objective.OPTIMIZER
