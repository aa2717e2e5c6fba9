"""A DCGAN: a generator of images and a discriminator, trained against one another in the same steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import softplus

from ...model.chance import normals
from ...model.dcgan import Dcgan
from ..objective import spaced
from ..reading.pixels import Pictures, Pixels, floats
from .pictured import Pictured

BETAS = (0.5, 0.9)
"""Of Adam: a shorter memory than usual, since either network changes what the other is asked (Radford et al. 2015)."""
BLOCK = 48
"""Held-out images that are compared with as many times ``TIMES`` made ones."""
TIMES = 4


class Latents(Pictures):
    """Images, each with the numbers that another is made of in the same step: drawn by position."""

    def __init__(self, pixels: Pixels, seed: int, *, latent: int):
        super().__init__(pixels, seed)
        self.latent = latent

    def batch(self, positions: Sequence[int], whole: range | None = None) -> tuple[torch.Tensor, torch.Tensor]:  # noqa: ARG002 - positions say all
        """Images and latents."""
        return torch.from_numpy(floats(self.rows(positions))), normals(self.seed, positions, (self.latent,))


class Gan(Pictured):
    """Generator and discriminator under one optimizer.

    Each takes a step in every step: the loss is that of the discriminator, to which made images are given and not their maker, and
    that of the generator, in the eyes of a discriminator that stands still. So ranks, gradients and checkpoints are as with any
    other objective.
    """

    def reads(self) -> Latents:
        return Latents(self.pixels, self.plan["seed"], latent=self.plan["objective"]["latent"])

    def fresh(self) -> Dcgan:
        said = self.plan["objective"]
        sizes = {k: v for k, v in self.pixels.sizes.items() if k != "frames"}
        return self.seeded(Dcgan, {**sizes, "latent": said["latent"], "base": said["width"]})

    def maker(self, model: torch.nn.Module) -> torch.nn.Module:
        return model.generator

    def configure_optimizers(self) -> dict[str, Any]:
        found = super().configure_optimizers()
        for group in found["optimizer"].param_groups:
            if "betas" in group:
                group["betas"] = BETAS
        return found

    def loss(self, batch: tuple[torch.Tensor, torch.Tensor], model: torch.nn.Module | None = None) -> torch.Tensor:
        """The discriminator's loss and the generator's (Goodfellow et al. 2014, the one that does not saturate)."""
        images, latents = batch
        model = model or self.model
        made = model.generator(latents)
        judged = softplus(-model.discriminator(images)).mean() + softplus(model.discriminator(made.detach())).mean()
        still = {n: p.detach() for n, p in model.discriminator.named_parameters()}
        return judged + softplus(-torch.func.functional_call(model.discriminator, still, (made,))).mean()

    @torch.no_grad()
    def scores(self, most: int | None = None, model: torch.nn.Module | None = None) -> torch.Tensor:
        """How far made images are from held-out ones, block by block: the kernel distance (``distance``) times the block's images."""
        maker = self.smooth if model is None else model.generator
        raw = self.pixels.raw("validation")
        blocks = max(1, round(len(raw) / BLOCK))
        numbers = spaced(blocks, most)
        table = torch.zeros(len(numbers), 2, dtype=torch.float64)
        training, device = maker.training, next(maker.parameters()).device
        maker.eval()
        for row, number in list(enumerate(numbers))[self.rank::self.world]:
            held = torch.from_numpy(floats(raw[number::blocks]))  # every so many: files often lie sorted
            latents = normals(self.plan["seed"] + 1, range(number * BLOCK * TIMES, (number + 1) * BLOCK * TIMES), (self.reading.latent,))
            made = maker(latents.to(device)).float().cpu()
            table[row] = torch.tensor([distance(held, made) * len(held), len(held)], dtype=torch.float64)
        maker.train(training)
        return self.together(table)


def distance(held: torch.Tensor, made: torch.Tensor) -> float:
    """Squared maximum mean discrepancy of two sets of images, without bias, under the kernel (x·y / d + 1)³.

    Of images alike it is about 0, and may be a little less. The kernel and the estimate are those of M. Bińkowski et al.,
    "Demystifying MMD GANs" (2018); on pixels, which small images are told by, in place of another network's features.

    Examples
    --------
    >>> some, other = torch.randn(60, 1, 4, 4, generator=torch.Generator().manual_seed(0)).split(30)
    >>> abs(distance(some, other)) < 0.3 < distance(some, other + 1)
    True
    """
    held, made = held.flatten(1).double(), made.flatten(1).double()

    def kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a @ b.T / a.size(1) + 1) ** 3

    def within(a: torch.Tensor) -> torch.Tensor:
        found = kernel(a, a)
        return (found.sum() - found.diagonal().sum()) / (len(a) * (len(a) - 1))

    return float(within(held) + within(made) - 2 * kernel(held, made).mean())
