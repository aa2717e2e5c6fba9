"""Keep one of records with the same content."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from ..spec import ExactDuplicates
from . import Decision

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


def sketch(_step: ExactDuplicates, records: pa.Table, folder: Path) -> None:
    """A 128-bit hash of each record's content, beside its id."""
    import numpy as np

    np.save(folder / "contents.npy", contents(records), allow_pickle=False)


def decide(_step: ExactDuplicates, folders: list[Path], keep: frozenset[str]) -> Decision:
    """Of records with one hash the one with the smallest id stays, before it those that a person keeps."""
    import numpy as np

    rows = np.concatenate([np.load(folder / "contents.npy") for folder in folders])
    order = np.lexsort((rows[:, 0], rows[:, 2], rows[:, 1]))
    rows = rows[order]
    edges = np.flatnonzero(np.r_[True, (rows[1:, 1:] != rows[:-1, 1:]).any(1), True]) if len(rows) else np.zeros(0, np.int64)
    gone: Decision = {}
    for n in np.flatnonzero(np.diff(edges) > 1):
        ids = [f"{i:016x}" for i in rows[edges[n]:edges[n + 1], 0].tolist()]
        stays = next((i for i in ids if i in keep), ids[0])
        gone |= {i: ("same content", f"as {stays}") for i in ids if i != stays and i not in keep}
    return gone


def contents(records: pa.Table) -> np.ndarray:
    """uint64 (n, 3): id, and the two halves of the hash of text or image."""
    import numpy as np

    rows = bytearray()
    for record, text, image in zip(*(records[c].to_pylist() for c in ("id", "text", "image")), strict=True):
        data = b"t" + text.encode() if image is None else b"i" + image
        rows += int(record, 16).to_bytes(8, "little") + blake2b(data, digest_size=16).digest()
    return np.frombuffer(bytes(rows), np.dtype("<u8")).reshape(-1, 3)
