"""The pipeline panel."""

from __future__ import annotations

from typing import ClassVar

from .panel import Panel


class PipelinePanel(Panel):
    """Runs notebooks one after another, each with its spec, and writes a report of what came out."""

    WORD: ClassVar[str] = "pipeline"
    ABOUT: ClassVar[str] = "Runs notebooks one after another, each with its spec, and writes a report of what came out."
