"""MLflow as the record of runs: written in batches by a thread of its own, so that work never waits for it."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import unrecorded
from .events import Events
from .workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "workbench"
BATCH_SECONDS = 5.0
STALL = 60.0
"""Seconds without an answer after which MLflow counts as down."""
AGAIN = 10.0
"""Seconds between tries where it is."""
FIGURES = ("cpu", "memory", "gpu_memory", "step_seconds", "wait_seconds", "blocked_seconds")
"""Of what ranks tell of themselves: shares of a core, bytes, and the seconds of a step with those that wait for data and for ranks."""
MOST_METRICS = 1000
"""Metrics that MLflow takes in one request."""
PATIENCE = 120.0
"""Seconds that ``close`` waits for the last batch; what is not written then is written while the process lives."""

_connecting = threading.Lock()


class Tracker:
    """The record of one run; what it is told is queued and written soon.

    Opened again for a run that has a record already (a driver that was killed), it goes on in that record: it leaves
    out the points that it holds, and adds those that the run's events hold and it does not.

    An MLflow that doesn't answer stops and slows nothing: it is said once, asked again now and then, and what it did not take by the end
    is left in the run's directory for whichever process of the workspace first finds it answering.

    Parameters
    ----------
    run_id : id of the run in the workspace; kept as the tag ``workbench.run``.
    name : what MLflow shows.
    params : name to value, written once.
    tags : name to value.
    say : is told, once and again when that is over, that MLflow takes nothing; none: standard error is.

    Examples
    --------
    >>> with Tracker(workspace, "train-1", "docs-lm", params={"seed": 0}) as tracker:  # doctest: +SKIP
    ...     tracker.log([("loss", 1, 7.6, time.time())])
    """

    def __init__(self, workspace: Workspace, run_id: str, name: str, params: Mapping[str, Any] | None = None,
                 tags: Mapping[str, str] | None = None, say: Callable[[str], None] | None = None):
        self.workspace, self.run_id, self.name = workspace, run_id, name
        self.params, self.tags = dict(params or {}), dict(tags or {})
        self._say = say or (lambda text: print(text, file=sys.stderr))
        self._points: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._left: list[tuple[str, Any]] = []
        self._over, self._down, self._saying = threading.Event(), threading.Event(), threading.Lock()
        self._asked: float | None = None
        self._status = "FINISHED"
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close("FINISHED" if kind is None else "KILLED" if kind.__name__ == "Stopped" else "FAILED")

    def log(self, points: Iterable[tuple[str, int, float, float]]) -> None:
        """Points ``(name, step, value, at)``; NaN is a value like others."""
        for point in points:
            self._points.put(("point", point))
        self._begin()
        self._look()

    def text(self, file: str, text: str) -> None:
        """A text file among the run's artifacts."""
        self._points.put(("text", (file, text)))
        self._begin()

    def file(self, path: Path, folder: str) -> None:
        """A copy of a file among the run's artifacts."""
        self._points.put(("file", (str(path), folder)))
        self._begin()

    def end(self, tags: Mapping[str, str]) -> None:
        """Tags that are known only at the end."""
        self._points.put(("tags", dict(tags)))
        self._begin()

    def close(self, status: str = "FINISHED") -> None:
        """Write what is left; ``status`` as MLflow says it: FINISHED, FAILED or KILLED.

        Who stopped a run does not wait for the record of it, and nobody waits for an MLflow that doesn't answer: it is written
        while the process lives, or by another.
        """
        self._status = status
        self._over.set()
        deadline = time.monotonic() + PATIENCE
        while self._thread and status != "KILLED" and not self._look() and time.monotonic() < deadline:
            self._thread.join(0.05)
            if not self._thread.is_alive():
                return

    def record(self, left: list[tuple[str, Any]], status: str) -> None:
        """Write all of a run that has ended, by this thread; raises what MLflow raises."""
        client, run, written = self._open()
        self._left += left
        self._write(client, run, written)
        client.set_terminated(run, status)

    def _begin(self) -> None:
        # On the first word, not on opening: the import costs seconds of CPU that the first step should have.
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"tracking-{self.run_id}", daemon=True)
            self._thread.start()

    def _look(self) -> bool:
        """True when MLflow takes nothing now; said when that is new."""
        asked = self._asked
        if asked is not None and time.monotonic() - asked > STALL:
            self._fell(f"no answer within {STALL:g} s")
        return self._down.is_set()

    def _fell(self, why: str) -> None:
        with self._saying:
            if not self._down.is_set():
                self._down.set()
                with contextlib.suppress(Exception):  # where the run's own log can't be written, that is said elsewhere
                    self._say(f"not recorded in MLflow: {why}. The run goes on, and it is recorded once MLflow takes it")

    def _stands(self) -> None:
        with self._saying:
            if self._down.is_set():
                self._down.clear()
                if not self._over.is_set():
                    with contextlib.suppress(Exception):
                        self._say("MLflow takes what is recorded again: nothing is missing there")

    def _work(self) -> None:
        opened: tuple[MlflowClient, str, dict[str, int]] | None = None
        while True:
            try:
                import mlflow  # noqa: F401 - seconds, which are no silence of MLflow's

                self._asked = time.monotonic()
                opened = opened or self._open()
                self._asked = None
                last = self._over.wait(BATCH_SECONDS)
                self._asked = time.monotonic()
                self._write(*opened)
                if last:
                    # A run that goes on elsewhere after a kill is closed by whoever ends it.
                    opened[0].set_terminated(opened[1], self._status)
                self._asked = None
                self._stands()
                if last:
                    unrecorded.recorded(self.workspace, self.run_id)
                    catch_up(self.workspace)
                    return
            except Exception as error:  # noqa: BLE001 - the record must never end the work; the events hold everything
                self._asked = None
                self._fell(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
                if self._over.is_set():
                    break
                self._over.wait(AGAIN)
        self._leave()

    def _leave(self) -> None:
        """Leave word of what is not recorded, and try again as long as this process lives."""
        self._taken()
        left = [item for item in self._left if item[0] != "point"]
        try:
            unrecorded.leave(self.workspace, self.run_id, {"name": self.name, "params": {k: str(v) for k, v in self.params.items()},
                                                           "tags": self.tags, "status": self._status, "left": left})
        except Exception as error:  # noqa: BLE001 - a thread's errors must be told by it, or nobody hears of them
            print(f"not recorded in MLflow, nor left for later: {error}", file=sys.stderr)
            return
        while unrecorded.waits(self.workspace, self.run_id):
            time.sleep(AGAIN)
            catch_up(self.workspace)

    def _open(self) -> tuple[MlflowClient, str, dict[str, int]]:
        from mlflow.entities import Param, RunTag

        client = connect(self.workspace)
        experiment = _experiment(client, self.workspace)
        found = client.search_runs([experiment], f"tags.`workbench.run` = '{self.run_id}'", max_results=1)
        if found:
            client.update_run(found[0].info.run_id, status="RUNNING")
            run, written = found[0].info.run_id, {m.key: m.step for m in found[0].data._metric_objs}
        else:
            made = client.create_run(experiment, run_name=self.name, tags={"workbench.run": self.run_id, **self.tags})
            run, written = made.info.run_id, {}
        params = [Param(k, str(v)[:6000]) for k, v in self.params.items() if not found or k not in found[0].data.params]
        for start in range(0, len(params), 100):
            client.log_batch(run, params=params[start:start + 100])
        client.log_batch(run, tags=[RunTag("workbench.workspace", str(self.workspace.root))])
        self._left[:0] = [("point", point) for point in points_of(self.workspace, self.run_id)]
        return client, run, written

    def _taken(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._left.append(self._points.get_nowait())

    def _write(self, client: MlflowClient, run: str, written: dict[str, int]) -> None:
        """Write what waits; it waits on where MLflow doesn't take it."""
        from mlflow.entities import Metric, RunTag

        self._taken()
        metrics, highest = [], dict(written)
        for kind, value in self._left:
            if kind == "point" and value[1] > highest.get(value[0], -1):
                name, step, number, at = value
                highest[name] = step
                metrics.append(Metric(name, float(number), int(at * 1000), int(step)))
        for start in range(0, len(metrics), MOST_METRICS):
            client.log_batch(run, metrics=metrics[start:start + MOST_METRICS])
            self._asked = time.monotonic()
        written.update(highest)
        self._left = [item for item in self._left if item[0] != "point"]
        while self._left:
            kind, value = self._left[0]
            if kind == "tags":
                client.log_batch(run, tags=[RunTag(k, v) for k, v in value.items()])
            elif kind == "file":
                client.log_artifact(run, *value)
            else:
                client.log_text(run, value[1], value[0])
            self._asked = time.monotonic()
            self._left.pop(0)


def catch_up(workspace: Workspace) -> int:
    """Record the runs that were left, as far as MLflow takes them; returns how many."""
    done = 0
    with contextlib.suppress(Exception):  # tried again at the next chance
        for run_id, word in unrecorded.words(workspace):
            Tracker(workspace, run_id, word["name"], word["params"], word["tags"]).record([tuple(i) for i in word["left"]], word["status"])
            unrecorded.recorded(workspace, run_id)
            done += 1
    return done


def points_of(workspace: Workspace, run_id: str) -> list[tuple[str, int, float, float]]:
    """All points of a run's events, as ``Tracker.log`` takes them, and the figures of its verdicts."""
    events, found, after = Events(workspace), [], 0
    while batch := events.tail(run_id, after=after, kinds=("point", "mark")):
        for event in batch:
            if event.kind == "mark" and event.name == "verdict" and "ranks" in event.data:
                found += figures(event.data["ranks"], event.step or 0, event.at)
            elif event.kind == "point" and event.name is not None and event.step is not None and event.value is not None:
                found.append((event.name, event.step, event.value, event.at))
        after = batch[-1].seq
    return found


def figures(ranks: Iterable[Mapping[str, Any]], step: int, at: float) -> list[tuple[str, int, float, float]]:
    """How each rank fares as points, ``rank_0/cpu`` and others of ``FIGURES``.

    Examples
    --------
    >>> figures([{"rank": 0, "cpu": 0.9, "memory": 5e8, "memory_limit": 8e9}], 40, 1e9)
    [('rank_0/cpu', 40, 0.9, 1000000000.0), ('rank_0/memory', 40, 500000000.0, 1000000000.0)]
    """
    return [(f"rank_{r['rank']}/{name}", step, float(r[name]), at) for r in ranks for name in FIGURES if r.get(name) is not None]


def connect(workspace: Workspace) -> MlflowClient:
    """A client of the workspace's record; works without a network, tells nobody of its use."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    # MLflow's own patience, seven tries of two minutes each, would hide for a quarter of an hour that nobody answers.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
    with _connecting:
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=workspace.tracking_uri)


def _experiment(client: MlflowClient, workspace: Workspace) -> str:
    from mlflow.exceptions import MlflowException

    with _connecting:
        found = client.get_experiment_by_name(EXPERIMENT)
        if found:
            return found.experiment_id
        place = None if workspace.settings.tracking_uri else workspace.path("artifacts").as_uri()
        try:
            return client.create_experiment(EXPERIMENT, artifact_location=place)
        except MlflowException:  # another process made it in between
            return client.get_experiment_by_name(EXPERIMENT).experiment_id


