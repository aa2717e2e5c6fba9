"""The serve panel."""

from __future__ import annotations

from typing import ClassVar

from .panel import Panel


class ServePanel(Panel):
    """Puts models behind an address that answers, with their traffic, limits and replicas."""

    WORD: ClassVar[str] = "serve"
    ABOUT: ClassVar[str] = "Puts models behind an address that answers, with their traffic, limits and replicas."
