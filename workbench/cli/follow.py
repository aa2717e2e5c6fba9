"""Following a run: bars where a terminal is, plain lines where none is, and what Ctrl-C means."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Literal, Protocol

from .screen import clean, one_line, tell, terminal

if TYPE_CHECKING:
    from ..events import Event
    from ..runs import Run

Left = Literal["", "leave", "interrupted"]
EVERY = 10.0
"""Seconds between two plain lines about the same work."""


class View(Protocol):
    """What shows the events of one run."""

    def show(self, event: Event) -> None: ...

    def close(self) -> None: ...


def follow(run: Run, *, silent: bool = False, after: int = 0) -> Left:
    """Show a run until it has ended.

    Ctrl-C at a terminal asks: leave it running, stop it, or go on following; Ctrl-C at the question stops it. Without
    a terminal the first SIGINT ends the following and leaves the run alone.

    Returns
    -------
    Empty when the run has ended, ``leave`` when a person left it running, ``interrupted`` when a signal did.
    """
    bars = terminal() and not silent
    view: View = _Silent() if silent else Bars() if bars else Lines()
    stopping = False
    while True:
        try:
            for event in run.follow(after=after):
                view.show(event)
                after = event.seq
            view.close()
            return ""
        except KeyboardInterrupt:
            view.close()
            if not (bars and sys.stdin.isatty()):
                return "interrupted"
            if stopping:  # it was asked to stop and does not yet: more can't be done from here
                return "leave"
            choice = _ask(run)
            if choice == "leave":
                return "leave"
            if choice == "stop":
                stopping = True
                run.stop()
                tell(f"stopping {run.id} at its next safe point (Ctrl-C leaves it to that; without waiting: workbench stop {run.id} --now)")
            view = Bars()


def _ask(run: Run) -> Literal["leave", "stop", "go on"]:
    """What to do with a run that a person interrupted."""
    print(f"\n{run.id} works by itself. [l]eave it running, [s]top it, or [g]o on following? (Ctrl-C again stops it) ",
          end="", file=sys.stderr, flush=True)
    try:
        answer = sys.stdin.readline().strip().lower()
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return "stop"
    return "stop" if answer.startswith("s") else "leave" if answer.startswith("l") else "go on"


def progress_words(data: dict[str, Any]) -> str:
    """How far the work is, in words.

    Examples
    --------
    >>> progress_words({"done": 340, "total": 586, "unit": "steps", "rate": 3.2, "left": 77.0})
    '340 of 586 steps (58 %), 3.2 a second, 1 min 17 s left'
    """
    from ..drawing import duration, number

    done, total, unit = data.get("done") or 0, data.get("total"), data.get("unit") or ""
    words = f"{number(_whole(done))} of {number(_whole(total))} {unit}" if total else f"{number(_whole(done))} {unit}"
    if total:
        words += f" ({100 * done // total:.0f} %)"  # 100 only when it is whole
    if data.get("rate") and done != total:
        words += f", {number(float(data['rate']))} a second"
    if data.get("left") is not None and done != total:
        words += f", {duration(data['left'])} left"
    return words


def _whole(value: float) -> float | int:
    return int(value) if value == int(value) else value


def said(event: Event) -> str | None:
    """The line that an event is worth, or None: log lines, samples, restarts, states that a person waits for."""
    if event.kind == "log":
        return str(event.data.get("text", ""))
    if event.kind == "sample":
        prompt = f"{event.data['prompt']!r} → " if event.data.get("prompt") else ""
        at = f"step {event.step}: " if event.step is not None else ""
        if event.data.get("file"):
            return f"{at}{event.data['file']}"
        return f"{at}{prompt}{one_line(event.data.get('text', ''), 90)!r}"
    if event.kind == "state" and event.name == "running" and event.data.get("attempt", 1) > 1:
        return f"started again, attempt {event.data['attempt']}"
    if event.kind == "state" and event.name == "stopping":
        return "stopping"
    return None


class _Silent:
    def show(self, event: Event) -> None:
        pass

    def close(self) -> None:
        pass


class Lines:
    """One line for each notable change: where the work moves on, when a part of it is whole, and now and then between."""

    def __init__(self) -> None:
        self.told: dict[str, float] = {}
        self.whole: set[str] = set()
        self.values: dict[str, float] = {}

    def show(self, event: Event) -> None:
        if event.kind == "point" and event.value is not None:
            self.values[event.name or ""] = event.value
        elif event.kind == "progress":
            self._progress(event)
        elif line := said(event):
            tell(line)

    def _progress(self, event: Event) -> None:
        label, now = event.data.get("label") or "", time.monotonic()
        if label == "pipeline":  # each of its steps says so itself
            return
        whole = bool(event.data.get("total")) and event.data["done"] == event.data["total"]
        if whole and label in self.whole:
            return
        (self.whole.add if whole else self.whole.discard)(label)
        if not whole and now - self.told.get(label, -EVERY) < EVERY:
            return
        if not whole and not event.data["done"]:
            return
        self.told[label] = now
        tell(f"{label + ': ' if label else ''}{progress_words(event.data)}{values_words(self.values)}")

    def close(self) -> None:
        pass


def values_words(values: dict[str, float]) -> str:
    """The newest values that a person watches, in words."""
    from ..drawing import number

    shown = [(name, words) for name, words in (("loss", "loss"), ("bits_per_byte", "bits a byte")) if name in values]
    return "".join(f", {words} {number(float(values[name]))}" for name, words in shown)


class Bars:
    """A line a part of the work, each with its bar, rate and time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self.console = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self.bars = Progress(TextColumn("{task.description}", markup=False), BarColumn(bar_width=24),
                             TextColumn("{task.fields[words]}", markup=False), console=self.console, refresh_per_second=4)
        self.rows: dict[str, Any] = {}
        self.values: dict[str, float] = {}
        self.nodes: set[str] = set()
        self.bars.start()

    def show(self, event: Event) -> None:
        if event.kind == "point" and event.value is not None:
            self.values[event.name or ""] = event.value
        elif event.kind == "progress":
            self._progress(event)
        elif event.kind == "mark" and event.name == "graph":
            for node in event.data["nodes"]:
                self.nodes.add(node["node"])
                self._row(node["node"], total=None, words="waits", started=False)
        elif event.kind == "mark" and event.name == "step":
            self._step(event.data)
        elif (line := said(event)) and not (self.nodes and event.name == "info"):  # its rows say the same
            self.console.print(clean(line))

    def _progress(self, event: Event) -> None:
        label, data = event.data.get("label") or "", event.data
        if self.nodes:
            label = label.partition(":")[0]
            if label not in self.nodes:
                return
        words = progress_words(data) + ("" if self.nodes else values_words(self.values))
        self._row(label, total=data.get("total"), completed=data.get("done") or 0, words=words)

    def _step(self, data: dict[str, Any]) -> None:
        state, name = data["state"], data["node"]
        if state == "running":
            self._row(name, total=None, words=data["why"])
        elif state in ("done", "cached"):
            self._row(name, total=1, completed=1, words=data["why"])
        else:
            self._row(name, total=1, completed=0, words=str(data["why"]).partition("\n")[0])

    def _row(self, label: str, *, total: float | None, words: str, completed: float = 0, started: bool = True) -> None:
        if label not in self.rows:
            self.rows[label] = self.bars.add_task(clean(label), total=total, start=started, words="")
        elif started:
            self.bars.start_task(self.rows[label])
        self.bars.update(self.rows[label], total=total, completed=completed, words=one_line(words, 90))

    def close(self) -> None:
        self.bars.stop()
