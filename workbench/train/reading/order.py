"""Which samples a step takes, and which of them fall to which rank: functions of seed and step alone, whatever the ranks.

A training reads positions 0, 1, 2 …; step ``s`` takes the ``samples`` positions from ``s * samples`` on. They are cut into
chunks, and the ranks take turns at the chunks. How many ranks there are decides who reads a sample, never which are read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


class Order:
    """The samples of a dataset in a seeded order, each once an epoch.

    Examples
    --------
    >>> order = Order(3, seed=0)
    >>> sorted(order.at(n)[1] for n in range(3)), [order.at(n)[0] for n in range(4)]
    ([0, 1, 2], [0, 0, 0, 1])
    """

    def __init__(self, count: int, seed: int):
        self.count, self.seed = max(1, count), seed
        self._epoch: tuple[int, np.ndarray, np.random.Generator] | None = None

    def at(self, position: int) -> tuple[int, int]:
        """Epoch and sample at a position."""
        epoch, place = divmod(position, self.count)
        return epoch, int(self.epoch(epoch)[0][place])

    def epoch(self, number: int) -> tuple[np.ndarray, np.random.Generator]:
        """The order of an epoch, and a generator for what else is drawn once an epoch: the first draw is always the same."""
        import numpy as np

        if self._epoch is None or self._epoch[0] != number:
            generator = np.random.Generator(np.random.PCG64([self.seed, number]))
            self._epoch = number, generator.permutation(self.count), generator
        return self._epoch[1], self._epoch[2]


class NearOrder(Order):
    """A seeded order in which samples that lie near one another come near one another: for data that is fetched in blocks.

    Blocks are shuffled, then the samples of so many blocks together: a reader needs no more than these at once.

    Parameters
    ----------
    block : samples of a block.
    together : blocks whose samples are mixed.

    Examples
    --------
    >>> order = NearOrder(10, seed=0, block=2, together=2)
    >>> sorted(order.at(n)[1] for n in range(10)) == list(range(10))
    True
    """

    def __init__(self, count: int, seed: int, *, block: int, together: int):
        super().__init__(count, seed)
        self.block, self.together = max(1, block), max(1, together)

    def epoch(self, number: int) -> tuple[np.ndarray, np.random.Generator]:
        import numpy as np

        if self._epoch is None or self._epoch[0] != number:
            generator = np.random.Generator(np.random.PCG64([self.seed, number]))
            blocks = generator.permutation(-(-self.count // self.block))
            samples = [np.arange(b * self.block, min((b + 1) * self.block, self.count)) for b in blocks]
            groups = [np.concatenate(samples[n:n + self.together]) for n in range(0, len(samples), self.together)]
            self._epoch = number, np.concatenate([generator.permutation(g) for g in groups]), generator
        return self._epoch[1], self._epoch[2]


@dataclass(frozen=True)
class Share:
    """What of each step falls to a rank.

    Parameters
    ----------
    sequences : samples of a chunk.
    chunks : chunks of a step, over all ranks.
    split : parts that a chunk is computed in, where it is too large for the memory at once.

    Examples
    --------
    Three chunks of two samples: one rank makes three batches of them, two ranks two each, the last of them for nothing.

    >>> [Share(2, 3).batch(n)[1:] for n in range(3)]
    [([0, 1], 1.0), ([2, 3], 1.0), ([4, 5], 1.0)]
    >>> [Share(2, 3, rank=1, world=2).batch(n)[1:] for n in range(2)]
    [([2, 3], 1.3333333333333333), ([0, 1], 0.0)]
    """

    sequences: int
    chunks: int
    rank: int = 0
    world: int = 1
    split: int = 1

    @property
    def samples(self) -> int:
        """Samples of a step, over all ranks."""
        return self.sequences * self.chunks

    @property
    def accumulate(self) -> int:
        """Batches that make a step, in each rank."""
        return math.ceil(self.chunks / self.world) * self.split

    def whole(self, step: int) -> range:
        """Positions of a step, over all ranks; ``step`` counts from 0."""
        return range(step * self.samples, (step + 1) * self.samples)

    def batch(self, number: int) -> tuple[int, list[int], float]:
        """Step (from 0), positions and weight of a rank's batch.

        A mean over batches and ranks, each times its weight, is the mean over the step's chunks. A rank that has no chunk
        left when others have takes another for a weight of 0: all ranks make as many batches.
        """
        step, within = divmod(number, self.accumulate)
        turn, part = divmod(within, self.split)
        chunk = turn * self.world + self.rank
        turns = self.accumulate // self.split
        weight = turns * self.world / self.chunks
        if chunk >= self.chunks:
            chunk, weight = chunk % self.chunks, 0.0
        first, last = (part + n for n in (0, 1))
        first, last = (round(n * self.sequences / self.split) for n in (first, last))
        if self.split > 1:
            weight *= (last - first) * self.split / self.sequences
        begin = step * self.samples + chunk * self.sequences
        return step, list(range(begin + first, begin + last)), weight
