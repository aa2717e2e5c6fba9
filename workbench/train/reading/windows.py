"""Windows of a token stream: what pretraining reads."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .order import NearOrder, Order

if TYPE_CHECKING:
    import numpy as np
    import torch


TOGETHER = 4
"""Blocks of a fetched stream whose windows are mixed."""
AHEAD = 256
"""Windows that a fetched stream is told of beforehand."""


class Windows:
    """Windows of ``context`` + 1 tokens. Each epoch cuts the stream at another offset and takes the windows in another order.

    Parameters
    ----------
    stream : ids, shape (tokens,), at least ``context`` + 1 of them.
    """

    def __init__(self, stream: np.ndarray, *, context: int, seed: int):
        self.stream, self.context = stream, context
        self.count = max(1, (len(stream) - 1) // context - 1)
        block = getattr(stream, "block", None)  # of a stream that is fetched
        self.order = Order(self.count, seed) if block is None else NearOrder(self.count, seed, block=block // context, together=TOGETHER)
        self._offset: tuple[int, int] = (-1, 0)

    def sources_of(self, positions: Sequence[int]) -> list[int]:
        """Which of several streams the windows at positions are of: here there is one."""
        return [0] * len(positions)

    def named(self, positions: Sequence[int]) -> list[int]:
        """Places in the stream at which the windows at positions begin."""
        return [self._start(n) for n in positions]

    def rows(self, positions: Sequence[int]) -> np.ndarray:
        """Ids, shape (positions, context + 1), int64: of each window the first is given, all others are predicted."""
        import numpy as np

        rows = np.stack([self.stream[s:s + self.context + 1] for s in self.named(positions)]).astype(np.int64)
        if positions and hasattr(self.stream, "ahead"):
            self.stream.ahead([self._start(p) for p in range(positions[-1] + 1, self._until(positions[-1]))])
        return rows

    def batch(self, positions: Sequence[int], whole: range | None = None) -> torch.Tensor:  # noqa: ARG002 - what a step holds as a whole is no matter here
        """The same as a tensor."""
        import torch

        return torch.from_numpy(self.rows(positions))

    def _until(self, position: int) -> int:
        """The end of what is read soon, within the epoch: to look into the next is to shuffle it."""
        return min(position + AHEAD, (position // self.count + 1) * self.count)

    def _start(self, position: int) -> int:
        epoch, place = self.order.at(position)
        if self._offset[0] != epoch:
            room = min(self.context, len(self.stream) - self.count * self.context - 1)
            self._offset = epoch, int(self.order.epoch(epoch)[1].integers(room + 1))
        return place * self.context + self._offset[1]


def digest_rows(rows: np.ndarray) -> str:
    """What tells one batch from another."""
    return hashlib.sha256(rows.tobytes()).hexdigest()
