"""Pictures from files, PNG and JPEG and what else Pillow reads without help; the directory that one lies in is its label."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import SourceError
from ...pictures import fitted
from ...workspace import Workspace
from ..fingerprints import digest_files
from ..spec import Images
from . import Record, Unit

MODALITY = "image"
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
LARGEST = 64_000_000
"""Bytes of the largest picture that is read."""


def inputs(source: Images, workspace: Workspace) -> dict[str, str]:
    """The digest of each file, by its path."""
    found = _resolved(source, workspace)
    digests = digest_files(workspace, found.values())
    return {name: digests[str(path)] for name, path in found.items()}


def facts(source: Images, workspace: Workspace) -> dict[str, Any]:
    """The names of the labels, by their numbers."""
    return {"labels": _labels(_resolved(source, workspace))}


def units(source: Images, workspace: Workspace) -> list[Unit]:
    """A picture each, by path."""
    found = _resolved(source, workspace)
    labels = _labels(found)
    return [Unit("images", str(path), name, path.stat().st_size,
                 {"size": source.size, "colour": source.colour, "label": labels.index(path.parent.name) if labels else None})
            for name, path in found.items()]


def read(unit: Unit) -> Iterator[Record]:
    """One record: the file as it is, or as a PNG of the size and colour asked."""
    label = unit.options["label"]
    if unit.weight > LARGEST:
        yield Record(unit.name, "file", image=b"", label=label, reason="too large", detail=f"{unit.weight:,} bytes, at most {LARGEST:,}")
        return
    data = Path(unit.path).read_bytes()
    try:
        yield Record(unit.name, "file", image=fitted(data, unit.options["size"], unit.options["colour"]), label=label)
    except SourceError as error:
        yield Record(unit.name, "file", image=data, label=label, reason="no picture", detail=str(error.received))


def most(_source: Images) -> None:
    """No limit."""


def _resolved(source: Images, workspace: Workspace) -> dict[str, Path]:
    """Name -> path of the pictures that paths, directories and globs mean.

    Raises
    ------
    SourceError
        Where one of them means no picture.
    """
    found: dict[str, Path] = {}
    for pattern in source.paths:
        path = workspace.root / Path(pattern).expanduser()
        if path.is_file():
            inside = [path]
        elif path.is_dir():
            inside = [p for p in path.rglob("*") if not any(part.startswith(".") for part in p.relative_to(path).parts)]
        else:
            whole = str(Path(pattern).expanduser())
            inside = [workspace.root / p for p in glob.glob(whole, root_dir=workspace.root, recursive=True)]  # noqa: PTH207
        pictures = [p.resolve() for p in inside if p.is_file() and p.suffix.lower() in ENDINGS]
        if not pictures:
            raise SourceError("there is no picture", where=pattern, received=[p.name for p in inside[:5]] or None,
                              allowed=f"files that end in {', '.join(ENDINGS)}", hint=f"Relative paths begin at {workspace.root}")
        found |= {workspace.relative(p): p for p in pictures}
    return dict(sorted(found.items()))


def _labels(found: dict[str, Path]) -> list[str]:
    """Names of the directories that hold pictures, where there are several."""
    names = sorted({path.parent.name for path in found.values()})
    return names if len(names) > 1 else []
