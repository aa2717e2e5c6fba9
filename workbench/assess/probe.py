"""What a probe is: its parameters as part of a spec, and one number that it measures of a subject."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..spec import Part

if TYPE_CHECKING:
    from ..dataset import Dataset
    from ..model import Model
    from .subject import Subject


@dataclass(frozen=True)
class Measure:
    """One number with the ends of its 95 % interval.

    ``variant`` says exactly how it was measured and nothing about the outcome: a rule of a policy may ask for it.
    ``beside`` holds other numbers on the same input; ``examples`` are rows of plain words, their text from ``excerpt``.
    """

    value: float
    low: float
    high: float
    sample: int
    variant: str
    unit: str = ""
    examples: tuple[dict[str, Any], ...] = ()
    beside: dict[str, float] | None = None


class Probe(Part):
    """Base of all probes. A file in ``assess/probes`` holds one: its class names the file in the field ``probe``.

    The file is imported wherever specs are, so it loads torch, numpy and the like inside ``measure`` only.
    """

    LABEL: ClassVar[str] = ""
    """what it measures, in words for a person; none: its name"""

    def check(self, model: Model, data: Dataset) -> None:
        """Refuse at once what can't be measured, by what the manifests say; quick.

        Raises
        ------
        SourceError, SpecError
        """

    def measure(self, subject: Subject) -> Measure:
        """Measure it: the same number for the same model, data and seed."""
        raise NotImplementedError


def excerpt(text: str, most: int = 160) -> str:
    r"""Text of a record or a model as an example may show it: one line, no control characters, cut.

    Examples
    --------
    >>> excerpt("two\nlines", 7)
    'two ⏎ l…'
    """
    line = " ⏎ ".join(text.replace("\r\n", "\n").split("\n"))
    line = "".join(c if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") else "�" for c in line[:most + 1])
    return line if len(line) <= most else line[:most] + "…"
