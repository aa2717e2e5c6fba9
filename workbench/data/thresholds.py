"""Bounds of the quality step moved without a run: how many records would change sides, and which."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .review import Review
from .spec import Quality
from .steps.quality import BOUNDS

if TYPE_CHECKING:
    import numpy as np

BINS = 48
LABELS = {"min_characters": "at least", "max_characters": "at most", "max_symbols": "at most", "max_repeated_lines": "at most",
          "max_repeated_words": "at most"}


def broken(step: Quality, scores: dict[str, np.ndarray]) -> np.ndarray:
    """True for each record that breaks a bound; one without measures breaks none."""
    import numpy as np

    found = np.zeros(len(next(iter(scores.values()))), bool)
    for bound, name in BOUNDS.items():
        limit, values = getattr(step, bound), scores[name]
        found |= (values < limit) if bound == "min_characters" else (values > limit)
    return found


def moved(review: Review, step: Quality, fixed: Iterable[str] = ()) -> tuple[np.ndarray, np.ndarray]:
    """(records that would go, records that would come back) under other bounds, by this step alone.

    What comes back may be dropped by a later step or be a duplicate of what is there: that only a run says. Records in ``fixed``, which
    a person keeps or drops, don't move.
    """
    import numpy as np

    codes = np.asarray(review.codes)
    ours = [n for n, (name, _) in enumerate(review.reasons) if name == "quality"]
    fails = broken(step, review.scores)
    goes = (codes == 0) & fails
    back = np.isin(codes, ours) & ~fails
    still = review.rows_of(list(fixed))
    goes[still] = back[still] = False
    return goes, back


def histograms(review: Review, step: Quality) -> list[dict[str, Any]]:
    """For each measure its bins of kept and dropped records, its range, and the bounds that it has."""
    import numpy as np

    found = []
    for name in dict.fromkeys(BOUNDS.values()) if review.scores else ():
        values = np.asarray(review.scores[name])
        values = values[~np.isnan(values)]
        if not len(values):
            continue
        bounds = [b for b, measure in BOUNDS.items() if measure == name]
        if name == "characters":
            low, high = 1.0, float(max(values.max() * 1.05, step.min_characters * 1.5, 100))
        else:
            low, high = 0.0, float(min(1.0, max(values.max(), *(getattr(step, b) for b in bounds), 0.02) * 1.1))
        kept, dropped = review.histogram(name, low, high, BINS, logarithmic=name == "characters")
        found.append({"name": name, "low": low, "high": high, "logarithmic": name == "characters", "kept": kept, "dropped": dropped,
                      "bounds": [{"field": b, "says": LABELS[b], "value": getattr(step, b)} for b in bounds]})
    return found
