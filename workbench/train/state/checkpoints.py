"""Checkpoints of a run on disk: a directory each, there at once or not at all, verified by digest, kept by rule.

A checkpoint holds a file for each rank that wrote it (``shards``) and ``manifest.json``, which says of every tensor in which
files, at which bytes and with which digest its parts lie. Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ...errors import StorageError
from ...storage import canonical_json, digest_bytes, write_atomic

VERSION = 2
"""Of what a manifest says; version 1 was a single file."""
MANIFEST = "manifest.json"
PARTIAL = ".partial"
"""Ending of a directory that is being written."""
_NAME = re.compile(r"step-(\d{9})(\.ckpt)?")
_EARLIER = ".ckpt"


class OtherVersionError(StorageError):
    """A checkpoint that another version of the workbench wrote: whole perhaps, but not for this one."""


def path_of(folder: Path, step: int) -> Path:
    """The directory of a step's checkpoint.

    Examples
    --------
    >>> path_of(Path("checkpoints"), 120).name
    'step-000000120'
    """
    return folder / f"step-{step:09d}"


def step_of(path: Path) -> int:
    """The step that a checkpoint holds the state after."""
    return int(_NAME.fullmatch(path.name)[1])


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
            verify(path)
        except (StorageError, OSError):
            broken.append(path)
        else:
            return path, broken
    return None, broken


def manifest(path: Path) -> dict[str, Any]:
    """What a checkpoint says of itself: ``step``, ``world``, ``measure``, ``files``, ``tensors``.

    Raises
    ------
    OtherVersionError
        When another version wrote it.
    StorageError
        When the manifest is not as it was written.
    """
    if path.name.endswith(_EARLIER):
        raise OtherVersionError("is a checkpoint of an earlier version", where=path, hint="Training goes on from the one before it")
    try:
        raw = (path / MANIFEST).read_bytes()
        said = json.loads(raw)
        if canonical_json(said) != raw:
            raise _damaged(path)
        sealed_with = said.pop("digest")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise _damaged(path) from error
    if sealed_with != digest(said):
        raise _damaged(path)
    if said["version"] != VERSION:
        raise OtherVersionError("is a checkpoint of another version", where=path, received=said["version"], allowed=str(VERSION),
                                hint="Training goes on from the one before it")
    return said


def verify(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint whose every byte is as it was written.

    Raises
    ------
    StorageError
    """
    said = manifest(path)
    parts: dict[int, list[dict[str, Any]]] = {n: [] for n in range(len(said["files"]))}
    for part in parts_of(said):
        parts[part["file"]].append(part)
    with ThreadPoolExecutor(2) as pool:
        for whole in pool.map(lambda n: _whole(path / said["files"][n]["name"], said["files"][n]["size"], parts[n]), parts):
            if not whole:
                raise _damaged(path)
    return said


def fault_of(path: Path) -> str:
    """What is wrong with a checkpoint that was passed over, in words."""
    try:
        manifest(path)
    except OtherVersionError:
        return "is of another version"
    except (StorageError, OSError):
        pass
    return "is broken"


def parts_of(said: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every stretch of bytes that a manifest vouches for: ``file``, ``at`` (first byte and the one after the last), ``sha256``."""
    for number, file in enumerate(said["files"]):
        yield {"file": number, **file["header"]}
    for tensor in said["tensors"].values():
        yield from tensor["chunks"]
    yield said["common"]
    yield from said["ranks"]


def sealed(said: dict[str, Any]) -> bytes:
    """The bytes of a manifest, with its own digest in it."""
    return canonical_json(said | {"digest": digest(said)})


def digest(said: Mapping[str, Any]) -> str:
    """What tells a checkpoint from all others: the digest of its manifest."""
    return digest_bytes(canonical_json(said))


def measured(path: Path, measure: float) -> None:
    """Let a checkpoint bear a measure that came after it was written.

    Raises
    ------
    StorageError
        When the manifest is not as it was written, or can't be written anew.
    """
    write_atomic(path / MANIFEST, sealed(manifest(path) | {"measure": measure}))


def size_of(path: Path) -> int:
    """Bytes of a checkpoint."""
    return sum(p.stat().st_size for p in path.iterdir()) if path.is_dir() else path.stat().st_size


def table(folder: Path, *, look_inside: bool = True) -> list[dict[str, Any]]:
    """Checkpoints as they stand, the furthest first: ``step``, ``measure``, ``bytes``, ``ranks``, ``whole``, ``at`` (seconds since 1970).

    Parameters
    ----------
    look_inside : compute every digest again; otherwise only the manifest's own.
    """
    rows = []
    for path in listed(folder):
        row: dict[str, Any] = {"step": step_of(path), "measure": None, "bytes": size_of(path), "ranks": None, "whole": False, "at": None}
        with contextlib.suppress(StorageError, OSError):
            said = verify(path) if look_inside else manifest(path)
            row |= {"measure": said["measure"], "ranks": said["world"], "whole": True, "at": said["at"]}
        rows.append(row)
    return rows


def kept_by(steps: Mapping[int, float | None], *, last: int = 2, best: int = 0, every: int | None = None) -> set[int]:
    """Steps whose checkpoints a rule keeps, of steps and their held-out measures.

    Parameters
    ----------
    last : the furthest so many.
    best : so many of those with the lowest measure; those without one don't count.
    every : each of so many steps.

    Examples
    --------
    >>> sorted(kept_by({10: 3.0, 20: 1.0, 30: 2.0, 40: None}, last=1, best=1))
    [20, 40]
    >>> sorted(kept_by({10: None, 20: None, 30: None, 40: None}, last=1, every=20))
    [20, 40]
    """
    measured = sorted((value, -step) for step, value in steps.items() if value is not None and value == value)
    kept = set(sorted(steps, reverse=True)[:last]) | {-step for _, step in measured[:best]}
    return kept | {step for step in steps if every and step % every == 0}


def prune(folder: Path, *, last: int = 2, best: int = 0, every: int | None = None) -> list[int]:
    """Remove the checkpoints that a rule doesn't keep; returns the steps of those that are left, the furthest first."""
    measures: dict[int, float | None] = {}
    for path in listed(folder):
        measures[step_of(path)] = None
        if best:
            with contextlib.suppress(StorageError):
                measures[step_of(path)] = manifest(path)["measure"]
    kept = kept_by(measures, last=last, best=best, every=every)
    for path in listed(folder):
        if step_of(path) not in kept:
            remove(path)
    return sorted(kept, reverse=True)


def remove(path: Path) -> None:
    """Remove a checkpoint: at once for whoever lists them, then its bytes."""
    if path.is_file():
        path.unlink(missing_ok=True)
        return
    gone = path.with_name(f".{path.name}.{os.getpid()}-{time.monotonic_ns()}{PARTIAL}")
    with contextlib.suppress(FileNotFoundError):
        path.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def tidy(folder: Path) -> None:
    """Remove what killed writers left half done; for when no rank is at work."""
    for left in folder.glob(f".*{PARTIAL}"):
        shutil.rmtree(left, ignore_errors=True)


def copy(path: Path, folder: Path) -> Path:
    """The same checkpoint in another directory, there at once; hard links where the disk is one and the same."""
    folder.mkdir(parents=True, exist_ok=True)
    goal = folder / path.name
    partial = folder / f".{path.name}.{os.getpid()}{PARTIAL}"
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(path, partial, copy_function=_link)
    if goal.exists():
        remove(goal)
    partial.rename(goal)
    return goal


def _link(source: str, goal: str) -> None:
    try:
        os.link(source, goal)
    except OSError:
        shutil.copyfile(source, goal)


def _whole(file: Path, size: int, parts: list[dict[str, Any]]) -> bool:
    """True when a file has its size and its parts lie side by side, each with its digest: no byte is unaccounted for."""
    try:
        if file.stat().st_size != size:
            return False
        with open(file, "rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped, memoryview(mapped) as whole:
            place = 0
            for part in sorted(parts, key=lambda p: p["at"]):
                begin, end = part["at"]
                if begin != place or hashlib.sha256(whole[begin:end]).hexdigest() != part["sha256"]:
                    return False
                place = end
        return place == size
    except (OSError, ValueError):
        return False


def _damaged(path: Path) -> StorageError:
    return StorageError("is not the checkpoint that was written", where=path, hint="Training goes on from the one before it")
