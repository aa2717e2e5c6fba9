"""What was clicked, as a batch: runs written down as a pipeline and its notebooks."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import NotFoundError, RunFailedError, SpecError
from ..registry import Kind, Registry
from ..runs import Run
from ..spec import Spec
from ..storage import storage_errors, write_atomic
from ..workspace import Workspace
from .spec import PipelineSpec
from .steps import makes, reads

ORDER = ("data", "train", "assess", "serve", "monitor")
PANELS = {word: f"{word.capitalize()}Panel" for word in ORDER}
_TITLES = {"data": "Data", "train": "Train", "assess": "Ethics and quality", "serve": "Serve", "monitor": "Monitor"}


def save(runs: Sequence[Run], folder: str | os.PathLike, *, name: str | None = None, workspace: Workspace | None = None) -> Path:
    """Write a pipeline that does again what these runs did: ``pipeline.yaml`` and a notebook a step, each with its spec.

    A reference to what an earlier of the runs made is written as its bare name, so that each step takes what the one
    before it makes, in any workspace; paths of files stay as the specs have them.

    Parameters
    ----------
    runs : ended well, in any order; of two runs of the same spec the later counts.
    folder : where to write, relative to the workspace; made if need be. A pipeline that is there is replaced.
    name : of the pipeline; none: the folder's.

    Returns
    -------
    The path of ``pipeline.yaml``.

    Raises
    ------
    SpecError
        Without a run, with a run that is a pipeline itself, or for a folder that holds other notebooks of these names.
    RunFailedError
        For a run that did not end well.
    """
    workspace = Workspace.find(workspace or (runs[0].workspace if runs else None))
    place = workspace.root / Path(folder).expanduser()
    specs = _specs(runs)
    names = _names(specs)
    steps, notebooks = [], {}
    for number, (step, spec) in enumerate(zip(names, specs, strict=True), 1):
        file = f"{number}-{step}.ipynb"
        notebooks[file] = _notebook(spec)
        steps.append({"name": step, "notebook": file, **({"needs": needs} if (needs := _needs(number - 1, specs, names)) else {})})
    pipeline = {"word": "pipeline", "name": name or _name(place), "steps": steps}
    PipelineSpec.load({**pipeline, "folder": str(place)})  # what is refused is refused before anything is written
    _refuse_strangers(place, notebooks)
    with storage_errors(place):
        place.mkdir(parents=True, exist_ok=True)
    for file, document in notebooks.items():
        write_atomic(place / file, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    write_atomic(place / "pipeline.yaml", _yaml(pipeline))
    return place / "pipeline.yaml"


def _specs(runs: Sequence[Run]) -> list[Spec]:
    """Their specs in the order in which they were asked for, references to one another's products unpinned."""
    entries = sorted((r.entry for r in runs), key=lambda e: (ORDER.index(e.word) if e.word in ORDER else 9, e.submitted))
    if not entries:
        raise SpecError.one("runs", "there is none; expected at least one run that is done", source="pipeline to save")
    for entry in entries:
        if entry.word not in ORDER:
            text = f"received {entry.id}, a {entry.word}'s; expected runs of {', '.join(ORDER)}"
            raise SpecError.one("runs", text, source="pipeline to save")
        if entry.state != "done":
            raise RunFailedError(f"is {entry.state}; only what ended well is worth repeating", where=entry.id)
    made = {(kind, e.result["digest"]) for e in entries for kind in ("dataset", "model") if kind in (e.result or {})}
    known, registry = {r.id: r for r in runs}, Registry(runs[0].workspace)

    def bare(kind: Kind, reference: Any) -> Any:
        """The name alone, where a reference means what one of these runs made."""
        if not isinstance(reference, str) or "@" not in reference:
            return reference
        try:
            version = registry.resolve(kind, reference)
        except NotFoundError:
            return reference
        return version.name if (kind, version.digest) in made else reference

    found: dict[str, Spec] = {}
    for entry in entries:
        spec = known[entry.id].spec
        changed = spec.to_dict()
        if entry.word in ("train", "assess"):
            changed |= {field: bare(kind, changed[field]) for field, kind in (("data", "dataset"), ("model", "model"))
                        if isinstance(changed.get(field), str)}
        if entry.word == "serve":
            changed["models"] = [{**share, "model": bare("model", share["model"])} for share in changed["models"]]
        found[spec.digest()] = spec.load(changed)
    return list(found.values())


def _names(specs: list[Spec]) -> list[str]:
    """A name for each step: its word, with a number where the word stands more than once."""
    words = [s.WORD for s in specs]
    return [w if words.count(w) == 1 else f"{w}-{words[:n + 1].count(w)}" for n, w in enumerate(words)]


def _needs(at: int, specs: list[Spec], names: list[str]) -> list[str]:
    """The steps before that make what this one reads; an endpoint waits for its assessments, a monitor for its endpoints."""
    spec = specs[at]
    wanted = set(reads(spec))
    needs = [names[n] for n, other in enumerate(specs[:at]) if makes(other) in wanted]
    models = {w for w in wanted if w[0] == "model"}
    if spec.WORD == "serve":
        needs += [names[n] for n, other in enumerate(specs[:at]) if other.WORD == "assess" and models & set(reads(other))]
    if spec.WORD == "monitor":
        needs += [names[n] for n, other in enumerate(specs[:at]) if other.WORD == "serve"]
    return list(dict.fromkeys(needs))


def _notebook(spec: Spec) -> dict[str, Any]:
    """A notebook that shows the panel of a spec and runs it."""
    mapping = json.loads(json.dumps(spec.changed()))
    panel = PANELS[spec.WORD]

    def cell(number: int, kind: str, text: str, **metadata: Any) -> dict[str, Any]:
        code = {"execution_count": None, "outputs": []} if kind == "code" else {}
        return {"cell_type": kind, "id": str(number), "metadata": metadata, **code, "source": text.splitlines(keepends=True)}

    return {"cells": [cell(0, "markdown", f"# {_TITLES[spec.WORD]}"),
                      cell(1, "code", f"spec = {_literal(mapping)}", tags=["parameters"]),
                      cell(2, "code", f"from widgets import {panel}\n\npanel = {panel}(spec)\npanel"),
                      cell(3, "code", "run = panel.run()\nrun")],
            "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                         "language_info": {"name": "python"}},
            "nbformat": 4, "nbformat_minor": 5}


def _literal(mapping: dict[str, Any]) -> str:
    """A mapping as Python, a field a line."""
    return "{\n" + "".join(f"    {key!r}: {value!r},\n" for key, value in mapping.items()) + "}"


def _yaml(pipeline: dict[str, Any]) -> str:
    import yaml

    return ("# Each step runs the spec in its notebook's first cell: workbench pipeline pipeline.yaml\n"
            + yaml.safe_dump(pipeline, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120))


def _name(place: Path) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", place.resolve().name).strip("-._")[:64] or "pipeline"


def _refuse_strangers(place: Path, notebooks: dict[str, Any]) -> None:
    """A folder with notebooks of these names is written into only where a saved pipeline says that they are its own."""
    there = [file for file in notebooks if (place / file).exists()]
    if there and not (place / "pipeline.yaml").exists():
        raise SpecError.one("folder", f"{place} holds {', '.join(there)} already; expected another folder", source="pipeline to save")
