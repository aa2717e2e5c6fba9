"""Curves of runs in memory, thinned to what the pixels show."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from workbench.events import Event, Events

from .feed import aside

if TYPE_CHECKING:
    import numpy as np


LONG = 100_000
"""Points from which a curve is shown as a sample until it was read."""


class Curve:
    """Steps and values, growing; a step that comes again (another attempt) replaces what stood from there on."""

    def __init__(self, steps: np.ndarray, values: np.ndarray):
        self.steps, self.values, self.count = steps, values, len(steps)

    def add(self, steps: list[int], values: list[float]) -> None:
        """Append points by step."""
        import numpy as np

        if self.count and steps[0] <= self.steps[self.count - 1]:
            self.count = int(np.searchsorted(self.steps[:self.count], steps[0]))
        need = self.count + len(steps)
        if need > len(self.steps):
            room = max(1024, 2 * need)
            self.steps, self.values = np.resize(self.steps, room), np.resize(self.values, room)
        self.steps[self.count:need], self.values[self.count:need] = steps, values
        self.count = need

    def window(self, low: float | None = None, high: float | None = None, columns: int = 1000) -> np.ndarray:
        """What a drawing of so many pixel columns shows: shape (n, 2), float64, the least and the greatest of each column.

        One point beyond each end is kept, so that lines leave the picture where they should.
        """
        import numpy as np

        steps, values = self.steps[:self.count], self.values[:self.count]
        if low is not None or high is not None:
            first = max(0, int(np.searchsorted(steps, low if low is not None else -np.inf)) - 1)
            last = int(np.searchsorted(steps, high if high is not None else np.inf, side="right")) + 1
            steps, values = steps[first:last], values[first:last]
        if len(steps) > 4 * columns:
            kept = extremes(steps, values, columns)
            steps, values = steps[kept], values[kept]
        return np.stack([steps, values], axis=1)


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

    def seen(self, name: str, low: float | None = None, high: float | None = None) -> Curve:
        """A curve as far as it can be shown at once: of one that is long and not yet read, a sample, while the whole is being read."""
        with self._lock:
            if name in self._curves:
                return self._curves[name]
            if not self._is_long(name):
                return self.get(name)
        sample = self._sample(name, low, high)
        with self._lock:
            if name not in self._reading:
                self._reading.add(name)
                aside(self._read_whole, name)
        return sample

    def _read_whole(self, name: str) -> None:
        self.get(name)
        self._read(name)

    def _is_long(self, name: str) -> bool:
        return self.events.database.row("SELECT 1 FROM events WHERE scope = ? AND kind = 'point' AND name = ? LIMIT 1 OFFSET ?",
                                        (self.scope, name, LONG)) is not None

    def _sample(self, name: str, low: float | None, high: float | None, columns: int = 400) -> Curve:
        """A few points of each of so many stretches, along the index of steps."""
        import numpy as np

        sql = "SELECT step, value FROM events WHERE scope = ? AND kind = 'point' AND name = ? "
        ends = [self.events.database.row(sql + f"ORDER BY step {way} LIMIT 1", (self.scope, name)) for way in ("ASC", "DESC")]
        begin = max(ends[0][0], low) if low is not None else ends[0][0]
        end = min(ends[1][0], high) if high is not None else ends[1][0]
        found = {}
        for step in np.linspace(begin, end, columns):
            for row in self.events.database.execute(sql + "AND step >= ? ORDER BY step LIMIT 3", (self.scope, name, float(step))):
                found[row[0]] = row[1]
        found[ends[1][0]] = ends[1][1]
        table = np.array(sorted(found.items()), dtype=np.float64)
        return Curve(table[:, 0], table[:, 1])

    def get(self, name: str) -> Curve:
        """A curve, with its whole history."""
        import numpy as np

        with self._lock:
            if name in self._curves:
                return self._curves[name]
        rows = self.events.database.execute("SELECT step, value FROM events WHERE scope = ? AND kind = 'point' AND name = ? "
                                            "ORDER BY step, seq", (self.scope, name))
        rows.row_factory = None  # plain tuples: half the time of named ones
        table = np.array(rows.fetchall(), dtype=np.float64).reshape(-1, 2)
        with self._lock:
            if name not in self._curves:
                steps, values = table[:, 0].copy(), table[:, 1].copy()
                if len(steps) > 1:  # of a step written twice the later counts
                    last = np.append(steps[1:] != steps[:-1], True)
                    steps, values = steps[last], values[last]
                self._curves[name] = Curve(steps, values)
            return self._curves[name]

    def feed(self, events: Iterable[Event]) -> dict[str, np.ndarray]:
        """Take new points in; returns what came, by name, shape (n, 2)."""
        import numpy as np

        fresh: dict[str, list[tuple[int, float]]] = {}
        for event in events:
            if event.kind == "point" and event.name is not None and event.step is not None:
                fresh.setdefault(event.name, []).append((event.step, float("nan") if event.value is None else event.value))
        found = {}
        with self._lock:
            for name, points in fresh.items():
                if name in self._curves:
                    ordered = sorted(dict(points).items())
                    self._curves[name].add([s for s, _ in ordered], [v for _, v in ordered])
                found[name] = np.array(points, dtype=np.float64)
        return found
