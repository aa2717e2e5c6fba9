"""How everything fares, by word; and what each rule says now."""

from __future__ import annotations

import time
from typing import Any

from ..journal import ENDED, Entry, Journal
from ..workspace import Workspace
from .alerts import Alert
from .history import History
from .rules import BUILTIN, bound, expression
from .spec import Absence, MonitorSpec
from .units import quantity
from .watch import Watch

PARTS = ("data", "train", "assess", "serve", "monitor", "pipeline", "machines")
SIGNS = {"ok": "✓", "busy": "●", "alert": "▲", "failed": "✕", "none": "○", "unknown": "?"}
"""A state is never told by its colour alone."""


def health(watch: Watch, spec: MonitorSpec | None = None) -> list[dict[str, Any]]:
    """Each word and the machines: ``{"word", "state", "sign", "count", "text", "run"}``, from the journal, the endpoints and the alerts.

    ``state`` is ``alert`` (something is beyond a bound), ``failed`` (the newest run failed), ``busy`` (runs are at work), ``ok``,
    ``none`` (nothing was done yet) or ``unknown`` (nobody watches).
    """
    workspace = watch.workspace
    entries = Journal(workspace).entries(limit=300)
    words = {e.id: e.word for e in entries}
    firing: dict[str, list[Alert]] = {}
    for alert in watch.alerts(firing=True):
        firing.setdefault(word_of(alert, words, spec), []).append(alert)
    found = []
    for word in PARTS:
        if word == "machines":
            state, count, text, run = _machines(watch)
        else:
            state, count, text, run = _runs([e for e in entries if e.word == word], word)
        if word == "serve" and state in ("ok", "none"):
            state, count, text = _endpoints(workspace, state, text)
        if word == "monitor" and watch.wanted and not watch.alive:
            state, count, text = "unknown", 0, "the evaluator is not at work"
        if word in firing:
            alerts = firing[word]
            known = sum(a.acknowledged is not None for a in alerts)
            state, count = "alert", len(alerts)
            text = "; ".join(str(a) for a in alerts[:3]) + (f" ({known} acknowledged)" if known else "")
        found.append({"word": word, "state": state, "sign": SIGNS[state], "count": count, "text": text, "run": run})
    return found


def _runs(entries: list[Entry], word: str) -> tuple[str, int, str, str | None]:
    active = [e for e in entries if e.state not in ENDED]
    if active:
        return "busy", len(active), f"{len(active)} at work: {', '.join(e.name for e in active[:3])}", active[0].id
    if not entries:
        return "none", 0, f"no {word} run yet", None
    last = entries[0]
    if last.state == "failed":
        return "failed", 1, f"{last.name} failed: {str((last.failure or {}).get('what', ''))[:200]}", last.id
    return "ok", 0, f"{last.name}: {last.state}", last.id


def _endpoints(workspace: Workspace, state: str, text: str) -> tuple[str, int, str]:
    from ..endpoint import Endpoint

    up = [e.name for e in Endpoint.listed(workspace) if e.alive]
    if up:
        return "ok", 0, f"{', '.join(up)} answer{'s' * (len(up) == 1)}"
    return state, 0, text if state == "none" else "no endpoint is up"


def _machines(watch: Watch) -> tuple[str, int, str, None]:
    return ("ok", 0, "all within their bounds", None) if watch.alive else ("unknown", 0, "nobody watches", None)


def word_of(alert: Alert, words: dict[str, str], spec: MonitorSpec | None = None) -> str:
    """The word that an alert concerns."""
    if "run" in alert.labels:
        return words.get(alert.labels["run"], "train")
    if "endpoint" in alert.labels:
        return "serve"
    metric = next((r.metric for r in [*(spec.rules if spec else ()), *BUILTIN] if r.name == alert.rule), "")
    if metric.startswith("workbench_machine_") or "gpu" in alert.labels:
        return "machines"
    return "serve" if "_endpoint_" in metric else "monitor"


def rule_states(watch: Watch) -> list[dict[str, Any]]:
    """Every rule of a watch with its state: ``ok``, ``pending``, ``firing``, ``no data``, ``not looked``.

    Each is ``{"name", "expression", "summary", "builtin", "state", "since", "for", "firing", "pending", "series", "value", "silence"}``.
    """
    alerts = watch.store
    standings, seen, silences = alerts.standings(watch.name), alerts.seen(watch.name), alerts.silences(watch.name)
    built_in = {r.name for r in BUILTIN}
    own = {r["name"] for r in (watch.wanted.get("spec") or {}).get("rules", ())}
    found = []
    for rule in watch.rules:
        mine = [s for s in standings if s["rule"] == rule.name]
        firing, pending = [s for s in mine if s["phase"] == "firing"], [s for s in mine if s["phase"] == "pending"]
        looked = seen.get(rule.name)
        if firing:
            state = "firing"
        elif pending:
            state = "pending"
        elif looked is None:
            state = "not looked"
        else:
            state = "ok" if looked["series"] or isinstance(rule, Absence) else "no data"
        found.append({"name": rule.name, "expression": expression(rule), "summary": rule.summary, "state": state,
                      "builtin": rule.name in built_in and rule.name not in own, "for": rule.lasts,
                      "since": min((s["since"] for s in firing or pending), default=None), "firing": len(firing), "pending": len(pending),
                      "series": looked["series"] if looked else 0, "value": looked["value"] if looked else None,
                      "shown": quantity(looked["value"], rule.metric) if looked and looked["value"] is not None else "–",
                      "bound": bound(rule), "metric": rule.metric,
                      "silence": silences.get(rule.name)})
    order = {"firing": 0, "pending": 1, "not looked": 3, "no data": 3, "ok": 2}
    return sorted(found, key=lambda r: order[r["state"]])


def machine(history: History) -> list[dict[str, Any]]:
    """What the last look saw of the machine: ``{"name", "share" (0 to 1), "text"}``; nothing before the first look."""
    newest = history.newest()

    def one(metric: str) -> float | None:
        found = newest.get(f"workbench_machine_{metric}")
        return found[0][1] if found and found[0][1] == found[0][1] else None

    found = []
    if (busy := one("cpu_ratio")) is not None:
        found.append({"name": "Processor", "share": busy, "text": f"{100 * busy:.0f} % of {one('cpus') or 0:.0f} cores"})
    for name, whole, free in (("Memory", "memory_bytes", "memory_available_bytes"), ("Disk", "disk_bytes", "disk_free_bytes")):
        total, left = one(whole), one(free)
        if total and left is not None:
            found.append({"name": name, "share": 1 - left / total, "text": f"{(total - left) / 1e9:.1f} of {total / 1e9:.1f} GB used"})
    for labels, used in newest.get("workbench_machine_gpu_memory_used_bytes", ()):
        total = next((v for g, v in newest.get("workbench_machine_gpu_memory_bytes", ()) if g == labels), 0) or 1
        busy = next((v for g, v in newest.get("workbench_machine_gpu_busy_ratio", ()) if g == labels), None)
        text = f"{used / 1e9:.1f} of {total / 1e9:.1f} GB" + (f", {100 * busy:.0f} % busy" if busy is not None else "")
        found.append({"name": f"GPU {labels.get('gpu', '')} {labels.get('name', '')}".strip(), "share": used / total, "text": text})
    return found


def looked(watch: Watch) -> float | None:
    """Seconds since the last look, or None before the first."""
    at = max((s["at"] for s in watch.store.seen(watch.name).values()), default=None)
    return None if at is None else max(0.0, time.time() - at)
