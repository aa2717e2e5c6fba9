"""Two versions of a dataset beside each other: which records came, went, or read otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .review import Review

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Comparison:
    """What differs between the kept records of two versions."""

    now: Review
    before: Review
    added: np.ndarray
    """rows of ``now`` that ``before`` does not keep"""
    removed: np.ndarray
    """rows of ``before`` that ``now`` does not keep"""
    changed: np.ndarray
    """rows of ``now`` that ``before`` keeps with another text: the same record, or the same place in the same source"""

    def other(self, row: int) -> int | None:
        """The row in ``before`` of a changed record of ``now``."""
        import numpy as np

        for mine, theirs in ((self.now.ids, self.before.ids), (self.now.places, self.before.places)):
            found = np.flatnonzero((theirs == mine[row]) & (np.asarray(self.before.codes) == 0))
            if len(found):
                return int(found[0])
        return None


def compare(now: Review, before: Review) -> Comparison:
    """Compare what two versions keep.

    A record is the same where its id is (place and original content); where only its place is the same, it counts as changed.
    """
    import numpy as np

    kept, past = np.flatnonzero(np.asarray(now.codes) == 0), np.flatnonzero(np.asarray(before.codes) == 0)
    at = _match(now.ids[kept], before.ids[past])
    same = at >= 0
    changed = np.zeros(len(kept), bool)
    changed[same] = now.contents[kept[same]] != before.contents[past[at[same]]]
    left = np.ones(len(past), bool)
    left[at[same]] = False
    rest, gone = np.flatnonzero(~same), np.flatnonzero(left)
    place = _match(now.places[kept[rest]], before.places[past[gone]])
    moved = place >= 0
    changed[rest[moved]] = True
    left[gone[place[moved]]] = False
    return Comparison(now, before, kept[rest[~moved]], past[np.flatnonzero(left)], kept[changed])


def _match(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """For each of mine its place in theirs, or -1; where several are equal each of theirs is met by one of mine at most."""
    import numpy as np

    if not len(theirs) or not len(mine):
        return np.full(len(mine), -1, np.int64)
    order, own = theirs.argsort(kind="stable"), mine.argsort(kind="stable")
    values = mine[own]
    first = np.searchsorted(values, values)  # the how-manieth of its kind
    at = np.searchsorted(theirs[order], values) + np.arange(len(values)) - first
    there = at < len(order)
    met = np.zeros(len(values), bool)
    met[there] = theirs[order[at[there]]] == values[there]
    found = np.full(len(mine), -1, np.int64)
    found[own[met]] = order[at[met]]
    return found
