"""Supervised fine-tuning: what an assistant said becomes likelier, and nothing else of a chat is trained."""

from __future__ import annotations

from typing import Any

import torch

from .tuned import Tuned, nats


class Finetune(Tuned):
    """Cross entropy on the tokens of answers, a mean over all of them in the step, whatever batches and ranks they fall to."""

    def loss(self, batch: dict[str, Any], model: torch.nn.Module | None = None) -> torch.Tensor:
        """This batch's part of the step's mean, nats a trained token."""
        return nats(model or self.model, batch).sum() * batch["scale"]

    def judged(self, batch: dict[str, Any], model: torch.nn.Module) -> torch.Tensor:
        """Nats and trained tokens of each chat."""
        return torch.stack([nats(model, batch).double().sum(1), (batch["targets"] >= 0).sum(1).double()], 1)
