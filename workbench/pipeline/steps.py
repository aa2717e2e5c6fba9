"""The steps of a pipeline with their notebooks and specs at hand, checked together before anything starts."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

from ..driver import RUNNERS
from ..errors import Problem, SpecError, WorkbenchError
from ..spec import Spec, load_spec
from ..workspace import Workspace
from .graph import Graph
from .notebook import Notebook
from .spec import PipelineSpec, Step


@dataclass(frozen=True)
class BoundStep:
    """A step, its notebook, and the spec that the notebook will run (None: it runs none)."""

    number: int
    name: str
    notebook: Notebook
    spec: Spec | None
    given: bool
    """the spec is put in by the pipeline; else the notebook's own is used"""

    @property
    def parameters(self) -> dict[str, object]:
        """What papermill gets: plain JSON types, since it turns all else into text without a word."""
        return {"spec": self.spec.changed()} if self.given and self.spec else {}

    def inputs(self, workspace: Workspace) -> dict[str, str]:
        """Name and digest of everything that the step's spec reads, as it stands now."""
        if self.spec is None:
            return {}
        return importlib.import_module(RUNNERS[self.spec.WORD][0]).inputs(self.spec, workspace)

    @property
    def file(self) -> str:
        """Name of the executed notebook: number and step."""
        return f"{self.number}-{self.name}.ipynb"


def bind(spec: PipelineSpec, workspace: Workspace) -> dict[str, BoundStep]:
    """Every step by its name, in an order that its needs allow.

    Raises
    ------
    SpecError
        With the problems of all notebooks and specs at once.
    """
    folder = workspace.root / spec.folder
    found: dict[str, BoundStep] = {}
    problems: list[Problem] = []
    for order, step in enumerate(spec.steps):
        path = f"steps.{order}"
        try:
            notebook = Notebook((folder / step.notebook).resolve())
            _ = notebook.document
            own = notebook.parameter("spec")
        except WorkbenchError as error:
            problems.append(Problem(f"{path}.notebook", f"{step.notebook}: {error.what}"))
            continue
        try:
            inner = _spec(step, folder, notebook, own)
        except SpecError as error:
            problems += [Problem(f"{path}.spec.{p.path}" if p.path else f"{path}.spec", f"{p.message} ({error.source})")
                         for p in error.problems]
            continue
        if isinstance(inner, PipelineSpec):
            problems.append(Problem(f"{path}.spec", "is a pipeline's; expected one of the other five words"))
        found[step.name] = BoundStep(order + 1, step.name, notebook, inner, step.spec is not None)
    problems += _races(spec, found)
    if problems:
        raise SpecError(problems, source=f"pipeline {spec.name}")
    return {name: found[name] for name in Graph(spec.steps).names()}


def _spec(step: Step, folder: Path, notebook: Notebook, own: object) -> Spec | None:
    if step.spec is None:
        if own is None:
            return None
        is_path = isinstance(own, str) and "\n" not in own
        return load_spec(notebook.path.parent / own if is_path else own, source=f"{notebook.path.name}, its parameters cell")
    if isinstance(step.spec, str) and "\n" not in step.spec:
        return load_spec(folder / step.spec)
    return load_spec(step.spec, source=f"step {step.name}")


def _races(spec: PipelineSpec, found: dict[str, BoundStep]) -> list[Problem]:
    """Steps that read what another step makes without needing it: which version they got would be chance."""
    graph = Graph(spec.steps)
    makers = {made: name for name, step in found.items() if step.spec and (made := makes(step.spec))}
    problems = []
    for order, step in enumerate(spec.steps):
        bound = found.get(step.name)
        for wanted in reads(bound.spec) if bound and bound.spec else ():
            maker = makers.get(wanted)
            if maker and maker != step.name and maker not in graph.above(step.name):
                problems.append(Problem(f"steps.{order}.needs", f'lacks "{maker}", which makes the {wanted[0]} '
                                                                f'"{wanted[1]}" that "{step.name}" reads'))
    return problems


def makes(spec: Spec) -> tuple[str, str] | None:
    """Kind and name of what a run of a spec makes, for those that others can refer to."""
    named = {"data": ("dataset", "name"), "train": ("model", "model_name"), "serve": ("endpoint", "name")}
    if spec.WORD not in named:
        return None
    kind, field = named[spec.WORD]
    return kind, getattr(spec, field)


def reads(spec: Spec) -> list[tuple[str, str]]:
    """Kind and name of what a spec refers to without saying which version."""
    references = {"train": [("dataset", getattr(spec, "data", None))],
                  "assess": [("model", getattr(spec, "model", None)), ("dataset", getattr(spec, "data", None))],
                  "serve": [("model", share.model) for share in getattr(spec, "models", ())]}.get(spec.WORD, [])
    return [(kind, reference) for kind, reference in references if reference and "@" not in reference]
