"""Several streams read as one, by weights: which of them a position reads is a function of seed and position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .windows import Windows

if TYPE_CHECKING:
    import numpy as np
    import torch

BLOCK = 1000
"""Positions within which the weights hold to the sample."""


class Mixture:
    """Windows of several streams, each as often as its weight says.

    Parameters
    ----------
    sources : what is mixed.
    weights : how often each is read, relative to the others.

    Examples
    --------
    >>> import numpy as np
    >>> sources = [Windows(np.arange(100), context=4, seed=0), Windows(np.arange(1000, 1100), context=4, seed=0)]
    >>> mixed = Mixture(sources, [3, 1], seed=0)
    >>> sum(mixed.place(p)[0] == 0 for p in range(1000))
    750
    """

    def __init__(self, sources: Sequence[Windows], weights: Sequence[float], seed: int):
        self.sources, self.seed = list(sources), seed
        self.count = sum(s.count for s in self.sources)
        self.shares = _shares(weights)
        self._block: tuple[int, np.ndarray, np.ndarray] | None = None

    def place(self, position: int) -> tuple[int, int]:
        """Which source a position reads, and which position of it."""
        import numpy as np

        block, within = divmod(position, BLOCK)
        if self._block is None or self._block[0] != block:
            generator = np.random.Generator(np.random.PCG64([self.seed, block, 1]))
            which = generator.permutation(np.repeat(np.arange(len(self.shares)), self.shares))
            before = np.zeros(BLOCK, dtype=np.int64)
            for source in range(len(self.shares)):
                mine = which == source
                before[mine] = np.arange(int(mine.sum()))
            self._block = block, which, before
        source = int(self._block[1][within])
        return source, block * self.shares[source] + int(self._block[2][within])

    def sources_of(self, positions: Sequence[int]) -> list[int]:
        """Which of the streams the windows at positions are of."""
        return [self.place(p)[0] for p in positions]

    def named(self, positions: Sequence[int]) -> list[int]:
        """Places in their streams at which the windows at positions begin."""
        return [self.sources[s].named([n])[0] for s, n in map(self.place, positions)]

    def rows(self, positions: Sequence[int]) -> np.ndarray:
        """Ids, shape (positions, context + 1), int64."""
        import numpy as np

        return np.concatenate([self.sources[s].rows([n]) for s, n in map(self.place, positions)])

    def batch(self, positions: Sequence[int], whole: range | None = None) -> torch.Tensor:  # noqa: ARG002 - as of ``Windows``
        """The same as a tensor."""
        import torch

        return torch.from_numpy(self.rows(positions))


def _shares(weights: Sequence[float]) -> list[int]:
    """Positions of a block for each source: by largest remainders, so that they fill it; one at least for each."""
    exact = [w / sum(weights) * BLOCK for w in weights]
    shares = [max(1, int(e)) for e in exact]
    for n in sorted(range(len(exact)), key=lambda n: shares[n] - exact[n]):
        if sum(shares) < BLOCK:
            shares[n] += 1
    while sum(shares) > BLOCK:
        shares[max(range(len(shares)), key=shares.__getitem__)] -= 1
    return shares
