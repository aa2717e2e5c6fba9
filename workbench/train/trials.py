"""The trials of a sweep: which spec each has, and who proposes the next."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Problem, SpecError
from .spec import Span, Sweep, TrainSpec

if TYPE_CHECKING:
    import optuna

STUDY = "sweep.journal"
"""File in a run's directory: what was tried and how it went, as Optuna keeps it."""
LEAST_REPORTS = 2
"""Measures of a trial before it may be ended early."""
REDUCTION = 3
"""Of so many trials at the same point, one goes on."""


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
                changed(spec, {path: _typed(values, value)})
            except SpecError as error:
                problems += [Problem(f"sweep.over.{p.path}", p.message) for p in error.problems]
    if problems:
        raise SpecError(problems, source="train spec")


def changed(spec: TrainSpec, values: dict[str, Any], name: str | None = None) -> TrainSpec:
    """The spec of one trial."""
    return spec.override({**values, "sweep": None, **({"name": name} if name else {})}, source="sweep")


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
        self.sweep = sweep
        file = folder / STUDY
        fresh = not file.exists()
        pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=LEAST_REPORTS, reduction_factor=REDUCTION) if sweep.prune else (
            optuna.pruners.NopPruner())
        self.study = optuna.create_study(storage=JournalStorage(JournalFileBackend(str(file))), study_name="sweep", direction="minimize",
                                         load_if_exists=True, pruner=pruner, sampler=_sampler(sweep, seed))
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
        trial = self.study.ask()
        return trial, self.values(trial)

    def values(self, trial: optuna.trial.Trial) -> dict[str, Any]:
        """What a trial tries, by field."""
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


def _typed(values: Any, value: Any) -> Any:
    return int(value) if isinstance(values, Span) and values.integer else value


def _sampler(sweep: Sweep, seed: int) -> optuna.samplers.BaseSampler:
    import optuna

    if sweep.how == "tpe":
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True, n_startup_trials=min(10, max(2, sweep.trials // 3)))
    return optuna.samplers.RandomSampler(seed=seed)
