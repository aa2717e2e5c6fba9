"""A generator of images and the discriminator that it learns from.

Source: A. Radford et al., "Unsupervised representation learning with deep convolutional generative adversarial networks" (2015).
In place of batch norms, which mix the pictures of a rank's batch and so depend on how many ranks there are, the generator
norms each picture by itself and the discriminator not at all.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from .chance import normals
from .diffuser import labels_of
from .unet import halvings

AT_ONCE = 256
_SLOPE = 0.2


class Generator(nn.Module):
    """Makes images of normal numbers.

    Parameters
    ----------
    config : ``channels``, ``height``, ``width``, ``latent`` (numbers an image is made from), ``base`` (channels of the widest
        layer, at full size).
    """

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        self.config = {"architecture": "gan", "frames": 0, "labels": 0, **config}
        doublings, base = halvings(config["height"], config["width"]), config["base"]
        self.begin = base << doublings, config["height"] >> doublings, config["width"] >> doublings
        self.root = nn.Linear(config["latent"], math.prod(self.begin))
        sizes = [base << n for n in range(doublings, -1, -1)]
        self.norms = nn.ModuleList(nn.GroupNorm(math.gcd(8, s), s) for s in sizes)
        self.grow = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, stride=2, padding=1) for a, b in itertools.pairwise(sizes))
        self.out = nn.Conv2d(base, config["channels"], 3, padding=1)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an image."""
        return self.config["channels"], self.config["height"], self.config["width"]

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Images in [-1, 1] of shape (n, channels, height, width)."""
        x = self.norms[0](self.root(latents).unflatten(1, self.begin)).relu()
        for layer, norm in zip(self.grow, self.norms[1:], strict=True):
            x = norm(layer(x)).relu()
        return self.out(x).tanh()

    @torch.no_grad()
    def generate(self, count: int = 1, seed: int = 0, label: int | Sequence[int] | None = None) -> torch.Tensor:
        """Images in [-1, 1], the same for the same seed, each whatever stands beside it; there are no labels."""
        labels_of(label, count, 0)
        device = next(self.parameters()).device
        latents = normals(seed, range(count), (self.config["latent"],)).to(device)
        return torch.cat([self(part) for part in latents.split(AT_ONCE)]).cpu() if count else torch.zeros(0, *self.shape)


class Discriminator(nn.Module):
    """Tells images of the data from those that were made: above zero, it takes them for the data's."""

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        count, base = halvings(config["height"], config["width"]), config["base"]
        sizes = [base << n for n in range(count + 1)]
        self.stem = nn.Conv2d(config["channels"], base, 3, padding=1)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in itertools.pairwise(sizes))
        self.out = nn.Linear(sizes[-1] * (config["height"] >> count) * (config["width"] >> count), 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = nn.functional.leaky_relu(self.stem(images), _SLOPE)
        for layer in self.shrink:
            x = nn.functional.leaky_relu(layer(x), _SLOPE)
        return self.out(x.flatten(1))[:, 0]


class Dcgan(nn.Module):
    """Both, as they are trained; the generator alone is kept."""

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        self.generator, self.discriminator = Generator(config), Discriminator(config)
