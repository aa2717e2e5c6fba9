"""A rule tried against the recorded past before it is believed."""

from __future__ import annotations

import json
from typing import Any

from ..drawing import duration
from .alerts import Standing, step
from .history import History
from .rules import Observation, observe
from .spec import Absence, Rule
from .units import quantity


def trial(rule: Rule, history: History, begin: float, end: float, *, stale: float = 6.0) -> dict[str, Any]:
    """When a rule would have fired within a time, had it been asked; the state machine is that of the evaluator.

    Parameters
    ----------
    stale : seconds after which a series of which nothing is known counts as good again.

    Returns
    -------
    ``{"looks", "seconds" (that the looks cover), "series" (seen), "fired": [{"labels", "began", "ended" (or None), "value"}, …],
    "least", "greatest"}``
    """
    standings: dict[str, Standing] = {}
    open_: dict[str, dict[str, Any]] = {}
    fired: list[dict[str, Any]] = []
    values: list[float] = []
    known, looks, first, last = set(), 0, None, None
    for at, samples in history.looks(rule.metric, rule.labels, begin, end):
        looks, first, last = looks + 1, at if first is None else first, at
        seen = {o.series: o for o in observe(rule, samples)}
        known |= {s for s, o in seen.items() if o.value is not None}
        values += [o.value for o in seen.values() if o.value is not None and o.value == o.value]
        for series in [*seen, *(s for s in standings if s not in seen)]:
            observation = seen.get(series) or Observation(json.loads(series), None)
            standing, turn = step(standings.get(series, Standing()), observation.breached, at, lasts=rule.lasts, stale=stale)
            standings[series] = standing
            if turn == "began":
                open_[series] = {"labels": dict(observation.labels), "began": at, "ended": None, "value": observation.value}
                fired.append(open_[series])
            elif turn == "ended":
                open_.pop(series)["ended"] = at
    return {"looks": looks, "seconds": (last - first) if looks else 0.0, "series": len(known), "fired": fired,
            "least": min(values, default=None), "greatest": max(values, default=None)}


def words(tried: dict[str, Any], rule: Rule) -> str:
    """What a trial found, in a sentence or two."""
    if not tried["looks"]:
        return "Nothing is recorded of this time: it can't be tried."
    past = f"the last {duration(tried['seconds'])}"
    if not tried["series"] and not isinstance(rule, Absence):
        return f"Nothing of {rule.metric} was seen in {past}."
    times = len(tried["fired"])
    count = {0: "not have fired", 1: "have fired once", 2: "have fired twice"}.get(times, f"have fired {times} times")
    said = f"Would {count} in {past}"
    spent = sum((f["ended"] or f["began"]) - f["began"] for f in tried["fired"])
    if spent:
        said += f", for {duration(spent)} altogether"
    if tried["least"] is not None:
        said += f"; its values lay between {quantity(tried['least'], rule.metric)} and {quantity(tried['greatest'], rule.metric)}"
    return said + "."
