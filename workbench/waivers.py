"""Waivers as people grant and withdraw them: each an act in the audit log, which is the only place that holds them."""

from __future__ import annotations

import datetime
import time
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from .errors import NotFoundError, StorageError
from .policy import Waiver
from .workspace import Workspace


@dataclass(frozen=True)
class Grant:
    """A waiver as it was granted; ``id`` is the hash of its line in the audit log."""

    id: str
    waiver: Waiver
    by: str
    """account that granted it"""
    at: float
    withdrawn: dict[str, Any] | None = None
    """``{"by", "at", "reason"}`` of its withdrawal"""

    def counts(self, now: float | None = None) -> bool:
        """True until it is withdrawn or its last day is over."""
        return self.withdrawn is None and self.waiver.until >= datetime.date.fromtimestamp(now or time.time())


def granted(workspace: Workspace, model: str | None = None) -> list[Grant]:
    """All waivers that were ever granted (for a model's digest), the newest first.

    A log that was changed vouches for nothing: none of its waivers is given.
    """
    try:
        workspace.audit.verify()
    except StorageError:
        return []
    entries = workspace.audit.entries()
    ends = {e["details"].get("waiver"): {"by": e["who"], "at": e["at"], "reason": e["details"].get("reason", "")}
            for e in entries if e["action"] == "waiver withdrawn"}
    found = []
    for entry in reversed(entries):
        if entry["action"] != "waiver" or (model is not None and not model.startswith(str(entry["details"].get("model", "-")))):
            continue
        try:
            waiver = Waiver.model_validate(entry["details"])
        except ValidationError:  # of a workbench that knew more
            continue
        found.append(Grant(entry["hash"], waiver, entry["who"], entry["at"], ends.get(entry["hash"])))
    return found


def in_force(workspace: Workspace, model: str, now: float | None = None) -> tuple[Waiver, ...]:
    """Waivers that count for a model today."""
    return tuple(g.waiver for g in granted(workspace, model) if g.counts(now))


def record(workspace: Workspace, waiver: Waiver) -> Grant:
    """Write a waiver into the log; ``assessment.waive`` checks beforehand whether it may be granted."""
    entry = workspace.audit.append("waiver", **waiver.model_dump(mode="json"))
    return Grant(entry["hash"], waiver, entry["who"], entry["at"])


def withdraw(workspace: Workspace, which: str, reason: str = "") -> Grant:
    """End a waiver before its last day.

    Parameters
    ----------
    which : id of the waiver, or its beginning (6 characters or more).

    Raises
    ------
    NotFoundError
        Where no waiver that counts has this id.
    """
    counting = [g for g in granted(workspace) if g.counts()]
    found = [g for g in counting if len(which) >= 6 and g.id.startswith(which)]
    if len(found) != 1:
        raise NotFoundError.of("waiver", which, [g.id[:12] for g in counting])
    ended = found[0].waiver
    workspace.audit.append("waiver withdrawn", waiver=found[0].id, metric=ended.metric, model=ended.model, reason=reason)
    return next(g for g in granted(workspace) if g.id == found[0].id)
