"""A run of a data spec: what it depends on, what it will take, and the work itself."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from typing import Any

from .. import __version__
from ..driver import RunContext
from ..errors import SourceError, SpecError
from ..workspace import Workspace
from .sources import form_of, source_module
from .spec import DataSpec
from .steps import step_module

_CALLED = {"text": "text", "image": "images", "clip": "clips"}
RATE = 250_000
"""Bytes of text that one core curates in a second, roughly; what an estimate is made from."""


def inputs(spec: DataSpec, workspace: Workspace) -> dict[str, str]:
    """Name -> digest of every file that the sources would read.

    Raises
    ------
    SourceError
        Where a source is not there, empty or not readable, named twice, or of another modality than the others.
    """
    both = sorted({*spec.keep} & {*spec.drop})
    if both:
        raise SpecError.one("keep", f"{both[0]!r} stands in drop too; expected it in one of them")
    found: dict[str, str] = {}
    for source in spec.sources:
        module = source_module(source.kind)
        if module.MODALITY != source_module(spec.sources[0].kind).MODALITY:
            kinds = {module.MODALITY, source_module(spec.sources[0].kind).MODALITY}
            raise SourceError(f"{' and '.join(name for kind, name in _CALLED.items() if kind in kinds)} can't be records of one dataset",
                              where=spec.name, received=[s.kind for s in spec.sources], hint="Make two datasets")
        for name, digest in module.inputs(source, workspace).items():
            if name in found:
                raise SourceError("is named by two sources", where=name, hint="Name it in one of them")
            found[name] = digest
    form_of(spec, workspace)
    _facts(spec, workspace)
    for step in spec.recipe().steps:
        found |= getattr(step_module(step.step), "inputs", lambda *_: {})(step, workspace)
    return found


def estimate(spec: DataSpec, workspace: Workspace) -> dict[str, Any]:
    """What a run will take: files, bytes of text at most, seconds on the workspace's workers, roughly."""
    files = size = 0
    for source in spec.sources:
        module = source_module(source.kind)
        units, most = module.units(source, workspace), module.most(source)
        files, weight = files + len(units), sum(u.weight for u in units)
        size += weight if most is None else min(most, weight)
    cores = workspace.settings.cluster.workers * workspace.settings.cluster.threads
    return {"files": files, "bytes": size, "seconds": round(1 + size / RATE / cores, 1)}


def execute(spec: DataSpec, run: RunContext) -> dict[str, Any]:
    """Curate and commit a dataset version."""
    from ..dataset import write_dataset
    from . import recipe
    from .card import data_card

    spec = spec.recipe()
    with recipe.place(run) as place:
        curated = recipe.curate(spec, run, place)
        if inputs(spec, run.workspace) != run.inputs:
            raise SourceError("a source changed while it was read", where=spec.name, hint="Run it again: workbench data --again")
        run.check_stop()
        manifest = {
            "modality": source_module(spec.sources[0].kind).MODALITY, "form": form_of(spec, run.workspace),
            **_facts(spec, run.workspace), "spec": spec.to_dict(), "parents": run.inputs,
            "read": curated.kept.num_rows + curated.dropped.num_rows, "drops": curated.drops,
            "pii": curated.found.get("pii", {}), "package": {"name": "genai-workbench", "version": __version__},
            "environment": _environment()}
        dataset = write_dataset(run.workspace, spec.name, curated.kept, curated.dropped, manifest=manifest,
                                card=data_card(spec, curated, manifest), run=run.id, scores=curated.scores)
    splits = {name: part["records"] for name, part in dataset.manifest["splits"].items()}
    run.log(f"{dataset.reference}: " + ", ".join(f"{name} {n:,}" for name, n in splits.items()))
    return {"dataset": spec.name, "digest": dataset.digest, "read": manifest["read"], "splits": splits,
            "dropped": curated.dropped.num_rows}


def _facts(spec: DataSpec, workspace: Workspace) -> dict[str, Any]:
    """What the sources tell of all their records; where two say otherwise, nothing of it."""
    told: dict[str, Any] = {}
    for source in spec.sources:
        module = source_module(source.kind)
        for name, value in (module.facts(source, workspace) if hasattr(module, "facts") else {}).items():
            if name == "labels" and told.get(name, value) != value:
                raise SourceError("two sources number their labels differently", where=spec.name, received=[told[name], value],
                                  hint="Name the directories of both in one source")
            told[name] = value if told.get(name, value) == value else None
    return {name: value for name, value in told.items() if value}


def _environment() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in ("numpy", "pyarrow", "python-stdnum")}
    return {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}",
            "executable": sys.implementation.name, **versions}
