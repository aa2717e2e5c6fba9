"""How often visitors may ask: those who see a page and hold no token, all of them together."""

from __future__ import annotations

import json
import time

from .. import processes
from ..errors import PolicyError
from ..storage import write_atomic
from ..workspace import Workspace

A_MINUTE = 12
"""Questions that all visitors of an endpoint together may ask in a minute."""
TOKENS = 256
"""Most tokens of an answer to a visitor."""


def admit(workspace: Workspace, endpoint: str, *, now: float | None = None) -> None:
    """Count a visitor's question, from whichever kernel it comes.

    Raises
    ------
    PolicyError
        When too many were asked within the last minute; says how long to wait.
    """
    now = time.time() if now is None else now
    path = workspace.path("endpoints", endpoint, "visits.json")
    with processes.lock(workspace, f"visits-{endpoint}", patience=5):
        try:
            asked = [float(at) for at in json.loads(path.read_text("utf-8")) if now - 60 < at <= now]
        except (FileNotFoundError, ValueError, TypeError):
            asked = []
        if len(asked) >= A_MINUTE:
            wait = max(1, round(60 - (now - min(asked))))
            raise PolicyError(f"visitors have asked {len(asked)} times within a minute, which is the most that they may together",
                              where=f"endpoint {endpoint}", hint=f"Ask again in {wait} s")
        write_atomic(path, json.dumps([*asked, now]))
