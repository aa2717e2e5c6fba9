"""What bounds a training, in words: data, computing, the ranks' exchange, or memory; by the last minute of its ranks' vitals."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

MINUTE = 60.0
DATA_BOUND, LINK_BOUND, STARVED, BETWEEN, FULL = 0.1, 0.25, 0.25, 0.4, 0.92
"""Shares of a step (of the memory) from which waiting for data, for the other ranks, for a core, what comes between
steps, or memory is what to look at first."""
UNEVEN = 1.3
"""Times that the slowest rank computes longer than the fastest, from which it is it that the others wait for."""


class LastMinute:
    """The vitals of all ranks over the last minute."""

    def __init__(self, seconds: float = MINUTE):
        self.seconds = seconds
        self._rows: deque[tuple[float, Mapping[str, Any]]] = deque()

    def add(self, at: float, ranks: Iterable[Mapping[str, Any]]) -> None:
        """What the ranks told at a time."""
        self._rows += [(at, r) for r in ranks]
        while self._rows and self._rows[0][0] < at - self.seconds:
            self._rows.popleft()

    def verdict(self) -> dict[str, Any] | None:
        """The verdict over what was told; None before a step was told of."""
        return judged([r for _, r in self._rows])


def judged(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What bounds a training.

    Parameters
    ----------
    rows : what ranks told (``vitals.Vitals``), with ``rank``.

    Returns
    -------
    dict or None
        ``bound`` (data, computing, exchange, busy, measures, memory), ``words``, ``do`` (what would help), ``ranks`` (for each,
        medians of its figures); None where no step was told of.

    Examples
    --------
    >>> row = {"rank": 0, "step_seconds": 0.1, "wait_seconds": 0.04, "forward_seconds": 0.06}
    >>> found = judged([row])
    >>> found["bound"], found["words"]
    ('data', 'data-bound: 40 % of a step is waiting for data')
    """
    by_rank: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row.get("step_seconds"):
            by_rank.setdefault(row["rank"], []).append(row)
    if not by_rank:
        return None
    ranks = []
    for rank, told in sorted(by_rank.items()):
        figures = {"rank": rank}
        for name in ("step_seconds", "wait_seconds", "blocked_seconds", "starved_seconds", "forward_seconds", "backward_seconds",
                     "optimizer_seconds", "cpu", "memory", "memory_limit", "gpu_memory", "gpu_memory_limit"):
            values = [t[name] for t in told if t.get(name) is not None]
            if values:
                figures[name] = median(values)
        ranks.append(figures)
    step = median(r["step_seconds"] for r in ranks)
    starved = median(r.get("starved_seconds", 0.0) for r in ranks) / step
    wait = max(r.get("wait_seconds", 0.0) for r in ranks) / step
    blocked = median(r.get("blocked_seconds", 0.0) for r in ranks) / step
    full = max(_full(ranks), default=0.0)
    computing = [r.get("forward_seconds", 0.0) + r.get("backward_seconds", 0.0) - r.get("blocked_seconds", 0.0)
                 - r.get("starved_seconds", 0.0) for r in ranks]
    within = median(sum(r.get(f"{p}_seconds", 0.0) for p in ("wait", "forward", "backward", "optimizer")) for r in ranks)
    between = max(0.0, 1 - within / step)
    bound, words, do = _words(wait, blocked, starved, between, full, computing, ranks)
    return {"bound": bound, "words": words, "do": do, "step_seconds": step, "wait": wait, "blocked": blocked, "starved": starved,
            "between": between, "full": full, "ranks": ranks}


def _words(wait: float, blocked: float, starved: float, between: float, full: float, computing: list[float],
           ranks: list[dict[str, Any]]) -> tuple[str, str, str]:
    if full >= FULL:
        return ("memory", f"memory-bound: {full:.0%} of the memory is taken".replace("%", " %"),
                "Lower batch.sequences and raise batch.accumulate by as much, or set hardware.recompute=true")
    if wait >= DATA_BOUND and wait >= blocked:
        return ("data", f"data-bound: {wait:.0%} of a step is waiting for data".replace("%", " %"),
                "Add loaders, or keep the data nearer")
    if starved >= STARVED and starved >= blocked:
        return ("busy", f"short of cores: {starved:.0%} of a step is waiting for one that others use".replace("%", " %"),
                "End other work on the machine, or lower hardware.threads")
    if blocked >= LINK_BOUND:
        slowest = max(range(len(computing)), key=computing.__getitem__)
        if min(computing) > 0 and computing[slowest] / min(computing) >= UNEVEN:
            return ("exchange", f"communication-bound: {blocked:.0%} of a step is waiting for rank {ranks[slowest]['rank']}, "
                    "which computes "
                    f"{computing[slowest] / min(computing):.1f} times as long as the fastest".replace("%", " %"),
                    "Give it as many cores as the others, or leave its machine out")
        return ("exchange", f"communication-bound: {blocked:.0%} of a step is waiting for the other ranks".replace("%", " %"),
                "Raise batch.accumulate or batch.sequences: more work between two exchanges; or take fewer ranks")
    if between >= BETWEEN:
        return ("measures",
                f"{between:.0%} of the time goes to what comes between steps: measures, samples, checkpoints".replace("%", " %"),
                "Raise every.evaluate and every.sample")
    rest = max(0.0, 1 - wait - blocked - starved - between)
    return ("computing", f"compute-bound: {rest:.0%} of a step is computing".replace("%", " %"),
            "More or faster devices make it faster; nothing else stands in the way")


def _full(ranks: list[dict[str, Any]]) -> list[float]:
    """How full memory is, as shares: that of each rank and of each GPU."""
    return [r[part] / r[f"{part}_limit"] for part in ("gpu_memory", "memory") for r in ranks if r.get(part) and r.get(f"{part}_limit")]
