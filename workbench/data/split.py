"""The split: whole clusters of near duplicates go to training or are held out, by a hash of the cluster's name."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SourceError
from . import forms
from .minhash import Sketch, clusters
from .spec import Split
from .steps.exact_duplicates import contents

if TYPE_CHECKING:
    import pyarrow as pa

WORDS = 5
"""Words in a shingle."""


def sketch(split: Split, records: pa.Table, folder: Path) -> None:
    """What clusters are found from: MinHash bands, hashed shingles, a hash of the content."""
    import numpy as np

    Sketch.of(records["id"].to_pylist(), forms.compared(records), words=WORDS, threshold=split.cluster_threshold).save(folder)
    np.save(folder / "contents.npy", contents(records), allow_pickle=False)


def decide(split: Split, folders: list[Path], *, name: str) -> dict[str, tuple[str, str]]:
    """For each record's id its cluster (the smallest id in it) and its side.

    Raises
    ------
    SourceError
        When there is too little to hold anything out.
    """
    import numpy as np

    joined = Sketch.joined(map(Sketch.open, folders))
    rows = np.concatenate([np.load(folder / "contents.npy") for folder in folders])
    found = clusters(joined, split.cluster_threshold, _equal_pairs(rows))
    names, where, sizes = np.unique(found, return_inverse=True, return_counts=True)
    marks = np.full(len(names), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(marks, where, rows[:, 1])
    sides = assign(split, dict(zip(marks.tolist(), sizes.tolist(), strict=True)), name=name)
    return {f"{i:016x}": (f"{c:016x}", sides[m]) for i, c, m in
            zip(joined.ids.tolist(), found.tolist(), marks[where].tolist(), strict=True)}


def assign(split: Split, sizes: dict[int, int], *, name: str) -> dict[int, str]:
    """The side of each cluster, from the clusters' marks and numbers of records alone.

    A cluster's mark is the smallest hash of its contents. Clusters stand in the order of a hash of seed and mark;
    validation is filled from one end and test from the other, up to their share of all records but with one cluster at
    least. So a text keeps its side while a dataset grows and lines move, but for a few at the borders.

    Examples
    --------
    >>> sorted(assign(Split(validation=0.25, test=0.25), {1: 1, 2: 1, 3: 1, 4: 1}, name="x").values())
    ['test', 'train', 'train', 'validation']
    """
    total = sum(sizes.values())
    wanted = [(side, share) for side, share in (("validation", split.validation), ("test", split.test)) if share]
    if len(sizes) < len(wanted) + 1:
        records = f"{total} record{'s' * (total != 1)}" + (f" in {len(sizes)} groups of near duplicates" if total > len(sizes) else "")
        raise SourceError(f"too little to split: {records} can't fill {' and '.join(['train', *(s for s, _ in wanted)])}", where=name,
                          allowed=f"at least {len(wanted) + 1} records that are not near one another",
                          hint="Add text, or hold nothing out: --set split.validation=0 --set split.test=0")
    order = sorted(sizes, key=lambda mark: (blake2b(f"{split.seed} {mark}".encode(), digest_size=8).digest(), mark))
    sides = dict.fromkeys(order, "train")
    for left, (side, share) in zip(range(len(wanted), 0, -1), wanted, strict=True):
        room = max(1, round(share * total))
        free = [m for m in (order if side == "validation" else order[::-1]) if sides[m] == "train"]
        chosen: list[int] = []
        for mark in free:
            if sizes[mark] <= room and len(chosen) < len(free) - left:
                chosen.append(mark)
                room -= sizes[mark]
        # Where every cluster is larger than the share, the smallest goes.
        for mark in chosen or [min(free, key=sizes.__getitem__)]:
            sides[mark] = side
    return sides


def _equal_pairs(rows) -> list[tuple[int, int]]:
    """Pairs of rows with the same content hash: each with the next of its kind."""
    import numpy as np

    order = np.lexsort((rows[:, 2], rows[:, 1]))
    equal = (rows[order][1:, 1:] == rows[order][:-1, 1:]).all(1)
    return list(zip(order[:-1][equal].tolist(), order[1:][equal].tolist(), strict=True))
