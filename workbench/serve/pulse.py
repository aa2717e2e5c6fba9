"""How an endpoint does just now: requests, times and tokens of the last minutes, second by second, for whoever looks."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .answer import Version

KEPT = 600
"""Seconds that are remembered."""
STEP = 2
"""Seconds that one point of the curves stands for."""
RATE, TIMES = 10, 60
"""Seconds over which rates, and over which times are told."""
MOST = 128
"""Times kept of one second and version: of more, the first count."""


@dataclass
class _Second:
    requests: int = 0
    errors: int = 0
    tokens: int = 0
    times: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)


class Pulse:
    """Counts by second and version, in memory that does not grow; Prometheus's counters are in ``metrics``.

    Parameters
    ----------
    clock : seconds since the epoch.

    Examples
    --------
    >>> pulse = Pulse(clock=lambda: 100.0)
    >>> pulse.answered("m@1", 200, 0.25)
    >>> pulse.tokens("m@1", 20)
    >>> look = pulse.look([Version("m", "1", 100)], now=101.0)
    >>> look["versions"][0]["p95"], look["versions"][0]["requests_a_second"], look["versions"][0]["tokens_a_second"]
    (0.25, 1.0, 20.0)
    """

    def __init__(self, clock: Callable[[], float] = time.time):
        self._clock, self.since = clock, clock()
        self._seconds: deque[tuple[int, dict[str, _Second]]] = deque()

    def answered(self, model: str, code: int, seconds: float) -> None:
        """Count a request that has ended; one that its client gave up (499) is no error and tells nothing of times."""
        now = self._now(model)
        now.requests += 1
        now.errors += code >= 400 and code != 499
        if code == 200 and len(now.times) < MOST:
            now.times.append(seconds)

    def first(self, model: str, seconds: float) -> None:
        """Note the time to the first text of a stream."""
        if len(found := self._now(model).firsts) < MOST:
            found.append(seconds)

    def tokens(self, model: str, count: int) -> None:
        """Count tokens as they are written."""
        self._now(model).tokens += count

    def look(self, versions: Iterable[Version], *, now: float | None = None) -> dict[str, Any]:
        """Numbers of each version, and curves of the last minutes.

        Rates are over the last whole seconds (as many as there were since the start, at most ten), times over the last minute
        (None where nothing was answered), ``requests`` and ``errors`` over all that is remembered. ``history`` holds, for each
        version, requests a second, the 95th percentile of the times and tokens a second; ``at`` are the ends of its steps.
        """
        versions = list(versions)
        now = self._clock() if now is None else now
        self._forget(now)
        end = int(now)
        rated = max(1.0, min(float(RATE), end - math.floor(self.since)))
        total = sum(v.weight for v in versions) or 1
        begin = max(end - KEPT, int(self.since)) // STEP * STEP
        ends = list(range(begin + STEP, end + 1, STEP))
        told, curves = [], {}
        for version in versions:
            rows = [(second, models[version.reference]) for second, models in self._seconds if version.reference in models]
            whole = [r for s, r in rows if end - RATE <= s < end]
            late = [r for s, r in rows if s >= end - TIMES]
            times, firsts = [t for r in late for t in r.times], [t for r in late for t in r.firsts]
            told.append({"reference": version.reference, "name": version.name, "digest": version.digest, "weight": version.weight,
                         "share": version.weight / total, "requests_a_second": sum(r.requests for r in whole) / rated,
                         "tokens_a_second": sum(r.tokens for r in whole) / rated, "p50": quantile(times, 0.5), "p95": quantile(times, 0.95),
                         "first": quantile(firsts, 0.5), "requests": sum(r.requests for _, r in rows),
                         "errors": sum(r.errors for _, r in rows)})
            steps: list[list[_Second]] = [[] for _ in ends]
            for second, row in rows:
                if 0 <= (place := (second - begin) // STEP) < len(ends):
                    steps[place].append(row)
            curves[version.reference] = {"requests": [sum(r.requests for r in s) / STEP for s in steps],
                                         "p95": [quantile([t for r in s for t in r.times], 0.95) for s in steps],
                                         "tokens": [sum(r.tokens for r in s) / STEP for s in steps]}
        refused = sum(m[""].requests for _, m in self._seconds if "" in m)
        return {"at": now, "since": self.since, "kept": KEPT, "versions": told, "refused": refused,
                "history": {"at": ends, "versions": curves}}

    def _now(self, model: str) -> _Second:
        second = int(self._clock())
        if not self._seconds or second > self._seconds[-1][0]:  # a clock that was put back counts into the newest second
            self._seconds.append((second, {}))
            self._forget(second)
        return self._seconds[-1][1].setdefault(model, _Second())

    def _forget(self, now: float) -> None:
        while self._seconds and self._seconds[0][0] < now - KEPT:
            self._seconds.popleft()


def quantile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least this share of all do not exceed; None of none.

    Examples
    --------
    >>> quantile([3.0, 1.0, 2.0], 0.5), quantile([], 0.5)
    (2.0, None)
    """
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else None
