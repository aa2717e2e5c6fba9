"""Direct preference optimisation (Rafailov et al. 2023): chosen answers become likelier than rejected ones, as far as the base allows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import logsigmoid

from ...model import load_pretrained
from ..reading.answers import Split
from .tuned import Tuned, alike, evaluated, nats


class Preferences(Tuned):
    """The sigmoid loss over pairs. What the base itself says of each answer was computed once, for all epochs and restarts."""

    BESIDE = ("reward_margin", "preference_accuracy")

    def loss(self, batch: dict[str, Any], model: torch.nn.Module | None = None) -> torch.Tensor:
        """The mean loss of the batch's pairs."""
        return -logsigmoid(self.margins(batch, model or self.model)).mean()

    def judged(self, batch: dict[str, Any], model: torch.nn.Module) -> torch.Tensor:
        """Loss of each pair, 1, the margin, and whether what was chosen is rewarded more."""
        margins = self.margins(batch, model)
        return torch.stack([-logsigmoid(margins), torch.ones_like(margins), margins, (margins > 0).to(margins)], 1)

    def margins(self, batch: dict[str, Any], model: torch.nn.Module) -> torch.Tensor:
        """Reward of what was chosen less that of what was rejected, shape (pairs,)."""
        rewards = said(model, batch) - batch["reference"]
        chosen, rejected = rewards.chunk(2)
        return self.plan["objective"]["beta"] * (chosen - rejected)


def said(model: torch.nn.Module, batch: dict[str, Any]) -> torch.Tensor:
    """Log-probability of each answer under a model, shape (sequences,): the chosen ones, then the rejected."""
    return -nats(model, batch).sum(1)


def write_reference(path: Path, split: Split, accelerator: str, precision: str = "32-true") -> None:
    """Write what a base says of each answer of a split: ``reference.npy``, log-probabilities, a sequence each.

    Parameters
    ----------
    precision : what the model will be trained in; held-out pairs are judged in single precision.
    """
    device = torch.device("cuda" if torch.cuda.is_available() and accelerator in ("auto", "gpu") else "cpu")
    half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
    samples = list(range(len(split.rows)))
    found = np.zeros(2 * len(samples), np.float32)
    with evaluated(load_pretrained(path).to(device)) as model, torch.autocast(device.type, half, enabled=half is not None):
        for group in alike(split, samples):
            batch = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in split.batch(group).items()}
            found[split.of(group)] = said(model, batch).float().cpu().numpy()
    np.save(split.path / "reference.npy", found)
