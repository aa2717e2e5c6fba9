"""Runs: submit a spec, and come back to it from any process."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import __version__, cluster, driver, processes
from .driver import Place
from .errors import NotFoundError, RunFailedError
from .events import Event, Events
from .journal import ENDED, Entry, Journal
from .registry import Registry
from .spec import Spec, load_spec, spec_class
from .storage import digest_json
from .workspace import Workspace


def submit(spec: object, workspace: Workspace | str | os.PathLike | None = None, *, again: bool = False,
           place: Place | None = None, part_of: str | None = None) -> Run:
    """Record a run of a spec and start its driver; returns at once.

    Parameters
    ----------
    spec : path, YAML text, mapping or spec object.
    again : repeat the work even where a run of the same spec on the same inputs is done.
    place : where the driver lives; none: as the word wants it. ``here`` runs it in this process and returns when it ended.
    part_of : id of the run on whose behalf it is asked for, a sweep of which it is a trial.

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
    module, home = driver.runner(spec.WORD)
    inputs = module.inputs(spec, workspace)
    place = place or home
    key = _key(spec, inputs)
    journal = Journal(workspace)
    entry, found = journal.add(spec.WORD, name_of(spec), key, spec.to_dict(), inputs, place=place,
                               again=again or getattr(module, "ALWAYS", False))
    if found and entry.state == "done" and not _stands(workspace, entry):
        entry, found = journal.add(spec.WORD, name_of(spec), key, spec.to_dict(), inputs, place=place, again=True)
    run = Run(workspace, entry.id)
    step = os.environ.get("WORKBENCH_STEP")
    if step:
        journal.events.append(step, "mark", name="submitted", run=entry.id, found=found)
    if not found:
        if part_of:
            journal.events.append(entry.id, "mark", name="part", of=part_of)
        if again:
            journal.events.append(entry.id, "mark", name="afresh")  # nothing of an earlier run of the same is taken up
        driver.start(workspace, entry)
    elif entry.state not in ENDED:
        run.recover()
    return run


def foresee(spec: object, workspace: Workspace | str | os.PathLike | None = None, *,
            again: bool = False, estimate: bool = True) -> tuple[dict[str, str], Run | None, dict[str, Any]]:
    """What ``submit`` would do, doing nothing: the inputs, the run that would be found, and else what the work would take.

    An estimate may cost a trial of the work; without ``estimate`` none is made, and what an earlier one found is told.

    Raises
    ------
    SpecError, NotFoundError, SourceError, PolicyError
        As ``submit`` would.
    """
    workspace = Workspace.find(workspace)
    spec = load_spec(spec)
    module, _ = driver.runner(spec.WORD)
    inputs = module.inputs(spec, workspace)
    key = _key(spec, inputs)
    same = [e for e in Journal(workspace).entries(word=spec.WORD, states=("done", "running", "queued")) if e.key == key]
    same.sort(key=lambda e: e.state != "done")
    found = next((e for e in same if e.state != "done" or _stands(workspace, e, touch=False)), None)
    if found and not again and not getattr(module, "ALWAYS", False):
        return inputs, Run(workspace, found.id), {}
    foreseen = getattr(module, "estimate" if estimate else "remembered", None)
    return inputs, None, foreseen(spec, workspace) if foreseen else {}


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
        while time.monotonic() < deadline and (now := journal.get(entry.id)).state not in ENDED and driver.is_driven(workspace, now):
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
            hint = f"Go on with it: workbench resume {self.id}" if self.rest else f"Run it again: workbench {entry.word} --again"
            raise RunFailedError("was stopped", where=self.id, hint=hint)
        failure = entry.failure or {}
        error = RunFailedError(failure.get("what", "failed"), where=self.id, hint=f"See it whole: workbench show {self.id}")
        error.add_note(failure.get("traceback", ""))
        raise error

    def stop(self, *, now: bool = False) -> None:
        """Ask it to stop at its next safe point; a run that no driver took yet stops at once.

        Parameters
        ----------
        now : end the ranks of a training wherever they are, at the cost of what ``at_stake`` says: for a step, a measure or an export
            that takes too long, also of one that is stopping already. Runs of other words stop as they would without.

        Examples
        --------
        >>> run.stop(now=True)  # doctest: +SKIP
        """
        journal = Journal(self.workspace)
        entry = self.entry
        if entry.state == "queued" and entry.attempt == 0:
            journal.move(self.id, "stopped")
        elif entry.state not in ENDED:
            if now:
                journal.hurry(self.id)
            else:
                journal.move(self.id, "stopping")
            self.recover()

    @property
    def at_stake(self) -> str | None:
        """What ``stop(now=True)`` costs, in words; None where it would do no more than ``stop`` does."""
        entry = self.entry
        cost = getattr(driver.runner(entry.word)[0], "at_stake", None)
        return cost(self.workspace, entry) if cost and entry.state not in ENDED else None

    def tell(self, word: str, **values: Any) -> int:
        """Say a word to a run at work; what comes of it is a mark among its events, behind the cursor that this returns.

        Raises
        ------
        RunFailedError
            When it has ended, or is of a word that hears nothing while it works.
        SpecError
            For a word that it doesn't know, or values that don't fit.

        Examples
        --------
        >>> run.tell("pause")  # doctest: +SKIP
        >>> run.tell("set", learning_rate=1e-3)  # doctest: +SKIP
        """
        entry = self.entry
        accepted = getattr(driver.runner(entry.word)[0], "accepted", None)
        if accepted is None:
            raise RunFailedError(f"a run of {entry.word} hears nothing while it works", where=self.id, allowed="a run of train")
        values = accepted(word, values)
        if entry.state in ENDED:
            raise RunFailedError("has ended and hears nothing any more", where=self.id, received=entry.state, allowed="a run at work")
        last = Events(self.workspace).last(self.id, "mark")
        Journal(self.workspace).say(self.id, word, values)
        self.recover()
        return last.seq if last else 0

    @property
    def rest(self) -> dict[str, Any] | None:
        """What a run that was stopped or failed can go on from (``words``, and what its word knows beside), or None."""
        entry = self.entry
        if entry.state not in ("stopped", "failed"):
            return None
        kept = getattr(driver.runner(entry.word)[0], "kept", None)
        return kept(self.workspace, entry) if kept else None

    def resume(self) -> Run:
        """Go on where it was stopped or failed: the same run, its next attempt; one that is at work is left alone.

        Raises
        ------
        RunFailedError
            When it is done, or kept nothing that it could go on from.
        """
        entry = self.entry
        if entry.state == "done":
            raise RunFailedError("is done: there is nothing left to do", where=self.id, hint=f"Repeat it: workbench {entry.word} --again")
        if entry.state in ENDED:
            if self.rest is None and self.entry.state in ENDED:  # else somebody else resumed it just now
                raise RunFailedError("kept nothing to go on from", where=self.id, hint=f"Run it again: workbench {entry.word} --again")
            if Journal(self.workspace).resume(self.id):
                driver.start(self.workspace, self.entry)
        return self

    @property
    def worked(self) -> float:
        """Seconds at work, over all attempts, without the time between a stop and going on."""
        total, begun, since = 0.0, None, 0
        for event in self.events(kinds=("state",)):
            if event.name == "running":
                begun, since = (event.at, event.seq) if begun is None else (begun, since)
            elif event.name in ENDED and begun is not None:
                total, begun = total + self._passed(begun, event.at, since), None
        return total + (self._passed(begun, time.time(), since) if begun is not None else 0.0)

    def _passed(self, begin: float, end: float, since: int) -> float:
        """Seconds between two times of the clock. Where it was set back in between, those between the events behind a cursor."""
        if end >= begin:
            return end - begin
        times = [begin, *(e.at for e in self.events(since, kinds=("progress", "vitals", "mark", "log")) if e.seq > since), end]
        return sum(max(0.0, later - earlier) for earlier, later in itertools.pairwise(times))

    def recover(self) -> bool:
        """Start the driver again if the run should be at work and nobody drives it; true if it did."""
        entry = self.entry
        if entry.state in ENDED or driver.is_driven(self.workspace, entry):
            return False
        if entry.place == "here":
            Journal(self.workspace).move(self.id, "failed", failure={
                "what": "the process that ran it is gone", "where": self.id, "kind": "lost", "traceback": ""})
            return False
        driver.start(self.workspace, entry)
        return True

    def _repr_html_(self) -> str:
        from .display import run_html

        return run_html(self)

    def __str__(self) -> str:
        entry = self.entry
        return f"run {self.id} of {entry.word} {entry.name}: {entry.state}"


def name_of(spec: Spec) -> str:
    """The name that a run of a spec goes by."""
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
