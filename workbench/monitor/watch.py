"""A watch: the detached evaluator of a monitor, found again by name from any process."""

from __future__ import annotations

import json
import shutil
import time
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import processes
from ..errors import NotFoundError, WorkbenchError
from ..storage import write_atomic
from ..workspace import Workspace
from .alerts import Alert, Alerts
from .rules import rules_of
from .spec import MonitorSpec, Rule

START_SECONDS = 60.0
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Loopback is reached without any proxy."""


def fetch(url: str, token: str | None = None, *, timeout: float = 2.0) -> str | None:
    """The text behind an address on this machine, or None where it does not answer with 200."""
    import http.client

    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - http on loopback, written by our own processes
    try:
        with _DIRECT.open(request, timeout=timeout) as answer:
            return answer.read().decode("utf-8", "replace") if answer.status == 200 else None
    except (OSError, http.client.HTTPException):  # refused, cut off, 503: it is not up
        return None


@dataclass(frozen=True)
class Watch:
    """A handle on a monitor's evaluator; it holds nothing itself.

    Examples
    --------
    >>> Watch.open("monitor").metrics_url  # doctest: +SKIP
    'http://127.0.0.1:9400/metrics'
    """

    workspace: Workspace
    name: str

    @classmethod
    def open(cls, name: str, workspace: Workspace | None = None) -> Watch:
        """The watch of a name, at work or ended.

        Raises
        ------
        NotFoundError
            With the names that exist and the near one.
        """
        workspace = Workspace.find(workspace)
        watch = cls(workspace, name)
        if not (watch.directory / "wanted.json").exists():
            raise NotFoundError.of("monitor", name, [w.name for w in cls.listed(workspace)], hint="Start one: workbench monitor")
        return watch

    @classmethod
    def listed(cls, workspace: Workspace | None = None) -> list[Watch]:
        """Every watch of a workspace, by name."""
        workspace = Workspace.find(workspace)
        return [cls(workspace, p.parent.name) for p in sorted(workspace.path("monitors").glob("*/wanted.json"))]

    @property
    def directory(self) -> Path:
        return self.workspace.path("monitors", self.name)

    @property
    def wanted(self) -> dict[str, Any]:
        """What was asked last: spec, run, until."""
        return _json(self.directory / "wanted.json")

    @property
    def document(self) -> dict[str, Any]:
        """What the evaluator says of itself: pid, port, metrics, started, asked; empty before it is ready."""
        return _json(self.directory / "ready.json")

    @property
    def process(self) -> processes.Process | None:
        return processes.find(self.workspace, f"monitor/{self.name}")

    @property
    def alive(self) -> bool:
        """True while its evaluator works."""
        process = self.process
        return process is not None and self.document.get("pid") == process.pid

    @property
    def died(self) -> bool:
        """True where its evaluator should work and does not: nobody ended it."""
        until = self.wanted.get("until")
        recorded = processes.recorded(self.workspace, f"monitor/{self.name}")
        return recorded and not self.alive and not (until and until <= time.time())

    @property
    def metrics_url(self) -> str | None:
        """Where Prometheus finds it, or None before it was ever ready."""
        return self.document.get("metrics")

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules that were asked last, the built-in ones among them."""
        wanted = self.wanted
        return rules_of(MonitorSpec.load(wanted["spec"])) if wanted else ()

    @property
    def store(self) -> Alerts:
        """Where its alerts are kept, acknowledged and silenced."""
        return Alerts(self.workspace)

    def alerts(self, *, firing: bool = False, limit: int = 200) -> list[Alert]:
        """Its alerts, the newest first."""
        return Alerts(self.workspace).listed(self.name, firing=firing, limit=limit)

    def start(self, spec: MonitorSpec, run: str, *, until: float | None = None) -> dict[str, Any]:
        """Bring the evaluator to a spec: one that works to it already stays; returns what it says of itself once it answers.

        Parameters
        ----------
        until : time (seconds since the epoch) at which the evaluator ends by itself.
        """
        with processes.lock(self.workspace, f"monitor/{self.name}", patience=START_SECONDS):
            wanted = {"spec": spec.to_dict(), "run": run, "until": until}
            process, before = self.process, self.wanted
            # What the dashboard shows is no business of the evaluator.
            same = before.get("until") == until and {**(before.get("spec") or {}), "charts": []} == {**wanted["spec"], "charts": []}
            if same and before != {**wanted, "asked": before.get("asked")}:
                write_atomic(self.directory / "wanted.json", json.dumps({**wanted, "asked": before.get("asked")}))
            if process is None or not same or not self._answers(process):
                if process is not None:
                    process.end()
                write_atomic(self.directory / "wanted.json", json.dumps({**wanted, "asked": uuid.uuid4().hex}))
                process = processes.start(self.workspace, f"monitor/{self.name}", "workbench.monitor.evaluator", self.name)
            deadline = time.monotonic() + START_SECONDS
            while not self._answers(process):
                if not process.alive or time.monotonic() > deadline:
                    process.end()
                    raise WorkbenchError("the evaluator did not start", where=f"monitor {self.name}", received=self._last_words(),
                                         hint=f"The log says why: {self.workspace.relative(self._log)}")
                time.sleep(0.05)
            return self.document

    def revive(self) -> dict[str, Any]:
        """Start the evaluator again as it was asked last; one that works stays.

        Raises
        ------
        NotFoundError
            Where nothing was ever asked.
        """
        wanted = self.wanted
        if not wanted:
            raise NotFoundError.of("monitor", self.name, [w.name for w in self.listed(self.workspace)], hint="Start one: workbench monitor")
        until = wanted.get("until")
        return self.start(MonitorSpec.load(wanted["spec"]), wanted.get("run") or "", until=until if until and until > time.time() else None)

    def stop(self) -> bool:
        """End the evaluator; true if it worked. What is firing stays so until somebody watches again."""
        process = self.process
        if process is None:
            return False
        process.end()
        processes.forget(self.workspace, process.name)
        return True

    def remove(self) -> None:
        """End it and forget what was asked; its alerts stay."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _answers(self, process: processes.Process) -> bool:
        document = self.document
        if document.get("pid") != process.pid or document.get("asked") != self.wanted.get("asked"):
            return False
        return fetch(document["metrics"].replace("/metrics", "/health")) is not None

    @property
    def _log(self) -> Path:
        return self.workspace.path("logs", f"monitor--{self.name}.log")

    def _last_words(self) -> str | None:
        lines = self._log.read_text("utf-8", "replace").split("\n") if self._log.exists() else []
        return next((line for line in reversed(lines) if line.strip()), None)

    def _repr_html_(self) -> str:
        from ..display import watch_html

        return watch_html(self)

    def __str__(self) -> str:
        firing = len(self.alerts(firing=True))
        state = f"watching, metrics at {self.metrics_url}" if self.alive else "not watching"
        return f"monitor {self.name}: {state}; {firing} alert{'s' * (firing != 1)} firing"


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
