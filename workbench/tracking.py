"""MLflow as the record of runs: written in batches by a thread of its own, so that work never waits for it."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "workbench"
BATCH_SECONDS = 5.0
MOST_METRICS = 1000
"""Metrics that MLflow takes in one request."""
PATIENCE = 120.0
"""Seconds that ``close`` waits for the last batch; what is not written then is written while the process lives."""

_connecting = threading.Lock()


class Tracker:
    """The record of one run; what it is told is queued and written soon.

    Opened again for a run that has a record already (a driver that was killed), it goes on in that record and leaves
    out the points that it holds.

    Parameters
    ----------
    run_id : id of the run in the workspace; kept as the tag ``workbench.run``.
    name : what MLflow shows.
    params : name to value, written once.
    tags : name to value.

    Examples
    --------
    >>> with Tracker(workspace, "train-1", "docs-lm", params={"seed": 0}) as tracker:  # doctest: +SKIP
    ...     tracker.log([("loss", 1, 7.6, time.time())])
    """

    def __init__(self, workspace: Workspace, run_id: str, name: str, params: Mapping[str, Any] | None = None,
                 tags: Mapping[str, str] | None = None):
        self.workspace, self.run_id, self.name = workspace, run_id, name
        self.params, self.tags = dict(params or {}), dict(tags or {})
        self._points: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._over = threading.Event()
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

        Who stopped a run does not wait for the record of it: that is written while the process lives.
        """
        self._status = status
        self._over.set()
        if self._thread and status != "KILLED":
            self._thread.join(PATIENCE)

    def _begin(self) -> None:
        # On the first word, not on opening: the import costs seconds of CPU that the first step should have.
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"tracking-{self.run_id}", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        try:
            client, run, written = self._open()
            while True:
                last = self._over.wait(BATCH_SECONDS)
                self._write(client, run, written)
                if last:
                    break
            # A run that goes on elsewhere after a kill is closed by whoever ends it.
            client.set_terminated(run, self._status)
        except Exception as error:  # noqa: BLE001 - the record must never end the work; the events hold everything
            print(f"not recorded in MLflow: {type(error).__name__}: {error}", file=sys.stderr)

    def _open(self) -> tuple[MlflowClient, str, dict[str, int]]:
        from mlflow.entities import Param, RunTag

        client = connect(self.workspace)
        experiment = _experiment(client, self.workspace)
        found = client.search_runs([experiment], f"tags.`workbench.run` = '{self.run_id}'", max_results=1)
        if found:
            client.update_run(found[0].info.run_id, status="RUNNING")
            return client, found[0].info.run_id, {m.key: m.step for m in found[0].data._metric_objs}
        run = client.create_run(experiment, run_name=self.name, tags={"workbench.run": self.run_id, **self.tags}).info.run_id
        params = [Param(k, str(v)[:6000]) for k, v in self.params.items()]
        for start in range(0, len(params), 100):
            client.log_batch(run, params=params[start:start + 100])
        client.log_batch(run, tags=[RunTag("workbench.workspace", str(self.workspace.root))])
        return client, run, {}

    def _write(self, client: MlflowClient, run: str, written: dict[str, int]) -> None:
        from mlflow.entities import Metric, RunTag

        metrics = []
        with contextlib.suppress(queue.Empty):
            while True:
                kind, value = self._points.get_nowait()
                if kind == "point":
                    name, step, number, at = value
                    if step > written.get(name, -1):
                        written[name] = step
                        metrics.append(Metric(name, float(number), int(at * 1000), int(step)))
                elif kind == "tags":
                    client.log_batch(run, tags=[RunTag(k, v) for k, v in value.items()])
                elif kind == "file":
                    client.log_artifact(run, *value)
                else:
                    client.log_text(run, value[1], value[0])
        for start in range(0, len(metrics), MOST_METRICS):
            client.log_batch(run, metrics=metrics[start:start + MOST_METRICS])


def connect(workspace: Workspace) -> MlflowClient:
    """A client of the workspace's record; works without a network, tells nobody of its use."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
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


