"""The next token from logits: greedy, or drawn with temperature and top-p by a number that seed and position give."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Sampling:
    """How one answer is drawn; ``temperature`` 0 is greedy, ``top_p`` is nucleus sampling (Holtzman et al. 2020)."""

    seed: int
    temperature: float = 1.0
    top_p: float = 1.0


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) that depends on seed and position alone, so that an answer can be taken up at any token.

    Examples
    --------
    >>> uniform(1, 0) == uniform(1, 0) != uniform(1, 1)
    True
    """
    word = hashlib.blake2b(f"{seed}/{position}".encode(), digest_size=8).digest()
    return (int.from_bytes(word, "big") >> 11) / (1 << 53)


def draw(logits: torch.Tensor, how: Sequence[Sampling], positions: Sequence[int]) -> list[int]:
    """One token a row.

    Parameters
    ----------
    logits : float [rows, vocabulary].
    how, positions : for each row, its sampling and the number of tokens answered before.
    """
    tokens = logits.argmax(-1).tolist()
    rows = [r for r, s in enumerate(how) if s.temperature > 0]
    if rows:
        for row, token in zip(rows, _drawn(logits[rows], [how[r] for r in rows], [positions[r] for r in rows]), strict=True):
            tokens[row] = token
    return tokens


def _drawn(logits: torch.Tensor, how: list[Sampling], positions: list[int]) -> list[int]:
    import torch

    heat = torch.tensor([[s.temperature] for s in how], dtype=torch.float64)
    # Less the greatest before the division: a temperature near 0 must not overflow.
    scaled = (logits.double() - logits.max(-1, keepdim=True).values) / heat
    weights, order = torch.softmax(scaled, -1).sort(dim=-1, descending=True, stable=True)
    above = weights.cumsum(-1)
    share = torch.tensor([[s.top_p] for s in how], dtype=torch.float64)
    kept = (above - weights < share).sum(-1, keepdim=True)  # at least one: the first has nothing above it
    mass = above.gather(-1, kept - 1)
    points = torch.tensor([[uniform(s.seed, p)] for s, p in zip(how, positions, strict=True)], dtype=torch.float64) * mass
    place = torch.minimum((above <= points).sum(-1, keepdim=True), kept - 1)
    return order.gather(-1, place)[:, 0].tolist()
