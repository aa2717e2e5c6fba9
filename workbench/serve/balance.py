"""Who answers next: versions in exact proportion to their weights, replicas by how little they have to do."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping


class Turns:
    """Smooth weighted round robin, as nginx does it: over any run of requests each key gets its share, evenly spread.

    Examples
    --------
    >>> turns = Turns({"old": 3, "new": 1})
    >>> [turns.next() for _ in range(8)]
    ['old', 'old', 'new', 'old', 'old', 'old', 'new', 'old']
    """

    def __init__(self, weights: Mapping[str, float]):
        self.weights = {k: float(w) for k, w in weights.items()}
        self._credit = dict.fromkeys(self.weights, 0.0)

    def next(self, among: Collection[str] | None = None) -> str | None:
        """The key whose turn it is, of those with weight (and ``among`` these, where some of them have weight)."""
        able = [k for k, w in self.weights.items() if w > 0]
        able = [k for k in able if among is not None and k in among] or able
        if not able:
            return None
        for key in able:
            self._credit[key] += self.weights[key]
        chosen = max(able, key=self._credit.__getitem__)
        self._credit[chosen] -= sum(self.weights[k] for k in able)
        return chosen


def least_busy(loads: Iterable[tuple[str, int]], most: int) -> str | None:
    """The key with the smallest load below ``most``; of equal ones the first.

    Examples
    --------
    >>> least_busy([("a", 2), ("b", 1), ("c", 1)], 4), least_busy([("a", 4)], 4)
    ('b', None)
    """
    able = [(load, n, key) for n, (key, load) in enumerate(loads) if load < most]
    return min(able)[2] if able else None
