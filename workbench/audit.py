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
        """Add a line and return it; safe from any number of processes."""
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(0)
                lines = file.read().splitlines(keepends=True)
                if lines and not lines[-1].endswith(b"\n"):
                    # A writer was killed inside its line: that line never counted.
                    file.truncate(file.tell() - len(lines.pop()))
                last = json.loads(lines[-1]) if lines else {"seq": -1, "hash": _START}
                entry = {"seq": last["seq"] + 1, "previous": last["hash"], "at": round(time.time(), 3),
                         "who": _user(), "action": action, "details": details}
                entry["hash"] = digest_bytes(canonical_json(entry))
                file.seek(0, os.SEEK_END)
                file.write(canonical_json(entry) + b"\n")
                file.flush()
                os.fsync(file.fileno())
                write_atomic(self.head, f"{entry['seq']} {entry['hash']}\n")
        return entry

    def entries(self) -> list[dict[str, Any]]:
        """All lines, oldest first."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text("utf-8").splitlines() if line]

    def verify(self) -> int:
        """Walk the chain and return its length.

        Raises
        ------
        StorageError
            At the first line that was changed, or when lines are missing at the end.
        """
        previous, count = _START, 0
        for line in (self.path.read_bytes().splitlines() if self.path.exists() else []):
            try:
                entry = json.loads(line)
                claimed = entry.pop("hash")
            except (ValueError, KeyError):
                entry, claimed = {}, None
            if (entry.get("seq"), entry.get("previous")) != (count, previous) or digest_bytes(canonical_json(entry)) != claimed:
                raise StorageError(f"line {count + 1} was changed", where=self.path,
                                   hint="Everything before it is intact; restore the rest from a backup")
            previous, count = claimed, count + 1
        if self.head.exists():
            number, kept = self.head.read_text().split()
            if int(number) >= count or (int(number) == count - 1 and kept != previous):
                raise StorageError(f"holds {count} lines, but {int(number) + 1} were written", where=self.path,
                                   hint="Lines are missing at the end; restore them from a backup")
        return count


def _user() -> str:
    with contextlib.suppress(KeyError, OSError):
        return getpass.getuser()
    return str(os.getuid())
