"""Random numbers by number: what a thing gets depends on a seed and its own number alone, whatever is drawn beside it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def normals(seed: int, numbers: Iterable[int], shape: tuple[int, ...]) -> torch.Tensor:
    """Standard normal numbers of a shape for each number, float32, on the CPU.

    Examples
    --------
    >>> import torch
    >>> torch.equal(normals(0, [7], (2, 2))[0], normals(0, [3, 7], (2, 2))[1])
    True
    """
    import numpy as np
    import torch

    drawn = [np.random.Generator(np.random.PCG64([seed, n])).standard_normal(shape, dtype=np.float32) for n in numbers]
    return torch.from_numpy(np.stack(drawn) if drawn else np.zeros((0, *shape), np.float32))


def spread(seed: int, numbers: Iterable[int]) -> torch.Tensor:
    """A number in [0, 1) for each number, float64: any that follow one another lie evenly over it (the golden ratio's multiples).

    Examples
    --------
    >>> [round(x, 2) for x in spread(0, range(5)).tolist()]
    [0.0, 0.62, 0.24, 0.85, 0.47]
    """
    import numpy as np
    import torch

    begin = np.random.Generator(np.random.PCG64([seed])).random() if seed else 0.0
    return torch.from_numpy((begin + np.fromiter(numbers, np.float64) * 0.6180339887498949) % 1.0)
