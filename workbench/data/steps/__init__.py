"""What is done to records: one step a file, found by the ``step`` that a spec names.

A step is one of two kinds. A step that looks at one text at a time has ``judge(step, text) -> Verdict``, or
``bind(step, root)`` that gives a judge of texts where it needs the workspace's directory. A step that compares records
has ``sketch(step, records, folder)``, which leaves hashes of a partition in a folder, and
``decide(step, folders, keep)``, which says from the sketches of all partitions which records go. What reads a file of
its own has ``inputs(step, workspace)``, as a source has. What can point at the reason in a text has
``evidence(step, text, reason)``: (start, end, label) in characters.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ...errors import NotFoundError

if TYPE_CHECKING:
    import pyarrow as pa

STEPS = {
    "normalise": "workbench.data.steps.normalise",
    "exact-duplicates": "workbench.data.steps.exact_duplicates",
    "near-duplicates": "workbench.data.steps.near_duplicates",
    "quality": "workbench.data.steps.quality",
    "pii": "workbench.data.steps.pii",
    "function": "workbench.data.steps.function",
}
"""step -> module that satisfies ``TextStep`` or ``ComparingStep``; a new step is a file here, a line here and a class in ``spec.py``."""


class Verdict(NamedTuple):
    """What a step says of one text: how it reads now, and why it goes, if it goes."""

    text: str
    reason: str = ""
    detail: str = ""
    counts: Mapping[str, int] = {}
    """what was found and changed, by kind"""
    scores: Mapping[str, float] = {}
    """what was measured, by the name of the measure: kept beside the dataset, so that a bound can be moved without a run"""


Decision = dict[str, tuple[str, str]]
"""id of a record that goes -> (reason, detail)"""


class TextStep(Protocol):
    """A step that looks at one text at a time."""

    def judge(self, step: Any, text: str) -> Verdict:
        """The text as it reads after the step, or why it goes."""


class ComparingStep(Protocol):
    """A step that compares records; what travels between partitions is hashes, never text."""

    def sketch(self, step: Any, records: pa.Table, folder: Path) -> None:
        """Leave in a folder what ``decide`` needs of these records."""

    def decide(self, step: Any, folders: list[Path], keep: frozenset[str]) -> Decision:
        """Which records go; the answer must not depend on the order of folders or records."""


def step_module(name: str) -> Any:
    """The module of a step."""
    if name not in STEPS:
        raise NotFoundError.of("step", name, STEPS)
    return importlib.import_module(STEPS[name])


def judging(step: Any, root: Path) -> Callable[[str], Verdict] | None:
    """What judges texts for a step of the first kind; None for one that compares."""
    module = step_module(step.step)
    if hasattr(module, "bind"):
        return module.bind(step, root)
    return partial(module.judge, step) if hasattr(module, "judge") else None


def compares(step: Any) -> bool:
    """True for a step of the second kind."""
    return hasattr(step_module(step.step), "sketch")
