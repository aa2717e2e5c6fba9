"""Counters over a time window: increases, rates of errors, quantiles from histogram buckets; what the built-in rules look at."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence

from ..storage import Database
from ..workspace import Workspace
from .metrics import Samples, Series

SECONDS = 60.0
"""Length of the window that errors and p95 are taken over."""
COUNTED = ("workbench_requests_total", "workbench_request_seconds_bucket")
"""The counters of an endpoint's ``/metrics`` that are kept over the window."""

Key = tuple[str, tuple[tuple[str, str], ...]]
Snapshot = dict[Key, float]
"""(name, sorted labels) -> value, at one time."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS snapshots (
  monitor TEXT NOT NULL, endpoint TEXT NOT NULL, at REAL NOT NULL, counters TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS snapshots_at ON snapshots (monitor, endpoint, at);
"""


class Window:
    """The counters of each endpoint over the last ``SECONDS``; kept on disk, so that a restart forgets nothing of them."""

    def __init__(self, workspace: Workspace, monitor: str):
        self.monitor = monitor
        self.database = Database(workspace.path("alerts.db"), _SCHEMA)

    def add(self, endpoint: str, samples: Samples, now: float) -> None:
        """Keep what an endpoint's page counts now; what is older than the window goes."""
        counters = [[name, labels, value] for (name, labels), value in snapshot(samples).items()]
        with self.database.transaction() as connection:
            # The newest that is older than the window is its beginning.
            connection.execute("DELETE FROM snapshots WHERE monitor = ? AND endpoint = ? AND at < (SELECT MAX(at) FROM snapshots WHERE "
                               "monitor = ? AND endpoint = ? AND at <= ?)", (self.monitor, endpoint, self.monitor, endpoint, now - SECONDS))
            connection.execute("INSERT INTO snapshots VALUES (?,?,?,?)", (self.monitor, endpoint, now, json.dumps(counters)))

    def risen(self, endpoint: str, now: float) -> Snapshot:
        """The increase of each of its counters over the window."""
        rows = self.database.rows("SELECT counters FROM snapshots WHERE monitor = ? AND endpoint = ? AND at > ? ORDER BY at",
                                  (self.monitor, endpoint, now - 2 * SECONDS))
        return increases([{(n, tuple(map(tuple, labels))): v for n, labels, v in json.loads(r["counters"])} for r in rows])

    def span(self, endpoint: str, now: float) -> float:
        """Seconds that its snapshots cover."""
        row = self.database.row("SELECT MIN(at) AS first, MAX(at) AS last FROM snapshots WHERE monitor = ? AND endpoint = ? AND at > ?",
                                (self.monitor, endpoint, now - 2 * SECONDS))
        return row["last"] - row["first"] if row["first"] is not None else 0.0


def snapshot(samples: Samples) -> Snapshot:
    """The counters of a page that the window needs."""
    return {(name, tuple(sorted(labels.items()))): value for name in COUNTED for labels, value in samples.get(name, ())
            if math.isfinite(value)}


def increase(values: Iterable[float]) -> float:
    """How much a counter rose over its successive values; a fall is a restart from zero.

    Examples
    --------
    >>> increase([5, 8, 2, 4])
    7
    """
    values = list(values)
    return sum(now - before if now >= before else now for before, now in itertools.pairwise(values))


def increases(snapshots: Sequence[Snapshot]) -> Snapshot:
    """The increase of every counter over snapshots of one endpoint in the order of time.

    What the first snapshot holds was counted before; a counter that comes later began at zero.
    """
    if len(snapshots) < 2:
        return {}
    found = {}
    for key in dict.fromkeys(k for s in snapshots for k in s):
        # A counter that was there and is gone for a while (its process was replaced) keeps what it had.
        values = [s[key] for s in snapshots if key in s]
        found[key] = increase(values if key in snapshots[0] else [0.0, *values])
    return found


def quantile(share: float, buckets: Mapping[float, float]) -> float | None:
    """The value below which a share of the observations lies, by linear interpolation within its bucket.

    The same as Prometheus' ``histogram_quantile`` for non-negative buckets.

    Parameters
    ----------
    buckets : upper bound (``inf`` for the last) -> observations at or below it.

    Examples
    --------
    >>> quantile(0.5, {1.0: 2, 2.0: 4, float("inf"): 4})
    1.0
    """
    bounds = sorted(buckets)
    if not bounds or bounds[-1] != math.inf or len(bounds) < 2:
        return None
    counts: list[float] = []
    for bound in bounds:  # a scrape amid an observation may leave them uneven
        counts.append(max(buckets[bound], counts[-1] if counts else 0.0))
    if counts[-1] <= 0:
        return None
    rank = share * counts[-1]
    at = next(n for n, c in enumerate(counts) if c >= rank)
    if at == len(bounds) - 1:
        return bounds[-2]
    begin, below = (bounds[at - 1], counts[at - 1]) if at else (0.0, 0.0)
    inside = counts[at] - below
    return begin + (bounds[at] - begin) * ((rank - below) / inside if inside else 1.0)


def error_ratios(risen: Snapshot) -> list[Series]:
    """Share of each endpoint's requests that were answered with a 5xx, 0 to 1; none for an endpoint without requests."""
    total: dict[str, float] = {}
    failed: dict[str, float] = {}
    for (name, labels), count in risen.items():
        if name == COUNTED[0]:
            told = dict(labels)
            endpoint = told.get("endpoint", "")
            total[endpoint] = total.get(endpoint, 0.0) + count
            failed[endpoint] = failed.get(endpoint, 0.0) + count * told.get("code", "").startswith("5")
    return [({"endpoint": e}, failed[e] / n) for e, n in total.items() if n > 0]


def request_rates(endpoint: str, risen: Snapshot, seconds: float) -> list[Series]:
    """An endpoint's requests a second, from their increase over so many seconds; none before there were two looks."""
    total = sum(count for (name, _), count in risen.items() if name == COUNTED[0])
    return [({"endpoint": endpoint}, total / seconds)] if seconds > 0 else []


def latencies(risen: Snapshot, share: float = 0.95) -> list[Series]:
    """The quantile of the time that an endpoint took for a request, in seconds, by endpoint and model."""
    groups: dict[tuple[tuple[str, str], ...], dict[float, float]] = {}
    for (name, labels), count in risen.items():
        if name == COUNTED[1]:
            told = dict(labels)
            try:
                bound = float(told.pop("le", "").replace("+Inf", "inf"))
            except ValueError:
                continue
            group = groups.setdefault(tuple(sorted((k, v) for k, v in told.items() if k in ("endpoint", "model"))), {})
            group[bound] = group.get(bound, 0.0) + count
    found = [(dict(g), quantile(share, b)) for g, b in groups.items()]
    return [(labels, value) for labels, value in found if value is not None]
