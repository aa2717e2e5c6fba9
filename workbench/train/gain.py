"""What a training brought: the same held-out windows scored before the first step and after the last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

RESAMPLES = 1000


def gained(before: Sequence[Sequence[float]], after: Sequence[Sequence[float]], scale: float = 1 / math.log(2),
           seed: int = 0) -> dict[str, Any]:
    """A measure before and after, and their difference with its 95 % interval.

    Both are measured on the same windows, so windows are resampled in pairs (percentile bootstrap; Efron and Tibshirani, "An
    Introduction to the Bootstrap", 1993): what one window is harder than another drops out of the difference.

    Parameters
    ----------
    before, after : (amount, weight) of each part that is measured: (nats, bytes) of a window, for one.
    scale : what amount / weight is multiplied with; as given, nats a byte become bits a byte.

    Returns
    -------
    dict
        ``before``, ``after``, ``difference`` (after − before), ``low``, ``high`` (None where there is one part alone), ``windows``.

    Examples
    --------
    >>> found = gained([(80, 10), (88, 11)], [(20, 10), (22, 11)])
    >>> round(found["before"], 2), round(found["difference"], 2), found["low"] <= found["difference"] <= found["high"]
    (11.54, -8.66, True)
    >>> gained([(2.0, 1)], [(0.5, 1)], scale=1)["difference"]
    -1.5
    """
    import numpy as np

    first, last = (np.asarray(t, dtype=np.float64).reshape(-1, 2) for t in (before, after))
    if first.shape != last.shape or not len(first):
        raise ValueError(f"windows differ: {len(first)} before, {len(last)} after")

    def measure(table: np.ndarray) -> np.ndarray:
        sums = table.sum(axis=-2)
        return sums[..., 0] * scale / np.maximum(sums[..., 1], 1.0)

    drawn = np.random.Generator(np.random.PCG64(seed)).integers(len(first), size=(RESAMPLES, len(first)))
    low, high = np.percentile(measure(last[drawn]) - measure(first[drawn]), [2.5, 97.5])
    was, now = float(measure(first)), float(measure(last))
    several = len(first) > 1  # of one part nothing can be told about others
    return {"before": was, "after": now, "difference": now - was, "low": float(low) if several else None,
            "high": float(high) if several else None, "windows": len(first)}
