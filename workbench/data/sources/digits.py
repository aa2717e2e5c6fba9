"""scikit-learn's handwritten digits (UCI "Optical Recognition of Handwritten Digits"), as PNG with their label."""

from __future__ import annotations

import gzip
import importlib.util
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from ...errors import SourceError
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
    """A record a row: 64 values from 0 (white) to 16 (black), then the label."""
    with gzip.open(unit.path, "rt", encoding="ascii") as file:
        for number, line in enumerate(file, 1):
            *values, label = (int(float(v)) for v in line.split(","))
            grey = bytes(round(v * 255 / 16) for v in values)
            yield Record("digits", f"row {number}", image=png(grey, SIDE, SIDE), label=label)


def most(_source: Digits) -> None:
    """No limit."""


def png(grey: bytes, width: int, height: int) -> bytes:
    r"""A PNG of 8-bit grey pixels, row by row (PNG specification, third edition).

    Pixels are stored and not compressed: zlib's versions compress differently, and a record's digest must not
    depend on them.

    Examples
    --------
    >>> png(bytes(4), 2, 2)[:8]
    b'\x89PNG\r\n\x1a\n'
    """
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + grey[y * width:(y + 1) * width] for y in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 0)) + chunk(b"IEND", b"")


def _path() -> Path:
    # Found without importing scikit-learn, which takes a second.
    found = importlib.util.find_spec("sklearn")
    path = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz" if found and found.origin else None
    if path is None or not path.exists():
        raise SourceError("the digits come with scikit-learn, which is not installed", where="digits",
                          hint="Install it: pip install scikit-learn")
    return path
