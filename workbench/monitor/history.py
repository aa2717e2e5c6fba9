"""What each look saw, kept for a while: the curves of endpoints and machines, and what a new rule is tried against."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..storage import Database
from ..workspace import Workspace
from .metrics import Samples
from .rules import series_of

if TYPE_CHECKING:
    import numpy as np

RAW = 3 * 3600.0
"""Seconds for which every look is kept; after that, each minute's least, greatest and last value."""
KEPT = 14 * 86_400.0
MOST = 500
"""Series of one look that are kept; a page with more is not for a dashboard."""
LEFT_OUT = ("_bucket", "_created")
"""Ends of the names that are not kept: a histogram's many parts, and times of birth."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS series (
  id INTEGER PRIMARY KEY, monitor TEXT NOT NULL, metric TEXT NOT NULL, labels TEXT NOT NULL, UNIQUE (monitor, metric, labels));
CREATE TABLE IF NOT EXISTS looks (series INTEGER NOT NULL, at REAL NOT NULL, value REAL, PRIMARY KEY (series, at)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS times (monitor TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (monitor, at)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS minutes (
  series INTEGER NOT NULL, at REAL NOT NULL, low REAL, high REAL, last REAL, PRIMARY KEY (series, at)) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Kept:
    """A series that is kept."""

    id: int
    metric: str
    labels: dict[str, str]

    @property
    def of(self) -> str:
        """What it tells of: ``machine``, ``endpoint/NAME``, ``run/ID`` or ``monitor``."""
        for label in ("endpoint", "run"):
            if label in self.labels:
                return f"{label}/{self.labels[label]}"
        return "machine" if self.metric.startswith("workbench_machine_") or "process" in self.labels else "monitor"


def is_counter(metric: str) -> bool:
    """True for what only rises: it is shown as a rate."""
    return metric.endswith(("_total", "_count", "_sum"))


class History:
    """The past of a monitor's metrics.

    Examples
    --------
    >>> import tempfile
    >>> history = History(Workspace(tempfile.mkdtemp()).open(), "monitor")
    >>> for at in (10.0, 12.0):
    ...     history.add({"heat": [({"room": "a"}, at)]}, at)
    >>> history.curve("heat", {"room": "a"}).tolist()
    [[10.0, 10.0], [12.0, 12.0]]
    """

    def __init__(self, workspace: Workspace, monitor: str):
        self.monitor = monitor
        self.database = Database(workspace.path("history.db"), _SCHEMA)
        self._ids: dict[tuple[str, str], int] = {}
        self._tidied = -1e9

    def add(self, samples: Samples, now: float) -> None:
        """Keep what a look saw."""
        rows = [(metric, series_of(labels), value if math.isfinite(value) else None) for metric, series in samples.items()
                if not metric.endswith(LEFT_OUT) and metric != "workbench_run_state" for labels, value in series][:MOST]
        with self.database.transaction() as connection:
            if not self._ids:
                self._ids = {(r["metric"], r["labels"]): r["id"] for r in
                             connection.execute("SELECT * FROM series WHERE monitor = ?", (self.monitor,))}
            for metric, labels, _ in rows:
                if (metric, labels) not in self._ids:
                    key = self.monitor, metric, labels
                    connection.execute("INSERT OR IGNORE INTO series (monitor, metric, labels) VALUES (?,?,?)", key)
                    self._ids[metric, labels] = connection.execute("SELECT id FROM series WHERE monitor = ? AND metric = ? AND labels = ?",
                                                                   key).fetchone()[0]
            connection.executemany("INSERT OR REPLACE INTO looks VALUES (?,?,?)", [(self._ids[m, la], now, v) for m, la, v in rows])
            connection.execute("INSERT OR REPLACE INTO times VALUES (?,?)", (self.monitor, now))
            if now - self._tidied > 60:
                self._tidied = now
                self._tidy(connection, now)

    def _tidy(self, connection: Any, now: float) -> None:
        edge = (now - RAW) // 60 * 60
        mine = "series IN (SELECT id FROM series WHERE monitor = ?)"
        connection.execute("INSERT OR REPLACE INTO minutes SELECT m.series, m.minute * 60.0, m.low, m.high, l.value FROM (SELECT series, "
                           "CAST(at / 60 AS INTEGER) AS minute, MIN(value) AS low, MAX(value) AS high, MAX(at) AS newest FROM looks "
                           f"WHERE {mine} AND at < ? GROUP BY series, minute) m JOIN looks l ON l.series = m.series AND l.at = m.newest",
                           (self.monitor, edge))
        connection.execute(f"DELETE FROM looks WHERE {mine} AND at < ?", (self.monitor, edge))
        connection.execute("DELETE FROM times WHERE monitor = ? AND at < ?", (self.monitor, edge))
        connection.execute(f"DELETE FROM minutes WHERE {mine} AND at < ?", (self.monitor, now - KEPT))
        gone = [r["id"] for r in connection.execute(
            "SELECT id FROM series s WHERE monitor = ? AND NOT EXISTS (SELECT 1 FROM looks WHERE series = s.id) AND NOT EXISTS "
            "(SELECT 1 FROM minutes WHERE series = s.id)", (self.monitor,)).fetchall()]
        if gone:
            connection.executemany("DELETE FROM series WHERE id = ?", [(g,) for g in gone])
            self._ids = {}

    def series(self, metric: str | None = None, labels: Mapping[str, str] | None = None) -> list[Kept]:
        """The series that are kept: all, or those of a metric that bear some labels."""
        rows = self.database.rows("SELECT * FROM series WHERE monitor = ? AND (? IS NULL OR metric = ?) ORDER BY metric, labels",
                                  (self.monitor, metric, metric))
        found = [Kept(r["id"], r["metric"], json.loads(r["labels"])) for r in rows]
        return [k for k in found if not labels or labels.items() <= k.labels.items()]

    def last(self) -> float | None:
        """When it was looked last, in seconds since the epoch."""
        return self.database.row("SELECT MAX(at) AS at FROM times WHERE monitor = ?", (self.monitor,))["at"]

    def newest(self) -> Samples:
        """What the last look saw."""
        found: Samples = {}
        for row in self.database.rows("SELECT metric, labels, value FROM looks JOIN series ON id = series WHERE monitor = ? AND at = ?",
                                      (self.monitor, self.last())):
            found.setdefault(row["metric"], []).append((json.loads(row["labels"]), math.nan if row["value"] is None else row["value"]))
        return found

    def times(self, begin: float, end: float) -> list[float]:
        """When it was looked within a time."""
        return [r["at"] for r in self.database.rows("SELECT at FROM times WHERE monitor = ? AND at BETWEEN ? AND ? ORDER BY at",
                                                    (self.monitor, begin, end))]

    def looks(self, metric: str, labels: Mapping[str, str], begin: float, end: float) -> Iterator[tuple[float, Samples]]:
        """Each look within a time, as far as it saw a metric."""
        rows: dict[float, list[tuple[dict[str, str], float]]] = {}
        for kept in self.series(metric, labels):
            for row in self.database.execute("SELECT at, value FROM looks WHERE series = ? AND at BETWEEN ? AND ?", (kept.id, begin, end)):
                rows.setdefault(row["at"], []).append((kept.labels, math.nan if row["value"] is None else row["value"]))
        for at in self.times(begin, end):
            yield at, {metric: rows[at]} if at in rows else {}

    def curve(self, metric: str, labels: Mapping[str, str], begin: float = 0.0, end: float = math.inf, *, gap: float = 30.0) -> np.ndarray:
        """A metric over time: shape (n, 2), seconds since the epoch and value.

        A counter gives its rate a second. Of several series that bear the labels, counters are added up, and of other values
        the greatest is taken. Between looks further apart than ``gap`` seconds (150 where only minutes are kept) stands a NaN.
        """
        import numpy as np

        counts = is_counter(metric)
        parts = []
        for kept in self.series(metric, labels):
            rows = [(at, value) for table, value in (("minutes", "last" if counts else "high"), ("looks", "value"))
                    for at, value in self.database._connection().execute(
                        f"SELECT at, {value} FROM {table} WHERE series = ? AND at BETWEEN ? AND ? AND {value} NOT NULL ORDER BY at",
                        (kept.id, begin, min(end, 1e12)))]
            table = np.array(rows, dtype=np.float64).reshape(-1, 2)
            parts.append(_rate(table) if counts else table)
        parts = [p for p in parts if len(p)]
        if not parts:
            return np.empty((0, 2))
        together = np.concatenate(parts)
        at, where = np.unique(together[:, 0], return_inverse=True)
        values = np.zeros(len(at)) if counts else np.full(len(at), -np.inf)
        (np.add if counts else np.maximum).at(values, where, together[:, 1])
        wide = np.where(at[1:] < at[-1] - RAW + 120, max(gap, 150.0), gap) if len(at) > 1 else np.empty(0)
        holes = np.flatnonzero(np.diff(at) > wide)
        return np.stack([np.insert(at, holes + 1, at[holes] + 1e-3), np.insert(values, holes + 1, np.nan)], axis=1)


def _rate(table: np.ndarray) -> np.ndarray:
    """A counter's rise a second between looks; a fall is a restart from zero."""
    import numpy as np

    if len(table) < 2:
        return np.empty((0, 2))
    risen = np.diff(table[:, 1])
    risen = np.where(risen < 0, table[1:, 1], risen)
    return np.stack([table[1:, 0], risen / np.maximum(np.diff(table[:, 0]), 1e-3)], axis=1)
