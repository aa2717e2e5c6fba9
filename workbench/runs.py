"""Runs: submit a spec and come back to it from any process; what a driver gives to the work it drives."""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from . import __version__, cluster, processes
from .errors import NotFoundError, RunFailedError, WorkbenchError
from .events import Event, Events
from .journal import ENDED, Entry, Journal, Superseded
from .registry import Registry
from .spec import Spec, load_spec, spec_class
from .storage import digest_json
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
SILENCE = 10.0
"""Seconds without a sign of life after which a driver is started again."""


class Stopped(Exception):
    """Raised inside the work when its run was asked to stop."""


def submit(spec: object, workspace: Workspace | str | os.PathLike | None = None, *, again: bool = False,
           place: Place | None = None) -> Run:
    """Record a run of a spec and start its driver; returns at once.

    Parameters
    ----------
    spec : path, YAML text, mapping or spec object.
    again : repeat the work even where a run of the same spec on the same inputs is done.
    place : where the driver lives; none: as the word wants it. ``here`` runs it in this process and returns when it ended.

    Raises
    ------
    SpecError, NotFoundError, SourceError, PolicyError
        Before anything starts.

    Examples
    --------
    >>> run = submit({"word": "data", "name": "docs", "sources": [{"kind": "python-docs"}]})  # doctest: +SKIP
    """
    workspace = Workspace.find(workspace)
    spec = load_spec(spec)
    module, home = _runner(spec.WORD)
    inputs = module.inputs(spec, workspace)
    place = place or home
    key = _key(spec, inputs)
    journal = Journal(workspace)
    entry, found = journal.add(spec.WORD, _name(spec), key, spec.to_dict(), inputs, place=place,
                               again=again or getattr(module, "ALWAYS", False))
    if found and entry.state == "done" and not _stands(workspace, entry):
        entry, found = journal.add(spec.WORD, _name(spec), key, spec.to_dict(), inputs, place=place, again=True)
    run = Run(workspace, entry.id)
    step = os.environ.get("WORKBENCH_STEP")
    if step:
        journal.events.append(step, "mark", name="submitted", run=entry.id, found=found)
    if not found:
        _start(workspace, entry)
    elif entry.state not in ENDED:
        run.recover()
    return run


def foresee(spec: object, workspace: Workspace | str | os.PathLike | None = None, *,
            again: bool = False, estimate: bool = True) -> tuple[dict[str, str], Run | None, dict[str, Any]]:
    """What ``submit`` would do, doing nothing: the inputs, the run that would be found, and else what the work would take.

    An estimate may cost a trial of the work; without ``estimate`` none is made.

    Raises
    ------
    SpecError, NotFoundError, SourceError, PolicyError
        As ``submit`` would.
    """
    workspace = Workspace.find(workspace)
    spec = load_spec(spec)
    module, _ = _runner(spec.WORD)
    inputs = module.inputs(spec, workspace)
    key = _key(spec, inputs)
    same = [e for e in Journal(workspace).entries(word=spec.WORD, states=("done", "running", "queued")) if e.key == key]
    same.sort(key=lambda e: e.state != "done")
    found = next((e for e in same if e.state != "done" or _stands(workspace, e, touch=False)), None)
    if found and not again and not getattr(module, "ALWAYS", False):
        return inputs, Run(workspace, found.id), {}
    return inputs, None, module.estimate(spec, workspace) if estimate and hasattr(module, "estimate") else {}


def run(spec: object, workspace: Workspace | str | os.PathLike | None = None, *, again: bool = False) -> Run:
    """Submit a spec and wait for its end.

    Raises
    ------
    RunFailedError
        When the run failed or was stopped.
    """
    return submit(spec, workspace, again=again).wait()


def attach(run_id: str, workspace: Workspace | str | os.PathLike | None = None) -> Run:
    """The run of an id (or an id's beginning), from any process."""
    workspace = Workspace.find(workspace)
    return Run(workspace, Journal(workspace).get(run_id).id)


def listed(workspace: Workspace | None = None, *, word: str | None = None, limit: int = 100) -> list[Run]:
    """Runs, the newest first."""
    workspace = Workspace.find(workspace)
    return [Run(workspace, e.id) for e in Journal(workspace).entries(word=word, limit=limit)]


def recover(workspace: Workspace) -> list[Run]:
    """Start again the drivers of all runs that should be at work and are not."""
    found = [Run(workspace, e.id) for e in Journal(workspace).entries(states=("queued", "running", "stopping"))]
    return [run for run in found if run.recover()]


def shut_down(workspace: Workspace, *, patience: float = 8.0) -> list[str]:
    """Stop what runs, end the cluster and every background process; returns what was ended, in words."""
    journal, said = Journal(workspace), []
    active = journal.entries(states=("queued", "running", "stopping"))
    for entry in active:
        Run(workspace, entry.id).stop()
    deadline = time.monotonic() + patience
    for entry in active:
        while journal.get(entry.id).state not in ENDED and time.monotonic() < deadline and _is_driven(workspace, journal.get(entry.id)):
            time.sleep(0.05)
        said.append(f"run {entry.id}")
    if cluster.down(workspace):
        said.append("cluster")
    said += [p.name for p in processes.end_all(workspace)]
    for entry in active:
        journal.move(entry.id, "stopping")
        journal.move(entry.id, "stopped")
    return said


@dataclass(frozen=True)
class Run:
    """A handle on a run: reads the workspace each time it is asked, holds nothing itself."""

    workspace: Workspace
    id: str

    @property
    def entry(self) -> Entry:
        """The run as recorded, now."""
        return Journal(self.workspace).get(self.id)

    @property
    def word(self) -> str:
        return self.entry.word

    @property
    def state(self) -> str:
        """queued, running, stopping, stopped, failed or done."""
        return self.entry.state

    @property
    def spec(self) -> Spec:
        entry = self.entry
        return spec_class(entry.word).load(entry.spec)

    @property
    def result(self) -> dict[str, Any] | None:
        """What came of it: names and digests."""
        return self.entry.result

    @property
    def failure(self) -> dict[str, Any] | None:
        """What, where, why and the traceback of a failed run."""
        return self.entry.failure

    @property
    def progress(self) -> dict[str, Any] | None:
        """The newest progress: done, total, unit, label, rate (units a second), left (seconds)."""
        event = Events(self.workspace).last(self.id, "progress")
        return event.data if event else None

    @property
    def directory(self) -> Path:
        return self.workspace.path("runs", self.id)

    @property
    def output(self) -> Any:
        """The dataset, model, assessment or endpoint that it made, or None."""
        return _output(self.workspace, self.entry)

    def events(self, after: int = 0, kinds: Iterable[str] | None = None) -> list[Event]:
        """Events after a cursor."""
        return Events(self.workspace).tail(self.id, after=after, kinds=kinds)

    def curve(self, name: str) -> list[tuple[int, float]]:
        """Points of a curve as (step, value)."""
        return Events(self.workspace).curve(self.id, name)

    def follow(self, after: int = 0) -> Iterator[Event]:
        """Events as they come, until the run has ended; a driver that fell silent is started again."""
        checked = time.monotonic()

        def ended() -> bool:
            nonlocal checked
            entry = self.entry
            if entry.state not in ENDED and time.monotonic() - checked > 3:
                checked = time.monotonic()
                self.recover()
            return entry.state in ENDED

        return Events(self.workspace).follow(self.id, after=after, until=ended)

    def wait(self, timeout: float | None = None, *, check: bool = True) -> Run:
        """Wait for the end.

        Raises
        ------
        RunFailedError
            When it failed or was stopped, unless ``check`` is false.
        TimeoutError
            After ``timeout`` seconds; the run goes on.
        """
        begin = time.monotonic()
        checked, pause = begin, 0.02
        while (entry := self.entry).state not in ENDED:
            now = time.monotonic()
            if timeout is not None and now - begin > timeout:
                raise TimeoutError(f"{self.id} is still {entry.state} after {timeout:g} s; it goes on")
            if now - checked > 3:
                checked = now
                self.recover()
            time.sleep(pause)
            pause = min(pause * 1.3, 0.25)
        if check and entry.state != "done":
            self._raise(entry)
        return self

    def _raise(self, entry: Entry) -> None:
        if entry.state == "stopped":
            raise RunFailedError("was stopped", where=self.id, hint=f"Run it again: workbench {entry.word} --again")
        failure = entry.failure or {}
        error = RunFailedError(failure.get("what", "failed"), where=self.id, hint=f"See it whole: workbench show {self.id}")
        error.add_note(failure.get("traceback", ""))
        raise error

    def stop(self) -> None:
        """Ask it to stop at its next safe point; a run that no driver took yet stops at once."""
        journal = Journal(self.workspace)
        entry = self.entry
        if entry.state == "queued" and entry.attempt == 0:
            journal.move(self.id, "stopped")
        elif entry.state not in ENDED:
            journal.move(self.id, "stopping")
            self.recover()

    def recover(self) -> bool:
        """Start the driver again if the run should be at work and nobody drives it; true if it did."""
        entry = self.entry
        if entry.state in ENDED or _is_driven(self.workspace, entry):
            return False
        if entry.place == "here":
            Journal(self.workspace).move(self.id, "failed", failure={
                "what": "the process that ran it is gone", "where": self.id, "kind": "lost", "traceback": ""})
            return False
        _start(self.workspace, entry)
        return True

    def _repr_html_(self) -> str:
        from .display import run_html

        return run_html(self)

    def __str__(self) -> str:
        entry = self.entry
        return f"run {self.id} of {entry.word} {entry.name}: {entry.state}"


class RunContext:
    """What the work of a run sees of it: its spec and inputs, a place to write, a voice, a way to be stopped."""

    def __init__(self, workspace: Workspace, entry: Entry, client: Client | None):
        self.workspace, self.entry, self.client = workspace, entry, client
        self.id, self.attempt, self.inputs = entry.id, entry.attempt, entry.inputs
        self.spec = spec_class(entry.word).load(entry.spec)
        self.directory = workspace.path("runs", entry.id)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.stopping = threading.Event()
        self._events = Events(workspace)
        self._began: dict[str, tuple[float, float]] = {}
        self._said = 0.0

    def point(self, name: str, step: int, value: float) -> None:
        """Add a point to a curve."""
        self._events.point(self.id, name, step, value)

    def points(self, rows: Iterable[tuple[str, int, float, float]]) -> None:
        """Add points ``(name, step, value, at)`` in one transaction."""
        self._events.append_many([(self.id, "point", at, name, step, value, {}) for name, step, value, at in rows])

    def sample(self, text: str, *, step: int | None = None, **data: Any) -> None:
        """Add something that the model made."""
        self._events.append(self.id, "sample", step=step, text=text, **data)

    def log(self, text: str, level: str = "info") -> None:
        """Add a line to the run's log."""
        self._events.append(self.id, "log", name=level, text=text)

    def mark(self, name: str, **data: Any) -> None:
        """Note that something happened."""
        self._events.append(self.id, "mark", name=name, **data)

    def progress(self, done: float, total: float | None, unit: str, label: str = "") -> None:
        """Say how far the work is; rate and time left are worked out here. Said at most five times a second."""
        now = time.time()
        first = label not in self._began
        begun, done_then = self._began.setdefault(label, (now, done))
        if now - self._said < 0.2 and not first and done != total:
            return
        self._said = now
        rate = (done - done_then) / (now - begun) if now - begun > 0.05 else None
        left = (total - done) / rate if rate and total is not None else None
        self._events.append(self.id, "progress", name=label or None, done=done, total=total, unit=unit, label=label,
                            rate=rate, left=left)

    def check_stop(self) -> None:
        """Raise ``Stopped`` when a stop was asked."""
        if self.stopping.is_set():
            raise Stopped(self.id)

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


def drive(root: str, run_id: str, client: Client | None = None) -> None:
    """Execute a run: what its driver does. Never raises; the journal says how it ended."""
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
            result = _runner(entry.word)[0].execute(context.spec, context)
        journal.move(run_id, "done", attempt=entry.attempt, result=result or {})
    except Stopped:
        with contextlib.suppress(Superseded):
            journal.move(run_id, "stopping", attempt=entry.attempt)
            journal.move(run_id, "stopped", attempt=entry.attempt)
    except Superseded:
        return
    except BaseException as error:  # noqa: BLE001 - whatever ended the work is the run's failure
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
    return {"what": str(error) or type(error).__name__, "kind": type(error).__name__, "exit_code": getattr(error, "exit_code", 1),
            "where": f"{Path(last.filename).name}, line {last.lineno}, in {last.name}" if last else entry.word,
            "host": platform.node(), "attempt": entry.attempt, "hint": getattr(error, "hint", None),
            "traceback": "".join(traceback.format_exception(error))}


def _drive_on_worker(root: str, run_id: str) -> None:
    """The Dask task of a driver: leaves the worker's thread pool and works with the worker's own client."""
    from distributed import get_client, secede

    client = get_client()
    secede()
    drive(root, run_id, client)


def _start(workspace: Workspace, entry: Entry) -> None:
    root = str(workspace.root)
    if entry.place == "here":
        drive(root, entry.id)
    elif entry.place == "process":
        processes.start(workspace, f"run/{entry.id}", "workbench.runs", entry.id)
    else:
        from distributed import fire_and_forget

        client = cluster.connect(workspace)
        if client.scheduler.address not in _warmed:  # once a cluster and process: asked again, workers that are warm stay as they are
            _warmed.add(client.scheduler.address)
            _runner("train")[0].warm(client)
        # The key makes this idempotent: a scheduler that has the driver already keeps it.
        fire_and_forget(client.submit(_drive_on_worker, root, entry.id, key=f"drive-{entry.id}-{entry.attempt}", pure=False, priority=10))


def _is_driven(workspace: Workspace, entry: Entry) -> bool:
    """True while a driver works on a run, or has just been asked to."""
    if entry.place == "process":
        return processes.find(workspace, f"run/{entry.id}") is not None or time.time() - entry.submitted < 1
    if entry.place == "cluster" and not workspace.settings.cluster.address and cluster.running(workspace) is None:
        return False
    # A worker can be busy for a while before it takes a driver up; a resubmitted key costs nothing.
    return time.time() - (entry.beat or entry.submitted) < SILENCE


def _runner(word: str) -> tuple[ModuleType, Place]:
    module, place = RUNNERS[word]
    return importlib.import_module(module), place


def _name(spec: Spec) -> str:
    for field in ("model_name", "name", "model"):
        value = getattr(spec, field, None)
        if isinstance(value, str):
            return value
    return spec.WORD


def _output(workspace: Workspace, entry: Entry) -> Any:
    result = entry.result or {}
    if "dataset" in result:
        from .dataset import Dataset

        return Dataset.open(f"{result['dataset']}@{result['digest']}", workspace)
    if "model" in result:
        from .model import Model

        return Model.open(f"{result['model']}@{result['digest']}", workspace)
    if "assessment" in result:
        from .assessment import Assessment

        return Assessment.open(f"{result['assessment']}@{result['digest']}", workspace)
    if "endpoint" in result:
        from .endpoint import Endpoint

        return Endpoint.open(result["endpoint"], workspace)
    return None


def _key(spec: Spec, inputs: dict[str, str]) -> str:
    """What makes two runs the same: word, spec, inputs, version of the package."""
    return digest_json([spec.WORD, spec.digest(), inputs, __version__])


def _stands(workspace: Workspace, entry: Entry, *, touch: bool = True) -> bool:
    """True if what a done run made is still there; then it also becomes the newest of its name again, if ``touch``."""
    result = entry.result or {}
    for kind in ("dataset", "model", "assessment"):
        if kind in result:
            registry = Registry(workspace)
            try:
                version = registry.resolve(kind, f"{result[kind]}@{result['digest']}")
            except NotFoundError:
                return False
            if not (version.path / ("assessment.json" if kind == "assessment" else "manifest.json")).exists():
                return False
            if touch:
                registry.register(kind, version.name, version.digest, version.path, run=version.run)
    if "endpoint" in result:  # alive, and still what this run asked for
        from .endpoint import Endpoint

        with contextlib.suppress(NotFoundError):
            endpoint = Endpoint.open(result["endpoint"], workspace)
            return endpoint.alive and endpoint.document["run"] == entry.id
        return False
    if "monitor" in result:
        return processes.find(workspace, f"monitor/{result['monitor']}") is not None
    return True


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
    importlib.import_module("workbench.runs")._main(sys.argv[1])
