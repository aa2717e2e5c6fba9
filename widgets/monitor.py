"""The monitor panel."""

from __future__ import annotations

from typing import ClassVar

from .panel import Panel


class MonitorPanel(Panel):
    """Watches endpoints, runs and machines, and tells when something leaves its bounds."""

    WORD: ClassVar[str] = "monitor"
    ABOUT: ClassVar[str] = "Watches endpoints, runs and machines, and tells when something leaves its bounds."
