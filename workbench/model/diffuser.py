"""Images and clips out of noise: a U-Net that tells the noise in a picture, and the way back from noise alone.

Sources: J. Ho et al., "Denoising diffusion probabilistic models" (2020); the cosine schedule is of A. Nichol and P. Dhariwal,
"Improved denoising diffusion probabilistic models" (2021), the few steps of J. Song et al., "Denoising diffusion implicit models"
(2020), guidance without a classifier of J. Ho and T. Salimans, "Classifier-free diffusion guidance" (2022).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..errors import SpecError
from .chance import normals
from .unet import UNet

GUIDANCE = 1.0
"""How far a picture is pushed towards its label, and away from what has none."""
CHANCE = 1.0
"""Share of fresh noise on the way (η of Song et al.): with none, what a small network leaves of the noise in a clip stays in it."""
AT_ONCE = 64


class Diffuser(nn.Module):
    """A model of images or clips with labels or without.

    Parameters
    ----------
    config : ``channels``, ``height``, ``width``, ``frames`` (0: images), ``labels`` (how many), ``base`` (channels within),
        ``noise_steps``, ``sample_steps``.
    """

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        self.config = {"architecture": "diffusion", **config}
        self.labels, self.steps = config["labels"], config["noise_steps"]
        self.net = UNet(**{k: config[k] for k in ("channels", "height", "width", "frames", "base", "labels")})

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a picture or clip."""
        return shape_of(self.config)

    def kept(self, step: torch.Tensor) -> torch.Tensor:
        """Share of a picture's variance that is left of it behind a step of noise, counted from 0 (ᾱ)."""
        along = ((step.double() + 1) / self.steps + 0.008) / 1.008
        begin = math.cos(0.008 / 1.008 * math.pi / 2) ** 2
        return ((along * math.pi / 2).cos().square() / begin).clamp(1e-4, 0.9999).float()

    def noised(self, pictures: torch.Tensor, noise: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        """Pictures with noise put to them, each up to its step."""
        kept = self.kept(step).view(-1, *[1] * (pictures.dim() - 1))
        return kept.sqrt() * pictures + (1 - kept).sqrt() * noise

    def forward(self, noised: torch.Tensor, step: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        """The noise in pictures; label ``labels`` is none."""
        return self.net(noised, (step + 1) / self.steps, label)

    @torch.no_grad()
    def generate(self, count: int = 1, seed: int = 0, label: int | Sequence[int] | None = None, *, steps: int | None = None,
                 guidance: float = GUIDANCE) -> torch.Tensor:
        """Pictures in [-1, 1], the same for the same seed, each whatever stands beside it.

        Parameters
        ----------
        label : one for all, or one for each; none: each of the labels in turn.
        steps : from noise to a picture; none: as trained for.

        Raises
        ------
        SpecError
            For a label that the model never learned.
        """
        device = next(self.parameters()).device
        labels = labels_of(label, count, self.labels)
        training = self.training
        self.eval()
        most = min(steps or self.config["sample_steps"], self.steps)
        found = [self._out_of(normals(seed, range(n, min(n + AT_ONCE, count)), (most, *self.shape)).to(device), labels[n:n + AT_ONCE],
                              guidance) for n in range(0, count, AT_ONCE)]
        self.train(training)
        return torch.cat(found).cpu() if found else torch.zeros(0, *self.shape)

    def _out_of(self, noises: torch.Tensor, labels: Sequence[int], guidance: float) -> torch.Tensor:
        """Pictures of noise: (pictures, steps, …), one to begin with and one more for each step but the last."""
        x, *fresh = noises.unbind(1)
        chosen = torch.tensor(labels, device=x.device) if self.labels else None
        none = torch.full_like(chosen, self.labels) if self.labels else None
        steps = torch.linspace(self.steps - 1, 0, noises.size(1)).round().long().tolist()
        for step, after, more in zip(steps, [*steps[1:], None], [*fresh, None], strict=True):
            here = torch.full((len(x),), step, device=x.device)
            noise = self(x, here, chosen)
            if self.labels and guidance:
                noise = noise + guidance * (noise - self(x, here, none))
            kept = self.kept(here[:1]).item()
            picture = ((x - (1 - kept) ** 0.5 * noise) / kept**0.5).clamp(-1, 1)
            if after is None:
                return picture
            noise = (x - kept**0.5 * picture) / (1 - kept) ** 0.5  # as it is where the picture was cut to what can be
            left = self.kept(torch.tensor([after])).item()
            chance = CHANCE * ((1 - left) / (1 - kept) * (1 - kept / left)) ** 0.5
            x = left**0.5 * picture + max(0.0, 1 - left - chance**2) ** 0.5 * noise + chance * more
        return x


def shape_of(config: dict[str, Any]) -> tuple[int, ...]:
    """Shape of what a configuration's model makes.

    Examples
    --------
    >>> shape_of({"channels": 1, "frames": 8, "height": 16, "width": 16}), shape_of({"channels": 3, "height": 8, "width": 8})
    ((1, 8, 16, 16), (3, 8, 8))
    """
    return (config["channels"], *([config["frames"]] if config.get("frames") else []), config["height"], config["width"])


def labels_of(label: int | Sequence[int] | None, count: int, known: int) -> list[int]:
    """A label for each of so many pictures.

    Raises
    ------
    SpecError
        For a label that there is not.

    Examples
    --------
    >>> labels_of(None, 4, 3), labels_of(2, 2, 3), labels_of(None, 2, 0)
    ([0, 1, 2, 0], [2, 2], [0, 0])
    """
    if label is None:
        return [n % max(1, known) for n in range(count)]
    given = [label] * count if isinstance(label, int) else list(label)
    if not known:
        raise SpecError.one("label", f"received {label!r}, and the model learned no labels; expected none")
    if len(given) != count or not all(isinstance(x, int) and 0 <= x < known for x in given):
        raise SpecError.one("label", f"received {label!r}; expected a label from 0 to {known - 1}, or {count} of them")
    return given
