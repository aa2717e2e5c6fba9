"""What a panel shows of a run: state, progress, signs of life, log, samples and curves."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from workbench.drawing import duration, number, share
from workbench.driver import SILENCE
from workbench.errors import WorkbenchError
from workbench.events import Event
from workbench.journal import ENDED
from workbench.runs import Run

from .curves import Curves
from .feed import Feed, aside

if TYPE_CHECKING:
    import numpy as np

LOG, SAMPLES = 300, 30
"""Lines of the log and samples that a page holds."""
SIGNS = {"empty": "○", "editing": "○", "invalid": "▲", "starting": "◌", "queued": "◌", "running": "●", "stopping": "◐", "stopped": "■",
         "failed": "✕", "done": "✓", "lost": "?"}
"""A state is never told by its colour alone."""


class Watch:
    """A run seen from a kernel; tells what changed at most four times a second.

    Parameters
    ----------
    run : the run.
    tell : called as ``tell(watch, fresh, events)`` on the feed's thread: new points by curve name, and all new events.
    read : called with a curve's name when all of a long one was read, of which a sample was shown before.
    """

    def __init__(self, run: Run, tell: Callable[[Watch, dict[str, np.ndarray], list[Event]], None],
                 read: Callable[[str], None] = lambda _: None):
        self.run, self._tell = run, tell
        self.feed = Feed.of(run.workspace)
        self.curves = Curves(self.feed.events, run.id, read)
        self.log: deque[dict[str, Any]] = deque(maxlen=LOG)
        self.samples: deque[dict[str, Any]] = deque(maxlen=SAMPLES)
        self.marks: list[dict[str, Any]] = []
        self.names: list[str] = []
        self.progress: dict[str, Any] | None = None
        self.entry = run.entry
        self.heard: float | None = None
        self._recovered = self._began = time.monotonic()
        self._sign: tuple[float | None, float] = (None, 0.0)
        self._rest: tuple[Any, dict[str, Any] | None] = (None, None)
        newest = self.feed.newest()
        self._read()
        self.listener = self.feed.listen(self._hear, run.id, after=newest)

    def _read(self) -> None:
        """The history; what comes meanwhile is heard again and shown once."""
        events = self.feed.events
        self._seen = 0
        for event in events.tail(self.run.id, kinds=("log", "sample", "mark", "state"), limit=100_000):
            self._take(event)
        self.names = self.curves.names()
        self.progress = self.run.progress
        last = events.database.row("SELECT at FROM events WHERE scope = ? ORDER BY seq DESC LIMIT 1", (self.run.id,))
        self.heard = last["at"] if last else None

    def _take(self, event: Event) -> None:
        if event.seq <= self._seen:
            return
        self._seen, self.heard = event.seq, event.at
        if event.kind == "log":
            self.log.append({"at": event.at, "level": event.name or "info", "text": event.data.get("text", "")})
        elif event.kind == "sample":
            self.samples.append({"at": event.at, "step": event.step, **event.data})
        elif event.kind == "mark":
            self.marks.append({"at": event.at, "step": event.step, "name": event.name, "value": event.value, **event.data})
        elif event.kind == "progress":
            self.progress = event.data

    def _hear(self, events: list[Event]) -> None:
        for event in events:
            self._take(event)
        fresh = self.curves.feed(events)
        self.names += sorted(set(fresh) - set(self.names))
        ended = self.entry.state in ENDED
        if not ended or any(e.kind == "state" for e in events):
            self.entry = self.run.entry
        if events or not ended:
            self._tell(self, fresh, events)
        if not ended and time.monotonic() - self._recovered > 5:
            self._recovered = time.monotonic()
            aside(self._recover)

    def _recover(self) -> None:
        try:
            self.run.recover()
        except (WorkbenchError, OSError) as error:  # the cluster is gone; what is lost sight of is said, and tried again
            self.log.append({"at": time.time(), "level": "warning", "text": f"can't attach to the run: {error}"})

    def close(self) -> None:
        """Hear no more of it."""
        self.feed.leave(self.listener)

    @property
    def state(self) -> str:
        """As the journal says, or ``lost`` where an active run gives no sign of life."""
        entry = self.entry
        if entry.state in ("running", "stopping") and self.silence > 1.5 * SILENCE:
            return "lost"
        return entry.state

    @property
    def silence(self) -> float:
        """Seconds since the last sign of life; once one came while we looked, by our clock alone: those of other machines differ."""
        signs, now = (self.entry.beat, self.heard, self.entry.submitted), time.monotonic()
        if self._sign[0] != signs:
            self._sign = (signs, None if self._sign[0] is None else now)
        told, came = time.time() - max(t for t in signs if t), self._sign[1]
        if told < 0:  # a clock ahead of ours
            return now - (came or self._began)
        return told if came is None else min(told, now - came)

    def status(self) -> dict[str, Any]:
        """State, progress and times, ready to be shown."""
        entry, state, now = self.entry, self.state, time.time()
        failure = entry.failure and {k: entry.failure.get(k) for k in ("what", "where", "kind", "hint", "traceback", "host")}
        return {"run": entry.id, "state": state, "sign": SIGNS[state], "active": entry.state not in ENDED, "progress": said(self.progress),
                "words": self._words(state, now), "submitted": entry.submitted, "started": entry.started, "ended": entry.ended,
                "silence": round(self.silence), "attempt": entry.attempt, "failure": failure or None, "result": entry.result,
                "now": now, "rest": self.rest, "stake": self.run.at_stake if entry.state == "stopping" else None}

    @property
    def rest(self) -> dict[str, Any] | None:
        """What a run that was stopped or failed can go on from, or None."""
        key = (self.entry.state, self.entry.attempt)
        if self._rest[0] != key:
            self._rest = (key, self.run.rest if self.entry.state in ("stopped", "failed") else None)
        return self._rest[1]

    def _words(self, state: str, now: float) -> str:
        entry, progress = self.entry, self.progress or {}
        if state == "queued":
            return f"waits for a worker for {duration(max(0, now - max(entry.submitted, entry.beat or 0)))}"
        if state in ("running", "stopping"):
            parts = []
            total = progress.get("total")
            if total and progress["done"] < total:  # one part of the work is over: nothing is known of the next yet
                parts.append(f"{100 * min(1, progress['done'] / total):.0f} %")
            if progress.get("left") and state == "running":
                parts.append(f"{duration(max(0, progress['left']))} left")
            return " · ".join(parts) or f"for {duration(max(0, now - (entry.started or entry.submitted)))}"
        if state == "lost":
            return f"no sign of life for {duration(self.silence)}"
        if entry.ended is not None:
            return f"took {duration(self.run.worked if entry.attempt > 1 else max(0, entry.ended - (entry.started or entry.submitted)))}"
        return ""

    def live(self) -> dict[str, Any]:
        """Log, samples, marks and the names of the curves."""
        return {"log": list(self.log)[-LOG:], "samples": list(self.samples), "marks": self.marks[-100:], "curves": self.names}


def said(progress: dict[str, Any] | None) -> dict[str, Any] | None:
    """Progress with its words: ``share`` from 0 to 1 and ``text``."""
    if not progress:
        return None
    done, total, unit = progress.get("done") or 0, progress.get("total"), progress.get("unit") or ""
    text = share(round(done), round(total)) if total else number(done)
    if total:
        text = text.partition(" (")[0]
    parts = [f"{progress.get('label') or ''} {text} {unit}".strip()]
    if progress.get("rate") and done != total:
        parts.append(f"{number(float(progress['rate']))} {unit} a second")
    if progress.get("left") is not None and done != total:
        parts.append(f"{duration(max(0, progress['left']))} left")
    return {"share": min(1.0, done / total) if total else None, "text": " · ".join(parts), "label": progress.get("label") or "",
            "done": done, "total": total, "unit": unit, "left": progress.get("left")}
