"""What a dashboard shows: the charts of the spec, or what there is; and everything that could be shown."""

from __future__ import annotations

from typing import Any

from ..events import Events
from ..journal import ENDED, Entry, Journal
from ..workspace import Workspace
from .history import History, is_counter
from .spec import Chart, Curve, MonitorSpec
from .units import unit

MACHINE = (("Processor", "workbench_machine_cpu_ratio"), ("Memory that is free", "workbench_machine_memory_available_bytes"),
           ("Disk that is free", "workbench_machine_disk_free_bytes"))
RUNS = 60
"""Runs whose curves are offered, the newest first."""


def label(of: str, metric: str, labels: dict[str, str] | None = None) -> str:
    """A curve's name for a person.

    Examples
    --------
    >>> label("endpoint/docs", "workbench_endpoint_p95_seconds", {"model": "m@1"})
    'docs: p95 (model m@1)'
    """
    kind, _, name = of.partition("/")
    words = metric.removeprefix("workbench_").removeprefix("machine_").removeprefix("endpoint_")
    for end in ("_seconds_total", "_bytes_total", "_total", "_ratio", "_bytes", "_celsius", "_watts", "_per_second", "_seconds"):
        words = words.removesuffix(end) if words != end.strip("_") else words
    about = ", ".join(f"{k} {v}" for k, v in (labels or {}).items() if k not in ("endpoint", "run"))
    return f"{name or kind}: {words.replace('_', ' ')}" + (f" ({about})" if about else "")


def charts_of(spec: MonitorSpec, workspace: Workspace) -> tuple[Chart, ...]:
    """The charts of a spec; where it names none: those of each endpoint, of the runs at work or the newest training, of the machine."""
    if spec.charts:
        return spec.charts
    history = History(workspace, spec.name)
    found = []
    kept = history.series()
    for of in dict.fromkeys(k.of for k in kept if k.of.startswith("endpoint/")):
        has = {k.metric for k in kept if k.of == of}
        for title, metric in (("95 % are answered within", "workbench_endpoint_p95_seconds"),
                              ("requests", "workbench_endpoint_requests_per_second")):
            if metric in has:
                found.append(Chart(title=f"{of.partition('/')[2]}: {title}", curves=(Curve(of=of, metric=metric),)))
    entry = _training(workspace)
    if entry is not None:
        names = Events(workspace).names(entry.id)
        if "loss" in names:
            found.append(Chart(title=f"{entry.name}: loss", over="step", curves=(Curve(of=f"train/{entry.name}", metric="loss"),)))
    found += [Chart(title=title, curves=(Curve(of="machine", metric=metric),)) for title, metric in MACHINE]
    return tuple(found)


def _training(workspace: Workspace) -> Entry | None:
    entries = Journal(workspace).entries(word="train", limit=20)
    return next((e for e in entries if e.state not in ENDED), entries[0] if entries else None)


def run_of(of: str, workspace: Workspace) -> str | None:
    """The id of the run that a curve tells of, or None where it tells of none."""
    kind, _, name = of.partition("/")
    if kind == "run":
        return name
    if not name or kind == "endpoint":
        return None
    return next((e.id for e in Journal(workspace).entries(word=kind, limit=300) if e.name == name), None)


def offered(workspace: Workspace, monitor: str, text: str = "", most: int = 60) -> list[dict[str, Any]]:
    """Curves that exist and whose names hold all words of a text: ``{"of", "metric", "labels", "label", "unit", "over", "note"}``."""
    words = text.lower().split()
    history, found = History(workspace, monitor), []
    counters: dict[tuple[str, str], int] = {}
    for kept in history.series():
        if kept.metric in ("workbench_run_value", "workbench_runs", "workbench_run_not_finite"):
            continue
        labels = {k: v for k, v in kept.labels.items() if k not in ("endpoint", "run")}
        of = kept.of if kept.of != "monitor" else "machine"
        found.append({"of": of, "metric": kept.metric, "labels": labels, "over": "time"})
        if labels and is_counter(kept.metric):
            counters[of, kept.metric] = counters.get((of, kept.metric), 0) + 1
    found += [{"of": of, "metric": metric, "labels": {}, "over": "time", "note": "all together"}
              for (of, metric), n in counters.items() if n > 1]
    events, seen = Events(workspace), set()
    for entry in Journal(workspace).entries(limit=300):
        if len(seen) >= RUNS:
            break
        names = events.names(entry.id)
        if not names:
            continue
        newest = (entry.word, entry.name) not in seen
        seen |= {(entry.word, entry.name), entry.id}
        for name in names:
            if newest:
                found.append({"of": f"{entry.word}/{entry.name}", "metric": name, "labels": {}, "over": "step", "note": "newest run"})
            found.append({"of": f"run/{entry.id}", "metric": name, "labels": {}, "over": "step", "note": f"{entry.name}, {entry.state}"})
    for one in found:
        one["label"], one["unit"] = label(one["of"], one["metric"], one["labels"]), unit(one["metric"])
    order = {"endpoint": 0, "train": 1, "run": 2, "machine": 4}
    kept_ = [o for o in found if all(w in f"{o['of']} {o['label']} {o['metric']} {o.get('note', '')}".lower() for w in words)]
    return sorted(kept_, key=lambda o: (order.get(o["of"].partition("/")[0], 1),
                                         not o["metric"].startswith("workbench_machine_") and o["of"] == "machine"))[:most]
