"""Weights as safetensors; whatever could run code when opened is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UnsafeFileError

if TYPE_CHECKING:
    import torch

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")


def refuse_pickles(path: str | os.PathLike) -> None:
    """Check that a file or directory offered as weights holds safetensors and not only pickles.

    Raises
    ------
    UnsafeFileError
        A pickle runs code when it is opened.
    """
    path = Path(path)
    if path.is_dir():
        if any(path.glob("*.safetensors")):
            return
        pickles = sorted(p.name for p in path.iterdir() if p.suffix in PICKLED)
        raise UnsafeFileError("holds no safetensors weights" if not pickles else f"holds weights only as a pickle ({', '.join(pickles)})",
                              where=path, allowed="a directory with model.safetensors",
                              hint="Convert them where you trust their origin: safetensors.torch.save_file")
    with open(path, "rb") as file:
        head = file.read(16)
    # A safetensors file begins with the length of its JSON header, then the header itself.
    if path.suffix in PICKLED or head[:1] == b"\x80" or head[:4] == b"PK\x03\x04" or head[8:9] != b"{":
        raise UnsafeFileError("is not a safetensors file", where=path, allowed="safetensors weights",
                              hint="Convert it where you trust its origin: safetensors.torch.save_file")


def no_bars() -> None:
    """Keep transformers from drawing progress bars for files of a few megabytes."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def load_weights(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors file."""
    from safetensors.torch import load_file

    refuse_pickles(path)
    return load_file(path)


def save_weights(tensors: dict[str, torch.Tensor], path: str | os.PathLike) -> None:
    """Write tensors as safetensors, tied ones once, in the order of their names."""
    from safetensors.torch import save_file

    seen: set[int] = set()
    unique = {}
    for name in sorted(tensors):
        pointer = tensors[name].data_ptr()
        if pointer not in seen or tensors[name].numel() == 0:
            seen.add(pointer)
            unique[name] = tensors[name].detach().cpu().contiguous()
    save_file(unique, path, metadata={"format": "pt"})
