"""The driver of a run: claims it, does its work, gives signs of life, records how it ended."""

from __future__ import annotations

import contextlib
import importlib
import platform
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from . import cluster, processes
from .errors import StorageError, WorkbenchError
from .events import Events
from .journal import Entry, Journal, Superseded
from .spec import spec_class
from .workspace import Workspace

if TYPE_CHECKING:
    from distributed import Client

Place = Literal["cluster", "process", "here"]

# The one upward reference: word -> the module that runs it and where its driver lives. A module is
# imported only by the process that submits (its light top) or executes (all of it).
RUNNERS: dict[str, tuple[str, Place]] = {
    "data": ("workbench.data.run", "cluster"),
    "train": ("workbench.train.run", "cluster"),
    "assess": ("workbench.assess.run", "cluster"),
    "serve": ("workbench.serve.run", "process"),
    "monitor": ("workbench.monitor.run", "process"),
    "pipeline": ("workbench.pipeline.run", "process"),
}
_warmed: set[str] = set()
_ahead: dict[str, tuple[float, float]] = {}
"""run -> a sign of life that lies ahead of the clock, and since when it is known here"""
MOST_UNTOLD = 200_000
"""Events that wait for a disk that takes nothing, at most."""
SILENCE = 10.0
"""Seconds without a sign of life after which a driver is started again."""


class Stopped(Exception):
    """Raised inside the work when its run was asked to stop."""


class RunContext:
    """What the work of a run sees of it: its spec and inputs, a place to write, a voice, a way to be stopped."""

    def __init__(self, workspace: Workspace, entry: Entry, client: Client | None):
        self.workspace, self.entry, self.client = workspace, entry, client
        self.id, self.attempt, self.inputs = entry.id, entry.attempt, entry.inputs
        self.spec = spec_class(entry.word).load(entry.spec)
        self.directory = workspace.path("runs", entry.id)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.stopping, self.ending = threading.Event(), threading.Event()
        """set when a stop was asked; when it was asked to wait for nothing"""
        self._events, self._journal = Events(workspace), Journal(workspace)
        self._began: dict[str, tuple[float, float]] = {}
        self._said = float("-inf")
        self._telling = threading.Lock()
        self._untold: list[tuple[str, str, float, str | None, int | None, float | None, dict[str, Any]]] = []
        self._mute: tuple[float, float] | None = None
        """where the disk takes nothing: since when, and when that was last tried"""

    def point(self, name: str, step: int, value: float) -> None:
        """Add a point to a curve."""
        self._tell(("point", time.time(), name, step, value, {}))

    def points(self, rows: Iterable[tuple[str, int, float, float]]) -> None:
        """Add points ``(name, step, value, at)`` in one transaction."""
        self._tell(*(("point", at, name, step, value, {}) for name, step, value, at in rows))

    def sample(self, text: str, *, step: int | None = None, **data: Any) -> None:
        """Add something that the model made."""
        self._tell(("sample", time.time(), None, step, None, {"text": text, **data}))

    def log(self, text: str, level: str = "info") -> None:
        """Add a line to the run's log."""
        self._tell(("log", time.time(), level, None, None, {"text": text}))

    def mark(self, name: str, *, step: int | None = None, at: float | None = None, **data: Any) -> None:
        """Note that something happened."""
        self._tell(("mark", at or time.time(), name, step, None, data))

    def vitals(self, ranks: list[dict[str, Any]]) -> None:
        """Say how the processes of the work fare, one mapping each."""
        self._tell(("vitals", time.time(), None, None, None, {"ranks": ranks}))

    def progress(self, done: float, total: float | None, unit: str, label: str = "") -> None:
        """Say how far the work is; rate and time left are worked out here. Said at most five times a second."""
        now = time.monotonic()
        first = label not in self._began
        begun, done_then = self._began.setdefault(label, (now, done))
        if now - self._said < 0.2 and not first and done != total:
            return
        self._said = now
        rate = (done - done_then) / (now - begun) if now - begun > 0.05 else None
        left = (total - done) / rate if rate and total is not None else None
        self._tell(("progress", time.time(), label or None, None, None, {"done": done, "total": total, "unit": unit, "label": label,
                                                                         "rate": rate, "left": left}))

    def _tell(self, *rows: tuple[str, float, str | None, int | None, float | None, dict[str, Any]]) -> None:
        """Write events ``(kind, at, name, step, value, data)`` down. What the disk does not take waits: the work goes on meanwhile."""
        with self._telling:
            self._untold += [(self.id, *row) for row in rows]
            now = time.monotonic()
            if self._mute and now - self._mute[1] < 1 and len(self._untold) < MOST_UNTOLD:
                return
            try:
                self._events.append_many(self._untold)
            except StorageError as error:
                if len(self._untold) >= MOST_UNTOLD:
                    raise
                if self._mute is None:
                    print(f"{self.id}: what is told waits: {error}", file=sys.stderr)
                self._mute = (self._mute[0] if self._mute else now, now)
                return
            since, self._untold, self._mute = self._mute, [], None
        if since:
            self.log(f"the disk took nothing for {now - since[0]:.0f} s; what was told meanwhile stands here now", "warning")

    def settle(self) -> None:
        """Raise where the disk still does not take what was told."""
        with self._telling:
            if self._untold:
                self._events.append_many(self._untold)
                self._untold, self._mute = [], None

    def check_stop(self) -> None:
        """Raise ``Stopped`` when a stop was asked."""
        if self.stopping.is_set():
            raise Stopped(self.id)

    def check_end(self) -> None:
        """Raise ``Stopped`` when it was asked to end at once: for those who wait for what a stop would let come to its end."""
        if self.ending.is_set():
            raise Stopped(self.id)

    def check_current(self) -> None:
        """Raise ``Superseded`` where another driver has taken the run over: what looks like a loss is its doing."""
        with contextlib.suppress(StorageError):  # a disk that takes nothing gave the run to nobody
            self._journal.beat(self.id, self.attempt)

    def words(self) -> list[tuple[str, dict[str, Any]]]:
        """What was told to the run (``Run.tell``) since this was asked last, in order: words with their values."""
        try:
            return self._journal.heard(self.id, self.attempt)
        except StorageError:  # they stay where they are until the disk lets them be taken
            return []

    def map(self, function: Callable[[Any], Any], items: Iterable[Any], *, label: str = "", unit: str = "parts") -> list[Any]:
        """Results of an importable function over items, in order: a Dask task an item, or a plain loop without a cluster."""
        items = list(items)
        self.progress(0, len(items), unit, label)
        if self.client is None:
            results = []
            for item in items:
                self.check_stop()
                results.append(function(item))
                self.progress(len(results), len(items), unit, label)
            return results
        from distributed import as_completed

        futures = [self.client.submit(function, item, pure=False, key=f"{self.id}-{self.attempt}-{label or 'map'}-{n}-{time.time_ns()}")
                   for n, item in enumerate(items)]
        try:
            for done, future in enumerate(as_completed(futures), 1):
                if future.status == "error":
                    future.result()
                self.progress(done, len(items), unit, label)
                self.check_stop()
            return self.client.gather(futures)
        finally:
            self.client.cancel(futures, asynchronous=False)


def drive(root: str, run_id: str, client: Client | None = None, *, leaving: Callable[[BaseException], bool] = lambda _: False) -> None:
    """Execute a run: what its driver does. Never raises; the journal says how it ended.

    Parameters
    ----------
    client : of the cluster on which it works; none: without one.
    leaving : true of an error that tells of what carries the driver, which is about to end: the run is left to another driver then.
    """
    workspace = Workspace(root).open()
    journal = Journal(workspace)
    entry = journal.claim(run_id)
    if entry is None:
        return
    try:
        context = RunContext(workspace, entry, client)
        if entry.state == "stopping":
            raise Stopped(run_id)
        with _heartbeat(journal, context):
            result = runner(entry.word)[0].execute(context.spec, context)
            context.settle()
        journal.move(run_id, "done", attempt=entry.attempt, result=result or {})
    except Stopped:
        with contextlib.suppress(Superseded):
            journal.move(run_id, "stopping", attempt=entry.attempt)
            journal.move(run_id, "stopped", attempt=entry.attempt)
    except Superseded:
        return
    except BaseException as error:  # noqa: BLE001 - whatever ended the work is the run's failure
        if leaving(error):
            print(f"{run_id} is left to another driver: {error!r}", file=sys.stderr)
            return
        with contextlib.suppress(Superseded):
            journal.move(run_id, "failed", attempt=entry.attempt, failure=_failure(error, entry))


@contextlib.contextmanager
def _heartbeat(journal: Journal, context: RunContext) -> Iterator[None]:
    """Signs of life each second while the work goes on; hears of a stop and of a newer attempt."""
    over, superseded = threading.Event(), threading.Event()

    def beat() -> None:
        while not over.wait(0.5):
            try:
                if journal.beat(context.id, context.attempt) == "stopping":
                    context.stopping.set()
                    if journal.hurried(context.id):
                        context.ending.set()
            except Superseded:
                superseded.set()
                context.stopping.set()
                return
            except WorkbenchError as error:  # a full disk passes; the work itself will say so if it stays
                print(f"no sign of life written: {error}", file=sys.stderr)

    thread = threading.Thread(target=beat, name=f"beat-{context.id}", daemon=True)
    thread.start()
    try:
        yield
    except Stopped:
        if superseded.is_set():
            raise Superseded(context.id) from None
        raise
    finally:
        over.set()
        thread.join(5)


def _failure(error: BaseException, entry: Entry) -> dict[str, Any]:
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "workbench" in f.filename] or frames
    last = own[-1] if own else None
    line = f"{Path(last.filename).name}, line {last.lineno}, in {last.name}" if last else entry.word
    return {"what": str(error) or type(error).__name__, "kind": type(error).__name__, "exit_code": getattr(error, "exit_code", 1),
            "where": getattr(error, "place", None) or line,
            "host": platform.node(), "attempt": entry.attempt, "hint": getattr(error, "hint", None),
            "traceback": "".join(traceback.format_exception(error))}


def _drive_on_worker(root: str, run_id: str, before: int) -> None:
    """The Dask task of a driver: leaves the worker's thread pool and works with the worker's own client.

    Dask runs a task again whose worker is lost. That is the quickest way back, unless another attempt has begun since.

    Parameters
    ----------
    before : attempts that there were when it was submitted.
    """
    from distributed import get_client, get_worker, secede
    from distributed.core import Status

    if _beats(Journal(Workspace(root)), run_id, before + 1):
        return
    client, worker = get_client(), get_worker()
    secede()

    def leaving(error: BaseException) -> bool:
        # Dask's client of a worker whose loop has stopped gives coroutines for answers, or fails in other ways; one that has lost the
        # scheduler forgets what it had asked for.
        return (worker.status not in (Status.init, Status.running, Status.paused) or client.status != "running"
                or getattr(error, "reason", None) == "scheduler-connection-lost")

    drive(root, run_id, client, leaving=leaving)


def start(workspace: Workspace, entry: Entry) -> None:
    """Start the driver of a run where its entry says."""
    root = str(workspace.root)
    if entry.place == "here":
        drive(root, entry.id)
    elif entry.place == "process":
        processes.start(workspace, f"run/{entry.id}", "workbench.driver", entry.id)
    else:
        from distributed import fire_and_forget

        client = cluster.connect(workspace)
        if client.scheduler.address not in _warmed:  # once a cluster and process: asked again, workers that are warm stay as they are
            _warmed.add(client.scheduler.address)
            runner("train")[0].warm(client)
        # The key makes this idempotent: a scheduler that has the driver already keeps it.
        heard = _heard(client) if entry.attempt else None
        fire_and_forget(client.submit(_drive_on_worker, root, entry.id, entry.attempt, key=f"drive-{entry.id}-{entry.attempt}",
                                      pure=False, priority=10, workers=heard, allow_other_workers=heard is not None))


def _beats(journal: Journal, run_id: str, attempt: int) -> bool:
    """True where an attempt after this one gives signs of life: one that has given them lately may have ended with its worker too."""
    entry, deadline = journal.get(run_id), time.monotonic() + 3
    if entry.attempt <= attempt or _silent(entry):
        return False
    while time.monotonic() < deadline:
        time.sleep(0.2)
        if journal.get(run_id).beat != entry.beat:
            return True
    return False


def _heard(client: Client) -> list[str] | None:
    """Workers that gave a sign of life lately: the one on which an earlier attempt fell silent may be frozen. None: all of them."""
    seen = {address: worker["last_seen"] for address, worker in client.scheduler_info(n_workers=-1)["workers"].items()}
    heard = [address for address, at in seen.items() if max(seen.values()) - at < SILENCE / 2]
    return heard if len(heard) < len(seen) else None


def is_driven(workspace: Workspace, entry: Entry) -> bool:
    """True while a driver works on a run, or has just been asked to."""
    if entry.place == "process":
        return processes.find(workspace, f"run/{entry.id}") is not None or time.time() - entry.submitted < 1
    if entry.place == "cluster" and cluster.running(workspace) is None:
        return False
    # A worker can be busy for a while before it takes a driver up; a resubmitted key costs nothing.
    return not _silent(entry)


def _silent(entry: Entry) -> bool:
    """True where no sign of life came for too long. One that lies ahead of the clock was given before the clock was set back: whether
    another follows is seen by whoever looks again.
    """
    beat = entry.beat or entry.submitted
    age = time.time() - beat
    if age >= 0:
        _ahead.pop(entry.id, None)
        return age >= SILENCE
    seen, since = _ahead.get(entry.id, (None, 0.0))
    if seen != beat:
        _ahead[entry.id] = (beat, time.monotonic())
        return False
    return time.monotonic() - since >= SILENCE


def runner(word: str) -> tuple[ModuleType, Place]:
    """The module that runs a word, and where its driver lives."""
    module, place = RUNNERS[word]
    return importlib.import_module(module), place


def _main(run_id: str) -> None:
    workspace = Workspace.find()

    def stop(*_: object) -> None:
        Journal(workspace).move(run_id, "stopping")

    signal.signal(signal.SIGTERM, stop)
    try:
        drive(str(workspace.root), run_id)
    finally:
        processes.forget(workspace, f"run/{run_id}")


if __name__ == "__main__":
    # Under its importable name, so that exceptions here are those that the work raises.
    importlib.import_module("workbench.driver")._main(sys.argv[1])
