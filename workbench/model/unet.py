"""A U-Net for images and, with an axis of time, for clips.

Source: J. Ho et al., "Denoising diffusion probabilistic models" (2020); the axis of time is apart from those of space, as in
J. Ho et al., "Video diffusion models" (2022): a clip goes through the layers of space as so many images, and layers between
them mix its frames. Sizes in pixels are halved while they are even, so nothing is padded or cut.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.functional import interpolate, scaled_dot_product_attention, silu

MOST_HALVINGS = 3
SMALLEST = 4
"""Pixels of the side that is not halved any more."""


def halvings(height: int, width: int) -> int:
    """How often both sides can be halved.

    Examples
    --------
    >>> halvings(8, 8), halvings(16, 16), halvings(28, 28), halvings(10, 12), halvings(7, 7)
    (1, 2, 2, 1, 0)
    """
    count = 0
    while count < MOST_HALVINGS and height % 2 == width % 2 == 0 and min(height, width) > SMALLEST:
        height, width, count = height // 2, width // 2, count + 1
    return count


class UNet(nn.Module):
    """Maps pictures, a time and a label to pictures of the same shape; it begins as a map to zero.

    Parameters
    ----------
    channels, height, width : of a picture, (channels, height, width).
    frames : of a clip, (channels, frames, height, width); 0 for images.
    base : channels within, at full size; they are doubled where the size is first halved.
    labels : how many there are; number ``labels`` stands for none of them.
    """

    def __init__(self, *, channels: int, height: int, width: int, frames: int = 0, base: int = 32, labels: int = 0):
        super().__init__()
        self.frames = frames
        said = 4 * base
        sizes = [base] + [2 * base] * halvings(height, width)
        self.time = nn.Sequential(nn.Linear(2 * base, said), nn.SiLU(), nn.Linear(said, said))
        self.label = nn.Embedding(labels + 1, said) if labels else None
        self.stem = nn.Conv2d(channels, base, 3, padding=1)
        self.down = nn.ModuleList(Block(a, b, said, frames) for a, b in zip([base, *sizes], sizes, strict=False))
        self.shrink = nn.ModuleList(nn.Conv2d(s, s, 3, stride=2, padding=1) for s in sizes[:-1])
        self.middle = nn.ModuleList([Block(sizes[-1], sizes[-1], said, frames), Attention(sizes[-1], frames),
                                     Block(sizes[-1], sizes[-1], said, frames)])
        below = [sizes[-1], *sizes[::-1]]
        self.up = nn.ModuleList(Block(a + b, b, said, frames) for a, b in zip(below, sizes[::-1], strict=False))
        self.grow = nn.ModuleList(nn.Conv2d(s, s, 3, padding=1) for s in sizes[:0:-1])
        self.norm, self.out = _norm(base), _zero(nn.Conv2d(base, channels, 3, padding=1))
        self.base = base

    def forward(self, pictures: torch.Tensor, time: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        """``time`` from 0 to 1 and a ``label`` for each picture or clip."""
        said = self.time(_waves(time, self.base))
        if self.label is not None:
            said = said + self.label(label)
        said = silu(said)
        x = pictures
        if self.frames:
            said = said.repeat_interleave(self.frames, 0)
            x = x.transpose(1, 2).flatten(0, 1)
        x, kept = self.stem(x), []
        for n, block in enumerate(self.down):
            x = block(x, said)
            kept.append(x)
            if n < len(self.shrink):
                x = self.shrink[n](x)
        first, attention, last = self.middle
        x = last(attention(first(x, said)), said)
        for n, block in enumerate(self.up):
            x = block(torch.cat([x, kept.pop()], 1), said)
            if n < len(self.grow):
                x = self.grow[n](interpolate(x, scale_factor=2, mode="nearest"))
        x = self.out(silu(self.norm(x)))
        return x.unflatten(0, (-1, self.frames)).transpose(1, 2) if self.frames else x


class Block(nn.Module):
    """Two convolutions beside a way past them, told what time and label are; for clips a third one over the frames."""

    def __init__(self, given: int, made: int, said: int, frames: int):
        super().__init__()
        self.frames = frames
        self.first, self.one = _norm(given), nn.Conv2d(given, made, 3, padding=1)
        self.told = nn.Linear(said, 2 * made)
        self.second, self.two = _norm(made), _zero(nn.Conv2d(made, made, 3, padding=1))
        self.past = nn.Conv2d(given, made, 1) if given != made else nn.Identity()
        if frames:
            self.third, self.three = _norm(made), _zero(nn.Conv1d(made, made, 3, padding=1))

    def forward(self, x: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
        scale, shift = self.told(said)[:, :, None, None].chunk(2, 1)
        y = self.one(silu(self.first(x)))
        x = self.past(x) + self.two(silu(self.second(y) * (1 + scale) + shift))
        if not self.frames:
            return x
        y = silu(self.third(x)).unflatten(0, (-1, self.frames))  # clips, frames, channels, height, width
        clips, frames, channels, height, width = y.shape
        y = self.three(y.permute(0, 3, 4, 2, 1).reshape(-1, channels, frames))
        return x + y.view(clips, height, width, channels, frames).permute(0, 4, 3, 1, 2).reshape(x.shape)


class Attention(nn.Module):
    """Every place of a picture looks at every other, and of a clip at those of all its frames."""

    def __init__(self, channels: int, frames: int):
        super().__init__()
        self.frames, self.heads = frames, max(1, channels // 32)
        self.norm, self.asked, self.out = _norm(channels), nn.Linear(channels, 3 * channels), _zero(nn.Linear(channels, channels))
        self.place = nn.Parameter(torch.zeros(max(1, frames), channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        frames, (_, channels, height, width) = max(1, self.frames), x.shape
        y = self.norm(x).unflatten(0, (-1, frames)).permute(0, 1, 3, 4, 2) + self.place[:, None, None]
        y = self.asked(y.flatten(1, 3)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = self.out(scaled_dot_product_attention(*y).transpose(1, 2).flatten(2))
        return x + y.view(-1, frames, height, width, channels).permute(0, 1, 4, 2, 3).reshape(x.shape)


def _waves(time: torch.Tensor, half: int) -> torch.Tensor:
    """Sines and cosines of a time from 0 to 1, at rates from slow to fast (after Vaswani et al. 2017)."""
    rates = torch.exp(torch.linspace(0, math.log(1000), half, device=time.device))
    angles = time.float()[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


def _norm(channels: int) -> nn.GroupNorm:
    """Of groups of channels, each picture by itself: what it does to one does not depend on those beside it, nor on the rank."""
    return nn.GroupNorm(math.gcd(8, channels), channels)


def _zero(layer: nn.Module) -> nn.Module:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
