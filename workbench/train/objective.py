"""What every objective shares: a LightningModule that reads by position, steps by schedule and shows what it learned."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import lightning.pytorch as pl
import numpy as np
import torch
import torch.distributed as dist

from . import parallel
from .muon import Muon
from .reading.order import Share

LAST_RATE = 0.0
"""Share of the largest learning rate that the schedule ends on."""


class Reading(Protocol):
    """What a training reads; a sample's position says which it is, whatever rank asks."""

    count: int
    """samples of an epoch"""

    def named(self, positions: Sequence[int]) -> list[int]:
        """Numbers that tell the samples at positions from all others."""

    def rows(self, positions: Sequence[int]) -> np.ndarray:
        """The samples at positions, as numbers."""

    def batch(self, positions: Sequence[int], whole: range | None = None) -> Any:
        """The same as tensors; ``whole`` are the positions of the whole step, over all ranks."""


class Batches:
    """What Lightning iterates over: (weight, batch), endless, from the batch that follows a checkpoint."""

    def __init__(self, reading: Reading, share: Share, first: int):
        self.reading, self.share, self.first = reading, share, first
        self.waited = 0.0
        """seconds in which the rank waited for data"""

    def __iter__(self) -> Iterator[tuple[float, Any]]:
        number = self.first
        while True:
            begin = time.monotonic()
            batch = self.at(number)
            self.waited += time.monotonic() - begin
            yield batch
            number += 1

    def at(self, number: int) -> tuple[float, Any]:
        """Weight and batch of a number."""
        step, positions, weight = self.share.batch(number)
        return weight, self.reading.batch(positions, self.share.whole(step))


class Objective(pl.LightningModule):
    """A model, what it reads, its loss and its optimizer.

    A subclass says what it reads (``reads``), how the model begins (``fresh``), its ``loss``, how it fares on held-out
    data (``scores``), what it can show (``shown``) and how it is written (``save``).

    Parameters
    ----------
    plan : what ``plan.Plan.to_dict`` gives, with what the material told beside.
    """

    WINDOWS: ClassVar[int] = 32
    """Rows of ``scores`` that are measured while training; at the end all are."""
    beside: Mapping[str, float] = MappingProxyType({})
    """what the last ``scores`` told besides the measure, by name: points beside its curve"""

    def __init__(self, plan: dict[str, Any], rank: int = 0, world: int = 1):
        super().__init__()
        self.plan, self.rank, self.world = plan, rank, world
        self.share = Share(plan["sequences"], plan["ranks"] * plan["accumulate"], rank, world, plan.get("split", 1))
        self.reading = self.reads()
        self.model = self.fresh()
        self.batches = Batches(self.reading, self.share, 0)
        self.norm = torch.zeros(())
        self.rate = 0.0
        self.is_cut = self.is_prepared = self.is_configured = False
        """ranks hold parts of the model; ``prepare`` and ``configure_model`` have done their work"""

    def prepare(self) -> None:
        """Recompute the model's activations and compile it, as the plan says, once."""
        if self.is_prepared:
            return
        self.is_prepared = True
        if self.plan.get("recompute"):
            parallel.recompute(self.model)
        if self.plan.get("compile"):
            for block in parallel.blocks(self.model) or [self.model]:
                block.compile()  # in place: names of parameters stay what they are

    def configure_model(self) -> None:
        """Prepare the model, and cut it over the ranks, as the plan says, once."""
        if self.is_configured:
            return
        self.is_configured = True
        self.prepare()
        if self.device_mesh is not None:
            self.is_cut = True
            self.cut()

    def cut(self) -> None:
        """Cut over the ranks what is trained, and what goes along with it."""
        parallel.cut(self.model, self.device_mesh)

    @abstractmethod
    def reads(self) -> Reading:
        """What is trained on."""

    @abstractmethod
    def fresh(self) -> torch.nn.Module:
        """The model as it is before the first step: the same each time."""

    @abstractmethod
    def loss(self, batch: Any, model: torch.nn.Module | None = None) -> torch.Tensor:
        """The mean loss of a batch."""

    @abstractmethod
    def scores(self, most: int | None = None, model: torch.nn.Module | None = None) -> torch.Tensor:
        """How the model fares on held-out data: amount and weight of each part of it, shape (parts, 2), float64.

        The ranks share the work, and each gets the whole table. Their sums' ratio, times the plan's scale, is the measure.

        Parameters
        ----------
        most : parts, evenly spaced; none: all.
        model : scored in place of the one that is trained.
        """

    @abstractmethod
    def shown(self, step: int, model: torch.nn.Module | None = None) -> list[dict[str, Any]]:
        """What the model makes, by a random state of its own: ``prompt``, ``text``, and for pictures and sounds ``media``
        (MIME type), ``content`` (base64) and, of several at a step, ``number``.
        """

    @abstractmethod
    def save(self, out: Path) -> None:
        """Write the model: ``config.json``, ``model.safetensors`` and what else belongs to it. Rank 0 calls it."""

    @property
    def parameters_count(self) -> int:
        """Parameters of the model."""
        return sum(p.numel() for p in self.model.parameters())

    def measure(self, table: torch.Tensor) -> tuple[float, float]:
        """The measure over all rows of ``scores``, and their weight."""
        amount, weight = table.sum(0).tolist()
        return amount * self.plan["scale"] / max(weight, 1.0), weight

    def held_out(self, most: int | None = None) -> float:
        """The measure on the validation split, or on so many parts of it."""
        return self.measure(self.scored(most))[0]

    def scored(self, most: int | None = None) -> torch.Tensor:
        """``scores`` of the model as it is trained, whether it is cut or not. All ranks must ask."""
        with parallel.together(self), parallel.eager(self.plan):
            return self.scores(most)

    def export(self, out: Path) -> None:
        """Write the model from rank 0, whole and in single precision, whether it is cut or not. All ranks must ask."""
        if self.is_cut or self.plan["precision"] == "bf16-true":
            state = parallel.whole(self.model)
            if state is not None:
                self.model = self.fresh()
                self.model.load_state_dict(state)
                self.is_cut = False
        if dist.get_rank() == 0 if dist.is_initialized() else True:
            self.save(out)

    def together(self, table: torch.Tensor) -> torch.Tensor:
        """The table of all ranks from those that each filled its rows of."""
        if self.world > 1:
            table = table.to(self.device if dist.get_backend() == "nccl" else "cpu")
            dist.all_reduce(table, group=None if self.device_mesh is None else self.device_mesh.get_group("data_parallel"))
            table = table.cpu()
        return table

    def training_step(self, given: tuple[float, Any], _: int) -> torch.Tensor:
        """One batch of one rank; its weight is 1 while there are as many ranks as planned."""
        weight, batch = given
        loss = self.loss(batch)
        return loss if weight == 1.0 else loss * weight

    def on_train_batch_start(self, batch: Any, index: int) -> None:  # noqa: ARG002
        """What a batch draws at random depends on its number and the rank, not on what was drawn before: resuming is exact."""
        seed = (self.plan["seed"] * 1_000_003 + index) * 4099 + self.rank
        torch.default_generator.manual_seed(seed)  # torch.manual_seed writes down the stack for each kind of device that is not there
        if self.device.type in ("cuda", "mps"):
            getattr(torch, self.device.type).manual_seed(seed)

    def train_dataloader(self) -> Batches:
        """From the step that the trainer stands at."""
        self.batches = Batches(self.reading, self.share, self.trainer.global_step * self.share.accumulate)
        return self.batches

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Count the batches of the step that was reached as this many ranks make them."""
        made = checkpoint["global_step"] * self.share.accumulate
        for loop in checkpoint.get("loops", {}).values():
            for name, progress in loop.items() if isinstance(loop, dict) else ():
                if name.endswith("epoch_loop.batch_progress"):
                    for part in ("total", "current"):
                        progress[part].update(dict.fromkeys(progress[part], made))

    def configure_optimizers(self) -> dict[str, Any]:
        """Muon or AdamW, with the learning rate of ``schedule``."""
        plan = self.plan
        trained = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        matrices = [p for n, p in trained if self.is_matrix(n, p)]
        ids = {id(p) for p in matrices}
        others = [p for _, p in trained if id(p) not in ids]
        if plan["optimizer"] == "muon":
            optimizer: torch.optim.Optimizer = Muon(matrices, others, lr=plan["learning_rate"], weight_decay=plan["weight_decay"])
        else:
            groups = [{"params": matrices, "weight_decay": plan["weight_decay"]}, {"params": others, "weight_decay": 0.0}]
            optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=plan["learning_rate"], betas=(0.9, 0.95), eps=1e-8,
                                          foreach=False if self.is_cut else None)  # parameters may lie on different meshes
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step, plan["steps"], plan["warmup"]))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rate, "interval": "step"}}

    def is_matrix(self, name: str, parameter: torch.nn.Parameter) -> bool:
        """True for parameters that Muon orthogonalises and that weight decay shrinks."""
        return parameter.dim() == 2 and "layers" in name

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *_: Any, **__: Any) -> None:
        """Clip to the plan's norm, and remember the norm and the learning rate of this step."""
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.norm = (parallel.clip if self.is_cut else torch.nn.utils.clip_grad_norm_)(trained, self.plan["clip"])
        self.rate = optimizer.param_groups[0]["lr"]
        step = self.trainer.global_step + 1
        if step in self.plan["skip"] or (self.plan["diverged"] == "skip" and not torch.isfinite(self.norm)):
            optimizer.zero_grad(set_to_none=True)  # without a gradient no optimizer touches weights or its own state


def schedule(step: int, steps: int, warmup: int) -> float:
    """Share of the largest learning rate: a linear rise, then half a cosine down."""
    warmup = min(warmup, steps // 4)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    along = (step - warmup) / max(1, steps - warmup)
    return LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * min(1.0, along)))


def spaced(count: int, most: int | None) -> list[int]:
    """Places of ``most`` things spaced evenly among so many.

    Examples
    --------
    >>> spaced(10, 4), spaced(3, 4), spaced(3, None)
    ([0, 2, 5, 7], [0, 1, 2], [0, 1, 2])
    """
    return list(range(count)) if most is None or count <= most else [n * count // most for n in range(most)]
