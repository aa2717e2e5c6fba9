"""What the objectives of images and clips share: their pixels, smoothed weights, and a grid of what was made."""

from __future__ import annotations

import base64
import copy
from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ...model.images import grid, save_images
from .. import parallel
from ..objective import Objective
from ..reading.pixels import Pixels

SMOOTHING = 0.995
"""Share of the smoothed weights that stays at a step; less at first."""
ROWS = 4


class Pictured(Objective):
    """An objective whose model makes pictures: held-out measures, samples and what is kept are of its weights' moving average.

    The average is taken over what the optimizer left, so it is in every checkpoint and the same in every rank.
    """

    def __init__(self, plan: dict[str, Any], rank: int = 0, world: int = 1):
        super().__init__(plan, rank, world)
        self.smooth = copy.deepcopy(self.maker(self.model)).requires_grad_(False)

    @abstractmethod
    def maker(self, model: torch.nn.Module) -> torch.nn.Module:
        """The part of a model that makes pictures."""

    @cached_property
    def pixels(self) -> Pixels:
        """The pictures of the dataset."""
        return Pixels(Path(self.plan["pixels"]))

    def seeded(self, kind: type[torch.nn.Module], config: dict[str, Any]) -> torch.nn.Module:
        """A network with random weights, the same for the same seed; torch's random state is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.plan["seed"])
            return kind(config)

    @property
    def parameters_count(self) -> int:
        return sum(p.numel() for p in self.smooth.parameters())

    def is_matrix(self, name: str, parameter: torch.nn.Parameter) -> bool:
        """Weights that Muon orthogonalises are of linear layers; AdamW lets those of convolutions shrink too."""
        return (parameter.dim() == 2 if self.plan["optimizer"] == "muon" else parameter.dim() > 1) and "label" not in name

    def cut(self) -> None:
        super().cut()
        parallel.cut(self.smooth, self.device_mesh, trained=False)

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        super().optimizer_step(*arguments, **named)
        step = self.trainer.global_step
        with torch.no_grad():
            stays = min(SMOOTHING, (1 + step) / (10 + step))
            kept, made = ([parallel.local(p) for p in m.parameters()] for m in (self.smooth, self.maker(self.model)))
            torch._foreach_lerp_(kept, made, 1 - stays)  # cut alike: each rank smooths its part

    def shown(self, step: int, model: torch.nn.Module | None = None) -> list[dict[str, Any]]:  # noqa: ARG002 - the same chance at each step
        """A grid of what it makes out of chance that is the same at each step: a picture is seen to become what it is."""
        content, media = self.drawn(self.smooth if model is None else self.maker(model))
        return [{"prompt": "", "text": "", "media": media, "content": base64.b64encode(content).decode()}]

    def drawn(self, maker: torch.nn.Module) -> tuple[bytes, str]:
        """A PNG and its type: a column a label where there are some."""
        columns = min(maker.config["labels"], 16) or 8
        clips = bool(maker.config["frames"])
        labels = {"label": [n % columns for n in range(ROWS * columns)]} if maker.config["labels"] else {}
        made = maker.generate((2 if clips else ROWS) * columns, seed=self.plan["seed"],
                              **({"label": labels["label"][:2 * columns] if clips else labels["label"]} if labels else {}))
        return grid(made.numpy(), columns), "image/apng" if clips else "image/png"

    def export(self, out: Path) -> None:
        state = parallel.whole(self.smooth) if self.is_cut else None
        if state is not None:
            self.smooth = self.maker(self.fresh())
            self.smooth.load_state_dict(state)
        super().export(out)

    def save(self, out: Path) -> None:
        maker = self.smooth.to("cpu").eval()
        save_images(maker, out, samples=self.drawn(maker)[0])
