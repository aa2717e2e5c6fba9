"""A Dask cluster for what the settings ask: kept by a process of its own, reached by all, whatever its kind."""

from __future__ import annotations

from .connection import PROCESS, Status, blind, connect, down, running, status, up
from .kinds import require

__all__ = ["PROCESS", "Status", "blind", "connect", "down", "require", "running", "status", "up"]
