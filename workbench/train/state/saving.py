"""Checkpoints written behind the loop's back: staged while it computes, digested and written by a thread, made visible by rank 0.

Ranks never wait for one another: each leaves word of its file in the store, and rank 0 looks there until all have.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import queue
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ...errors import StorageError
from ...storage import storage_errors
from . import checkpoints, shards
from .staging import Buffer, Moment, step_back

POLL = 0.005
"""Seconds between looks for the other ranks' word."""


@dataclass
class _Job:
    step: int
    placed: list[shards.Piece]
    blobs: dict[str, bytes]
    moment: Moment
    measure: float | None
    begun: float


class Saver:
    """Writes the states that a rank hands over, its share of each; one at a time.

    Parameters
    ----------
    folder : where checkpoints lie; the same for all ranks.
    store : where ranks leave word for rank 0; none: that of the process group, which ``world`` > 1 needs.
    keep : ``last``, ``best``, ``every`` of ``checkpoints.prune``.
    said : is told by rank 0, from a thread, of each checkpoint: step and, where it came to nothing, the error.

    Examples
    --------
    >>> saver = Saver(Path("/tmp/checkpoints/example"))
    >>> saver.save({"weight": torch.ones(100, 100)}, 7)
    >>> saver.wait()
    >>> saver.close()
    >>> path, broken = checkpoints.newest(Path("/tmp/checkpoints/example"))
    >>> checkpoints.step_of(path), shards.load(path)["weight"].sum().item()
    (7, 10000.0)
    """

    def __init__(self, folder: Path, rank: int = 0, world: int = 1, *, store: dist.Store | None = None,
                 keep: Mapping[str, Any] | None = None, said: Callable[[int, StorageError | None], None] = lambda *_: None):
        self.folder, self.rank, self.world, self.keep, self.said = folder, rank, world, dict(keep or {}), said
        self.failure: StorageError | None = None
        """why the last checkpoint came to nothing; none once one is written"""
        self.stalled = 0.0
        """seconds that the loop spent here"""
        self.wrote = 0.0
        """seconds that the last write took, from the call to the rename"""
        self._store = store if store is not None or world == 1 else own_store()
        self._mark = self._agreed()
        self._given_up = threading.Event()
        self._staged, self._idle = threading.Event(), threading.Event()
        self._staged.set()
        self._idle.set()
        self._buffer, self._jobs = Buffer(), queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def save(self, state: Mapping[str, Any], step: int, *, steady: frozenset[int] = frozenset(), own: Any = None,
             measure: float | None = None) -> None:
        """Begin to write a state; waits only while the one before is still being written.

        What ``steady`` names (see ``shards.taken_apart``) must not change before ``staged`` has returned.

        Parameters
        ----------
        own : what belongs to this rank alone, such as the state of its random numbers.
        measure : how the model fared on held-out data, by which the best are kept.

        Raises
        ------
        StorageError
            When the state holds what can't be kept.
        """
        begin = time.perf_counter()
        self._idle.wait()
        rest, pieces = shards.taken_apart(state, steady)
        placed = shards.share(pieces, self.rank, self.world)
        blobs = {shards.COMMON: shards.blob(rest)} if self.rank == 0 else {}
        blobs[shards.OWN] = shards.blob(own)
        placed = [p if p.steady else shards.replace(p, local=p.local.clone()) for p in placed]
        measure = measure if measure is not None and math.isfinite(measure) else None
        self._staged.clear()
        self._idle.clear()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="checkpoints", daemon=True)
            self._thread.start()
        self._jobs.put(_Job(step, placed, blobs, Moment(placed), measure, begin))
        self.stalled += time.perf_counter() - begin

    def staged(self) -> None:
        """Wait until nothing is copied any more: to be called before an optimizer steps."""
        if not self._staged.is_set():
            begin = time.perf_counter()
            self._staged.wait()
            self.stalled += time.perf_counter() - begin

    def measured(self, step: int, measure: float) -> None:
        """How the model of a step fared, where that is known only once its state was handed over; rank 0 waits for the write."""
        if self.rank != 0 or not math.isfinite(measure):
            return
        self._idle.wait()
        with contextlib.suppress(OSError, StorageError):  # one that could not be written was spoken of; a full disk passes
            checkpoints.measured(checkpoints.path_of(self.folder, step), measure)
            checkpoints.prune(self.folder, **self.keep)

    def wait(self) -> None:
        """Wait until what was handed over is written.

        Raises
        ------
        StorageError
            When it came to nothing.
        """
        self._idle.wait()
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        """Wait for the last write, and end the thread."""
        self._idle.wait()
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def abandon(self, patience: float = 0.3) -> None:
        """End the thread and wait only so many seconds for what other ranks may never write; nothing of it is shown then."""
        self._idle.wait(patience)
        self._given_up.set()
        self.close()

    def _agreed(self) -> str:
        """A word that all ranks of this start share and no earlier one does: what those left half done stays apart."""
        mine = os.urandom(4).hex()
        if self._store is None:
            return mine
        return self._store.compare_set("checkpoints/mark", "", mine).decode()

    def _work(self) -> None:
        step_back()
        while (job := self._jobs.get()) is not None:
            failure: StorageError | None = None
            try:
                failure = self._carry_out(job)
            except Exception as error:  # noqa: BLE001 - a thread's errors must be told by it, or nobody hears of them
                failure = _failure(error, self.folder)
            finally:
                self.failure, self.wrote = failure, time.perf_counter() - job.begun
                self._staged.set()
                if self.rank == 0:
                    with contextlib.suppress(Exception):  # the pipe to the driver may be gone
                        self.said(job.step, failure)
                self._idle.set()

    def _carry_out(self, job: _Job) -> StorageError | None:
        partial = self.folder / f".{checkpoints.path_of(self.folder, job.step).name}.{self._mark}{checkpoints.PARTIAL}"
        failure: StorageError | None = None
        word: dict[str, Any] = {}
        try:
            size = sum(p.nbytes for p in job.placed)
            room = self._buffer.of(size, pinned=job.moment.device is not None)
            job.moment.copy(job.placed, room)
            self._staged.set()
            with storage_errors(self.folder):
                partial.mkdir(parents=True, exist_ok=True)
                word = write(partial, self.rank, self.world, job.placed, room, job.blobs)
        except Exception as error:  # noqa: BLE001 - rank 0 waits for this rank's word, whatever happens here
            failure = _failure(error, self.folder)
        if self.world > 1:
            word = word if failure is None else {"failure": [failure.what, failure.hint]}
            self._store.set(f"checkpoints/{job.step}/{self.rank}", json.dumps(word))
        if self.rank != 0:
            return failure
        try:
            words = self._words(job.step, word)
        except StorageError as error:
            return error
        for rank, said in enumerate(words):
            if failure is None and "failure" in said:
                failure = StorageError(said["failure"][0], where=f"{self.folder}, rank {rank}", hint=said["failure"][1])
        if failure is None:
            try:
                with storage_errors(self.folder):
                    self._show(partial, words, job)
                return None
            except (OSError, StorageError) as error:
                failure = _failure(error, self.folder)
        shutil.rmtree(partial, ignore_errors=True)
        return failure

    def _words(self, step: int, own: dict[str, Any]) -> list[dict[str, Any]]:
        """What each rank said of its file, waited for without a call that a dead rank could hold up."""
        if self.world == 1:
            return [own]
        keys = [f"checkpoints/{step}/{rank}" for rank in range(self.world)]
        while not self._store.check(keys):
            if self._given_up.wait(POLL):
                raise StorageError("not all ranks wrote their part", where=self.folder)
        words = [json.loads(self._store.get(key)) for key in keys]
        for key in keys:
            self._store.delete_key(key)
        return words

    def _show(self, partial: Path, words: Sequence[dict[str, Any]], job: _Job) -> None:
        said = shards.merged(words, step=job.step, measure=job.measure, at=time.time())
        with open(partial / checkpoints.MANIFEST, "wb") as file:
            file.write(checkpoints.sealed(said))
            file.flush()
            os.fsync(file.fileno())
        _settle(partial)
        goal = checkpoints.path_of(self.folder, job.step)
        if goal.exists():
            checkpoints.remove(goal)
        partial.rename(goal)
        _settle(self.folder)
        checkpoints.prune(self.folder, **self.keep)


def write(folder: Path, rank: int, world: int, placed: Sequence[shards.Piece], room: memoryview,
          blobs: Mapping[str, bytes]) -> dict[str, Any]:
    """Write a rank's file from its staged share; returns what is to be said of it."""
    name = f"shard-{rank}-of-{world}.safetensors"
    head = shards.header(placed, blobs)
    said = shards.fragment(name, placed, len(head), {n: len(raw) for n, raw in blobs.items()})
    said["header"]["sha256"] = hashlib.sha256(head).hexdigest()
    with open(folder / name, "wb", buffering=0) as file:
        _all(file, head)
        for piece, entry in zip(placed, said["tensors"], strict=True):
            part = room[piece.begin:piece.begin + piece.nbytes]
            entry["sha256"] = hashlib.sha256(part).hexdigest()
            _all(file, part)
        for blob, raw in blobs.items():
            said["blobs"][blob]["sha256"] = hashlib.sha256(raw).hexdigest()
            _all(file, raw)
        os.fsync(file.fileno())
    return said


def own_store() -> dist.Store:
    """The process group's store by a connection of its own: whoever waits there holds up nobody else."""
    store = dist.distributed_c10d._get_default_store()
    while hasattr(store, "underlying_store"):
        store = store.underlying_store
    if isinstance(store, dist.TCPStore):  # others have no connection to share
        store = store.clone()
    return dist.PrefixStore("workbench", store)


def save(state: Mapping[str, Any], folder: Path, step: int, *, measure: float | None = None, own: Any = None,
         keep: Mapping[str, Any] | None = None) -> Path:
    """Write a state by this process alone, and wait for it; returns where it lies."""
    saver = Saver(folder, keep=keep)
    try:
        saver.save(state, step, own=own, measure=measure)
        saver.wait()
    finally:
        saver.close()
    return checkpoints.path_of(folder, step)


def randomness() -> dict[str, Any]:
    """The state of every generator of random numbers that a rank draws from."""
    import random

    import numpy as np

    name, keys, *position = np.random.get_state()  # noqa: NPY002 - the state of those who draw by the old functions
    version, numbers, more = random.getstate()
    return {"torch": torch.get_rng_state(), "python": (version, torch.tensor(numbers), more),  # tensors: quicker kept than 625 numbers
            "numpy": (name, torch.from_numpy(keys.astype("int64")), *position),
            "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None}


def restore_randomness(state: Mapping[str, Any]) -> None:
    """Go on drawing where ``randomness`` was asked."""
    import random

    import numpy as np

    name, keys, *position = state["numpy"]
    torch.set_rng_state(state["torch"])
    version, numbers, more = state["python"]
    random.setstate((version, tuple(numbers.tolist()), more))
    np.random.set_state((name, keys.numpy().astype("uint32"), *position))  # noqa: NPY002
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _failure(error: Exception, folder: Path) -> StorageError:
    if isinstance(error, StorageError):
        return error
    return StorageError(getattr(error, "strerror", None) or str(error) or type(error).__name__, where=folder)


def _all(file: Any, data: bytes | memoryview) -> None:
    view = memoryview(data).cast("B")
    while view:
        view = view[file.write(view):]


def _settle(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
