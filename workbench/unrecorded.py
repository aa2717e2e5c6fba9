"""Runs that MLflow did not take by their end: word of each lies in its directory until somebody finds MLflow answering.

Their points are in the run's events; the word holds the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from . import processes
from .storage import write_atomic
from .workspace import Workspace

FILE = "unrecorded.json"
"""In a run's directory."""


def leave(workspace: Workspace, run_id: str, word: dict[str, Any]) -> None:
    """Leave word: what ``tracking.Tracker`` was made with, its ``status``, and what is ``left`` beside the points."""
    write_atomic(workspace.path("runs", run_id, FILE), json.dumps(word))


def waits(workspace: Workspace, run_id: str) -> bool:
    """True while a run is not recorded."""
    return workspace.path("runs", run_id, FILE).exists()


def recorded(workspace: Workspace, run_id: str) -> None:
    """A run is recorded whole: no word of it any more."""
    workspace.path("runs", run_id, FILE).unlink(missing_ok=True)


def words(workspace: Workspace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Runs that are not recorded, with the word of each; by one process at a time.

    Raises
    ------
    TimeoutError
        When another process is at it.
    """
    found = sorted(workspace.path("runs").glob(f"*/{FILE}"))
    if found:
        with processes.lock(workspace, "unrecorded", patience=0.0):
            for path in found:
                if path.exists():
                    yield path.parent.name, json.loads(path.read_text())
