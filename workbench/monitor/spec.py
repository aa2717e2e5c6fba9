"""The monitor spec: what is watched, which rules raise an alert, where alerts go."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from ..spec import Name, Part, Spec


class Threshold(Part):
    """Raise when a metric is beyond a bound for a while."""

    rule: Literal["threshold"] = "threshold"
    name: Name
    metric: str
    """a metric as ``/metrics`` names it, without labels"""
    labels: dict[str, str] = {}
    """labels that a series must bear; empty: every series by itself"""
    above: float | None = None
    below: float | None = None
    lasts: float = Field(0, ge=0, alias="for")
    """seconds that the breach must last"""
    summary: str = ""
    """what it means for a person, in a sentence"""

    @model_validator(mode="after")
    def _bounded(self):
        if self.above is None and self.below is None:
            raise ValueError("a threshold needs above, below or both")
        return self


class Absence(Part):
    """Raise when a metric has no value for a while."""

    rule: Literal["absence"] = "absence"
    name: Name
    metric: str
    labels: dict[str, str] = {}
    lasts: float = Field(30, ge=0, alias="for")
    """seconds without a value"""
    summary: str = ""


Rule = Annotated[Threshold | Absence, Field(discriminator="rule")]


class Webhook(Part):
    """Where alerts go: a JSON POST each, with an id that stays the same when a sending is tried again."""

    url: str = Field(pattern=r"^https?://")
    secret: str | None = None
    """name of the secret sent as a bearer token"""


class Curve(Part):
    """One curve of a chart."""

    of: str = Field(min_length=1)
    """what it tells of: machine, endpoint/NAME, run/ID, or WORD/NAME for the newest run of that word and name"""
    metric: str = Field(min_length=1)
    """a metric as ``/metrics`` names it, or the name of a run's curve; a counter (…_total) is shown as its rate a second"""
    labels: dict[str, str] = {}
    """labels that its series bear; where several do, counters are added up, and of other values the greatest is shown"""


class Chart(Part):
    """A chart of the dashboard."""

    title: str = ""
    curves: tuple[Curve, ...] = Field(min_length=1)
    """what it shows, one over the other"""
    over: Literal["time", "step"] = "time"
    """time, or a run's steps"""
    log: bool = False
    """whether its axis is logarithmic"""
    smooth: float = Field(0, ge=0, le=0.5)
    """share of the width over which each value is averaged; what was measured stays faint behind"""


class MonitorSpec(Spec):
    """What is watched and who is told."""

    WORD: ClassVar[str] = "monitor"
    word: Literal["monitor"] = "monitor"
    name: Name = "monitor"
    interval: float = Field(2.0, ge=0.1, le=3600)
    """seconds between evaluations"""
    port: int = Field(9400, ge=0, le=65_535)
    """port of ``/metrics`` for runs and the machine; where it is taken, another is chosen and said"""
    builtin: bool = True
    """the rules that everybody needs: endpoint-down, endpoint-errors, endpoint-slow, run-stuck, run-nan; a rule of the same
    name below takes the place of one"""
    rules: tuple[Rule, ...] = ()
    webhooks: tuple[Webhook, ...] = ()
    charts: tuple[Chart, ...] = ()
    """what the dashboard shows; none: what there is of endpoints, runs at work and the machine"""
    seconds: float | None = Field(None, gt=0)
    """seconds after which the watch ends by itself (batch runs); none: until stopped"""

    @model_validator(mode="after")
    def _distinct(self):
        for what, names in (("rule's name", [r.name for r in self.rules]), ("webhook's url", [w.url for w in self.webhooks])):
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                raise ValueError(f"a {what} stands twice: {', '.join(twice)}; expected each once")
        return self
