"""Files by path or glob: which they are and of which form; what is in them is read by ``formats``."""

from __future__ import annotations

import contextlib
import difflib
import glob
import os
from collections.abc import Iterator
from pathlib import Path

from ...errors import SourceError
from ...workspace import Workspace
from ..fingerprints import digest_files
from ..spec import Files
from . import Record, Unit, formats, tunebooks

MODALITY = "text"
LOOKED_INTO = 64
"""Files whose columns are checked before a run starts; the others are checked as they are read."""


def inputs(source: Files, workspace: Workspace) -> dict[str, str]:
    """The digest of each file, by its path."""
    found = _resolved(source, workspace)
    if not any(unit.weight for unit in found):
        raise SourceError("is empty" if len(found) == 1 else f"all {len(found)} files are empty", where=_shown(source),
                          hint="A dataset needs at least a few paragraphs of text")
    common = form(source, workspace)
    for unit in found[:LOOKED_INTO]:
        formats.check(_of_form(unit, common))
    digests = digest_files(workspace, [u.path for u in found])
    return {u.name: digests[u.path] for u in found}


def units(source: Files, workspace: Workspace) -> list[Unit]:
    """A file each, by path."""
    common = form(source, workspace)
    return [_of_form(unit, common) for unit in _resolved(source, workspace)]


def form(source: Files, workspace: Workspace) -> str:
    """What the records are: as the spec says, else what the first files hold.

    Raises
    ------
    SourceError
        Where files hold records of several forms.
    """
    if source.form != "auto":
        return source.form
    found: dict[str, str] = {}
    for unit in [u for u in _resolved(source, workspace) if u.weight][:LOOKED_INTO]:
        with contextlib.suppress(SourceError):  # what can't be read is told when it is checked or read
            found.setdefault(formats.form_of(unit), unit.name)
    if len(found) > 1:
        raise SourceError("files hold records of several forms", where=_shown(source),
                          received=", ".join(f"{name} holds {form}" for form, name in found.items()),
                          allowed="one form in a dataset", hint="Name the files of one form, or say form: text where all is plain text")
    return next(iter(found), "text")


def _of_form(unit: Unit, form: str) -> Unit:
    if (unit.options["format"] in tunebooks.READERS) != (form in tunebooks.READERS) or (form == "abc" and unit.options["format"] != "abc"):
        raise SourceError(f"holds no {form}", where=unit.name, received=unit.options["format"],
                          hint="Say which files are meant, or leave form out")
    return unit._replace(options={**unit.options, "form": form})


def read(unit: Unit) -> Iterator[Record]:
    """Records of a file in its format."""
    return formats.read(unit)


def most(source: Files) -> None:
    """No limit."""


def _resolved(source: Files, workspace: Workspace) -> list[Unit]:
    found: dict[str, Unit] = {}
    for pattern in source.paths:
        for path in _matching(pattern, workspace.root):
            kind = formats.of(path) if source.format == "auto" else source.format
            if kind is None:
                raise SourceError("no format is known for this ending", where=workspace.relative(path), received=path.suffix or path.name,
                                  allowed=f"one of {', '.join(formats.ENDINGS)}", hint="Say what it is with format: text")
            try:
                size = path.stat().st_size
            except OSError as error:
                raise SourceError("can't be read", where=path, received=error.strerror) from None
            name = workspace.relative(path)
            options = {"format": kind, "text": source.text} | ({"encoding": source.encoding} if source.encoding else {})
            found[name] = Unit("files", str(path), name, size, options)
    return [found[name] for name in sorted(found)]


def _matching(pattern: str, root: Path) -> list[Path]:
    """Files that a path, a directory or a glob means.

    Raises
    ------
    SourceError
        When there is none; names what is near.
    """
    path = root / Path(pattern).expanduser()
    if path.is_file():
        return [path.resolve()]
    if path.is_dir():
        inside = [p for p in sorted(path.rglob("*")) if p.is_file() and not _hidden(p, path)]
        known = [p.resolve() for p in inside if formats.of(p)]
        if not known:
            raise SourceError("no file of a known format is in this directory", where=path, allowed=", ".join(formats.ENDINGS),
                              received=[p.name for p in inside[:5]])
        return known
    if not glob.has_magic(pattern):
        raise SourceError("there is no such file", where=pattern, hint=_near(path) or f"Relative paths begin at {root}")
    matched = [p for p in _globbed(pattern, root) if p.is_file()]
    known = [p.resolve() for p in matched if formats.of(p)]
    if not known and matched:  # all of an unknown ending: the caller says which endings there are
        return [p.resolve() for p in matched]
    if not known:
        raise SourceError("no file matches", where=pattern, hint=_near(path) or f"Relative paths begin at {root}")
    return known


def _globbed(pattern: str | Path, root: Path) -> list[Path]:
    pattern = str(Path(pattern).expanduser())
    return [root / p for p in sorted(glob.glob(pattern, root_dir=root, recursive=True))]  # noqa: PTH207 - a pattern may be absolute


def _hidden(path: Path, below: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(below).parts)


def _near(path: Path) -> str | None:
    """What is there in the nearest directory that exists, the closest name first."""
    path = Path(os.path.normpath(path))
    part, missing = path.parent, path.name
    while not part.is_dir() and part != part.parent:
        part, missing = part.parent, part.name
    try:
        names = sorted(p.name + "/" * p.is_dir() for p in part.iterdir() if not p.name.startswith("."))
    except OSError:
        return None
    close = difflib.get_close_matches(missing, names, n=1, cutoff=0.6)
    if close:
        meant = part / close[0]
        whole = meant / path.relative_to(part / missing)
        return f'Did you mean "{whole if _globbed(whole, part) else meant}"?'
    return f"In {part} there is: {', '.join(names[:8])}{' …' * (len(names) > 8)}" if names else f"{part} is empty"


def _shown(source: Files) -> str:
    return ", ".join(source.paths[:3]) + " …" * (len(source.paths) > 3)


def skipped(source: Files, workspace: Workspace) -> list[str]:
    """Files that a directory or glob holds and whose ending no format has."""
    left: set[str] = set()
    for pattern in source.paths:
        path = workspace.root / Path(pattern).expanduser()
        inside = path.rglob("*") if path.is_dir() else _globbed(pattern, workspace.root) if glob.has_magic(pattern) else ()
        left |= {workspace.relative(p) for p in inside if p.is_file() and not p.name.startswith(".") and not formats.of(p)}
    return sorted(left) if source.format == "auto" else []
