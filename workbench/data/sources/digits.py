"""scikit-learn's handwritten digits (UCI "Optical Recognition of Handwritten Digits"), as PNG with their label."""

from __future__ import annotations

import gzip
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from ...errors import SourceError
from ...pictures import png
from ...workspace import Workspace
from ..fingerprints import digest_files
from ..spec import Digits
from . import Record, Unit

MODALITY = "image"
SIDE = 8


def inputs(_source: Digits, workspace: Workspace) -> dict[str, str]:
    """The digest of the table that scikit-learn brings along."""
    path = _path()
    return {"digits": digest_files(workspace, [path])[str(path)]}


def units(_source: Digits, _workspace: Workspace) -> list[Unit]:
    """One: the table."""
    path = _path()
    return [Unit("digits", str(path), "digits", path.stat().st_size)]


def read(unit: Unit) -> Iterator[Record]:
    """A record a row."""
    for record, grey in rows(unit.path):
        yield record._replace(image=png(grey, SIDE, SIDE))


def rows(path: str) -> Iterator[tuple[Record, bytes]]:
    """Each row as a record without its image, and its grey pixels: 64 values from 0 (white) to 16 (black) stand before the label."""
    with gzip.open(path, "rt", encoding="ascii") as file:
        for number, line in enumerate(file, 1):
            *values, label = (int(float(v)) for v in line.split(","))
            yield Record("digits", f"row {number}", label=label), bytes(round(v * 255 / 16) for v in values)


def most(_source: Digits) -> None:
    """No limit."""


def _path() -> Path:
    # Found without importing scikit-learn, which takes a second.
    found = importlib.util.find_spec("sklearn")
    path = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz" if found and found.origin else None
    if path is None or not path.exists():
        raise SourceError("the digits come with scikit-learn, which is not installed", where="digits",
                          hint="Install it: pip install scikit-learn")
    return path
