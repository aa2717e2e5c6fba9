"""Batches of windows of a token stream: what a training reads, a function of seed, rank and number alone."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


class Windows:
    """Batches of windows of a token stream; batch ``n`` depends on seed, rank and ``n`` alone, so resuming is exact.

    Each epoch cuts the stream at another offset into windows of ``context`` + 1 tokens and takes them in another order.

    Parameters
    ----------
    stream : ids, shape (tokens,), at least ``context`` + 1 of them.
    """

    def __init__(self, stream: np.ndarray, *, context: int, sequences: int, seed: int, rank: int = 0, world: int = 1):
        self.stream, self.context, self.sequences = stream, context, sequences
        self.seed, self.rank, self.world = seed, rank, world
        self.windows = max(1, (len(stream) - 1) // context - 1)
        self._epoch: tuple[int, np.ndarray, int] | None = None

    def starts(self, number: int) -> list[int]:
        """Places in the stream at which the windows of a batch begin."""
        first = (number * self.world + self.rank) * self.sequences
        return [self._start(n) for n in range(first, first + self.sequences)]

    def rows(self, number: int) -> np.ndarray:
        """Ids of a batch, shape (sequences, context + 1), int64: of each window the first is given, all others are predicted."""
        import numpy as np

        return np.stack([self.stream[s:s + self.context + 1] for s in self.starts(number)]).astype(np.int64)

    def batch(self, number: int) -> torch.Tensor:
        """The same as a tensor."""
        import torch

        return torch.from_numpy(self.rows(number))

    def _start(self, index: int) -> int:
        import numpy as np

        epoch, place = divmod(index, self.windows)
        if self._epoch is None or self._epoch[0] != epoch:
            generator = np.random.Generator(np.random.PCG64([self.seed, epoch]))
            room = min(self.context, len(self.stream) - self.windows * self.context - 1)
            self._epoch = epoch, generator.permutation(self.windows), int(generator.integers(room + 1))
        return int(self._epoch[1][place]) * self.context + self._epoch[2]


def digest_rows(rows: np.ndarray) -> str:
    """What tells one batch from another."""
    return hashlib.sha256(rows.tobytes()).hexdigest()
