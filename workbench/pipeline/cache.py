"""Which steps are still good: what each was made from, where its result lies, and why it must be redone."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import workbench

from .. import processes
from ..display import ago, flat
from ..errors import NotFoundError, WorkbenchError
from ..journal import ENDED, Journal
from ..registry import Registry
from ..storage import Database, digest_file, digest_json
from ..workspace import Workspace
from .graph import Graph
from .spec import PipelineSpec
from .steps import BoundStep, bind

_SCHEMA = """
CREATE TABLE IF NOT EXISTS steps (
  pipeline TEXT NOT NULL, step TEXT NOT NULL, key TEXT NOT NULL, parts TEXT NOT NULL, run TEXT NOT NULL, notebook TEXT NOT NULL,
  runs TEXT NOT NULL, products TEXT NOT NULL, seconds REAL NOT NULL, made REAL NOT NULL, used REAL NOT NULL,
  PRIMARY KEY (pipeline, step, key));
CREATE INDEX IF NOT EXISTS steps_key ON steps (step, key);
"""
KINDS = ("dataset", "model", "assessment")
Parts = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Record:
    """A step as it was made: from which ``parts``, by which run of the pipeline, with which runs and products."""

    pipeline: str
    step: str
    key: str
    parts: Parts
    run: str
    notebook: str
    runs: list[str]
    products: list[dict[str, Any]]
    seconds: float
    made: float


@dataclass(frozen=True)
class Plan:
    """What will become of a step, and why, in words."""

    step: str
    state: Literal["cached", "redo", "waits"]
    why: str
    record: Record | None = None
    parts: Parts | None = None

    def __str__(self) -> str:
        return f"{self.step}: {self.why}"


class Cache:
    """The steps that a workspace remembers."""

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self.database = Database(workspace.path("pipelines.db"), _SCHEMA)

    def latest(self, pipeline: str, step: str) -> Record | None:
        """What the step was when it was last made or found good."""
        return _record(self.database.row("SELECT * FROM steps WHERE pipeline = ? AND step = ? ORDER BY used DESC LIMIT 1",
                                         (pipeline, step)))

    def find(self, step: str, key: str) -> Record | None:
        """The newest step of a name, of any pipeline, that was made from the same parts."""
        return _record(self.database.row("SELECT * FROM steps WHERE step = ? AND key = ? ORDER BY made DESC LIMIT 1", (step, key)))

    def keep(self, record: Record) -> None:
        """Remember a step that is done."""
        self.database.execute(
            "INSERT OR REPLACE INTO steps VALUES (?,?,?,?,?,?,?,?,?,?,?)",
            (record.pipeline, record.step, record.key, json.dumps(record.parts), record.run, record.notebook, json.dumps(record.runs),
             json.dumps(record.products), record.seconds, record.made, time.time()))

    def use(self, record: Record, pipeline: str, step: str) -> None:
        """Note that a step was found good; what it made becomes the newest of its name again."""
        registry = Registry(self.workspace)
        for product in record.products:
            if product["kind"] in KINDS:
                version = registry.resolve(product["kind"], f"{product['name']}@{product['digest']}")
                if registry.versions(version.kind, version.name)[0].digest != version.digest:
                    registry.register(version.kind, version.name, version.digest, version.path, run=version.run)
        self.keep(replace(record, pipeline=pipeline, step=step))


def explain(spec: object, workspace: Workspace | str | None = None) -> list[Plan]:
    """What a run of a pipeline would do with each step, and why; starts and changes nothing.

    Examples
    --------
    >>> for plan in explain("pipeline.yaml"):  # doctest: +SKIP
    ...     print(plan)
    data: cached: made by run pipeline-0412-101500-3f9a1c, 3 minutes ago
    train: redone: spec changed: train.tokens 1000 → 2000
    """
    workspace = Workspace.find(workspace)
    pipeline = PipelineSpec.load(spec)
    graph, plans = Graph(pipeline.steps), {}
    for name, step in bind(pipeline, workspace).items():
        open_ = [n for n in graph.needs(name) if plans[n].state != "cached"]
        plans[name] = plan(pipeline, step, workspace, after=open_)
    return list(plans.values())


def plan(pipeline: PipelineSpec, step: BoundStep, workspace: Workspace, *, after: list[str] | None = None) -> Plan:
    """What to do with one step, seen from how things stand now.

    Parameters
    ----------
    after : names of needed steps that are still to be done, so that the inputs are not yet known.
    """
    cache = Cache(workspace)
    latest = cache.latest(pipeline.name, step.name)
    parts: Parts = {"code": step.notebook.parts(), "spec": step.spec.to_dict() if step.spec else {}, "package": package()}
    if after:
        why = _differences(step.name, latest, parts)
        if why:
            return Plan(step.name, "redo", f"redone: {why}", parts=parts)
        return Plan(step.name, "waits", f"waits for {', '.join(after)}: redone if that yields something else", latest, parts)
    parts["inputs"] = step.inputs(workspace)
    key = digest_json(parts)
    found = cache.find(step.name, key)
    if found is None:
        return Plan(step.name, "redo", f"redone: {_differences(step.name, latest, parts)}", parts=parts)
    gone = next((words for p in found.products if (words := missing(workspace, p))), None)
    if gone is None and not (workspace.root / found.notebook).exists():
        gone = "its executed notebook"
    if gone:
        return Plan(step.name, "redo", f"redone: {gone} is gone", parts=parts)
    back = "" if latest is None or latest.key == key else "as before the last change, "
    return Plan(step.name, "cached", f"cached: {back}made by run {found.run}, {ago(found.made)}", found, parts)


def products(workspace: Workspace, run_ids: list[str]) -> list[dict[str, Any]]:
    """What the runs that a step submitted have made."""
    made = []
    for run_id in run_ids:
        entry = Journal(workspace).get(run_id)
        result = entry.result or {}
        made += [{"kind": k, "name": result[k], "digest": result["digest"], "run": run_id} for k in KINDS if k in result]
        if "endpoint" in result:
            made.append({"kind": "endpoint", "name": result["endpoint"], "run": run_id, "models": _served(workspace, result["endpoint"])})
        if "monitor" in result:
            made.append({"kind": "monitor", "name": result["monitor"], "run": run_id,
                         "stays": entry.spec.get("seconds") is None})
    return made


def missing(workspace: Workspace, product: dict[str, Any]) -> str | None:
    """What is gone, in words, or None if the product stands as it was made."""
    kind, name = product["kind"], product["name"]
    if kind in KINDS:
        file = "assessment.json" if kind == "assessment" else "manifest.json"
        try:
            version = Registry(workspace).resolve(kind, f"{name}@{product['digest']}")
        except NotFoundError:
            return f"the {kind} {name}@{product['digest'][:12]}"
        return None if (version.path / file).exists() else f"the {kind} {name}@{product['digest'][:12]}"
    if kind == "endpoint":
        served = _served(workspace, name)
        if served is None:
            return f"the endpoint {name}"
        return None if served == product["models"] else f"what the endpoint {name} served (it serves another model now)"
    if kind == "monitor" and product["stays"]:
        alive = processes.find(workspace, f"monitor/{name}") or Journal(workspace).get(product["run"]).state not in ENDED
        return None if alive else f"the watch of {name}"
    return None


def _served(workspace: Workspace, name: str) -> list[list[Any]] | None:
    """Digest and weight of each model at an endpoint that is alive."""
    from ..endpoint import Endpoint

    try:
        endpoint = Endpoint.open(name, workspace)
    except WorkbenchError:
        return None
    return sorted([m["digest"], m["weight"]] for m in endpoint.document["models"]) if endpoint.alive else None


@lru_cache(maxsize=1)
def package() -> dict[str, str]:
    """Digest of each source file of the workbench, as this process found it."""
    root = Path(workbench.__file__).parent
    return {p.relative_to(root).as_posix(): digest_file(p)[:16] for p in sorted(root.rglob("*.py"))}


def _differences(step: str, latest: Record | None, parts: Parts) -> str:
    """In which parts a step differs from what it was, in words; empty if in none of those given."""
    if latest is None:
        return "was not made yet"
    said = []
    for part, now in parts.items():
        before = latest.parts.get(part, {})
        if before == now:
            continue
        if part == "spec":
            old, new = dict(flat(before)), dict(flat(now))
            changes = [f"{step}.{k} {old.get(k, '(none)')} → {new.get(k, '(none)')}"
                       for k in dict.fromkeys([*old, *new]) if old.get(k) != new.get(k)]
            said.append(f"spec changed: {_few(changes)}")
        elif part == "inputs":
            changes = [f"{k} {str(before.get(k, '(none)'))[:12]} → {str(now.get(k, '(none)'))[:12]}"
                       for k in dict.fromkeys([*before, *now]) if before.get(k) != now.get(k)]
            said.append(f"inputs changed: {_few(changes)}")
        else:
            changes = [k for k in dict.fromkeys([*before, *now]) if before.get(k) != now.get(k)]
            said.append(f"{'the package workbench' if part == 'package' else 'code'} changed: {_few(changes)}")
    return "; ".join(said)


def _few(changes: list[str], most: int = 4) -> str:
    return ", ".join(changes[:most]) + (f" and {len(changes) - most} more" if len(changes) > most else "")


def _record(row: Any) -> Record | None:
    if row is None:
        return None
    return Record(row["pipeline"], row["step"], row["key"], json.loads(row["parts"]), row["run"], row["notebook"],
                  json.loads(row["runs"]), json.loads(row["products"]), row["seconds"], row["made"])
