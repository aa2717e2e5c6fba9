"""What changed and when: deployments, specs, restarts; the lines on a dashboard that explain a curve."""

from __future__ import annotations

import time
from typing import Any

from ..events import Events
from ..journal import Journal
from ..workspace import Workspace

RESTARTS = {"replica-lost": "replica lost", "gateway-lost": "gateway lost", "forkserver-lost": "forkserver lost"}
OF_RUNS = {"restart": "restart", "resumed": "resumed"}
MOST = 200


def marks(workspace: Workspace, begin: float, end: float | None = None) -> list[dict[str, Any]]:
    """Marks within a time, by time: ``{"at", "kind", "of", "text", "step"}``.

    ``kind`` is ``deploy``, ``spec`` (the spec of a word and name differs from the one before), ``restart``; ``of`` is
    ``endpoint/NAME`` or ``run/ID``; ``step`` is a run's step, or None.
    """
    from ..endpoint import Endpoint

    end = time.time() if end is None else end
    journal, events = Journal(workspace), Events(workspace)
    found = []
    for endpoint in Endpoint.listed(workspace):
        for event in events.tail(f"endpoint/{endpoint.name}", kinds=("mark",)):
            if not begin <= event.at <= end:
                continue
            of = f"endpoint/{endpoint.name}"
            if event.name == "wanted":
                models = ", ".join(f"{m['name']}@{m['digest'][:7]} {m['weight']:g} %" for m in event.data.get("models", ()))
                found.append({"at": event.at, "kind": "deploy", "of": of, "text": f"{endpoint.name}: {models}", "step": None})
            elif event.name in RESTARTS:
                text = f"{endpoint.name}: {RESTARTS[event.name]}"
                found.append({"at": event.at, "kind": "restart", "of": of, "text": text, "step": None})
    before: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in reversed(journal.entries(limit=500)):
        last, before[entry.word, entry.name] = before.get((entry.word, entry.name)), entry.spec
        if last is not None and begin <= entry.submitted <= end and (changed := _changed(last, entry.spec)):
            found.append({"at": entry.submitted, "kind": "spec", "of": f"run/{entry.id}", "step": None,
                          "text": f"{entry.word} {entry.name}: {', '.join(changed[:3])}{' …' if len(changed) > 3 else ''} changed"})
        if entry.word == "train" and (entry.started or end) <= end and (entry.ended or end) >= begin:
            found += [m for m in run_marks(events, entry.id) if begin <= m["at"] <= end]
    return sorted(found, key=lambda m: m["at"])[-MOST:]


def run_marks(events: Events, run: str) -> list[dict[str, Any]]:
    """The marks of one run: its ranks' restarts and where it went on."""
    return [{"at": e.at, "kind": "restart", "of": f"run/{run}", "step": e.step if e.step is not None else e.data.get("step"),
             "text": OF_RUNS[e.name] + (f": {e.data['why']}" if e.data.get("why") else "")}
            for e in events.tail(run, kinds=("mark",)) if e.name in OF_RUNS]


def _changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Paths of the fields that differ, outermost first."""
    found = []
    for key in dict.fromkeys([*before, *now]):
        a, b = before.get(key), now.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += [f"{key}.{path}" for path in _changed(a, b)]
        elif a != b and key != "charts":
            found.append(key)
    return found
