"""Pretraining: a Llama that predicts the next token, on data that is a function of seed, step and rank."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy

from ... import model as models
from .. import callbacks, checkpoints, estimate
from ..muon import Muon
from ..rank import Control
from ..strategy import AtomicCheckpoints, RankDDP
from ..tokens import Tokens

LAST_RATE = 0.0
"""Share of the largest learning rate that the schedule ends on."""
HELD_OUT_WINDOWS = 32
"""Windows of the validation split that are measured while training; at the end all are."""


class Windows:
    """Batches of windows of a token stream; batch ``n`` depends on seed, rank and ``n`` alone, so resuming is exact.

    Each epoch cuts the stream at another offset into windows of ``context`` + 1 tokens and takes them in another order.

    Parameters
    ----------
    stream : ids, shape (tokens,), at least ``context`` + 1 of them.
    """

    def __init__(self, stream: np.ndarray, *, context: int, sequences: int, seed: int, rank: int = 0, world: int = 1):
        self.stream, self.context, self.sequences = stream, context, sequences
        self.seed, self.rank, self.world = seed, rank, world
        self.windows = max(1, (len(stream) - 1) // context - 1)
        self._epoch: tuple[int, np.ndarray, int] | None = None

    def starts(self, number: int) -> list[int]:
        """Places in the stream at which the windows of a batch begin."""
        first = (number * self.world + self.rank) * self.sequences
        return [self._start(n) for n in range(first, first + self.sequences)]

    def batch(self, number: int) -> torch.Tensor:
        """Ids, shape (sequences, context + 1), int64."""
        rows = np.stack([self.stream[s:s + self.context + 1] for s in self.starts(number)])
        return torch.from_numpy(rows.astype(np.int64))

    def _start(self, index: int) -> int:
        epoch, place = divmod(index, self.windows)
        if self._epoch is None or self._epoch[0] != epoch:
            generator = np.random.Generator(np.random.PCG64([self.seed, epoch]))
            room = min(self.context, len(self.stream) - self.windows * self.context - 1)
            self._epoch = epoch, generator.permutation(self.windows), int(generator.integers(room + 1))
        return int(self._epoch[1][place]) * self.context + self._epoch[2]


class _Batches:
    """What Lightning iterates over: endless, from the batch that follows a checkpoint."""

    def __init__(self, windows: Windows, first: int):
        self.windows, self.first = windows, first

    def __iter__(self) -> Iterator[torch.Tensor]:
        number = self.first
        while True:
            yield self.windows.batch(number)
            number += 1


class Pretrain(pl.LightningModule):
    """The model, its loss and its optimizer.

    Parameters
    ----------
    plan : what ``plan.Plan.to_dict`` gives.
    """

    def __init__(self, plan: dict[str, Any], rank: int = 0, world: int = 1):
        super().__init__()
        self.plan = plan
        self.tokens = Tokens(Path(plan["tokens"]))
        self.model = models.new_llama(models.llama_config(plan["size"], self.tokens.vocabulary, plan["context"]), plan["seed"])
        self.windows = Windows(self.tokens.stream("train"), context=plan["context"], sequences=plan["sequences"], seed=plan["seed"],
                               rank=rank, world=world)
        self.norm = torch.zeros(())
        self.rate = 0.0

    def loss(self, batch: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
        """Cross entropy of the next tokens, nats; ``batch`` has shape (sequences, context + 1)."""
        logits = self.model(input_ids=batch[:, :-1], use_cache=False).logits
        return cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten(), reduction=reduction)

    def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
        """One batch of one rank."""
        return self.loss(batch)

    def train_dataloader(self) -> _Batches:
        """From the step that the trainer stands at."""
        return _Batches(self.windows, self.trainer.global_step * self.plan["accumulate"])

    def configure_optimizers(self) -> dict[str, Any]:
        """Muon or AdamW, with the learning rate of ``schedule``."""
        plan, others = self.plan, []
        matrices = [p for n, p in self.model.named_parameters() if p.dim() == 2 and "layers" in n]
        ids = {id(p) for p in matrices}
        others = [p for p in self.model.parameters() if id(p) not in ids]
        if plan["optimizer"] == "muon":
            optimizer: torch.optim.Optimizer = Muon(matrices, others, lr=plan["learning_rate"], weight_decay=plan["weight_decay"])
        else:
            groups = [{"params": matrices, "weight_decay": plan["weight_decay"]}, {"params": others, "weight_decay": 0.0}]
            optimizer = torch.optim.AdamW(groups, lr=plan["learning_rate"], betas=(0.9, 0.95), eps=1e-8)
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step, plan["steps"], plan["warmup"]))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rate, "interval": "step"}}

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *_: Any, **__: Any) -> None:
        """Clip to the plan's norm, and remember the norm and the learning rate of this step."""
        self.norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.plan["clip"])
        self.rate = optimizer.param_groups[0]["lr"]

    @torch.no_grad()
    def held_out(self, most: int | None = None, rank: int = 0, world: int = 1) -> tuple[float, float]:
        """Bits a byte on the validation split, and the bytes measured.

        The stream is cut into windows of ``context`` + 1 tokens that overlap by one; ranks take turns at them, and the
        ends of documents are predicted too but count no bytes.

        Parameters
        ----------
        most : windows, evenly spaced; none: all.
        """
        context, stream = self.plan["context"], self.tokens.stream("validation")
        lengths = torch.from_numpy(self.tokens.lengths())
        starts = list(range(0, len(stream) - 1, context))
        if most is not None and len(starts) > most:
            starts = [starts[n * len(starts) // most] for n in range(most)]
        device = next(self.model.parameters()).device
        total = torch.zeros(2, dtype=torch.float64)
        training = self.model.training
        self.model.eval()
        mine = starts[rank::world]
        for group in _alike([stream[s:s + context + 1] for s in mine], size=8):
            batch = torch.from_numpy(group.astype(np.int64))
            nats = self.loss(batch.to(device), "none").double().sum().item()
            total += torch.tensor([nats, float(lengths[batch[:, 1:]].sum())], dtype=torch.float64)
        self.model.train(training)
        if world > 1:
            dist.all_reduce(total)
        return total[0].item() / math.log(2) / max(total[1].item(), 1.0), total[1].item()


def _alike(windows: list[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Windows of one length stacked, ``size`` at most; the last of a stream is shorter and goes alone."""
    group: list[np.ndarray] = []
    for window in windows:
        if group and (len(group) == size or len(window) != len(group[0])):
            yield np.stack(group)
            group = []
        group.append(window)
    if group:
        yield np.stack(group)


def schedule(step: int, steps: int, warmup: int) -> float:
    """Share of the largest learning rate: a linear rise, then half a cosine down."""
    warmup = min(warmup, steps // 4)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    along = (step - warmup) / max(1, steps - warmup)
    return LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * min(1.0, along)))


def trainer(plan: dict[str, Any], strategy: pl.strategies.Strategy, watchers: list[pl.Callback], **options: Any) -> pl.Trainer:
    """A Lightning trainer that trains a plan's steps and does nothing that was not asked."""
    return pl.Trainer(max_steps=plan["steps"], max_epochs=-1, strategy=strategy, callbacks=watchers, accelerator=plan["accelerator"],
                      precision=plan["precision"], accumulate_grad_batches=plan["accumulate"], logger=False, enable_checkpointing=False,
                      enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, num_sanity_val_steps=0,
                      **{"devices": 1, "num_nodes": 1, **options})


def fit(control: Control, plan: dict[str, Any]) -> dict[str, Any]:
    """Train from the plan's checkpoint, or from the beginning; runs in every rank.

    Returns
    -------
    dict
        ``step`` reached, ``stopped``; of a finished training also ``bits_per_byte``, ``bytes``, ``parameters``, ``seconds``,
        ``memory`` (bytes); rank 0 leaves the model in the directory that the plan names.
    """
    module = Pretrain(plan, control.rank, control.world)
    begin = time.monotonic()
    if plan["checkpoint"] is None:
        control.send("trial", **estimate.trial(module))
    first = checkpoints.step_of(Path(plan["checkpoint"])) if plan["checkpoint"] else 0
    control.send("reads", step=first, windows=module.windows.starts(first * plan["accumulate"]))
    watchers = [callbacks.Freeze(control), callbacks.Curves(control), callbacks.HeldOut(control, HELD_OUT_WINDOWS),
                callbacks.Samples(control), callbacks.Checkpoints(control, Path(plan["checkpoints"]))]
    lightning = trainer(plan, RankDDP(AtomicCheckpoints()), watchers)
    lightning.fit(module, ckpt_path=plan["checkpoint"], weights_only=True)
    if lightning.global_step < plan["steps"]:
        return {"step": lightning.global_step, "stopped": True}
    bits, size = module.held_out(rank=control.rank, world=control.world)
    if control.rank == 0:
        _save(module, Path(plan["out"]))
    return {"step": lightning.global_step, "stopped": False, "bits_per_byte": bits, "bytes": size,
            "parameters": module.model.num_parameters(), "seconds": time.monotonic() - begin, "memory": estimate.own_peak()}


def dry_run(control: Control, plan: dict[str, Any]) -> dict[str, Any]:
    """What one step takes in this rank, without training."""
    return estimate.trial(Pretrain(plan, control.rank, control.world))


def _save(module: Pretrain, out: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    out.mkdir(parents=True, exist_ok=True)
    module.model.to("cpu").save_pretrained(out)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(module.tokens.path, local_files_only=True)
    tokenizer.model_max_length = module.plan["context"]
    models.save_tokenizer(tokenizer, out)


