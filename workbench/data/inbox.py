"""A person's own files: what lies in a directory, and files that a page sends, kept in the workspace under their content's name."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import unicodedata
from pathlib import Path
from typing import Any

from ..errors import SourceError, WorkspaceError
from ..storage import storage_errors
from ..workspace import Workspace
from .sources import formats

FOLDER = "data"
"""Where files that were sent are kept, below the workspace."""
LARGEST = 512_000_000
"""Bytes of the largest file that is taken from a page."""
MOST = 2_000
"""Entries of a directory that are listed."""


def listing(workspace: Workspace, path: str = "") -> dict[str, Any]:
    """What lies in a directory of the workspace or of the person's home: directories, and files with the format that they seem to have.

    Returns
    -------
    ``path`` (as a spec would say it), ``parent`` (or None at the top), ``places``, ``entries`` (``name``, ``path``, ``folder``, ``bytes``,
    ``modified``, ``format``; None where no format is known), ``more``: entries beyond those.

    Raises
    ------
    SourceError
        Outside of workspace and home, or where it can't be read.
    """
    folder, tops = (workspace.root / Path(path).expanduser()).resolve(), _tops(workspace)
    if not any(folder.is_relative_to(top) for top in tops.values()):
        raise SourceError("lies outside of the workspace and of your home", where=folder, hint="Write its path into the source instead")
    try:
        found = [e for e in os.scandir(folder) if not e.name.startswith(".")]
    except OSError as error:
        raise SourceError("can't be listed", where=folder, received=error.strerror) from None
    entries = []
    for entry in found:
        try:
            is_folder, stat = entry.is_dir(), entry.stat()
        except OSError:
            continue
        entries.append({"name": entry.name, "path": _said(workspace, Path(entry.path)), "folder": is_folder,
                        "bytes": None if is_folder else stat.st_size, "modified": stat.st_mtime,
                        "format": None if is_folder else formats.of(Path(entry.name))})
    entries.sort(key=lambda e: (not e["folder"], e["format"] is None and not e["folder"], e["name"].lower()))
    top = folder in tops.values() and not any(folder.parent.is_relative_to(t) for t in tops.values())
    return {"path": _said(workspace, folder), "parent": None if top else _said(workspace, folder.parent),
            "places": [{"name": n, "path": _said(workspace, t)} for n, t in tops.items()],
            "entries": entries[:MOST], "more": max(0, len(entries) - MOST)}


def _tops(workspace: Workspace) -> dict[str, Path]:
    return {"workspace": workspace.root, "home": Path.home().resolve()}


def _said(workspace: Workspace, path: Path) -> str:
    """A path as a spec says it: from the workspace, from home, or whole."""
    home = Path.home().resolve()
    if path in (workspace.root, home):
        return "." if path == workspace.root else "~"
    if path.is_relative_to(workspace.root):
        return path.relative_to(workspace.root).as_posix()
    return f"~/{path.relative_to(home).as_posix()}" if path.is_relative_to(home) else path.as_posix()


def safe_name(name: str) -> str:
    r"""The name of a file that was sent, as it may be written: no path, no control characters, no hidden file.

    Examples
    --------
    >>> safe_name("../../etc/pass wd.txt"), safe_name("C:\\notes.md"), safe_name(".bashrc"), safe_name("<b>.csv")
    ('pass wd.txt', 'notes.md', 'bashrc', 'b.csv')
    """
    name = unicodedata.normalize("NFC", re.split(r"[/\\]", name)[-1])
    name = "".join(c for c in name if unicodedata.category(c)[0] != "C" and c not in '<>:"|?*[]')
    stem, dot, ending = name.strip(" .").rpartition(".")
    stem, ending = (stem, dot + ending) if dot and len(ending) <= 12 else (name.strip(" ."), "")
    return (stem.encode()[:100].decode("utf-8", "ignore").strip(" .") or "file") + ending


class Arrival:
    """A file on its way in, piece by piece; nothing is seen of it until it is whole.

    Raises
    ------
    SourceError
        Where it is larger than ``LARGEST`` or of no known format.
    """

    def __init__(self, workspace: Workspace, name: str, size: int):
        self.workspace, self.name, self.size, self.taken = workspace, safe_name(name), int(size), 0
        if self.size > LARGEST:
            raise SourceError("is too large to be sent through the page", where=self.name, received=f"{self.size / 1e6:,.0f} MB",
                              allowed=f"up to {LARGEST / 1e6:,.0f} MB", hint="Put it beside the notebook and browse to it")
        if formats.of(Path(self.name)) is None:
            raise SourceError("no format is known for this ending", where=self.name, received=Path(self.name).suffix or self.name,
                              allowed=f"one of {', '.join(formats.ENDINGS)}")
        folder = workspace.path("arrivals", secrets.token_hex(6))
        with storage_errors(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(folder, "xb")  # noqa: SIM115 - closed by keep or drop
        self._path, self._state = folder, hashlib.sha256()

    def take(self, offset: int, piece: bytes | memoryview) -> int:
        """Take the next piece; gives the bytes that are here."""
        piece = memoryview(piece).cast("B")
        if offset != self.taken or self.taken + len(piece) > self.size:
            self.drop()
            raise WorkspaceError("came in pieces that do not fit together", where=self.name, received=offset, allowed=self.taken,
                                 hint="Send it again")
        with storage_errors(self._path):
            self._file.write(piece)
        self._state.update(piece)
        self.taken += len(piece)
        return self.taken

    def keep(self) -> str:
        """Put the whole file to its place and give its path as a spec says it: the same content has the same path.

        Raises
        ------
        WorkspaceError
            Where something of it is missing.
        """
        if self.taken != self.size:
            self.drop()
            raise WorkspaceError("did not come whole", where=self.name, received=self.taken, allowed=self.size, hint="Send it again")
        digest, folder = self._state.hexdigest()[:8], self.workspace.root / FOLDER
        ending = "".join(Path(self.name).suffixes[-2:]) if self.name.lower().endswith(".gz") else Path(self.name).suffix
        with storage_errors(folder):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            folder.mkdir(exist_ok=True)
            there = next((p for p in sorted(folder.glob(f"*-{digest}{ending}")) if p.stat().st_size == self.size), None)
            final = there or folder / f"{self.name.removesuffix(ending)}-{digest}{ending}"
            if there is None:
                os.replace(self._path, final)
            else:
                self._path.unlink()
        return self.workspace.relative(final)

    def drop(self) -> None:
        """Forget it."""
        self._file.close()
        self._path.unlink(missing_ok=True)
