"""Keep one of records whose word n-grams overlap: MinHash proposes, exact Jaccard decides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .. import forms, minhash
from ..minhash import Sketch
from ..spec import NearDuplicates
from . import Decision

if TYPE_CHECKING:
    import pyarrow as pa


def sketch(step: NearDuplicates, records: pa.Table, folder: Path) -> None:
    """MinHash bands and hashed shingles of each record."""
    Sketch.of(records["id"].to_pylist(), forms.compared(records), words=step.words, threshold=step.threshold).save(folder)


def decide(step: NearDuplicates, folders: list[Path], keep: frozenset[str]) -> Decision:
    """Records near one with a smaller id that stays."""
    gone = minhash.near_duplicates(Sketch.joined(map(Sketch.open, folders)), step.threshold, always=[int(i, 16) for i in keep])
    return {f"{i:016x}": ("near duplicate", f"of {other:016x}, similarity {near:.3f}") for i, (other, near) in gone.items()}
