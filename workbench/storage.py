"""Bytes on disk: digests, atomic writes and commits, and SQLite files shared by processes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import StorageError

_PATIENCE = 30.0
"""Seconds that a process waits for another's write to a database."""
LEFT = 3600.0
"""Seconds of rest after which a stage without a writer counts as left behind."""


def canonical_json(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces, UTF-8, no NaN (after RFC 8785)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_bytes(data: bytes) -> str:
    """SHA-256 as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def digest_json(value: Any) -> str:
    """SHA-256 over the canonical JSON of a value.

    Examples
    --------
    >>> digest_json({"b": 1, "a": 2}) == digest_json({"a": 2, "b": 1})
    True
    """
    return digest_bytes(canonical_json(value))


def digest_file(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_tree(root: str | os.PathLike, pattern: str = "**/*") -> str:
    """SHA-256 over the relative paths and bytes of the files below a directory."""
    root = Path(root)
    files = sorted(p for p in root.glob(pattern) if p.is_file() and "__pycache__" not in p.parts)
    return digest_json([[p.relative_to(root).as_posix(), digest_file(p)] for p in files])


@contextlib.contextmanager
def storage_errors(path: object) -> Iterator[None]:
    """Turn a full or read-only disk into an error that says so."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError("the disk is full", where=path, hint="Free some space and run again: nothing was half written") from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise StorageError("can't be written", where=path, received=error.strerror,
                               hint="Give this user write access, or choose another workspace") from error
        raise


def write_atomic(path: str | os.PathLike, data: bytes | str, *, mode: int = 0o644) -> None:
    """Write a file so that a reader sees the old bytes or the new ones, never a part."""
    path = Path(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data.encode() if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, mode)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


@contextlib.contextmanager
def staging(parent: str | os.PathLike) -> Iterator[Stage]:
    """A hidden directory beside its goal; ``commit`` makes it visible by one rename, leaving removes it.

    What a killed writer left is removed by the next one an hour later.
    """
    parent = Path(parent)
    with storage_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        _sweep(parent)
        stage = Stage(Path(tempfile.mkdtemp(dir=parent, prefix=".staging-")))
        mine = os.open(stage.path, os.O_RDONLY)
        try:
            fcntl.flock(mine, fcntl.LOCK_SH)  # held as long as somebody fills it
            yield stage
        finally:
            os.close(mine)
            shutil.rmtree(stage.path, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Remove stages whose writer is gone."""
    for left in parent.glob(".staging-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime < LEFT:
                continue
            found = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(found)


class Stage:
    """A directory being filled; see ``staging``."""

    def __init__(self, path: Path):
        self.path = path

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def commit(self, final: str | os.PathLike, *, flush: bool = True) -> Path:
        """Flush every file and rename to ``final``; where that is there already, it stays.

        Unflushed it outlives any process but not the machine: for what can be made again.
        """
        final = Path(final)
        for path in self.path.rglob("*"):
            if flush and path.is_file():
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
        os.chmod(self.path, 0o755)  # noqa: S103 - mkdtemp's 0700 would hide it from a team
        try:
            os.rename(self.path, final)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        return final


class Database:
    """An SQLite file in WAL mode for many threads and processes.

    Each thread of each process has a connection of its own; a fork never shares one. Statements
    outside ``transaction`` commit by themselves.
    """

    def __init__(self, path: str | os.PathLike, schema: str):
        self.path, self._schema = Path(path), schema
        self._local = threading.local()

    def _connection(self) -> sqlite3.Connection:
        if getattr(self._local, "pid", None) != os.getpid():
            with storage_errors(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
            deadline = time.monotonic() + _PATIENCE
            while True:
                try:
                    self._local.connection, self._local.pid = self._open(), os.getpid()
                    break
                except sqlite3.Error as error:
                    # Turning to WAL takes the whole file, and SQLite does not wait for that by itself.
                    if "locked" not in str(error) or time.monotonic() > deadline:
                        raise _sqlite_error(error, self.path) from error
                    time.sleep(0.01)
        return self._local.connection

    def _open(self) -> sqlite3.Connection:
        if self.path.exists() and not os.access(self.path, os.W_OK):
            return self._open_to_read()
        connection = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.executescript(self._schema)
        return connection

    def _open_to_read(self) -> sqlite3.Connection:
        """A file that can't be written is still read; a write says that it can't."""
        for way in ("mode=ro", "immutable=1"):  # without write access the index of a WAL can't be made: read what was checkpointed
            connection = sqlite3.connect(f"{self.path.absolute().as_uri()}?{way}", uri=True, timeout=_PATIENCE, isolation_level=None,
                                         check_same_thread=False)
            connection.row_factory = sqlite3.Row
            try:
                connection.execute("SELECT COUNT(*) FROM sqlite_master")
                break
            except sqlite3.OperationalError:
                if way == "immutable=1":
                    raise
                connection.close()
        connection.execute("PRAGMA query_only=1")
        return connection

    def execute(self, sql: str, values: tuple | dict = ()) -> sqlite3.Cursor:
        """Run one statement."""
        try:
            return self._connection().execute(sql, values)
        except sqlite3.Error as error:
            raise _sqlite_error(error, self.path) from error

    def rows(self, sql: str, values: tuple | dict = ()) -> list[sqlite3.Row]:
        """All rows of a query."""
        return self.execute(sql, values).fetchall()

    def row(self, sql: str, values: tuple | dict = ()) -> sqlite3.Row | None:
        """The first row of a query, or None."""
        return self.execute(sql, values).fetchone()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A block that is written whole or not at all; it holds the write lock."""
        connection = self._connection()
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise _sqlite_error(error, self.path) from error

    def __reduce__(self):
        return type(self), (self.path, self._schema)


def _sqlite_error(error: sqlite3.Error, path: Path) -> Exception:
    text = str(error)
    if isinstance(error, sqlite3.IntegrityError):
        return error
    if "full" in text:
        return StorageError("the disk is full", where=path, hint="Free some space and run again")
    if "readonly" in text or "unable to open" in text:
        return StorageError("can't be written", where=path, received=text, hint="Give this user write access")
    if "malformed" in text or "not a database" in text:
        return StorageError("is damaged", where=path, received=text, hint="Restore it from a backup, or move it away")
    return error
