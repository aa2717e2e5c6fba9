"""Curves of runs in memory, thinned to what the pixels show."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from workbench.events import Event, Events
from workbench.workspace import Workspace

from . import columns

if TYPE_CHECKING:
    import numpy as np


LONG = 100_000
"""Points from which a curve is shown as a sample until it was read."""


class Curve:
    """Steps, values and times, growing; a step that comes again (another attempt) replaces what stood from there on."""

    def __init__(self, steps: np.ndarray, values: np.ndarray, times: np.ndarray | None = None):
        self.steps, self.values, self.count = steps, values, len(steps)
        self.times = times if times is not None else steps

    def add(self, steps: Sequence[float], values: Sequence[float], times: Sequence[float] | None = None) -> None:
        """Append points by step."""
        import numpy as np

        if self.count and steps[0] <= self.steps[self.count - 1]:
            self.count = int(np.searchsorted(self.steps[:self.count], steps[0]))
        need = self.count + len(steps)
        if need > len(self.steps) or not self.steps.flags.writeable:  # a mapped file is copied once it grows
            room = max(1024, 2 * need)
            self.steps, self.values, self.times = (np.resize(a[:self.count], room) if self.count else np.empty(room)
                                                   for a in (self.steps, self.values, self.times))
        own = slice(self.count, need)
        self.steps[own], self.values[own], self.times[own] = steps, values, steps if times is None else times
        self.count = need

    def window(self, low: float | None = None, high: float | None = None, columns: int = 1000, *, over: str = "step") -> np.ndarray:
        """What a drawing of so many pixel columns shows: shape (n, 2), float64, the least and the greatest of each column.

        One point beyond each end is kept, so that lines leave the picture where they should.

        Parameters
        ----------
        over : ``step``, or ``time`` in seconds since the epoch.
        """
        import numpy as np

        at = self.steps[:self.count] if over == "step" else np.maximum.accumulate(self.times[:self.count])
        values = self.values[:self.count]
        if low is not None or high is not None:
            first = max(0, int(np.searchsorted(at, low if low is not None else -np.inf)) - 1)
            last = int(np.searchsorted(at, high if high is not None else np.inf, side="right")) + 1
            at, values = at[first:last], values[first:last]
        return thinned(at, values, columns)

    def odd(self) -> dict[str, int]:
        """How many values are no numbers: ``{"nan", "inf"}``."""
        import numpy as np

        values = self.values[:self.count]
        wrong = values[~np.isfinite(values)]
        nan = int(np.isnan(wrong).sum())
        return {"nan": nan, "inf": len(wrong) - nan}


def thinned(at: np.ndarray, values: np.ndarray, columns: int) -> np.ndarray:
    """Points as pairs, no more than a drawing of so many pixel columns shows."""
    import numpy as np

    if len(at) > 4 * columns:
        kept = extremes(at, values, columns)
        at, values = at[kept], values[kept]
    return np.stack([at, values], axis=1)


def extremes(steps: np.ndarray, values: np.ndarray, columns: int) -> np.ndarray:
    """Indices of the first, last, least and greatest point of each pixel column, in order; what is no number is kept once a column."""
    import numpy as np

    span = (steps[-1] - steps[0]) or 1.0
    column = np.minimum(((steps - steps[0]) * (columns / span)).astype(np.int64), columns - 1)
    starts = np.flatnonzero(np.diff(column, prepend=-1))
    finite = np.isfinite(values)
    low, high = np.where(finite, values, np.inf), np.where(finite, values, -np.inf)
    least, greatest = np.minimum.reduceat(low, starts), np.maximum.reduceat(high, starts)
    widths = np.diff(starts, append=len(values))
    is_least, is_greatest = low == np.repeat(least, widths), high == np.repeat(greatest, widths)
    kept = [starts, starts + widths - 1]
    for mask in (is_least & finite, is_greatest & finite, ~finite):
        where = np.flatnonzero(mask)
        kept.append(where[np.flatnonzero(np.diff(column[where], prepend=-1))])
    return np.unique(np.concatenate(kept))


class Curves:
    """The curves of one scope: read once, then fed with events.

    ``read`` is called with a name when all of a curve was read of which a sample was given before.
    """

    def __init__(self, events: Events, scope: str, read: Callable[[str], None] = lambda _: None):
        self.events, self.scope, self._read = events, scope, read
        self._curves: dict[str, Curve] = {}
        self._reading: set[str] = set()
        self._lock = threading.RLock()

    def names(self) -> list[str]:
        """Names of what has points."""
        return self.events.names(self.scope)

    def at_hand(self, name: str | None) -> bool:
        """True if a curve is in memory."""
        return name in self._curves

    def seen(self, name: str, low: float | None = None, high: float | None = None) -> Curve:
        """A curve as far as it can be shown at once: of one that is long and not yet read, a sample, while the whole is being read."""
        with self._lock:
            if name in self._curves:
                return self._curves[name]
            if not self._is_long(name):
                return self.get(name)
            if (curve := self._mapped(name)) is not None:
                return curve
        sample = self._sample(name, low, high)
        with self._lock:
            if name not in self._reading:
                self._reading.add(name)
                threading.Thread(target=self._read_whole, args=(name,), name="workbench-columns", daemon=True).start()
        return sample

    def _read_whole(self, name: str) -> None:
        if columns.write_apart(Workspace(self.events.database.path.parent.parent), self.scope, name) and self._mapped(name) is not None:
            self._read(name)
        else:  # a workspace that can't be written
            self.get(name)
            self._read(name)

    def _mapped(self, name: str) -> Curve | None:
        """The curve from its column file and what came since, or None where no file fits."""
        with self._lock:
            found = columns.mapped(self.events, self.scope, name)
            if found is None:
                return None
            table, seq = found
            curve = Curve(*table)
            if rows := columns.after(self.events, self.scope, name, seq):
                curve.add(*_ordered(rows))
            return self._curves.setdefault(name, curve)

    def _is_long(self, name: str) -> bool:
        return self.events.database.row("SELECT 1 FROM events WHERE scope = ? AND kind = 'point' AND name = ? LIMIT 1 OFFSET ?",
                                        (self.scope, name, LONG)) is not None

    def _sample(self, name: str, low: float | None, high: float | None, columns: int = 400) -> Curve:
        """A few points of each of so many stretches, along the index of steps."""
        import numpy as np

        sql = "SELECT step, value, at FROM events WHERE scope = ? AND kind = 'point' AND name = ? "
        ends = [self.events.database.row(sql + f"ORDER BY step {way} LIMIT 1", (self.scope, name)) for way in ("ASC", "DESC")]
        begin = max(ends[0][0], low) if low is not None else ends[0][0]
        end = min(ends[1][0], high) if high is not None else ends[1][0]
        found = {}
        for step in np.linspace(begin, end, columns):
            for row in self.events.database.execute(sql + "AND step >= ? ORDER BY step LIMIT 3", (self.scope, name, float(step))):
                found[row[0]] = (row[1], row[2])
        found[ends[1][0]] = (ends[1][1], ends[1][2])
        table = np.array([(s, *found[s]) for s in sorted(found)], dtype=np.float64)
        return Curve(*table.T.copy())

    def get(self, name: str) -> Curve:
        """A curve, with its whole history."""
        with self._lock:  # what comes while it is read waits at this lock, and is not missed
            if name not in self._curves:
                self._curves[name] = Curve(*columns.read(self.events, self.scope, name))
            return self._curves[name]

    def feed(self, events: Iterable[Event]) -> dict[str, np.ndarray]:
        """Take new points in; returns what came, by name, shape (n, 2)."""
        import numpy as np

        fresh: dict[str, list[tuple[float, float, float]]] = {}
        for event in events:
            if event.kind == "point" and event.name is not None and event.step is not None:
                fresh.setdefault(event.name, []).append((event.step, float("nan") if event.value is None else event.value, event.at))
        found = {}
        with self._lock:
            for name, points in fresh.items():
                if name in self._curves:
                    self._curves[name].add(*_ordered(points))
                found[name] = np.array([p[:2] for p in points], dtype=np.float64)
        return found


def _ordered(points: Iterable[tuple[float, float | None, float]]) -> tuple[list[float], list[float], list[float]]:
    """Points by step, the later of a step written twice, as three columns."""
    kept = {step: (float("nan") if value is None else value, at) for step, value, at in points}
    steps = sorted(kept)
    return steps, [kept[s][0] for s in steps], [kept[s][1] for s in steps]
