"""What a rule sees in the metrics of one moment: which series breach it, which do not, of which nothing is known."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..drawing import duration
from .metrics import Samples
from .spec import Absence, MonitorSpec, Rule, Threshold
from .units import quantity

BUILTIN: tuple[Threshold, ...] = (
    Threshold(name="endpoint-down", metric="workbench_endpoint_up", below=1, lasts=4,
              summary="the endpoint does not answer: workbench endpoints says why"),
    Threshold(name="endpoint-errors", metric="workbench_endpoint_error_ratio", above=0.05,
              summary="more than 5 % of the last minute's requests were answered with a server error"),
    Threshold(name="endpoint-slow", metric="workbench_endpoint_p95_seconds", above=10, lasts=30,
              summary="one request in twenty takes longer than 10 s"),
    Threshold(name="run-stuck", metric="workbench_run_silence_seconds", above=120,
              summary="the run is said to be at work but has told nothing for two minutes"),
    Threshold(name="run-nan", metric="workbench_run_not_finite", above=0,
              summary="a value of the run is NaN or infinite: the model is probably lost; lower the learning rate"),
)
"""The rules that everybody needs; a rule of the same name in the spec takes the place of one."""


@dataclass(frozen=True)
class Observation:
    """What a rule sees of one series; ``breached`` is None where nothing is known."""

    labels: Mapping[str, str]
    breached: bool | None
    value: float | None = None

    @property
    def series(self) -> str:
        """The labels as one text: the series' identity."""
        return series_of(self.labels)


def series_of(labels: Mapping[str, str]) -> str:
    """Labels as canonical JSON."""
    return json.dumps(dict(labels), sort_keys=True, ensure_ascii=False)


def rules_of(spec: MonitorSpec) -> tuple[Rule, ...]:
    """The spec's rules, and the built-in ones that it does not replace."""
    own = {r.name for r in spec.rules}
    return (*(r for r in BUILTIN if spec.builtin and r.name not in own), *spec.rules)


def observe(rule: Rule, samples: Samples) -> list[Observation]:
    """Each series of a threshold rule; the one answer of an absence rule.

    Examples
    --------
    >>> rule = Threshold(name="hot", metric="t", above=3)
    >>> [o.breached for o in observe(rule, {"t": [({"gpu": "0"}, 5.0), ({"gpu": "1"}, 3.0)]})]
    [True, False]
    """
    found = [(labels, value) for labels, value in samples.get(rule.metric, ()) if rule.labels.items() <= labels.items()]
    if isinstance(rule, Absence):
        return [Observation(rule.labels, not found, found[0][1] if found else None)]
    return [Observation(labels, _breached(rule, value), value) for labels, value in found]


def _breached(rule: Threshold, value: float) -> bool | None:
    if math.isnan(value):
        return None
    return (rule.above is not None and value > rule.above) or (rule.below is not None and value < rule.below)


def sentence(rule: Rule, observation: Observation) -> str:
    """What an alert says: the rule's own summary, or what was asked and what was seen."""
    if rule.summary:
        return rule.summary
    if isinstance(rule, Absence):
        return f"{rule.metric} has had no value for {rule.lasts:g} s"
    value = "unknown" if observation.value is None else quantity(observation.value, rule.metric)
    return f"{rule.metric} is {value}: {bound(rule)}" + (f" for {rule.lasts:g} s" if rule.lasts else "")


def expression(rule: Rule) -> str:
    """What a rule asks, in words.

    Examples
    --------
    >>> expression(Threshold(name="hot", metric="t", labels={"gpu": "0"}, above=80, lasts=30))
    't of gpu 0 above 80 for 30 s'
    """
    of = f"{rule.metric} of {', '.join(f'{k} {v}' for k, v in rule.labels.items())}" if rule.labels else rule.metric
    lasts = f" for {duration(rule.lasts) if rule.lasts >= 60 else f'{rule.lasts:g} s'}" if rule.lasts else ""
    if isinstance(rule, Absence):
        return f"{of} has no value{lasts}"
    return f"{of} {bound(rule)}{lasts}"


def bound(rule: Rule) -> str:
    """The bound of a rule: ``above 80``, ``below 1``, ``above 80 or below 1``."""
    if isinstance(rule, Absence):
        return "no value"
    return " or ".join(f"{word} {quantity(b, rule.metric)}" for word, b in (("above", rule.above), ("below", rule.below)) if b is not None)


def nearest(rule: Rule, observations: Iterable[Observation]) -> float | None:
    """Of the values that a rule sees, the one nearest to its bound or furthest beyond it."""
    values = [o.value for o in observations if o.value is not None and o.value == o.value]
    if not values:
        return None
    upwards = not isinstance(rule, Absence) and rule.above is not None
    return max(values) if upwards else min(values)
