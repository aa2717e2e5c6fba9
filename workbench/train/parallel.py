"""How a model is cut over a mesh of ranks: matrices within a tensor-parallel group, everything over the groups by FSDP2.

A mesh has the dimensions ``data_parallel`` and ``tensor_parallel``. Ranks of one tensor-parallel group read the same samples and
compute each its part of every matrix; over the groups each rank keeps its share of weights, gradients and optimizer states.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from .devices import COLUMNS, ROWS


def cut(model: torch.nn.Module, mesh: DeviceMesh, *, trained: bool = True) -> None:
    """Cut a model, in place, as the mesh says; a dimension of one rank costs nothing.

    Embedding, norms and head stay whole within a tensor-parallel group: the head shares its matrix with the embedding, and
    all ranks of a group compute the same numbers with them.

    Parameters
    ----------
    trained : false for weights that no backward pass goes through: they are put away again behind each pass.
    """
    layers = blocks(model)
    # Adapters stand around a model of which some callers know and some don't: what writes text calls the inner one.
    root = model.get_base_model() if hasattr(model, "get_base_model") else model
    if mesh["tensor_parallel"].size() > 1:
        for layer in layers:
            plan = {name: ColwiseParallel() if name.rpartition(".")[2] in COLUMNS else RowwiseParallel()
                    for name, _ in layer.named_modules() if name.rpartition(".")[2] in (*COLUMNS, *ROWS)}
            parallelize_module(layer, mesh["tensor_parallel"], plan)
    if mesh["data_parallel"].size() > 1:
        for layer in layers:
            fully_shard(layer, mesh=mesh["data_parallel"])
        fully_shard(root, mesh=mesh["data_parallel"], reshard_after_forward=None if trained else True)


def blocks(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The layers that a model is a stack of: of its lists of modules the one that holds most parameters; none where it has no list.

    Examples
    --------
    >>> stack = torch.nn.ModuleList([torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)])
    >>> len(blocks(torch.nn.Sequential(stack))), blocks(torch.nn.Linear(2, 2))
    (2, [])
    """
    lists = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) > 1]
    return list(max(lists, key=lambda m: sum(p.numel() for p in m.parameters()), default=()))


def recompute(model: torch.nn.Module) -> None:
    """Keep of each layer only what goes in, and compute the rest once more in the backward pass."""
    if hasattr(model, "gradient_checkpointing_enable"):
        model.gradient_checkpointing_enable({"use_reentrant": False})
        return
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing

    chosen = {id(m) for m in blocks(model) or model.children()}
    apply_activation_checkpointing(model, check_fn=lambda m: id(m) in chosen)


def whole(model: torch.nn.Module) -> dict[str, torch.Tensor] | None:
    """The state of a model that is cut, whole, on the CPU of rank 0; none on other ranks. All ranks must ask."""
    state, first = {}, dist.get_rank() == 0
    for name, value in model.state_dict().items():
        if not isinstance(value, torch.Tensor):
            continue  # what a module keeps beside its numbers
        full = value.full_tensor() if isinstance(value, DTensor) else value
        if first:
            state[name] = full.cpu()
    return state if first else None


def clip(parameters: Iterable[torch.nn.Parameter], most: float) -> torch.Tensor:
    """Clip gradients to a norm over all ranks, and return what it was; parameters may lie on different meshes."""
    grads = [p.grad for p in parameters if p.grad is not None]
    norm = norm_of(grads)
    share = (most / (norm + 1e-6)).clamp(max=1.0)
    torch._foreach_mul_([local(g) for g in grads], share)
    return norm


def norm_of(grads: Sequence[torch.Tensor]) -> torch.Tensor:
    """The norm of gradients over all ranks.

    ``get_total_norm`` can't add up a matrix that is cut twice and a vector that is cut once: here squares are summed on each
    rank, and once more over the ranks for each way of being cut.

    Examples
    --------
    >>> norm_of([torch.tensor([3.0]), torch.tensor([[4.0]])]).item()
    5.0
    """
    sums: dict[tuple[Any, ...], list[torch.Tensor]] = {}
    for grad in grads:
        key = (grad.device_mesh, grad.placements) if isinstance(grad, DTensor) else ()
        sums.setdefault(key, []).append(local(grad))
    total = torch.zeros((), device=local(grads[0]).device) if grads else torch.zeros(())
    for key, parts in sums.items():
        norms = torch._foreach_norm(parts)
        square = torch.stack([n.float().square() for n in norms]).sum()
        if key:
            mesh, placements = key
            for dimension, placement in enumerate(placements):
                if not placement.is_replicate():  # FSDP over tensor parallelism has a kind of shards of its own
                    dist.all_reduce(square, group=mesh.get_group(dimension))
        total = total + square
    return total.sqrt()


def local(tensor: torch.Tensor) -> torch.Tensor:
    """What this rank holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def readers(plan: dict[str, Any], rank: int, world: int) -> tuple[int, int]:
    """Which of the readers of samples a rank is, and how many there are: the ranks of a tensor-parallel group are one.

    Examples
    --------
    >>> readers({"tensor": 2}, 3, 4), readers({}, 3, 4)
    ((1, 2), (3, 4))
    """
    size = plan.get("tensor", 1)
    return rank // size, world // size


def eager(plan: dict[str, Any]) -> contextlib.AbstractContextManager[Any]:
    """Within, nothing is compiled: shapes that change with each token would be compiled each."""
    return torch.compiler.set_stance("force_eager") if plan.get("compile") else contextlib.nullcontext()


@contextlib.contextmanager
def together(module: pl.LightningModule) -> Iterator[None]:
    """Within, every rank measures all of what is measured: where a model is cut, its passes are acts of all ranks, and all must
    make as many.
    """
    if not module.is_cut:
        yield
        return
    place = module.rank, module.world
    module.rank, module.world = 0, 1
    try:
        yield
    finally:
        module.rank, module.world = place

