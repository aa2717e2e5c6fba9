"""A user's own LightningModule and LightningDataModule, unchanged: built by import path, trained as Lightning trains them."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch.utilities.model_helpers import is_overridden

from ... import model as models
from ...dataset import Dataset
from ...errors import SourceError, SpecError, near
from ..devices import place
from ..parallel import whole
from ..reading.order import Share
from ..strategy import RankDDP, RankMesh, strategy

MOST_PARTS, MOST_SHOWN = 64, 200
"""Parts of a batch that are told; characters of one that is no tensor."""
GIVEN = ("dataset", "data")
"""Arguments of a constructor by which it gets the dataset that the spec names."""


class Own:
    """Module and data of a plan, and what our callbacks ask of the module that is trained: ``plan``, ``share``, ``norm``, ``rate``.

    Parameters
    ----------
    plan : what ``plan.Plan.to_dict`` gives, with ``own`` beside: ``root``, ``dataset``, ``clip``, ``epochs``, ``steps``.
    """

    def __init__(self, plan: dict[str, Any], rank: int = 0, world: int = 1):
        self.plan, self.rank, self.world, self.own = plan, rank, world, plan["own"]
        self.share = Share(1, plan["ranks"] * plan["accumulate"], rank, plan["ranks"])
        self.module, self.data = built(plan["objective"], self.own, plan["seed"])
        self.batches = self  # who waited for data
        self.waited = 0.0
        self.norm: Any = 0.0
        self.rate = 0.0

    @property
    def device(self) -> torch.device:
        """Where the module is."""
        return self.module.device

    @property
    def parameters_count(self) -> int:
        """Parameters of the module."""
        return sum(p.numel() for p in self.module.parameters())

    def limits(self) -> dict[str, Any]:
        """How long a trainer trains it, and how it clips: what ``Trainer`` takes."""
        clip = {"gradient_clip_val": self.own["clip"]} if self.own["clip"] and self.module.automatic_optimization else {}
        if self.own["steps"]:
            return {"max_steps": self.own["steps"], "max_epochs": -1, **clip}
        return {"max_epochs": self.own["epochs"], **clip}

    def trial(self) -> dict[str, Any]:
        """Seconds and memory of a step of this rank by itself; the module has learned from three then."""
        from ..estimate import held

        clock, plan = _Clock(), self.plan
        how = RankMesh(plan["tensor"]) if plan["cuts"] else strategy(plan, 1)
        _quiet(callbacks=[clock], strategy=how, accelerator=plan["accelerator"], precision=plan["precision"], limit_val_batches=0,
               max_steps=3, max_epochs=-1).fit(self.module, datamodule=self.data)
        return held(place(plan["accelerator"])) | {"step_seconds": min(clock.seconds, default=0.0) * plan["accumulate"]}

    def export(self, out: Path) -> None:
        """Write from rank 0 the weights, whole whether they are cut or not, and the way to the class: no pickle holds any of it.

        All ranks must ask.
        """
        state = whole(self.module) if self.plan["cuts"] and dist.is_initialized() else self.module.state_dict()
        if dist.is_initialized() and dist.get_rank():
            return
        out.mkdir(parents=True, exist_ok=True)
        state = {k: v for k, v in state.items() if isinstance(v, torch.Tensor)}
        models.save_weights(state, out / "model.safetensors")
        objective = self.plan["objective"]
        config = {"kind": "lightning-module", "module": objective["module"], "options": objective["options"]}
        (out / "config.json").write_text(json.dumps(config, indent=1), "utf-8")


def built(objective: dict[str, Any], own: dict[str, Any], seed: int) -> tuple[pl.LightningModule, pl.LightningDataModule | None]:
    """The module and its data, seeded as ``seed_everything`` does; files of the workspace can be imported from now on.

    Raises
    ------
    SourceError, SpecError
        For a class that is none of Lightning's, or options that its constructor doesn't take. What the user's own code raises
        is raised.
    """
    if own["root"] not in sys.path:
        sys.path.insert(0, own["root"])
    pl.seed_everything(seed, workers=True, verbose=False)
    dataset = Dataset(Path(own["dataset"])) if own["dataset"] else None
    module = _made(objective, "module", "options", pl.LightningModule, dataset)
    if not is_overridden("training_step", module, pl.LightningModule):
        raise SourceError("has no training_step", where=objective["module"], allowed="a LightningModule that defines training_step and "
                          "configure_optimizers", hint="Define training_step(self, batch, batch_idx) and return the loss")
    data = _made(objective, "data_module", "data_options", pl.LightningDataModule, dataset) if objective["data_module"] else None
    return module, data


def look(objective: dict[str, Any], own: dict[str, Any], *, seed: int, ranks: int, accumulate: int, cuts: bool = False) -> dict[str, int]:
    """``batches`` of an epoch over all ranks, and ``samples``: from the dataloader that a trainer would begin with.

    Parameters
    ----------
    ranks : those that read different samples.
    cuts : ranks are to hold parts of the module.

    Raises
    ------
    SourceError, SpecError
        Where it can't be trained so.
    """
    module, data = built(objective, own, seed)
    if cuts and not is_overridden("configure_model", module, pl.LightningModule):
        raise SourceError("does not say how it is cut over ranks", where=objective["module"], allowed="a module that defines "
                          "configure_model, and cuts itself there over self.device_mesh",
                          hint="Set hardware.strategy=auto and tensor=1: each rank has the whole module then")
    seen = _Look()
    with _alone(cuts) as how:
        try:
            _quiet(callbacks=[seen], **how, accelerator="cpu", limit_val_batches=0).fit(module, datamodule=data)
        except _Seen:
            pass
    if own["steps"]:
        return {"batches": own["steps"] * ranks * accumulate, "samples": seen.samples}
    if seen.batches is None:
        raise SpecError.one("objective.steps", "received nothing, and the dataloader has no length; expected how many steps to train")
    each = seen.batches
    if seen.samples:
        if seen.samples < ranks:
            return {"batches": seen.samples, "samples": seen.samples}
        each = math.ceil(math.ceil(seen.samples / ranks) / (seen.size or 1)) if seen.size else math.ceil(seen.batches / ranks)
        if seen.drops:
            each = max(1, math.ceil(seen.samples / ranks) // (seen.size or 1))
    return {"batches": math.ceil(each / accumulate) * accumulate * ranks, "samples": seen.samples}


def taken(objective: dict[str, Any], own: dict[str, Any], *, seed: int, reader: int, readers: int,
          cuts: bool = False) -> list[dict[str, Any]]:
    """``parts`` of the first batch that a trainer hands to one of those that read different samples; nothing is learned from it.

    Raises
    ------
    SourceError, SpecError
        Where there is no batch. What the user's own code raises is raised.
    """
    module, data = built(objective, own, seed)
    first = _First()
    with _alone(True):
        try:
            _quiet(callbacks=[first], strategy=(_CutReader if cuts else _Reader)(reader, readers), accelerator="cpu",
                   limit_val_batches=0).fit(module, datamodule=data)
        except _Seen:
            pass
    if first.parts is None:
        raise SourceError("the dataloader gives no batch", where=objective["data_module"] or objective["module"],
                          allowed="a batch for each rank", hint="Add data, lower its batch_size, or set hardware.ranks=1")
    return first.parts


def parts(batch: Any, place: str = "batch") -> list[dict[str, Any]]:
    """What a batch is made of, tensor by tensor.

    Returns
    -------
    list
        Of each ``part`` how it is reached; of a tensor or array ``shape``, ``type``, and of its numbers ``low``, ``high``, ``mean`` and how
        many are ``odd`` (infinite, or none); of all else ``type`` and what it looks like, ``shown``.

    Examples
    --------
    >>> parts({"x": torch.tensor([[1.0, 3.0]]), "names": ["a", "b"]})[0]
    {'part': "batch['x']", 'type': 'float32', 'shape': [1, 2], 'low': 1.0, 'high': 3.0, 'mean': 2.0, 'odd': 0}
    """
    if isinstance(batch, np.ndarray) and batch.dtype.kind in "biuf":
        batch = torch.from_numpy(np.ascontiguousarray(batch))
    if isinstance(batch, torch.Tensor) and batch.layout == torch.strided and not batch.is_nested:
        return [{"part": place, "type": str(batch.dtype).removeprefix("torch."), "shape": list(batch.shape), **_range(batch)}]
    if isinstance(batch, Mapping):
        return [p for key, value in batch.items() for p in parts(value, f"{place}[{key!r}]")]
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return [p for key, value in zip(batch._fields, batch, strict=True) for p in parts(value, f"{place}.{key}")]
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        return [p for f in dataclasses.fields(batch) for p in parts(getattr(batch, f.name), f"{place}.{f.name}")]
    if isinstance(batch, list | tuple) and not all(isinstance(value, str | bytes | int | float | None) for value in batch):
        return [p for n, value in enumerate(batch) for p in parts(value, f"{place}[{n}]")]
    kind = f"{type(batch).__name__} of {len(batch):,}" if isinstance(batch, list | tuple) else type(batch).__name__
    return [{"part": place, "type": kind, "shown": repr(batch)[:MOST_SHOWN]}]


def _range(tensor: torch.Tensor) -> dict[str, Any]:
    if tensor.is_complex() or not tensor.numel():
        return {}
    numbers = tensor.detach().double()
    numbers = numbers[torch.isfinite(numbers)]
    odd = {"odd": tensor.numel() - numbers.numel()}
    return {"low": numbers.min().item(), "high": numbers.max().item(), "mean": numbers.mean().item(), **odd} if numbers.numel() else odd


def _made(objective: dict[str, Any], field: str, options: str, kind: type, dataset: Dataset | None) -> Any:
    place, _, name = objective[field].partition(":")
    made = getattr(importlib.import_module(place), name)
    if not (isinstance(made, type) and issubclass(made, kind)):
        raise SourceError(f"is no {kind.__name__}", where=objective[field], received=getattr(made, "__mro__", (made,))[0],
                          allowed=f"a subclass of lightning.pytorch.{kind.__name__}")
    given, takes = dict(objective[options]), inspect.signature(made).parameters
    loose = any(p.kind is p.VAR_KEYWORD for p in takes.values())
    for option in given:
        if option not in takes and not loose:
            close = near(option, takes)
            raise SpecError.one(f"objective.{options}.{option}", f"is no argument of {name}; expected {', '.join(takes) or 'none'}"
                                + (f'; did you mean "{close}"?' if close else ""))
    if dataset is not None:
        given |= {word: dataset for word in GIVEN if word in takes and word not in given}
    lacking = [n for n, p in takes.items() if p.default is p.empty and n not in given
               and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if lacking:
        hint = "set data to a dataset version" if lacking[0] in GIVEN else f"expected a value for each of {', '.join(lacking)}"
        raise SpecError.one(f"objective.{options}.{lacking[0]}", f"is needed by {name}; {hint}")
    return made(**given)


@contextlib.contextmanager
def _alone(cuts: bool) -> Iterator[dict[str, Any]]:
    """What a trainer needs to build a module here: of one that cuts itself, a mesh of this process alone."""
    if not cuts:
        yield {}
        return
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield {"strategy": RankMesh()}
    finally:
        dist.destroy_process_group()


def _quiet(**options: Any) -> pl.Trainer:
    return pl.Trainer(**{"devices": 1, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "barebones": False,
                         "enable_model_summary": False, "num_sanity_val_steps": 0, "max_epochs": 1, **options})


class _Seen(Exception):
    """All is known that was to be known."""


class _Look(pl.Callback):
    """Reads the length of what would be trained on, and ends before the first batch."""

    batches: int | None = None
    samples = size = 0
    drops = False

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:  # noqa: ARG002
        loader = trainer.train_dataloader
        if trainer.num_training_batches != float("inf"):
            self.batches = int(trainer.num_training_batches)
        if isinstance(loader, torch.utils.data.DataLoader) and not isinstance(loader.dataset, torch.utils.data.IterableDataset):
            self.samples, self.size, self.drops = len(loader.dataset), loader.batch_size or 0, loader.drop_last
        raise _Seen


class _First(pl.Callback):
    """Takes down what the first batch is made of, and ends before anything is learned from it."""

    parts: list[dict[str, Any]] | None = None

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, index: int) -> None:  # noqa: ARG002
        found = parts(batch)
        self.parts = found[:MOST_PARTS] + ([{"part": "…", "type": f"{len(found) - MOST_PARTS:,} parts more", "shown": ""}]
                                           if len(found) > MOST_PARTS else [])
        raise _Seen


class _Reads:
    """For a strategy, named before its class: one process that reads what one of several would."""

    def __init__(self, reader: int, readers: int):
        super().__init__()
        self.reader, self.readers = reader, readers

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        return {"num_replicas": self.readers, "rank": self.reader}


class _Reader(_Reads, RankDDP):
    """Has the rank of that reader too, for data that ask their trainer for it."""

    @property
    def global_rank(self) -> int:
        return self.reader

    @property
    def world_size(self) -> int:
        return self.readers


class _CutReader(_Reads, RankMesh):
    """Of a module that cuts itself: over a mesh of this process alone."""


class _Clock(pl.Callback):
    """Seconds from the beginning of a batch to its end."""

    def __init__(self) -> None:
        self.began, self.seconds = 0.0, []

    def on_train_batch_start(self, *_: Any) -> None:
        self.began = time.monotonic()

    def on_train_batch_end(self, *_: Any) -> None:
        self.seconds.append(time.monotonic() - self.began)
