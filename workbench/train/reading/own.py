"""A LightningModule of a user's own: where it is, whether it can be, and how many batches its data make. Imports no torch.

Nothing of it is imported by whoever submits: its file is read for the names of its classes, and the first process that runs
it is a rank of the gang.
"""

from __future__ import annotations

import ast
import json
import sys
from dataclasses import dataclass
from functools import cached_property
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...dataset import Dataset
from ...errors import NotFoundError, Problem, SourceError, SpecError
from ...storage import digest_file, digest_json, write_atomic
from ...workspace import Workspace
from ..spec import TrainSpec

if TYPE_CHECKING:
    from ..plan import Plan

MAKING = "looking at the module"
FORMAT = 1
"""Part of the cache's key: what changes when what is kept would."""
_THE_MODULES_OWN = {"optimizer": "configure_optimizers", "learning_rate": "configure_optimizers", "weight_decay": "configure_optimizers",
                    "warmup": "configure_optimizers", "tokens": "epochs", "prompts": "self.log"}
"""Fields that say nothing to a module of one's own, and what does."""


@dataclass(frozen=True)
class Looked:
    """What was found out about a module with its data, by building both once."""

    path: Path

    @cached_property
    def meta(self) -> dict[str, Any]:
        """``batches`` that all ranks together take in an epoch, ``samples`` (0 where nobody knows), and what the ranks are told."""
        return json.loads(self.path.read_text())

    def count(self, split: str) -> int:  # noqa: ARG002 - a module knows one kind of data to train on
        """Batches of an epoch, over all ranks."""
        return self.meta["batches"]

    def told(self) -> dict[str, Any]:
        """What each rank must know of it."""
        return {"own": self.meta["own"]}

    def metrics(self) -> dict[str, Any]:
        """What a model's manifest says of it."""
        return {"module": self.meta["module"]}


def refuse(spec: TrainSpec, workspace: Workspace, dataset: Dataset | None) -> dict[str, str]:  # noqa: ARG001 - what every material is asked
    """Raise where there is no such class, or where the spec says what only the module can; digests of the files.

    Raises
    ------
    SourceError, NotFoundError, SpecError
    """
    objective, found = spec.objective, {}
    problems = [Problem(field, f"is a module's own to say: in {by}; expected none here") for field, by in _THE_MODULES_OWN.items()
                if field in spec.model_fields_set and getattr(spec, field) != type(spec).model_fields[field].default]
    if spec.batch.sequences is not None:
        problems.append(Problem("batch.sequences", "is a module's own to say: in its dataloader; expected none here"))
    if spec.epochs is not None and spec.epochs != int(spec.epochs):
        problems.append(Problem("epochs", f"received {spec.epochs:g}; expected whole epochs, or steps in objective.steps"))
    if objective.steps is not None and spec.epochs is not None:
        problems.append(Problem("objective.steps", "received steps and epochs; expected one of them"))
    if problems:
        raise SpecError(problems)
    for field, path in (("module", objective.module), ("data_module", objective.data_module)):
        if path is not None:
            file = located(path, workspace.root)
            _refuse_unknown(path, file)
            found[f"{field} {path}"] = digest_file(file)
    return found


def located(path: str, root: Path) -> Path:
    """The file of ``package.module:Class``: below the workspace, or installed. Imports nothing.

    Raises
    ------
    SourceError
        Where there is none.

    Examples
    --------
    >>> located("json.decoder:JSONDecoder", Path("/nowhere")).name
    'decoder.py'
    """
    name = path.partition(":")[0]
    top, *below = name.split(".")
    candidates = [root.joinpath(top)]
    try:
        spec = PathFinder.find_spec(top, sys.path)
    except (ImportError, ValueError):
        spec = None
    if spec is not None and spec.submodule_search_locations:
        candidates += [Path(place) for place in spec.submodule_search_locations]
    elif spec is not None and spec.origin and not below and spec.origin.endswith(".py"):
        return Path(spec.origin) if not _file(root / top) else _file(root / top)
    for place in candidates:
        file = _file(place.joinpath(*below))
        if file is not None:
            return file
    raise SourceError("there is no such module", where=path, allowed=f"{root.joinpath(*name.split('.'))}.py, or an installed module",
                      hint="A module is named by its place in the workspace: models/net.py is models.net")


def found(spec: TrainSpec, workspace: Workspace, dataset: Dataset | None, inputs: dict[str, str]) -> Looked | None:  # noqa: ARG001 - what every material is asked
    """What was found out before, or none."""
    file = _kept(spec, workspace, inputs)
    return Looked(file) if file.exists() else None


def prepare(control: Any, argument: dict[str, Any]) -> str:  # noqa: ARG001 - what every rank's target gets
    """Build module and data once, in a rank's process, and keep what they say of themselves; returns where."""
    from ..objectives.own import look

    workspace, spec = Workspace(argument["root"]).open(), TrainSpec.load(argument["spec"])
    own = {"root": str(workspace.root), "dataset": argument["dataset"],
           "clip": spec.clip if "clip" in spec.model_fields_set else None, "steps": spec.objective.steps,
           "epochs": None if spec.objective.steps else int(spec.epochs or spec.objective.EPOCHS)}
    seen = look(spec.objective.model_dump(mode="json"), own, seed=spec.seed, ranks=spec.hardware.readers,
                accumulate=spec.batch.accumulate, cuts=spec.hardware.cuts)
    file = _kept(spec, workspace, argument["inputs"])
    write_atomic(file, json.dumps({"own": own, "module": spec.objective.module, **seen}))
    return str(file)


def what_next(error: str) -> str | None:
    """What to do about an error of a user's own code, where that is known.

    Examples
    --------
    >>> what_next("RuntimeError: stack expects each tensor to be equal size, but got [1] at entry 0 and [2] at entry 1")
    'Give the DataLoader a collate_fn that pads, or batch_size=1'
    """
    ragged = ("stack expects each tensor to be equal size", "each element in list of batch should be of equal size")
    return "Give the DataLoader a collate_fn that pads, or batch_size=1" if any(w in error for w in ragged) else None


def said(spec: TrainSpec, dataset: Dataset | None) -> list[str]:
    """What is told while it is made."""
    return [f"looking at {spec.objective.module}" + (f" with {dataset.reference}" if dataset else "")]


def prompts(dataset: Dataset | None, most: int) -> tuple[str, ...]:  # noqa: ARG001 - what every material is asked
    """A module of one's own shows what it logs."""
    return ()


def refuse_nothing(plan: Plan, made: Looked, dataset: Dataset | None) -> None:
    """What is trained, only the module knows."""


def card(spec: TrainSpec, dataset: Dataset | None, *, run: str, parameters: int, metrics: dict[str, Any], plan: dict[str, Any]) -> str:
    """The draft of a card, Markdown: what a training knows of a model that it did not make."""
    value = metrics.get(plan["measure"])
    gain = metrics.get("gain")
    measured = "No validation loss was logged as `val_loss`." if value is None else f"Validation loss, as it logs it: **{value:.4g}**."
    measured += f" Before the first step it was {gain['before']:.4g}: a difference of {gain['difference']:+.4g}." if gain else ""
    loss = "" if metrics["loss"] is None else f" Last training loss {metrics['loss']:.4g}."
    return f"""---
tags: [lightning]
---
# {spec.model_name}

The weights of `{spec.objective.module}`, a LightningModule with {parameters:,} parameters. What it is for and what it can do wrong, its
maker must say. `config.json` names the class and its options; the class itself is not kept here.

## Data

{f"Dataset `{dataset.reference}`" if dataset else "None of the workbench's datasets"}{
        f", through `{spec.objective.data_module}`" if spec.objective.data_module else ""}.

## Training

Run `{run}`: {plan["steps"]:,} steps over {plan["world"]} ranks, {metrics["seconds"]:.0f} s, precision {plan["precision"]},
seed {plan["seed"]}.

## Measures

{measured}{loss}

## Limits and risks

Not assessed: the probes know language models and images.
"""


def _file(place: Path) -> Path | None:
    return next((f for f in (place.with_name(f"{place.name}.py"), place / "__init__.py") if f.is_file()), None)


def _kept(spec: TrainSpec, workspace: Workspace, inputs: dict[str, str]) -> Path:
    key = [FORMAT, spec.objective.model_dump(mode="json"), inputs, spec.hardware.readers, spec.hardware.cuts, spec.batch.accumulate,
           spec.epochs, spec.seed, spec.clip if "clip" in spec.model_fields_set else None]
    return workspace.path("cache", "modules", f"{digest_json(key)[:24]}.json")


def _refuse_unknown(path: str, file: Path) -> None:
    """Raise where a file binds no such name: told from its text."""
    wanted = path.partition(":")[2]
    try:
        tree = ast.parse(file.read_text("utf-8"))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise SourceError("can't be read as Python", where=f"{file}:{getattr(error, 'lineno', 0)}",
                          received=getattr(error, "text", "") or str(error)) from None
    classes = {n.name for n in ast.walk(tree) if isinstance(n, ast.ClassDef)}
    names = classes | {a.asname or a.name for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom)) for a in n.names}
    names |= {t.id for n in ast.walk(tree) if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    if wanted not in names and "*" not in names:
        raise NotFoundError.of(f"class in {file.name}", wanted, classes)
