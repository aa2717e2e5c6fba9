"""Checkpoints of a run: a file each, written atomically, verified by digest, read without running any code."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path
from typing import Any

from ..errors import StorageError
from ..storage import write_atomic

KEEP = 2
"""Checkpoints kept: the newest, and the one before it should the newest turn out broken."""
_NAME = re.compile(r"step-(\d{9})\.ckpt")
_MARK = b"workbench checkpoint 1 sha256 "


def path_of(folder: Path, step: int) -> Path:
    """The file of a step."""
    return folder / f"step-{step:09d}.ckpt"


def step_of(path: Path) -> int:
    """The step that a file holds the state after."""
    return int(_NAME.fullmatch(path.name)[1])


def save(state: dict[str, Any], path: Path) -> None:
    """Write a state (tensors, numbers, texts, lists, mappings); then older ones than the last few are removed."""
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    body = buffer.getbuffer()
    write_atomic(path, _MARK + hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    for old in listed(path.parent)[KEEP:]:
        old.unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any]:
    """Read a state, verified.

    Raises
    ------
    StorageError
        When the file is not as it was written.
    """
    import torch

    return torch.load(io.BytesIO(_verified(path)), map_location="cpu", weights_only=True)


def listed(folder: Path) -> list[Path]:
    """Checkpoints in a directory, the furthest first."""
    try:
        return sorted((p for p in folder.iterdir() if _NAME.fullmatch(p.name)), reverse=True)
    except FileNotFoundError:
        return []


def newest(folder: Path) -> tuple[Path | None, list[Path]]:
    """The furthest whole checkpoint, and the broken ones that were passed over."""
    broken = []
    for path in listed(folder):
        try:
            _verified(path)
        except (StorageError, OSError):
            broken.append(path)
        else:
            return path, broken
    return None, broken


def _verified(path: Path) -> memoryview:
    whole = memoryview(path.read_bytes())
    end = len(_MARK) + 64
    if bytes(whole[:len(_MARK)]) != _MARK or hashlib.sha256(whole[end + 1:]).hexdigest().encode() != bytes(whole[len(_MARK):end]):
        raise StorageError("is not the checkpoint that was written", where=path, hint="Training goes on from the one before it")
    return whole[end + 1:]
