"""What a spec asks of devices, and whether they carry it: what is certain is refused at submission, the rest on the ranks' own devices."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import ClusterError, Problem, SpecError
from ..model.llama import SIZES
from .spec import TrainSpec

if TYPE_CHECKING:
    import torch

    from .reading.base import Base

COLUMNS = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
"""Layers whose outputs are cut by tensor parallelism: each rank computes some of the heads, some of the inner numbers."""
ROWS = ("o_proj", "down_proj")
"""Layers whose inputs are cut: their outputs are summed over the ranks."""
_WHOLE_ONLY = {"gan": "a generator learns by a discriminator whose weights are held still, and FSDP2 knows no weights but its own"}
"""Objectives whose models are not cut, and why."""
_NO_MATRICES = {"diffusion": "its layers are convolutions, which are not shared out"}
"""Objectives whose models are cut by FSDP2 alone, and why."""
_OWN_CODE = {"compile": "torch.compile", "recompute": "torch.utils.checkpoint"}


def refuse(spec: TrainSpec) -> None:
    """Raise where no device, or not the one that is named, carries what a spec asks for; with what would fit.

    Raises
    ------
    SpecError

    Examples
    --------
    >>> refuse(TrainSpec(data="notes", hardware={"ranks": 3, "tensor": 2}))
    Traceback (most recent call last):
    ...
    workbench.errors.SpecError: spec: 1 problem
      hardware.tensor: received 2 with 3 ranks; expected a divisor of the ranks: 1, 3
    """
    hardware, kind = spec.hardware, spec.objective.kind
    problems: list[Problem] = []

    def no(field: str, message: str) -> None:
        problems.append(Problem(f"hardware.{field}", message))

    if hardware.ranks % hardware.tensor:
        fit = [n for n in range(1, hardware.ranks + 1) if hardware.ranks % n == 0]
        no("tensor", f"received {hardware.tensor} with {hardware.ranks} ranks; expected a divisor of the ranks: {', '.join(map(str, fit))}")
    elif hardware.tensor > 1 and kind == "pretrain":
        heads, inner = SIZES[spec.model.size][2], SIZES[spec.model.size][4]
        if heads % hardware.tensor or inner % hardware.tensor:
            fit = [n for n in range(1, heads + 1) if heads % n == 0 and inner % n == 0]
            no("tensor", f"received {hardware.tensor}, and a model of {spec.model.size} has {heads} heads; "
               f"expected one of {', '.join(map(str, fit))}")
    if hardware.tensor > 1 and (hardware.min_ranks or hardware.max_ranks):
        field = "min_ranks" if hardware.min_ranks else "max_ranks"
        no(field, f"received {getattr(hardware, field)} with tensor={hardware.tensor}, whose groups can't lose or gain a rank; "
           f"expected no {field}")
    for field in ("min_ranks", "max_ranks") if kind == "module" else ():
        if (getattr(hardware, field) or hardware.ranks) != hardware.ranks:
            no(field, f"received {getattr(hardware, field)} with {hardware.ranks} ranks, and a module's own dataloader says what each rank "
               f"takes: with another number of ranks a step would take other samples; expected no {field}")
    if hardware.strategy == "ddp" and hardware.tensor > 1:
        no("strategy", f"received ddp with tensor={hardware.tensor}, and under ddp each rank has the whole model; expected auto or fsdp")
    if hardware.strategy == "fsdp" and hardware.ranks == 1:
        no("strategy", "received fsdp with ranks=1, where there is nobody to share with; expected auto, or ranks=2 and more")
    if hardware.cuts and kind in _WHOLE_ONLY:
        field = "strategy" if hardware.strategy == "fsdp" else "tensor"
        no(field, f"can't cut this model: {_WHOLE_ONLY[kind]}; expected strategy=auto, tensor=1")
    elif hardware.tensor > 1 and kind in _NO_MATRICES:
        no("tensor", f"received {hardware.tensor}, and {_NO_MATRICES[kind]}; expected tensor=1, with strategy=fsdp for a part a rank")
    if hardware.tensor > 1 and getattr(spec.objective, "adapter", None) is not None:
        no("tensor", f"received {hardware.tensor} with an adapter; expected tensor=1, or objective.adapter=null")
    if hardware.cuts and hardware.accelerator in ("tpu", "mps"):
        no("accelerator", f"received {hardware.accelerator} with a model that is cut; expected cpu, gpu or auto")
    elif hardware.ranks > 1 and hardware.accelerator in ("tpu", "mps"):
        no("ranks", f"received {hardware.ranks} on {hardware.accelerator}, over which ranks of ours don't meet; expected 1")
    if hardware.precision == "16-mixed" and hardware.accelerator == "cpu":
        no("precision", "received 16-mixed on cpu, which computes no float16 worth having; expected bf16-mixed or 32-true")
    if hardware.precision == "16-mixed" and hardware.cuts:
        no("precision", "received 16-mixed with a model that is cut, whose gradients no scaler reaches; expected bf16-mixed or 32-true")
    if hardware.precision == "bf16-true" and kind in ("gan", "diffusion"):
        no("precision", f"received bf16-true, and {kind} reads images in single precision; expected bf16-mixed or 32-true")
    problems += [Problem(f"hardware.{field}", f"is a module's own to do, by {by} in it; expected none here")
                 for field, by in _OWN_CODE.items() if kind == "module" and getattr(hardware, field)]
    if problems:
        raise SpecError(problems)


def refuse_base(spec: TrainSpec, base: Base) -> None:
    """Raise where the matrices of a base can't be shared out over the ranks that the spec says; with what would fit.

    Raises
    ------
    SpecError
    """
    tensor, said = spec.hardware.tensor, base.config
    if tensor == 1:
        return
    lacking = sorted({*COLUMNS, *ROWS} - {"gate_proj"} - base.layers)
    if lacking:
        raise SpecError.one("hardware.tensor", f"received {tensor}, and {base.reference} has no {', '.join(lacking)} to share out: its "
                            "layers are not built as a Llama's; expected tensor=1, with strategy=fsdp for a part a rank")
    heads = said.get("num_attention_heads") or 1
    counts = {"heads": heads, "key and value heads": said.get("num_key_value_heads") or heads,
              "inner numbers": said.get("intermediate_size") or heads}
    if any(count % tensor for count in counts.values()):
        fit = [n for n in range(1, heads + 1) if not any(count % n for count in counts.values())]
        has = ", ".join(f"{count:,} {what}" for what, count in counts.items())
        raise SpecError.one("hardware.tensor", f"received {tensor}, and {base.reference} has {has}; "
                            f"expected one of {', '.join(map(str, fit))}")


def carry(plan: dict[str, Any], say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """The plan with the accelerator that this rank trains on, where it says ``auto``; asked before anything is built.

    Several ranks meet on CPUs and on NVIDIA's GPUs: with no device but another, ``auto`` is the CPU, and ``say`` is told so.

    Raises
    ------
    ClusterError
        With what is there, and what would fit.
    """
    import torch

    wanted, precision, place = plan["accelerator"], plan["precision"], int(os.environ.get("LOCAL_RANK", "0"))
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = ["cpu"] + ["gpu"] * bool(gpus) + ["mps"] * torch.backends.mps.is_available() + ["tpu"] * _tpu()
    if wanted == "auto":
        wanted = next(a for a in ("gpu", "tpu", "mps", "cpu") if a in there)
        if plan.get("world", 1) > 1 and wanted in ("tpu", "mps"):
            say(f"{plan['world']} ranks train on the CPU: over {wanted} ranks don't meet; hardware.ranks=1 trains on it")
            wanted = "cpu"
    elif wanted not in there:
        raise ClusterError("this worker has no such device", where="hardware.accelerator", received=wanted, allowed=" or ".join(there),
                           hint=f"Set hardware.accelerator={there[-1]}, or auto")
    on_gpu = wanted == "gpu"
    if on_gpu and place >= gpus:
        raise ClusterError("has more ranks than GPUs, and NCCL takes one rank a GPU", where="this worker's host",
                           received=f"{place + 1} ranks or more", allowed=f"{gpus} GPU{'s' * (gpus != 1)}",
                           hint=f"Set hardware.ranks={gpus} for one such host, or hardware.accelerator=cpu")
    if precision == "16-mixed" and wanted not in ("gpu", "mps"):
        raise ClusterError("this worker's device computes no float16 worth having", where="hardware.precision", received=precision,
                           allowed="bf16-mixed or 32-true", hint="Set hardware.precision=bf16-mixed")
    if precision.startswith("bf16") and on_gpu and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ClusterError("this worker's GPU computes no bfloat16", where=torch.cuda.get_device_name(), received=precision,
                           allowed="16-mixed or 32-true", hint="Set hardware.precision=16-mixed")
    return plan | {"accelerator": wanted}


def place(accelerator: str) -> torch.device:
    """This rank's own device of an accelerator, as ``carry`` named it; a host's GPUs go by its ranks' numbers."""
    import torch

    if accelerator == "gpu":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    return torch.device("mps", 0) if accelerator == "mps" else torch.device("cpu")


def _tpu() -> bool:
    if importlib.util.find_spec("torch_xla") is None:
        return False
    from lightning.pytorch.accelerators import XLAAccelerator

    return XLAAccelerator.is_available()
