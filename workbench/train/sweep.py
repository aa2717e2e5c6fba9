"""A sweep: many trainings of one spec with other values, side by side, each a run of its own; the best becomes the model."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import cluster, runs
from ..errors import RunFailedError, WorkbenchError
from ..journal import ENDED
from ..model import Model, write_model
from ..storage import digest_json
from .cost import Meter, Rates, spent
from .objectives import KINDS
from .ranks.control import cores
from .spec import TrainSpec
from .trials import Study, changed, size

if TYPE_CHECKING:
    import optuna
    from distributed import Client

    from ..driver import RunContext
    from ..tracking import Tracker

LOOK_SECONDS = 0.3
STOP_SECONDS = 60.0
"""Seconds that a sweep which ends waits for its trials to stop."""
MOST_FAILED = 3
"""Trials that fail one after another from the first on, after which a sweep is given up: its spec is at fault."""


@dataclass
class _Trial:
    """A trial at work."""

    trial: optuna.trial.Trial
    values: dict[str, Any]
    run: runs.Run
    told: int = 0
    """measures that the study was told of"""
    curve: list[tuple[int, float]] = field(default_factory=list)
    pruned: bool = False


class _Trials:
    """All trials of a sweep: begins them, looks after them, writes down how they fare."""

    def __init__(self, spec: TrainSpec, run: RunContext):
        self.spec, self.run, self.measure = spec, run, KINDS[spec.objective.kind].measure
        self.study = Study(spec.sweep, run.directory, spec.seed)
        self.working: list[_Trial] = []
        self.rows: dict[int, dict[str, Any]] = {}
        self.failures: list[str] = []
        self.meter = Meter(run.directory, Rates.of(run.workspace.settings), spec.budget)
        self.spent: dict[int, dict[str, float]] = {}
        # Trials are gangs of their own that know nothing of their neighbours: the machine's cores are shared out here.
        self.threads = None if spec.hardware.threads else cores_a_worker(run.client or cluster.connect(run.workspace))

    def take_up(self) -> None:
        """Go on with what was at work when the sweep was left, and list what is done."""
        for frozen in self.study.trials:
            if frozen.state.is_finished():
                self._row(frozen.number, frozen.user_attrs.get("values", {}), frozen.state.name.lower(), frozen.value,
                          frozen.user_attrs.get("run"))
                self._count(frozen.number, frozen.user_attrs)
        for trial in self.study.unfinished():
            self._begin(trial, self.study.values(trial))

    def fill(self) -> bool:
        """Begin trials while there is room; false when none is left to begin."""
        while len(self.working) < self.spec.sweep.together:
            following = self.study.next()
            if following is None:
                return False
            self._begin(*following)
        return True

    def look(self) -> None:
        """See how the trials at work fare: end those that fall behind, note those that ended."""
        for one in list(self.working):
            one.curve = one.run.curve(self.measure)
            for number in range(one.told, len(one.curve)):
                if one.curve[number][0] > 0:
                    one.trial.report(one.curve[number][1], number)
            one.told = len(one.curve)
            state = one.run.state
            self._count(one.trial.number, one.trial.user_attrs)
            if state in ENDED:
                self._ended(one, state)
            else:
                self._row(one.trial.number, one.values, "running", one.curve[-1][1] if one.curve else None, one.run.id)
                if self.spec.sweep.prune and one.told > 1 and not one.pruned and one.trial.should_prune():
                    one.pruned = True
                    one.run.stop()
                else:
                    one.run.recover()
        self.meter.count(self.spent.values())

    def over(self) -> str | None:
        """How the budget was spent while there is something left to do, in words."""
        why = self.meter.over()
        return why if why and (self.working or len(self.study.trials) < size(self.spec.sweep)) else None

    def stop(self) -> None:
        """Stop the trials at work; a sweep that is resumed resumes them."""
        for one in self.working:
            one.run.stop(now=self.run.ending.is_set())
        deadline = time.monotonic() + STOP_SECONDS
        while any(one.run.state not in ENDED for one in self.working) and time.monotonic() < deadline:
            if self.run.ending.wait(LOOK_SECONDS):  # asked for meanwhile
                for one in self.working:
                    one.run.stop(now=True)
                    with contextlib.suppress(TimeoutError):
                        one.run.wait(STOP_SECONDS, check=False)
        for one in self.working:
            self._count(one.trial.number, one.trial.user_attrs)
        self.meter.count(self.spent.values())
        self.meter.keep()

    def _begin(self, trial: optuna.trial.Trial, values: dict[str, Any]) -> None:
        trial.set_user_attr("values", values)
        known = trial.user_attrs.get("run")
        run = runs.attach(known, self.run.workspace) if known else None
        if run is not None and run.state in ("stopped", "failed") and run.rest is not None:
            run.resume()
        elif run is None or run.state in ("stopped", "failed"):
            told = values if self.threads is None else {"hardware.threads": self.threads, **values}
            run = runs.submit(changed(self.spec, told, f"{self.spec.model_name}.{digest_json(values)[:6]}"), self.run.workspace,
                              part_of=self.run.id)
        if known is None:  # a run that was there already has spent what it has without this sweep
            trial.set_user_attr("before", spent(run.directory))
        trial.set_user_attr("run", run.id)
        self.working.append(_Trial(trial, values, run))
        self._row(trial.number, values, "running", None, run.id)

    def _ended(self, one: _Trial, state: str) -> None:
        self.working.remove(one)
        value = one.run.result["metrics"].get(self.measure) if state == "done" else None
        if state == "done" and value is not None:
            self.study.tell(one.trial, value, "complete")
            self._row(one.trial.number, one.values, "complete", value, one.run.id)
        elif one.pruned:
            self.study.tell(one.trial, None, "pruned")
            shutil.rmtree(one.run.directory / "checkpoints", ignore_errors=True)
            self._row(one.trial.number, one.values, "pruned", one.curve[-1][1] if one.curve else None, one.run.id)
        else:
            self.study.tell(one.trial, None, "fail")
            why = (one.run.failure or {}).get("what", "it was stopped")
            self.failures.append(why)
            self.run.log(f"trial {one.trial.number} ({_words(one.values)}) failed: {why}", "warning")
            self._row(one.trial.number, one.values, "failed", None, one.run.id)

    def _count(self, number: int, known: Mapping[str, Any]) -> None:
        """What a trial has spent of the sweep's budget."""
        if known.get("run"):
            before = known.get("before", {})
            self.spent[number] = {k: v - before.get(k, 0.0) for k, v in spent(self.run.workspace.path("runs", known["run"])).items()}

    def _row(self, number: int, values: dict[str, Any], state: str, value: float | None, run: str | None) -> None:
        row = {"trial": number, "values": values, "state": state, "value": value, "run": run}
        if self.rows.get(number) != row:
            self.rows[number] = row
            self.run.mark("trial", **row)


def sweep(spec: TrainSpec, run: RunContext, tracker: Tracker) -> dict[str, Any]:
    """Try the values of a spec's sweep; the best trial's model is registered under the spec's name.

    Parameters
    ----------
    tracker : of the sweep; its trials have their own.

    Returns
    -------
    dict
        ``model``, ``digest``, ``metrics`` (the best trial's), ``best`` (its row), ``trials`` (all rows: ``trial``, ``values``,
        ``state``: complete, pruned or failed, ``value``, ``run``), ``spent`` (by all of them).

    Raises
    ------
    RunFailedError
        When no trial came to its end.
    """
    trials, whole = _Trials(spec, run), size(spec.sweep)
    trials.take_up()
    tracker.log([])  # it is there while the trials are at work
    try:
        while trials.fill() or trials.working:
            run.check_stop()
            trials.look()
            ended = [r for r in trials.rows.values() if r["state"] != "running"]
            run.progress(len(ended), whole, "trials", label="sweeping")
            if why := trials.over():
                _end_spent(trials, run, why, len(ended))
            if len(trials.failures) >= MOST_FAILED and len(ended) == len(trials.failures):
                raise RunFailedError("every trial failed", where=run.id, received=trials.failures[-1],
                                     hint="Train once without the sweep to see what is wrong")
            time.sleep(LOOK_SECONDS)
    except BaseException:
        trials.stop()
        raise
    rows = [trials.rows[n] for n in sorted(trials.rows)]
    complete = [r for r in rows if r["state"] == "complete"]
    if not complete:
        raise RunFailedError("no trial came to its end", where=run.id, received=f"{len(rows)} trials",
                             hint=trials.failures[-1] if trials.failures else None)
    best = min(complete, key=lambda r: r["value"])
    run.log(f"best of {len(rows)}: {_words(best['values'])} with {trials.measure} {best['value']:.4g} "
            f"({sum(r['state'] == 'pruned' for r in rows)} ended early)")
    chosen = runs.attach(best["run"], run.workspace).output
    model = _registered(spec, run, chosen, best, rows)
    tracker.text("trials.json", json.dumps(rows, indent=1))
    tracker.end({"model": model.reference, "best": _words(best["values"]), trials.measure: f"{best['value']:.6g}"} |
                {f"spent.{k}": f"{v:.6g}" for k, v in trials.meter.spent.items()})
    return {"model": spec.model_name, "digest": model.digest, "metrics": chosen.manifest["metrics"], "best": best, "trials": rows,
            "measure": trials.measure, "spent": {k: round(v, 6) for k, v in trials.meter.spent.items()}}


def _end_spent(trials: _Trials, run: RunContext, why: str, ended: int) -> None:
    """End a sweep whose budget is spent, its trials at their next step: whoever resumes it grants it once more, and them go on."""
    trials.stop()
    trials.meter.keep(ended=True)
    run.log(f"{why}, {ended} of {size(trials.spec.sweep):,} trials done: workbench resume {run.id} grants it once more", "warning")
    run.mark("budget", why=why, spent=trials.meter.spent)
    run.stopping.set()
    run.check_stop()


def cores_a_worker(client: Client) -> int:
    """Cores that each worker has for itself, where every machine's are shared out among its workers."""
    hosts: dict[str, list[int]] = {}
    for address, usable in client.run(cores, on_error="ignore").items():
        hosts.setdefault(address.rpartition(":")[0], []).append(usable)
    return max(1, min((max(usable) // len(usable) for usable in hosts.values()), default=1))


def _registered(spec: TrainSpec, run: RunContext, chosen: Model, best: dict[str, Any], rows: list[dict[str, Any]]) -> Model:
    """The best trial's model under the sweep's own name."""
    def save(folder: Path) -> None:
        for file in sorted(chosen.path.iterdir()):
            if file.name not in ("manifest.json", "card.md"):
                (shutil.copytree if file.is_dir() else shutil.copyfile)(file, folder / file.name)

    card = (chosen.path / "card.md").read_text("utf-8")
    try:
        manifest = {k: v for k, v in chosen.manifest.items() if k not in ("format", "name", "digest", "created", "run", "files")}
        return write_model(run.workspace, spec.model_name, save, card=card, run=run.id,
                           manifest={**manifest, "sweep": {"best": best, "trials": len(rows)}})
    except OSError as error:
        raise WorkbenchError("the best trial's model could not be copied", where=chosen.path, received=str(error)) from error


def _words(values: dict[str, Any]) -> str:
    """Values of a trial as a person reads them.

    Examples
    --------
    >>> _words({"learning_rate": 0.00123456, "model.size": "1M"})
    'learning_rate=0.00123, model.size=1M'
    """
    return ", ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in values.items())
