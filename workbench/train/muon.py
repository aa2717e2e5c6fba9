"""Muon: momentum whose matrix updates are orthogonalised before they are applied.

Source: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024); the scale that
matches AdamW's is from J. Liu et al., "Muon is scalable for LLM training" (2025). A matrix that is cut over ranks is put together for the
iteration, which every rank then makes: a part of a matrix can't be orthogonalised by itself. ``torch.optim.Muon``
iterates in bfloat16, which processors without that type emulate: here it is single precision, and matrices of
one shape go through the iteration as one batch.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.distributed.tensor import DTensor, Replicate

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic Newton–Schulz step, chosen for the steepest rise at zero (Jordan 2024)."""


def orthogonalise(matrices: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """The nearest semi-orthogonal matrices, roughly: singular values end between 0.7 and 1.2.

    Parameters
    ----------
    matrices : shape (batch, rows, columns).
    steps : Newton–Schulz iterations.

    Examples
    --------
    >>> out = orthogonalise(torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0)))
    >>> bool((torch.linalg.svdvals(out) > 0.3).all() and (torch.linalg.svdvals(out) < 1.3).all())
    True
    """
    a, b, c = COEFFICIENTS
    tall = matrices.size(-2) > matrices.size(-1)
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon for matrices and AdamW for everything else, in one optimizer with one schedule.

    Parameters
    ----------
    matrices : hidden weights, two dimensions each.
    others : embeddings, norms, biases: updated by AdamW without weight decay.
    lr : learning rate of both, in AdamW's scale.
    momentum, betas, weight_decay : as usual; ``weight_decay`` is decoupled and for the matrices.
    """

    def __init__(self, matrices: Iterable[torch.nn.Parameter], others: Iterable[torch.nn.Parameter], *, lr: float, momentum: float = 0.95,
                 betas: tuple[float, float] = (0.9, 0.95), eps: float = 1e-8, weight_decay: float = 0.1, steps: int = 5):
        groups = [{"params": list(matrices), "muon": True, "momentum": momentum, "weight_decay": weight_decay},
                  {"params": list(others), "muon": False, "betas": betas, "eps": eps, "weight_decay": 0.0}]
        super().__init__([g for g in groups if g["params"]], {"lr": lr, "steps": steps})

    @torch.no_grad()
    def step(self, closure=None):
        """One update."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            ready = [p for p in group["params"] if p.grad is not None]
            (self._muon if group["muon"] else self._adamw)(group, ready)
        return loss

    def _muon(self, group: dict, parameters: list[torch.nn.Parameter]) -> None:
        by_shape: dict[tuple, list[torch.nn.Parameter]] = {}
        for parameter in parameters:
            by_shape.setdefault((tuple(parameter.shape), parameter.device), []).append(parameter)
        for (shape, _), same in by_shape.items():
            updates = []
            for parameter in same:
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(state["momentum"], group["momentum"])  # Nesterov
                updates.append(update.full_tensor() if isinstance(update, DTensor) else update)
            turned = orthogonalise(torch.stack(updates).float(), group["steps"])
            scale = 0.2 * max(shape) ** 0.5  # root mean square of an AdamW update
            for parameter, update in zip(same, turned, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(_cut(update.to(parameter.dtype), parameter), alpha=-group["lr"] * scale)

    def _adamw(self, group: dict, parameters: list[torch.nn.Parameter]) -> None:
        first, second = group["betas"]
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32)
                state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["step"] += 1
            count = state["step"].item()
            here, grad, mean, square = (_local(t) for t in (parameter, parameter.grad, state["mean"], state["square"]))
            mean.lerp_(grad, 1 - first)
            square.mul_(second).addcmul_(grad, grad, value=1 - second)
            spread = (square / (1 - second**count)).sqrt_().add_(group["eps"])
            here.addcdiv_(mean, spread, value=-group["lr"] / (1 - first**count))


def _local(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _cut(whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A tensor that all ranks have, cut as another is: nothing is sent."""
    if not isinstance(like, DTensor):
        return whole
    everywhere = DTensor.from_local(whole, like.device_mesh, [Replicate()] * like.device_mesh.ndim, run_check=False)
    return everywhere.redistribute(placements=like.placements)
