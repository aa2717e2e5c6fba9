"""Digests of files, remembered by size and times, so that asking again whether a source changed is quick."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from ..errors import SourceError
from ..storage import Database, digest_file
from ..workspace import Workspace

_SCHEMA = "CREATE TABLE IF NOT EXISTS fingerprints (path TEXT PRIMARY KEY, stamp TEXT NOT NULL, digest TEXT NOT NULL)"
SETTLED = 2.0
"""Seconds since a file's last change before its digest is remembered: two writes can share one time stamp."""


def digest_files(workspace: Workspace, paths: Iterable[str | os.PathLike]) -> dict[str, str]:
    """SHA-256 of each file's bytes.

    A digest is taken from memory only where inode, size, modification and change time are as they were.

    Raises
    ------
    SourceError
        When a file is gone or can't be read.
    """
    database = Database(workspace.path("cache", "fingerprints.db"), _SCHEMA)
    stamps: dict[str, str] = {}
    settled: set[str] = set()
    for path in map(str, paths):
        try:
            found = os.stat(path)
        except OSError as error:
            raise unreadable(path, error) from None
        stamps[path] = f"{found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"
        if time.time() - max(found.st_mtime, found.st_ctime) > SETTLED:
            settled.add(path)
    names, known = list(stamps), {}
    for start in range(0, len(names), 500):
        part = names[start:start + 500]
        rows = database.rows(f"SELECT path, stamp, digest FROM fingerprints WHERE path IN ({','.join('?' * len(part))})", tuple(part))
        known.update({r["path"]: r["digest"] for r in rows if stamps[r["path"]] == r["stamp"]})
    fresh = {}
    for path in names:
        if path not in known:
            try:
                fresh[path] = digest_file(path)
            except OSError as error:
                raise unreadable(path, error) from None
    if fresh:
        with database.transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO fingerprints VALUES (?, ?, ?)",
                                   [(p, stamps[p], d) for p, d in fresh.items() if p in settled])
    return {**known, **fresh}


def unreadable(path: str | Path, error: OSError) -> SourceError:
    """The error for a file that can't be read."""
    return SourceError("can't be read", where=path, received=error.strerror, hint="Check that it is there and that you may read it")
