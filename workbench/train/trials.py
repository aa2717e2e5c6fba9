"""The trials of a sweep: which spec each has, and who proposes the next."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import drawing
from ..errors import Problem, SpecError
from ..storage import digest_json
from .spec import Span, Sweep, TrainSpec

if TYPE_CHECKING:
    import optuna

STUDY = "sweep.journal"
"""File in a run's directory: what was tried and how it went, as Optuna keeps it."""
LEAST_REPORTS = 2
"""Measures of a trial before it may be ended early."""
REDUCTION = 3
"""Of so many trials at the same point, one goes on."""
_OF_ALL = ("sweep", "budget")


def refuse_values(spec: TrainSpec) -> None:
    """Raise where a value that is to be tried would be refused in a spec, or names no field of it.

    Raises
    ------
    SpecError
        With all of them.
    """
    problems = []
    for path, values in spec.sweep.over.items():
        for value in ((values.low, values.high) if isinstance(values, Span) else values):
            try:
                if path.partition(".")[0] in _OF_ALL:
                    raise SpecError.one(path, "is the whole sweep's and can't be tried; expected another field")
                changed(spec, {path: _typed(values, value)})
            except SpecError as error:
                problems += [Problem(f"sweep.over.{p.path}", p.message) for p in error.problems]
    if problems:
        raise SpecError(problems, source="train spec")


def changed(spec: TrainSpec, values: dict[str, Any], name: str | None = None) -> TrainSpec:
    """The spec of one trial; the budget is the sweep's, which counts what all of them spend."""
    return spec.override({**values, **dict.fromkeys(_OF_ALL), **({"name": name} if name else {})}, source="sweep")


def size(sweep: Sweep) -> int:
    """Trials of a sweep.

    Examples
    --------
    >>> size(Sweep(over={"learning_rate": [1e-3, 1e-2], "seed": [0, 1, 2]}, how="grid"))
    6
    """
    if sweep.how != "grid":
        return sweep.trials
    count = 1
    for values in sweep.over.values():
        count *= len(values)
    return count


def of_all(spec: TrainSpec, one: dict[str, Any], workers: int | None) -> dict[str, Any]:
    """What all trials of a sweep take, by what one takes alone; of a training without a sweep, that.

    Parameters
    ----------
    workers : that there can be at once; none: nobody knows.

    Examples
    --------
    >>> spec = TrainSpec(data="docs", sweep=Sweep(over={"seed": [0, 1, 2]}, how="grid"))
    >>> of_all(spec, {"seconds": 10.0, "memory": 5, "tokens": 8, "kwh": 0.1, "money": None}, 4)["seconds"]
    20.0
    """
    if spec.sweep is None:
        return one
    count = size(spec.sweep)
    beside = max(1, min(spec.sweep.together, count, (workers or count) // spec.hardware.ranks))
    times = {"seconds": math.ceil(count / beside), "tokens": count, "kwh": count, "money": count, "memory": beside, "cores": beside,
             "gpus": beside}
    note = (f"{count:,} trials, {beside} side by side, {drawing.duration(one['seconds'])} each with the spec's own values; less where they "
            "are ended early")
    return one | {k: v * times[k] for k, v in one.items() if k in times and v is not None} | {
        "trials": count, "together": beside, "notes": [*one.get("notes", ()), note]}


class Study:
    """What was tried so far, kept in a run's directory: a sweep that was stopped or killed goes on where it was.

    Parameters
    ----------
    folder : the run's directory.
    """

    def __init__(self, sweep: Sweep, folder: Path, seed: int):
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.sweep, self.seed = sweep, seed
        file = folder / STUDY
        fresh = not file.exists()
        pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=LEAST_REPORTS, reduction_factor=REDUCTION) if sweep.prune else (
            optuna.pruners.NopPruner())
        self.study = optuna.create_study(storage=JournalStorage(JournalFileBackend(str(file))), study_name="sweep", direction="minimize",
                                         load_if_exists=True, pruner=pruner)
        if fresh and sweep.how == "grid":
            for values in itertools.product(*sweep.over.values()):
                self.study.enqueue_trial({p: json.dumps(v) for p, v in zip(sweep.over, values, strict=True)})

    @property
    def trials(self) -> list[optuna.trial.FrozenTrial]:
        """All trials that were begun, in order."""
        return [t for t in self.study.trials if t.state.name != "WAITING"]

    def unfinished(self) -> list[optuna.trial.Trial]:
        """Trials that were at work when the sweep was left."""
        import optuna

        return [optuna.trial.Trial(self.study, t._trial_id) for t in self.trials if t.state.name == "RUNNING"]

    def next(self) -> tuple[optuna.trial.Trial, dict[str, Any]] | None:
        """A new trial with its values; None when all were begun."""
        if len(self.trials) >= size(self.sweep):
            return None
        self._drawn_for(len(self.trials))
        trial = self.study.ask()
        return trial, self.values(trial)

    def values(self, trial: optuna.trial.Trial) -> dict[str, Any]:
        """What a trial tries, by field."""
        self._drawn_for(trial.number)
        found = {}
        for path, values in self.sweep.over.items():
            if isinstance(values, Span):
                suggest = trial.suggest_int if values.integer else trial.suggest_float
                found[path] = suggest(path, _typed(values, values.low), _typed(values, values.high), log=values.log)
            else:
                found[path] = json.loads(trial.suggest_categorical(path, [json.dumps(v) for v in values]))
        return found

    def tell(self, trial: optuna.trial.Trial, value: float | None, state: str) -> None:
        """How a trial ended: ``complete`` with its value, ``pruned``, or ``fail``."""
        import optuna

        self.study.tell(trial, value if state == "complete" else None, state=optuna.trial.TrialState[state.upper()])


    def _drawn_for(self, number: int) -> None:
        """Draw a trial's values by numbers of its own: a study that is taken up again would begin with the first trial's once more."""
        self.study.sampler = _sampler(self.sweep, int(digest_json([self.seed, number])[:8], 16))


def _typed(values: Any, value: Any) -> Any:
    return int(value) if isinstance(values, Span) and values.integer else value


def _sampler(sweep: Sweep, seed: int) -> optuna.samplers.BaseSampler:
    import optuna

    if sweep.how == "tpe":
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True, n_startup_trials=min(10, max(2, sweep.trials // 3)))
    return optuna.samplers.RandomSampler(seed=seed)
