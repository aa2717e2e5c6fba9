"""What ranks say, written down: curves, samples and progress as events, and the same in MLflow."""

from __future__ import annotations

import time
from typing import Any

from ..driver import RunContext
from ..tracking import Tracker
from . import estimate


class Recorder:
    """Takes the messages of a gang on behalf of a run.

    Parameters
    ----------
    plan : what the ranks were told.
    """

    def __init__(self, run: RunContext, tracker: Tracker, plan: dict[str, Any]):
        self.run, self.tracker, self.plan = run, tracker, plan
        self.loss: float | None = None
        self.held_out: dict[int, float] = {}
        self.step = 0
        self._trials: dict[int, dict[str, Any]] = {}

    def take(self, message: dict[str, Any]) -> None:
        """One message of one rank."""
        kind = message["kind"]
        if kind == "steps":
            self._steps(message["rows"], message.get("again", False))
        elif kind == "held-out":
            self.held_out[message["step"]] = message["value"]
            self._points([("bits_per_byte", message["step"], message["value"])])
        elif kind == "sample":
            self.run.sample(message["text"], step=message["step"], prompt=message["prompt"])
            self.tracker.text(f"samples/{message['step']:06d}.txt", f"{message['prompt']}|{message['text']}\n")
        elif kind == "started":
            self.run.mark("ranks", ranks=message["ranks"])
        elif kind == "reads":
            self.run.mark("reads", rank=message["rank"], step=message["step"], windows=message["windows"])
        elif kind == "checkpoint":
            self.run.mark("checkpoint", step=message["step"])
        elif kind == "trial":
            self._trials[message["rank"]] = message
            if len(self._trials) == self.plan["world"]:
                self.estimate(estimate.whole(list(self._trials.values()), self.plan))

    def estimate(self, whole: dict[str, Any]) -> None:
        """Say what it will take, before it begins."""
        self.run.mark("estimate", **whole)
        self.run.log(f"will take about {in_words(whole['seconds'])} and {whole['memory'] / 1e9:.1f} GB: "
                     f"{whole['steps']:,} steps of {whole['step_seconds'] * 1000:.0f} ms, {whole['tokens']:,} tokens")

    def end(self, bits: float) -> None:
        """The measure of the whole validation split, as the curve's last point."""
        self._points([("bits_per_byte", self.plan["steps"], bits)])

    def _steps(self, rows: list[list[float]], again: bool) -> None:
        points = []
        tokens = self.plan["trained"] / self.plan["steps"]
        for step, loss, rate, norm, at, seconds in rows:
            step = int(step)
            points += [("loss", step, loss, at), ("learning_rate", step, rate, at), ("gradient_norm", step, norm, at),
                       ("tokens_per_second", step, tokens / max(seconds, 1e-9), at)]
            if self.step == 0 and not again:
                self.run.mark("first-step", step=step, at=at)
            self.loss = loss
            if not again:
                self.step = step
        self.run.points(points)
        self.tracker.log(points)
        if not again:
            self.run.progress(self.step, self.plan["steps"], "steps", label="training")

    def _points(self, points: list[tuple[str, int, float]]) -> None:
        timed = [(*p, time.time()) for p in points]
        self.run.points(timed)
        self.tracker.log(timed)


def in_words(seconds: float) -> str:
    """Seconds as a person says them.

    Examples
    --------
    >>> in_words(42), in_words(150), in_words(7300)
    ('42 s', '2.5 min', '2.0 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
