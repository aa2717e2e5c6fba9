"""What a person meets who comes back: what needs them, what works, what ended meanwhile, and a search over all there is."""

from __future__ import annotations

import contextlib
import datetime
import json
import time
from dataclasses import dataclass
from typing import Any, Literal

from . import processes, waivers
from .assessment import standing
from .chain import watched
from .drawing import ago
from .endpoint import Endpoint, process_name
from .errors import WorkbenchError
from .events import Events
from .journal import Entry, Journal
from .monitor.alerts import Alerts
from .registry import Registry
from .storage import write_atomic
from .workspace import Workspace

KINDS = ("dataset", "model", "assessment", "endpoint", "run", "pipeline")
"""What a search tells apart; a pipeline is a run of its own kind."""
FRESH_DAYS = 7
"""Days after which a failed run needs nobody any more, and before which the end of a waiver is said."""


@dataclass(frozen=True)
class Need:
    """One thing that needs a person, and what to open for it."""

    id: str
    level: Literal["error", "warning", "info"]
    text: str
    at: float | None
    label: str
    open: dict[str, Any]
    """``{"run": id}``, or ``{"word": …, "spec": {…}}``"""
    dismissable: bool = False


@dataclass(frozen=True)
class Found:
    """A thing that a search found."""

    kind: str
    id: str
    name: str
    word: str
    state: str
    at: float


class Outlook:
    """A workspace as somebody sees it who comes back.

    Examples
    --------
    >>> import tempfile
    >>> outlook = Outlook(Workspace(tempfile.mkdtemp()).open())
    >>> outlook.needs(), outlook.at_work(), outlook.find()
    ([], [], ([], 0))
    """

    def __init__(self, workspace: Workspace):
        self.workspace, self.journal, self.registry, self.events = workspace, Journal(workspace), Registry(workspace), Events(workspace)
        self._memory = workspace.path("home.json")

    # What needs somebody ---------------------------------------------------------------------------------------------------------

    def needs(self, now: float | None = None) -> list[Need]:
        """Alerts that nobody acknowledged, endpoints that died or serve what they should not, waivers that end, runs that failed; the
        gravest first.
        """
        now = time.time() if now is None else now
        dismissed = set(self._read().get("dismissed", []))
        found = [*self._alerts(), *self._endpoints(), *self._waivers(now), *self._failures(now)]
        order = {"error": 0, "warning": 1, "info": 2}
        return sorted((n for n in found if n.id not in dismissed), key=lambda n: order[n.level])

    def acknowledge(self, need: str) -> None:
        """Acknowledge the alert of a need: it goes on, and somebody knows."""
        Alerts(self.workspace).acknowledge(need.removeprefix("alert/"))

    def dismiss(self, need: str) -> None:
        """Say no more of a need."""
        memory = self._read()
        self._write({**memory, "dismissed": [*memory.get("dismissed", [])[-499:], need]})

    def _alerts(self) -> list[Need]:
        found = []
        for alert in Alerts(self.workspace).listed(firing=True, limit=50):
            if alert.acknowledged:
                continue
            run = next((e for e in self.journal.entries(word="monitor", limit=50) if e.name == alert.monitor), None)
            about = {"run": run.id} if run else {"word": "monitor", "spec": {"name": alert.monitor}}
            found.append(Need(f"alert/{alert.id}", "error", f"Alert {alert}", alert.began, "See the alert", about))
        return found

    def _endpoints(self) -> list[Need]:
        """Endpoints that should answer and don't; endpoints whose model nobody assessed, or whose assessment it does not stand."""
        found = []
        for endpoint in Endpoint.listed(self.workspace):
            try:
                document, alive = endpoint.document, endpoint.alive
            except (WorkbenchError, KeyError):
                continue
            about = {"run": document["run"]} if document.get("run") else {"word": "serve", "spec": {"name": endpoint.name}}
            process = process_name(endpoint.name)
            recorded = self.workspace.path("processes", f"{process.replace('/', '--')}.json").exists()  # not so where somebody ended it
            if not alive and document["state"] == "up" and recorded and processes.find(self.workspace, process) is None:
                text = f"Endpoint {endpoint.name} no longer answers: its processes are gone"
                found.append(Need(f"down/{endpoint.name}/{document['started']}", "error", text, None, "Start it again", about, True))
            if not alive:
                continue
            if problem := document.get("problem"):
                words = str(problem.get("what", "") if isinstance(problem, dict) else problem)
                found.append(Need(f"problem/{endpoint.name}/{words[:80]}", "error", f"Endpoint {endpoint.name} could not change: {words}",
                                  None, "See the endpoint", about, True))
            for model in document.get("models") or []:
                found += self._unassessed(endpoint, model)
        return found

    def _unassessed(self, endpoint: Endpoint, model: dict[str, Any]) -> list[Need]:
        assessed = [v for v in self.registry.versions("assessment") if v.meta.get("model") == model["digest"]]
        reference = f"{model['name']}@{model['digest'][:12]}"
        if not assessed:
            text = f"{model['name']} answers at {endpoint.name} and nobody assessed it"
            return [Need(f"unassessed/{model['digest']}", "warning", text, None, "Assess it",
                         {"word": "assess", "spec": {"model": reference}}, True)]
        verdict = standing(self.workspace, model["digest"])
        if verdict.passed:
            return []
        about = {"run": assessed[0].run} if assessed[0].run else {"word": "assess", "spec": {"model": reference}}
        return [Need(f"blocked/{model['digest']}", "warning", f"{model['name']} answers here, but {verdict.words}", assessed[0].created,
                     "See why", about, True)]

    def _waivers(self, now: float) -> list[Need]:
        """Waivers whose last day is near: what they excuse will stand against the model again."""
        found, today = [], datetime.date.fromtimestamp(now)
        for grant in waivers.granted(self.workspace):
            waiver = grant.waiver
            model = next((v for v in self.registry.versions("model") if v.digest.startswith(waiver.model)), None)
            if model is None or not grant.counts(now) or (waiver.until - today).days > FRESH_DAYS:
                continue
            assessed = next((v.run for v in self.registry.versions("assessment") if v.meta.get("model") == model.digest and v.run), None)
            about = {"run": assessed} if assessed else {"word": "assess", "spec": {"model": model.reference}}
            text = f"The waiver of {waiver.metric.replace('_', ' ')} for {model.name} ends on {waiver.until:%-d %B}"
            found.append(Need(f"waiver/{grant.id}", "warning", text, None, "See the assessment", about, True))
        return found

    def _failures(self, now: float) -> list[Need]:
        """Runs that failed lately and were not done again under the same word and name since."""
        found, later = [], set()
        for entry in self.journal.entries(limit=300):
            if entry.state == "failed" and (entry.word, entry.name) not in later and now - (entry.ended or now) < FRESH_DAYS * 86_400:
                what = str((entry.failure or {}).get("what", "failed")).splitlines()[0][:300]
                found.append(Need(f"run/{entry.id}", "error", f"{entry.word} {entry.name} failed: {what}", entry.ended, "See what failed",
                                  {"run": entry.id}, True))
            later.add((entry.word, entry.name))
        return found

    # What works, what ended --------------------------------------------------------------------------------------------------------

    def at_work(self) -> list[tuple[Entry, dict[str, Any] | None, float]]:
        """Active runs, the newest first: entry, newest progress, seconds since the last sign of life."""
        found = []
        for entry in self.journal.entries(states=("queued", "running", "stopping"), limit=50):
            progress = self.events.last(entry.id, "progress")
            row = self.events.database.row("SELECT at FROM events WHERE scope = ? ORDER BY seq DESC LIMIT 1", (entry.id,))
            heard = max(t for t in (entry.beat, row["at"] if row else None, entry.submitted) if t)
            found.append((entry, progress.data if progress else None, max(0.0, time.time() - heard)))
        return found

    def services(self) -> list[Found]:
        """Endpoints that answer and monitors that watch."""
        found = []
        for endpoint in Endpoint.listed(self.workspace):
            with contextlib.suppress(WorkbenchError, KeyError):
                document = endpoint.document
                if endpoint.alive:
                    found.append(Found("endpoint", document.get("run") or "", endpoint.name, "serve", "up", document["started"]))
        if watched(self.workspace):
            for path in sorted(self.workspace.path("monitors").glob("*/wanted.json")):
                name = path.parent.name
                if (process := processes.find(self.workspace, f"monitor/{name}")) is not None:
                    run = next((e for e in self.journal.entries(word="monitor", limit=50) if e.name == name), None)
                    found.append(Found("monitor", run.id if run else "", name, "monitor", "up", process.created))
        return found

    def ended_since(self, then: float) -> list[Entry]:
        """Runs that ended after a time, the newest first; those inside a pipeline's run count as that run."""
        rows = self.journal.database.rows("SELECT id FROM runs WHERE ended > ? ORDER BY ended DESC LIMIT 20", (then,))
        return [self.journal.get(r["id"]) for r in rows]

    def looked(self) -> float | None:
        """When somebody last looked, as ``look`` recorded it."""
        return self._read().get("looked")

    def look(self, now: float | None = None) -> None:
        """Record that somebody looks."""
        self._write({**self._read(), "looked": time.time() if now is None else now})

    def _read(self) -> dict[str, Any]:
        try:
            return json.loads(self._memory.read_text("utf-8"))
        except (OSError, ValueError):
            return {}

    def _write(self, memory: dict[str, Any]) -> None:
        with contextlib.suppress(WorkbenchError, OSError):  # a workspace that is only read keeps no memory of who looked
            write_atomic(self._memory, json.dumps(memory))

    # Everything else -------------------------------------------------------------------------------------------------------------

    def find(self, text: str = "", kind: str | None = None, start: int = 0, count: int = 20) -> tuple[list[Found], int]:
        """A page of what there is, the newest first, and how much there is in all.

        Parameters
        ----------
        text : words that must all stand in kind, name, id or state.
        kind : one of ``KINDS``; none: all.
        """
        rows = [("endpoint", e.name, e.name, "serve", *self._standing(e)) for e in Endpoint.listed(self.workspace)]
        lines = " UNION ALL SELECT ?, ?, ?, ?, ?, ?" * len(rows)
        everything = ("SELECT CASE word WHEN 'pipeline' THEN 'pipeline' ELSE 'run' END AS kind, id, name, word, state, submitted AS at "
                      "FROM runs UNION ALL SELECT kind, name || '@' || digest, name, CASE kind WHEN 'dataset' THEN 'data' "
                      f"WHEN 'model' THEN 'train' ELSE 'assess' END, 'v' || number, touched FROM versions{lines}")
        values: list[Any] = [v for row in rows for v in row]
        where = []
        if kind:
            where.append("kind = ?")
            values.append(kind)
        for word in text.split()[:12]:
            where.append("kind || ' ' || word || ' ' || name || ' ' || id || ' ' || state LIKE ? ESCAPE '\\'")
            values.append(f"%{_literal(word)}%")
        sql = f"FROM ({everything})" + (f" WHERE {' AND '.join(where)}" if where else "")
        self.registry.database.row("SELECT 1")  # makes its tables in the file that both share
        database = self.journal.database
        total = database.row(f"SELECT COUNT(*) AS total {sql}", tuple(values))["total"]
        page = database.rows(f"SELECT * {sql} ORDER BY at DESC, id LIMIT ? OFFSET ?", (*values, count, start))
        return [Found(**dict(r)) for r in page], total

    def _standing(self, endpoint: Endpoint) -> tuple[str, float]:
        try:
            return ("up" if endpoint.alive else "down"), endpoint.document["started"]
        except (WorkbenchError, KeyError):
            return "down", 0.0


def told(entry: Entry) -> str:
    """An ended run in a line.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> told(SimpleNamespace(word="train", name="docs-lm", state="done", ended=time.time() - 200))
    'train docs-lm is done, 3 minutes ago'
    """
    words = {"done": "is done", "failed": "failed", "stopped": "was stopped"}
    return f"{entry.word} {entry.name} {words.get(entry.state, entry.state)}, {ago(entry.ended or time.time())}"


def _literal(word: str) -> str:
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
