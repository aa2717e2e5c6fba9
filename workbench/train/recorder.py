"""What ranks say, written down: curves, samples and progress as events, and the same in MLflow."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

from ..driver import RunContext
from ..errors import StorageError
from ..storage import write_atomic
from ..tracking import Tracker, figures
from . import changes, estimate
from .cost import Meter, Rates, cost_words
from .verdict import LastMinute

VERDICT_SECONDS = 10.0
"""Seconds between verdicts: what bounds a step for a moment is no news."""
BEFORE = "before.json"
"""File in a run's directory: what held-out parts measured before the first step, amount and weight of each."""
_ENDINGS = {"image/png": "png", "image/apng": "png", "audio/wav": "wav", "image/gif": "gif"}


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
        self.step = self.copied = 0
        self._trials: dict[int, dict[str, Any]] = {}
        self._vitals: dict[int, dict[str, Any]] = {}
        self.meter = Meter(run.directory, Rates.of(run.workspace.settings), run.spec.budget)
        self.minute = LastMinute()
        self._bound, self._words, self._judged = "", "", time.monotonic()
        self._estimate: dict[str, Any] = {}
        self._said = 0.0
        self._lost: tuple[float, tuple[int, ...], int] | None = None
        self._before: list[list[float]] | None = None

    def take(self, message: dict[str, Any]) -> None:
        """One message of one rank."""
        kind = message["kind"]
        if kind == "steps":
            self._steps(message["rows"], message.get("again", False))
        elif kind == "held-out" and message["step"] not in self.held_out:
            self.held_out[message["step"]] = message["value"]
            self._points([(self.plan["measure"], message["step"], message["value"]),
                          *((name, message["step"], value) for name, value in message.get("beside", {}).items())])
        elif kind == "points":
            self._points([(name, int(step), value) for name, step, value in message["rows"]])
        elif kind == "sample":
            self._sample(message)
        elif kind == "vitals":
            self._vitals[message["rank"]] = {k: v for k, v in message.items() if k not in ("kind", "token", "last")}
            if (message.get("last") or time.monotonic() - self._said > 0.9) and len(self._vitals) == self.plan["world"]:
                self._fares([self._vitals[r] for r in sorted(self._vitals)])
                self._vitals = {}
        elif kind == "skipped":
            self.run.log(f"the {message['what']} of step {message['step']:,} is no number: the step changed nothing", "warning")
            self.run.mark("skipped", step=message["step"], what=message["what"])
        elif kind == "before":
            self._measured(message["windows"])
        elif kind == "started":
            self.run.mark("ranks", ranks=message["ranks"])
            self._vitals = {}
        elif kind == "reads":
            self.run.mark("reads", rank=message["rank"], step=message["step"], windows=message["windows"], digest=message["digest"])
        elif kind == "copied":
            self.copied = message["step"]
            self.run.log(f"goes on from step {self.copied:,}, which was copied in memory")
            self.run.mark("resumed", step=self.copied, copied=True)
        elif kind == "warning":
            self.run.log(message["text"], "warning")
        elif kind == "checkpoint":
            self.run.mark("checkpoint", step=message["step"])
        elif kind in changes.KINDS:
            changes.record(self.run, message)
            if kind == "profiled":
                self.tracker.file(self.run.directory / "profile" / message["file"], "profile")
        elif kind == "trial":
            self._trials[message["rank"]] = message
            if len(self._trials) == self.plan["world"]:
                self.estimate(estimate.whole(list(self._trials.values()), self.plan))

    def _fares(self, ranks: list[dict[str, Any]]) -> None:
        """How all ranks fare now: told, counted as spent, and judged when that has changed or ten seconds have passed."""
        self._said = time.monotonic()
        self.meter.add(ranks)
        self.minute.add(self._said, ranks)
        self.run.vitals(ranks)
        if self._said - self._judged > (VERDICT_SECONDS if self._bound else 2):
            self._judge()

    def _judge(self) -> None:
        """Say what bounds the training, once that can be said."""
        found = self.minute.verdict()
        if found:
            at = time.time()
            self._bound, self._judged, self._words = found["bound"], time.monotonic(), found["words"]
            self.run.mark("verdict", step=self.step, at=at, **found, spent=self.meter.spent)
            self.tracker.log(figures(found["ranks"], self.step, at))

    def before(self) -> list[list[float]] | None:
        """Amount and weight of held-out parts before the first step, once they are known."""
        if self._before is None:
            try:
                self._before = json.loads((self.run.directory / BEFORE).read_text())
            except (OSError, ValueError):
                return None
        return self._before

    def _measured(self, windows: list[list[float]]) -> None:
        self._before = windows
        write_atomic(self.run.directory / BEFORE, json.dumps(windows))
        amount, weight = (sum(w[n] for w in windows) for n in (0, 1))
        self._points([(self.plan["measure"], 0, amount * self.plan["scale"] / max(weight, 1.0))])

    def _sample(self, message: dict[str, Any]) -> None:
        """What the model made: text as it is; a picture or a sound as a file in the run's directory."""
        step, more = message["step"], {}
        if message.get("media"):
            kind, content = message["media"], base64.b64decode(message["content"])
            number = f"-{message['number']}" if message.get("number") else ""
            name = f"{step:06d}{number}.{_ENDINGS.get(kind, kind.rpartition('/')[2])}"
            file = self.run.directory / "samples" / name
            try:
                write_atomic(file, content)
            except StorageError as error:
                self.run.log(f"the sample of step {step:,} is lost: {error}", "warning")
                return
            more = {"media": kind, "file": f"samples/{name}"}
            self.tracker.file(file, "samples")
        self.run.sample(message["text"], step=step, prompt=message["prompt"], **more)
        if message["text"]:
            self.tracker.text(f"samples/{step:06d}.txt", f"{message['prompt']}|{message['text']}\n")

    def lost(self, why: str, ranks: tuple[int, ...]) -> None:
        """Ranks are gone; what follows says when they are back."""
        self.run.mark("restart", why=why, step=self.step, ranks=list(ranks))
        self.run.log(f"{why} at step {self.step:,}: starting the ranks again", "warning")
        self._lost = self._lost or (time.monotonic(), ranks, self.step)

    def _back(self, at: float, step: int) -> None:
        since, ranks, reached = self._lost
        self._lost = None
        who = f"rank {ranks[0]}" if len(ranks) == 1 else "the ranks"
        passed = time.monotonic() - since
        told = time.time() - at  # how long the step's row was on its way; a clock that was set meanwhile says anything
        seconds = passed - told if 0 <= told <= passed else passed
        self.run.mark("back", ranks=list(ranks), step=reached, first=step, seconds=seconds)
        self.run.log(f"{who} came back after {in_words(seconds)}; step {step:,} is made again" if step <= reached else
                     f"{who} came back after {in_words(seconds)}")

    def estimate(self, whole: dict[str, Any]) -> None:
        """Say what it will take, before it begins."""
        estimate.remember(self.run.workspace, self.run.spec, self.plan, whole)
        whole = estimate.with_cost(whole, self.meter.rates)
        self.run.mark("estimate", **whole)
        self._estimate = whole
        self.run.log(f"will take about {in_words(whole['seconds'])} and {whole['memory'] / 1e9:.1f} GB: "
                     f"{whole['steps']:,} steps of {whole['step_seconds'] * 1000:.0f} ms, {whole['tokens']:,} {self.plan['unit']}; "
                     f"{cost_words(whole, self.meter.rates.currency)}" + (", by its first steps" if whole.get("of") else ""))
        if whole.get("short"):
            self.run.log(whole["short"], "warning")

    def end(self, value: float | None) -> None:
        """The measure of the whole validation split, as the curve's last point (none where nothing is measured), and the last verdict."""
        if value is not None:
            self._points([(self.plan["measure"], self.plan["steps"], value)])
        self._judge()

    def close(self, logs: Path) -> None:
        """However it ended: what it was to take and has taken, and what its ranks wrote, among what MLflow holds of it."""
        tags = {f"estimate.{k}": self._estimate[k] for k in ("seconds", "memory", "kwh", "money") if self._estimate.get(k) is not None}
        tags |= {f"spent.{k}": v for k, v in self.meter.spent.items()} | ({"verdict": self._words} if self._words else {})
        self.tracker.end({k: v if isinstance(v, str) else f"{v:.6g}" for k, v in tags.items()})
        for file in sorted(logs.glob("rank-*.log")):
            self.tracker.file(file, "logs")

    def _steps(self, rows: list[list[float]], again: bool) -> None:
        points = []
        trained, rate_of = self.plan["trained"] / self.plan["steps"], f"{self.plan['unit']}_per_second"
        for step, loss, rate, norm, at, seconds in rows:
            step = int(step)
            if self._lost and not again:
                self._back(at, step)
            points += [("loss", step, loss, at), ("learning_rate", step, rate, at), ("gradient_norm", step, norm, at),
                       (rate_of, step, trained / max(seconds, 1e-9), at)]
            if self.step == 0 and not again:
                self.run.mark("first-step", step=step, at=at)
            self.loss = loss
            points = [p for p in points if p[2] is not None]
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
    >>> in_words(0.43), in_words(42), in_words(150), in_words(7300)
    ('0.4 s', '42 s', '2.5 min', '2.0 h')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
