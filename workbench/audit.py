"""An append-only record of who decided what, each line chained to the one before by its hash."""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import json
import os
import time
from pathlib import Path
from typing import Any

from .errors import StorageError
from .storage import canonical_json, digest_bytes, storage_errors, write_atomic

_START = "0" * 64


class AuditLog:
    """Hash-chained JSON lines, after Schneier and Kelsey, "Secure audit logs" (1999).

    The newest hash is kept in a second file too, so that a log cut at its end is noticed.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> log = AuditLog(pathlib.Path(tempfile.mkdtemp()) / "audit.jsonl")
    >>> log.append("alias", model="m", alias="production")["seq"]
    0
    >>> log.verify()
    1
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self.head = self.path.with_suffix(".head")

    def append(self, action: str, **details: Any) -> dict[str, Any]:
        """Add a line and return it; safe from any number of processes.

        A log that lost lines is gone on with from the head that is kept beside it, so that the gap stays seen.
        """
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(0)
                data = file.read()
                whole = data.rfind(b"\n") + 1
                if whole < len(data):
                    # A writer was killed inside its line: that line never counted.
                    file.truncate(whole)
                seq, previous = self._follow(data[:whole])
                entry = {"seq": seq, "previous": previous, "at": round(time.time(), 3), "who": _user(), "action": action,
                         "details": details}
                entry["hash"] = digest_bytes(canonical_json(entry))
                file.seek(0, os.SEEK_END)
                file.write(canonical_json(entry) + b"\n")
                file.flush()
                os.fsync(file.fileno())
                write_atomic(self.head, f"{entry['seq']} {entry['hash']}\n")
        return entry

    def entries(self) -> list[dict[str, Any]]:
        """All lines, oldest first.

        Raises
        ------
        StorageError
            At a line that is none.
        """
        found = []
        for number, line in enumerate(self._lines(self._read()[0]), 1):
            try:
                found.append(json.loads(line))
            except ValueError:
                raise self._broken(number) from None
        return found

    def find(self, hash: str) -> dict[str, Any] | None:
        """The line of a hash, or None; only a line that still gives that hash counts."""
        for line in self._lines(self._read()[0]):
            if hash.encode() in line:
                entry = _checked(line)
                if entry and entry["hash"] == hash:
                    return entry
        return None

    def verify(self) -> int:
        """Walk the chain and return its length.

        Raises
        ------
        StorageError
            At the first line that was changed or does not follow the one before, or when lines are missing at the end.
        """
        data, head = self._read()
        previous, count = _START, 0
        for line in self._lines(data):
            entry = _checked(line)
            if entry is None or (entry.get("seq"), entry.get("previous")) != (count, previous):
                raise self._broken(count + 1)
            previous, count = entry["hash"], count + 1
            if head and head[0] == entry["seq"] and head[1] != entry["hash"]:
                raise StorageError(f"line {count} is not the one that was written", where=self.path,
                                   hint="The log was written anew; restore it from a backup")
        # A writer that was killed between the log and the head leaves the head one behind, never more.
        written = head[0] + 1 if head else 0
        if written > count:
            raise StorageError(f"holds {count} lines, but {written} were written", where=self.path,
                               hint="Lines are missing at the end; restore them from a backup")
        if written < count - 1:
            raise StorageError(f"says that {written} lines were written, but the log holds {count}", where=self.head,
                               hint="It was removed or put back; restore it from a backup")
        return count

    def _read(self) -> tuple[bytes, tuple[int, str] | None]:
        """The log's bytes and its head, at one moment."""
        if not self.path.exists():
            head = self._head()
            if head is None or not self.path.exists():  # else the first line was written between the two looks
                return b"", head
        with open(self.path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            return file.read(), self._head()

    def _head(self) -> tuple[int, str] | None:
        with contextlib.suppress(FileNotFoundError, ValueError):
            number, hash = self.head.read_text().split()
            return int(number), hash
        return None

    def _follow(self, data: bytes) -> tuple[int, str]:
        """Number and predecessor's hash of the next line."""
        lines = self._lines(data[data.rfind(b"\n", 0, -1) + 1:])
        last, head = (_checked(lines[-1]) if lines else None), self._head()
        if head and (last is None or last["seq"] < head[0] or (last["seq"] == head[0] and last["hash"] != head[1])):
            return head[0] + 1, head[1]
        return (last["seq"] + 1, last["hash"]) if last else (data.count(b"\n"), _START)

    @staticmethod
    def _lines(data: bytes) -> list[bytes]:
        """Lines that were written to their end; text may hold other line ends than this one."""
        return data.split(b"\n")[:-1]

    def _broken(self, number: int) -> StorageError:
        return StorageError(f"line {number} was changed, or lines before it are missing", where=self.path,
                            hint="Everything before it is intact; restore the rest from a backup")


def _checked(line: bytes) -> dict[str, Any] | None:
    """The entry of a line that gives the hash it claims, or None."""
    try:
        entry = json.loads(line)
        claimed = entry.pop("hash")
        if digest_bytes(canonical_json(entry)) != claimed or not isinstance(entry["seq"], int):
            return None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return {**entry, "hash": claimed}


def _user() -> str:
    with contextlib.suppress(KeyError, OSError):
        return getpass.getuser()
    return str(os.getuid())
