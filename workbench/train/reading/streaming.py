"""A token stream that lies elsewhere: written in blocks to any fsspec URL, read from there through a local cache of bounded size."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import numpy as np

from ...errors import SourceError, StorageError
from ...storage import digest_json, write_atomic

BLOCK, LEAST = 1 << 20, 1 << 12
"""Tokens of a block, at most and at least."""
BLOCKS = 64
"""Blocks at least that a stream is cut into, where they don't become too small."""
IN_MEMORY = 8
"""Blocks that are kept in memory."""
ATTEMPTS = 4
"""Times that a block is asked for before a training fails."""


def block_of(tokens: int) -> int:
    """Tokens of a block of a stream: a power of two, so that also a small stream is read piece by piece.

    Examples
    --------
    >>> block_of(100), block_of(10_000_000), block_of(10 ** 12)
    (4096, 131072, 1048576)
    """
    return min(BLOCK, max(LEAST, 1 << max(1, tokens // BLOCKS).bit_length() - 1))


def published(stream: np.ndarray, url: str, name: str, block: int | None = None) -> None:
    """Write a stream as blocks under ``url``, the index last: without it there is nothing to read.

    Parameters
    ----------
    stream : ids, shape (tokens,).
    url : any that fsspec writes to: a directory, s3://, gs://, abfs:// ...
    block : tokens of a block; none: what ``block_of`` says.

    Raises
    ------
    SourceError
        Where it can't be written.
    """
    block = block or block_of(len(stream))
    index: dict[str, Any] = {"tokens": len(stream), "dtype": stream.dtype.name, "block": block, "digests": []}
    try:
        files, root = fsspec.core.url_to_fs(url)
        files.makedirs(root, exist_ok=True)
        for number, first in enumerate(range(0, len(stream), block)):
            body = np.ascontiguousarray(stream[first:first + block]).tobytes()
            index["digests"].append(hashlib.sha256(body).hexdigest())
            files.pipe_file(f"{root}/{name}-{number:06d}.bin", body)
        files.pipe_file(f"{root}/{name}.json", json.dumps(index).encode())
    except (OSError, ValueError, ImportError, NotImplementedError) as error:
        raise SourceError("can't be written to", where=url, received=str(error), allowed="a directory, or a URL that fsspec writes to",
                          hint="Install what fsspec needs for it (s3fs, gcsfs, adlfs) and give the machine its credentials") from error


class Streamed:
    """Ids that lie elsewhere, as if they were an array: ``len`` and slices.

    Parameters
    ----------
    url, name : as they were ``published``.
    cache : directory of blocks that were fetched; the processes of a machine share it.
    limit : bytes that it holds at most; a block that is larger is kept in memory alone.
    """

    def __init__(self, url: str, name: str, cache: Path, limit: int):
        self.url, self.name, self.limit = url, name, limit
        self.files, self.root = fsspec.core.url_to_fs(url)
        self.index = json.loads(self._fetched(f"{name}.json"))
        self.dtype, self.block = np.dtype(self.index["dtype"]), self.index["block"]
        self.size = self.block * self.dtype.itemsize
        self.folder = cache / digest_json([self.index["digests"]])[:20]
        self.folder.mkdir(parents=True, exist_ok=True)
        self.fetched = 0
        """blocks that were not in the cache"""
        self._held: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock, self._coming = threading.Lock(), set()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="stream")

    def __len__(self) -> int:
        return self.index["tokens"]

    def __getitem__(self, place: slice) -> np.ndarray:
        first, last, _ = place.indices(len(self))
        parts = [self._block(n)[max(0, first - n * self.block):last - n * self.block]
                 for n in range(first // self.block, (max(first, last - 1)) // self.block + 1)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def ahead(self, starts: Sequence[int]) -> None:
        """Fetch the blocks of places that will be read soon, behind the reader's back."""
        # No more than the cache holds beside the block that is read: the first would be removed before they are.
        for number in list(dict.fromkeys(s // self.block for s in starts))[:max(0, self.limit // self.size - 1)]:
            if number not in self._coming and not self._file(number).exists():
                self._coming.add(number)
                self._pool.submit(self._bring, number)

    def _bring(self, number: int) -> None:
        with contextlib.suppress(Exception):  # whoever reads it asks again, and is told
            self._read(number)
        self._coming.discard(number)

    def _block(self, number: int) -> np.ndarray:
        with self._lock:
            found = self._held.get(number)
            if found is None:
                found = self._held[number] = np.frombuffer(self._read(number), self.dtype)
            self._held.move_to_end(number)
            while len(self._held) > IN_MEMORY:
                self._held.popitem(last=False)
            return found

    def _read(self, number: int) -> bytes:
        """A block from the cache, or from where it lies; whole either way."""
        file, wanted = self._file(number), self.index["digests"][number]
        with contextlib.suppress(OSError):
            body = file.read_bytes()
            if hashlib.sha256(body).hexdigest() == wanted:
                os.utime(file)
                return body
        for attempt in range(ATTEMPTS):
            body = self._fetched(file.name)
            if hashlib.sha256(body).hexdigest() == wanted:
                break
            time.sleep(0.2 * 2 ** attempt)
        else:
            raise SourceError("is not what was written there", where=f"{self.url}/{file.name}", received="another digest",
                              hint="Remove the directory and train again: the stream is written anew")
        self.fetched += 1
        if len(body) <= self.limit:
            with contextlib.suppress(OSError, StorageError), self._alone():  # a full disk: it is fetched again next time
                self._make_room(len(body))
                write_atomic(file, body)
        return body

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Within, no other process makes room here: two that find room for one block would write two."""
        with open(self.folder.parent / ".lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _make_room(self, size: int) -> None:
        """Remove blocks that were not read for longest, of any stream here, until there is room for one more."""
        found = []
        for file in self.folder.parent.glob("*/*.bin"):
            with contextlib.suppress(OSError):
                status = file.stat()
                found.append((status.st_mtime, status.st_size, file))
        total = sum(f[1] for f in found)
        for _, taken, file in sorted(found):
            if total + size <= self.limit:
                return
            file.unlink(missing_ok=True)
            total -= taken

    def _fetched(self, name: str) -> bytes:
        for attempt in range(ATTEMPTS):
            try:
                return self.files.cat_file(f"{self.root}/{name}")
            except FileNotFoundError as error:
                raise SourceError("is not there", where=f"{self.url}/{name}", hint="Remove the directory and train again: the stream "
                                  "is written anew") from error
            except Exception as error:
                if attempt == ATTEMPTS - 1:
                    raise SourceError("can't be read", where=f"{self.url}/{name}", received=f"{type(error).__name__}: {error}",
                                      hint="Is the place reachable from the ranks' machines?") from error
                time.sleep(0.2 * 2 ** attempt)
        raise AssertionError

    def _file(self, number: int) -> Path:
        return self.folder / f"{self.name}-{number:06d}.bin"
