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
from ..windows import Windows, digest_rows

LAST_RATE = 0.0
"""Share of the largest learning rate that the schedule ends on."""
HELD_OUT_WINDOWS = 32
"""Windows of the validation split that are measured while training; at the end all are."""


class _Batches:
    """What Lightning iterates over: endless, from the batch that follows a checkpoint."""

    def __init__(self, windows: Windows, first: int):
        self.windows, self.first = windows, first
        self.waited = 0.0
        """seconds in which the rank waited for data"""

    def __iter__(self) -> Iterator[torch.Tensor]:
        number = self.first
        while True:
            begin = time.monotonic()
            batch = self.windows.batch(number)
            self.waited += time.monotonic() - begin
            yield batch
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
        self.model = self.fresh()
        self.windows = Windows(self.tokens.stream("train"), context=plan["context"], sequences=plan["sequences"], seed=plan["seed"],
                               rank=rank, world=world)
        self.batches = _Batches(self.windows, 0)
        self.norm = torch.zeros(())
        self.rate = 0.0

    def fresh(self) -> torch.nn.Module:
        """The model as it is before the first step: the same each time."""
        plan = self.plan
        return models.new_llama(models.llama_config(plan["size"], self.tokens.vocabulary, plan["context"]), plan["seed"])

    def loss(self, batch: torch.Tensor, reduction: str = "mean", model: torch.nn.Module | None = None) -> torch.Tensor:
        """Cross entropy of the next tokens, nats; ``batch`` has shape (sequences, context + 1)."""
        logits = (model or self.model)(input_ids=batch[:, :-1], use_cache=False).logits
        return cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten(), reduction=reduction)

    def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
        """One batch of one rank."""
        return self.loss(batch)

    def train_dataloader(self) -> _Batches:
        """From the step that the trainer stands at."""
        self.batches = _Batches(self.windows, self.trainer.global_step * self.plan["accumulate"])
        return self.batches

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
    def scores(self, most: int | None = None, rank: int = 0, world: int = 1, model: torch.nn.Module | None = None) -> torch.Tensor:
        """Nats and bytes of each window of the validation split, shape (windows, 2), float64; the same in every rank.

        The stream is cut into windows of ``context`` + 1 tokens that overlap by one; ranks take turns at them, and the
        ends of documents are predicted too but count no bytes.

        Parameters
        ----------
        most : windows, evenly spaced; none: all.
        model : scored in place of the one that is trained.
        """
        context, stream = self.plan["context"], self.tokens.stream("validation")
        lengths = torch.from_numpy(self.tokens.lengths())
        starts = list(range(0, len(stream) - 1, context))
        starts = [starts[n] for n in spaced(len(starts), most)]
        model = model or self.model
        device = next(model.parameters()).device
        table = torch.zeros(len(starts), 2, dtype=torch.float64)
        training = model.training
        model.eval()
        at = rank
        for group in _alike([stream[s:s + context + 1] for s in starts[rank::world]], size=8):
            batch = torch.from_numpy(group.astype(np.int64))
            nats = self.loss(batch.to(device), "none", model).double().view(len(group), -1).sum(1).cpu()
            for one, size in zip(nats, lengths[batch[:, 1:]].sum(1), strict=True):
                table[at] = torch.stack([one, size.double()])
                at += world
        model.train(training)
        if world > 1:
            dist.all_reduce(table)
        return table

    def held_out(self, most: int | None = None, rank: int = 0, world: int = 1) -> tuple[float, float]:
        """Bits a byte on the validation split (or on so many windows of it), and the bytes measured."""
        return bits_a_byte(self.scores(most, rank, world))


def bits_a_byte(table: torch.Tensor) -> tuple[float, float]:
    """Bits a byte over all windows of ``Pretrain.scores``, and their bytes."""
    nats, size = table.sum(0).tolist()
    return nats / math.log(2) / max(size, 1.0), size


def spaced(count: int, most: int | None) -> list[int]:
    """Places of ``most`` things spaced evenly among so many.

    Examples
    --------
    >>> spaced(10, 4), spaced(3, 4), spaced(3, None)
    ([0, 2, 5, 7], [0, 1, 2], [0, 1, 2])
    """
    return list(range(count)) if most is None or count <= most else [n * count // most for n in range(most)]


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
        ``step`` reached, ``stopped``; of a finished training also ``bits_per_byte``, ``bytes``, ``windows`` (nats and bytes of
        those that are measured while training), ``parameters``, ``seconds``, ``memory`` (bytes); rank 0 leaves the model in the
        directory that the plan names.
    """
    module = Pretrain(plan, control.rank, control.world)
    begin = time.monotonic()
    if plan["checkpoint"] is None:
        control.send("trial", **estimate.trial(module))
    first = checkpoints.step_of(Path(plan["checkpoint"])) if plan["checkpoint"] else 0
    number = first * plan["accumulate"]
    control.send("reads", step=first, windows=module.windows.starts(number), digest=digest_rows(module.windows.rows(number)))
    control.vitals = callbacks.Vitals(module)
    watchers = [callbacks.Freeze(control), callbacks.Curves(control), control.vitals, callbacks.HeldOut(control, HELD_OUT_WINDOWS),
                callbacks.Samples(control), callbacks.Checkpoints(control, Path(plan["checkpoints"]))]
    if plan.get("before"):
        watchers.insert(3, callbacks.Before(control, HELD_OUT_WINDOWS))
    lightning = trainer(plan, RankDDP(AtomicCheckpoints()), watchers)
    lightning.fit(module, ckpt_path=plan["checkpoint"], weights_only=True)
    if lightning.global_step < plan["steps"]:
        return {"step": lightning.global_step, "stopped": True}
    table = module.scores(rank=control.rank, world=control.world)
    bits, size = bits_a_byte(table)
    if control.rank == 0:
        _save(module, Path(plan["out"]))
    return {"step": lightning.global_step, "stopped": False, "bits_per_byte": bits, "bytes": size,
            "windows": table[spaced(len(table), HELD_OUT_WINDOWS)].tolist(), "parameters": module.model.num_parameters(),
            "seconds": time.monotonic() - begin, "memory": estimate.own_peak()}


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


