"""The first batch of a module of one's own: what each rank's is made of. It runs the user's code: ``sight.look`` gives it a process."""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...dataset import Dataset
from ...errors import SourceError, WorkbenchError
from ...workspace import Workspace
from ..plan import planned
from ..ranks.control import places
from ..spec import TrainSpec
from . import own

SHOWN = 8
"""Readers whose batch is told: for each, module and data are built anew, as each rank builds them."""


def first_batch(spec: TrainSpec, workspace: Workspace, dataset: Dataset | None) -> dict[str, Any]:
    """The first batch that each rank takes, as a training of this spec would: by parts, since what they mean only the module knows.

    Returns
    -------
    dict
        ``batches`` (``ranks`` that take it, ``parts`` as ``objectives.own.parts`` tells them), ``total`` (of them), ``step`` (always the
        first), ``steps``, ``ranks``, ``module``, ``dataset`` (none where it reads no version), ``notes``.

    Raises
    ------
    SourceError, SpecError
        Where a training of this spec would be refused, and with what the user's own code raises.
    """
    inputs = own.refuse(spec, workspace, dataset)
    argument = {"root": str(workspace.root), "dataset": str(dataset.path) if dataset else None, "spec": spec.to_dict(), "inputs": inputs}
    groups = spec.hardware.groups
    try:
        with _as_a_rank():
            made = own.found(spec, workspace, dataset, inputs) or own.Looked(Path(own.prepare(None, argument)))
            plan = planned(spec, made.count("train"))
            from ..objectives.own import taken

            batches = [{"ranks": ranks, "parts": taken(plan.objective, made.told()["own"], seed=spec.seed, reader=n, readers=len(groups),
                                                       cuts=spec.hardware.cuts)} for n, ranks in enumerate(groups[:SHOWN])]
    except WorkbenchError:
        raise
    except Exception as error:  # whatever it is, it is the user's
        raise _told(error, spec, workspace) from error
    return {"step": 1, "steps": plan.steps, "ranks": spec.hardware.ranks, "module": spec.objective.module, "batches": batches,
            "dataset": dataset.reference if dataset else None, "total": len(groups), "notes": list(plan.said)}


@contextlib.contextmanager
def _as_a_rank() -> Iterator[None]:
    """What a rank finds in its environment, for a gang of one."""
    import psutil

    loop = next((n for n, found in psutil.net_if_addrs().items() if any(a.address == "127.0.0.1" for a in found)), None)
    wanted = places({"rank": 0, "world": 1, "local_rank": 0, "local_world": 1, "node": 0, "main": "127.0.0.1"})
    wanted |= {"GLOO_SOCKET_IFNAME": loop} if loop else {}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _told(error: Exception, spec: TrainSpec, workspace: Workspace) -> SourceError:
    """What the user's code raised, in its own words, and the line of that code where it did."""
    places = {own.located(path, workspace.root) for path in (spec.objective.module, spec.objective.data_module) if path}
    frames = traceback.extract_tb(error.__traceback__)
    mine = [f for f in frames if Path(f.filename) in places or Path(f.filename).is_relative_to(workspace.root)]
    where = f"{mine[-1].filename}:{mine[-1].lineno}" if mine else spec.objective.data_module or spec.objective.module
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return SourceError(f"no first batch: {what}", where=where, hint=own.what_next(what))
