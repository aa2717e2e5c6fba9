"""The assess panel."""

from __future__ import annotations

from typing import ClassVar

from .panel import Panel


class AssessPanel(Panel):
    """Measures a model against the rules it must meet: quality, privacy, bias, misuse, each with examples.:"""

    WORD: ClassVar[str] = "assess"
    TITLE: ClassVar[str] = "Ethics and quality"
    ABOUT: ClassVar[str] = "Measures a model against the rules it must meet: quality, privacy, bias, misuse, each with examples.:"
