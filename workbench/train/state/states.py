"""Lightning's state of a training, to checkpoints and back: by reference, by names, for any strategy and number of ranks.

Optimizer states bear the parameters' names in place of numbers, and tensors are as the ranks hold them: so what FSDP wrote on
four ranks is read by DDP on one, and the other way round.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.optimizer import _optimizer_to_device
from lightning.pytorch.core.optimizer import _init_optimizers_and_lr_schedulers

from ...errors import StorageError
from . import checkpoints, shards

ORIGIN = "workbench"
"""Key of a state that was read from a checkpoint of ours: ``step``, ``world``, and ``own`` of this rank, if there are as many as then."""
_WRAPPERS = ("_orig_mod.", "_checkpoint_wrapped_module.")


class ShardedStates:
    """For a Lightning strategy, named before its class: loads checkpoints of ours, and gives states by reference when asked to.

    Examples
    --------
    >>> class Strategy(ShardedStates, pl.strategies.DDPStrategy):
    ...     "Like DDP, with checkpoints that any number of ranks reads."
    """

    _referring = _ours = False

    @contextlib.contextmanager
    def referring(self) -> Iterator[None]:
        """Within, states are the tensors that are trained and not copies of them."""
        self._referring = True
        try:
            yield
        finally:
            self._referring = False

    def lightning_module_state_dict(self) -> dict[str, Any]:
        if not self._referring:
            return super().lightning_module_state_dict()
        return {plain(k): v for k, v in self.lightning_module.state_dict().items()}

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        if not self._referring:
            return super().optimizer_state(optimizer)
        return named(getattr(optimizer, "optimizer", optimizer), self.lightning_module)

    @property
    def lightning_restore_optimizer(self) -> bool:
        return self._ours or super().lightning_restore_optimizer

    def load_checkpoint(self, checkpoint_path: str | os.PathLike, weights_only: bool | None = None) -> dict[str, Any]:
        path = Path(checkpoint_path)
        self._ours = (path / checkpoints.MANIFEST).exists()
        if not self._ours:
            return super().load_checkpoint(path, weights_only)
        return loaded(path, self.lightning_module, int(self.global_rank), int(self.world_size))

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        if ORIGIN not in checkpoint:
            super().load_model_state_dict(checkpoint, strict)
            return
        names = {plain(k): k for k in self.lightning_module.state_dict()}
        self.lightning_module.load_state_dict({names.get(k, k): v for k, v in checkpoint["state_dict"].items()}, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        if ORIGIN not in checkpoint:
            super().load_optimizer_state_dict(checkpoint)
            return
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            optimizer.load_state_dict(numbered(state, optimizer, self.lightning_module))
            _optimizer_to_device(optimizer, self.root_device)


def dumped(trainer: pl.Trainer) -> dict[str, Any]:
    """A trainer's whole state, its tensors by reference. ``_checkpoint_connector`` is private to Lightning; a test holds it to that."""
    strategy = trainer.strategy
    with strategy.referring() if isinstance(strategy, ShardedStates) else contextlib.nullcontext():
        return trainer._checkpoint_connector.dump_checkpoint(weights_only=False)


def begin_afresh(trainer: pl.Trainer) -> None:
    """Give optimizers and schedules back what the module sets for them: a branch trains on with a learning rate of its own."""
    optimizers, schedules = _init_optimizers_and_lr_schedulers(trainer.lightning_module)
    for optimizer, fresh in zip(trainer.optimizers, optimizers, strict=True):
        for group, new in zip(optimizer.param_groups, fresh.param_groups, strict=True):
            group.update({k: v for k, v in new.items() if k != "params"})
    for config, fresh in zip(trainer.lr_scheduler_configs, schedules, strict=True):
        config.scheduler.base_lrs = bases = list(fresh.scheduler.base_lrs)
        shares = getattr(config.scheduler, "lr_lambdas", None) or [lambda _: 1.0] * len(bases)
        rates = [base * share(config.scheduler.last_epoch) for base, share in zip(bases, shares, strict=True)]
        for group, rate in zip(config.scheduler.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        config.scheduler._last_lr = rates


def steady(module: pl.LightningModule) -> frozenset[int]:
    """Addresses of what only an optimizer's step changes."""
    return frozenset((p.to_local() if hasattr(p, "to_local") else p).data_ptr() for p in module.parameters())


def loaded(path: Path, module: pl.LightningModule, rank: int, world: int) -> dict[str, Any]:
    """A checkpoint's state as a trainer takes it, spread as the module's parameters are.

    Raises
    ------
    StorageError
        When it is no checkpoint of such a model.
    """
    said = checkpoints.manifest(path)
    current = {plain(k): v for k, v in module.state_dict().items() if isinstance(v, torch.Tensor)}
    _fits(path, said, current, strict=module.strict_loading)
    like = {f"state_dict.{k}": v for k, v in current.items()}
    parameters = {plain(n): p for n, p in module.named_parameters()}
    for name in said["tensors"]:
        if name.startswith("optimizer_states."):
            owner = name.split(".", 3)[3].rpartition(".")[0]
            if owner in parameters:
                like[name] = parameters[owner]
    own = shards.rest(path, said, rank) if said["world"] == world else None
    return shards.load(path, said, like) | {ORIGIN: {"step": said["step"], "world": said["world"], "own": own}}


def named(optimizer: torch.optim.Optimizer, module: torch.nn.Module) -> dict[str, Any]:
    """An optimizer's state by the names of the parameters."""
    state = optimizer.state_dict()
    names = _names(optimizer, module)
    return {"state": {names[n]: v for n, v in state["state"].items()},
            "param_groups": [{**g, "params": [names[n] for n in g["params"]]} for g in state["param_groups"]]}


def numbered(state: Mapping[str, Any], optimizer: torch.optim.Optimizer, module: torch.nn.Module) -> dict[str, Any]:
    """The same by numbers, as this optimizer counts its parameters.

    Raises
    ------
    StorageError
        When the state is of other parameters.
    """
    numbers = {name: n for n, name in enumerate(_names(optimizer, module))}
    unknown = [p for g in state["param_groups"] for p in g["params"] if p not in numbers]
    if unknown or len(state["param_groups"]) != len(optimizer.param_groups):
        raise StorageError("the optimizer's state is of another training", received=", ".join(map(str, unknown[:3])) or
                           f"{len(state['param_groups'])} groups of parameters", hint="Begin with the same optimizer and model")
    return {"state": {numbers[name]: v for name, v in state["state"].items()},
            "param_groups": [{**g, "params": [numbers[p] for p in g["params"]]} for g in state["param_groups"]]}


def plain(name: str) -> str:
    """A parameter's name without what ``torch.compile`` and activation checkpointing put into it.

    Examples
    --------
    >>> plain("model._orig_mod.layers.0.weight")
    'model.layers.0.weight'
    """
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def _names(optimizer: torch.optim.Optimizer, module: torch.nn.Module) -> list[str]:
    known = {id(p): plain(n) for n, p in module.named_parameters()}
    return [known.get(id(p), f"#{n}") for n, p in enumerate(p for g in optimizer.param_groups for p in g["params"])]


def _fits(path: Path, said: Mapping[str, Any], current: Mapping[str, torch.Tensor], *, strict: bool) -> None:
    held = {n.removeprefix("state_dict."): t["shape"] for n, t in said["tensors"].items() if n.startswith("state_dict.")}
    other = [f"{n} {tuple(s)}, here {tuple(current[n].shape)}" for n, s in held.items() if n in current and s != list(current[n].shape)]
    lacking = [n for n in held if n not in current] if strict else []
    if other or lacking:
        raise StorageError("is a checkpoint of another model", where=path, received=(other or lacking)[0],
                           hint="Set the same model as the run that wrote it")
