"""Ends of 95 % intervals: exact for shares, bootstrapped for means and ratios."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LEVEL = 0.95
RESAMPLES = 2000


def share_interval(hits: int, tries: int) -> tuple[float, float]:
    """The interval of a share that holds for every true share (Clopper and Pearson 1934).

    Examples
    --------
    >>> low, high = share_interval(0, 200)
    >>> low, round(high, 4)
    (0.0, 0.0183)
    """
    from scipy.stats import beta

    tail = (1 - LEVEL) / 2
    low = float(beta.ppf(tail, hits, tries - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, tries - hits)) if hits < tries else 1.0
    return low, high


def ratio_interval(above: np.ndarray, below: np.ndarray, seed: int) -> tuple[float, float]:
    """The interval of ``above.sum() / below.sum()`` over units drawn again (percentile bootstrap, Efron and Tibshirani 1993).

    Parameters
    ----------
    above, below : shape (units,), what each unit adds; a mean is a ratio with ones below.

    Examples
    --------
    >>> import numpy as np
    >>> low, high = ratio_interval(np.array([1.0, 2.0, 3.0]), np.ones(3), seed=0)
    >>> 1.0 <= low < 2.0 < high <= 3.0
    True
    """
    import numpy as np

    units, random = len(above), np.random.default_rng(seed)
    ratios = np.empty(RESAMPLES)
    for start in range(0, RESAMPLES, 100):  # a block at a time, so that a million units fit
        times = random.multinomial(units, np.full(units, 1 / units), size=100)
        ratios[start:start + 100] = (times @ above) / (times @ below)
    low, high = np.quantile(ratios, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
