"""Diffusion: a U-Net learns to tell the noise in pictures, and so makes pictures of noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import mse_loss

from ...model.chance import normals, spread
from ...model.diffuser import Diffuser
from ..objective import spaced
from ..reading.pixels import Pictures, Pixels, floats
from .pictured import Pictured

UNLABELLED = 0.1
"""Share of the pictures that are learned without their label (Ho and Salimans 2022)."""
DRAWS = 4
"""Noises that each held-out picture is measured with."""
HELD_OUT_SEED = 20200619
"""Of the noise in held-out pictures: the same in every training, so that models can be compared."""
AT_ONCE = 32


class Noises(Pictures):
    """Pictures with what is drawn for each by its position: a step of noise, the noise, and whether its label is told."""

    def __init__(self, pixels: Pixels, seed: int, *, steps: int, labels: int):
        super().__init__(pixels, seed)
        self.steps, self.known = steps, labels

    def batch(self, positions: Sequence[int], whole: range | None = None) -> tuple[torch.Tensor, ...]:  # noqa: ARG002 - positions say all
        """Pictures, noise, steps, labels."""
        return _drawn(self.raw, self.labels, self.named(positions), positions, seed=self.seed, steps=self.steps, known=self.known,
                      told=spread(self.seed + 1, (7 * n for n in positions)) >= UNLABELLED)


class Diffusion(Pictured):
    """A diffusion model of images or clips, with their labels where the spec and the data have them."""

    WINDOWS = 96

    @property
    def known(self) -> int:
        """Labels that are learned."""
        return self.pixels.labels if self.plan["objective"]["labels"] else 0

    def reads(self) -> Noises:
        return Noises(self.pixels, self.plan["seed"], steps=self.plan["objective"]["noise_steps"], labels=self.known)

    def fresh(self) -> Diffuser:
        said = self.plan["objective"]
        return self.seeded(Diffuser, {**self.pixels.sizes, "labels": self.known, "base": said["width"], "noise_steps": said["noise_steps"],
                                      "sample_steps": min(said["sample_steps"], said["noise_steps"])})

    def maker(self, model: torch.nn.Module) -> torch.nn.Module:
        return model

    def loss(self, batch: tuple[torch.Tensor, ...], model: torch.nn.Module | None = None) -> torch.Tensor:
        """Mean squared error of the noise."""
        pictures, noise, steps, labels = batch
        model = model or self.model
        return mse_loss(model(model.noised(pictures, noise, steps), steps, labels), noise)

    @torch.no_grad()
    def scores(self, most: int | None = None, model: torch.nn.Module | None = None) -> torch.Tensor:
        """Mean squared error of the noise in each held-out picture, over some noises of it that are the same in every training.

        What predicts no noise at all, as before the first step, measures 1.
        """
        model = model or self.smooth
        raw, labels = self.pixels.raw("validation"), self.pixels.label("validation")
        numbers = spaced(len(raw), most)
        table = torch.zeros(len(numbers), 2, dtype=torch.float64)
        training, device = model.training, next(model.parameters()).device
        model.eval()
        mine = [(row, number, draw) for row, number in list(enumerate(numbers))[self.rank::self.world] for draw in range(DRAWS)]
        for first in range(0, len(mine), AT_ONCE):
            part = mine[first:first + AT_ONCE]
            positions = [number * DRAWS + draw for _, number, draw in part]
            batch = _drawn(raw, labels, [number for _, number, _ in part], positions, seed=HELD_OUT_SEED,
                           steps=self.reading.steps, known=self.known)
            pictures, noise, steps, said = (x if x is None else x.to(device) for x in batch)
            wrong = (model(model.noised(pictures, noise, steps), steps, said) - noise).square().flatten(1).double().mean(1).cpu()
            for (row, _, _), one in zip(part, wrong, strict=True):
                table[row] += torch.stack([one, torch.ones((), dtype=torch.float64)])
        model.train(training)
        return self.together(table)


def _drawn(raw: Any, labels: Any, numbers: Sequence[int], positions: Sequence[int], *, seed: int, steps: int, known: int,
           told: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
    pictures = torch.from_numpy(floats(raw[list(numbers)]))
    step = (spread(seed, positions) * steps).long().clamp(max=steps - 1)
    label = torch.from_numpy(labels[list(numbers)]) if known else torch.zeros(len(pictures), dtype=torch.long)
    if known and told is not None:
        label = torch.where(told, label, known)
    return pictures, normals(seed, positions, tuple(pictures.shape[1:])), step, label
