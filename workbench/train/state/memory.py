"""Where copies of a run lie in a host's memory, and who may remove them. Nothing here imports torch."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from ...errors import StorageError
from ...storage import digest_bytes, storage_errors

LEFT = 900.0
"""Seconds after which copies that no rank holds any more are removed by the next training on that host."""
_MEMORY = Path("/dev/shm")  # noqa: S108 - below it only directories that are this user's own
_PREFIX = "workbench-copies-"


def place(run: Path, *, memory: Path = _MEMORY) -> Path:
    """Where a run's copies lie on this host: in memory, or in the run's directory where there is no such place."""
    if memory.is_dir() and os.access(memory, os.W_OK):
        return memory / f"{_PREFIX}{os.getuid()}-{digest_bytes(str(run).encode())[:16]}"
    return run / "copies"


def hold(root: Path) -> int:
    """Make the place, and hold a lock on it that says that somebody is at work with it; ends with the process.

    Raises
    ------
    StorageError
        When it can't be made, or belongs to somebody else.
    """
    with storage_errors(root):
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if root.is_symlink() or root.stat().st_uid != os.getuid():
        raise StorageError("the place for copies belongs to somebody else", where=root, hint="Remove it, or train without every.copies")
    handle = os.open(root, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_SH)
    return handle


def clear(root: Path) -> None:
    """Remove a run's copies from this host."""
    if not root.is_symlink():
        shutil.rmtree(root, ignore_errors=True)


def sweep(memory: Path = _MEMORY) -> None:
    """Remove copies on this host whose ranks and driver are gone for a while."""
    for root in memory.glob(f"{_PREFIX}{os.getuid()}-*"):
        with contextlib.suppress(OSError):
            if time.time() - root.stat().st_mtime < LEFT:
                continue
            with _alone(root):
                shutil.rmtree(root, ignore_errors=True)


def name(root: Path) -> str:
    """A name that two ranks share when they see the same memory."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = socket.gethostname()
    with contextlib.suppress(OSError):
        told = root.stat()
        boot += f" {told.st_dev} {told.st_ino}"
    return hashlib.sha256(boot.encode()).hexdigest()[:12]


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    handle = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)
