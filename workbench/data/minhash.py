"""Near duplicates: MinHash proposes pairs of records, the exact Jaccard similarity of their word n-grams decides."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import blake2b
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

PERMUTATIONS = 128
MISSED = 1e-6
"""Largest chance that MinHash does not propose a pair that lies exactly at the threshold; above it, it falls fast."""
_UNSPACED = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Kana and ideographs are written without spaces: each is a word."""
_WORD = re.compile(rf"[^\W{_UNSPACED}]+|[{_UNSPACED}]")
_ASCII_WORDS = bytes(ord(chr(c).lower()) if chr(c).isalnum() or chr(c) == "_" else 32 for c in range(128)) + bytes(128)
"""ASCII in lower case with a space for whatever is in no word: splitting it is some ten times faster than matching."""
FEW = 40
"""Rows that are compared each with each; a larger bucket is parted first."""
_BLOCK = 1 << 15
"""Shingles hashed at once: what fits in a core's cache."""


def shingles(text: str, words: int = 5) -> set[tuple[str, ...]]:
    """The word n-grams that similarity is measured over; a shorter text is one shingle, one without words none.

    Examples
    --------
    >>> sorted(shingles("To be, or not to be", 5))
    [('be', 'or', 'not', 'to', 'be'), ('to', 'be', 'or', 'not', 'to')]
    """
    found = _WORD.findall(text.lower())
    return {tuple(found[i:i + words]) for i in range(max(1, len(found) - words + 1))} if found else set()


@cache
def layout(threshold: float) -> tuple[int, int]:
    """Bands and rows in a band: the longest bands that miss a pair at the threshold at most once in a million.

    A pair of similarity *s* shares a band of *r* rows with chance s^r; see Leskovec, Rajaraman, Ullman, "Mining of
    massive datasets", 3.4.

    Examples
    --------
    >>> layout(0.8), layout(0.5)
    ((32, 4), (64, 2))
    """
    for rows in range(16, 1, -1):
        bands = PERMUTATIONS // rows
        if (1 - threshold**rows) ** bands <= MISSED:
            return bands, rows
    return PERMUTATIONS, 1


@dataclass(frozen=True)
class Sketch:
    """What near duplicates are found from: no text, only hashes.

    Attributes
    ----------
    ids : uint64 (n,), record ids.
    bands : uint64 (n, bands), one hash a band of the MinHash signature.
    grams : uint64 (shingles,), 64-bit hashes of the shingles of all records, one after another.
    offsets : int64 (n + 1,), where each record's shingles begin.
    """

    ids: np.ndarray
    bands: np.ndarray
    grams: Sequence[np.ndarray]
    offsets: Sequence[np.ndarray]

    @classmethod
    def of(cls, ids: Sequence[str], texts: Iterable[str | None], *, words: int, threshold: float) -> Sketch:
        """The sketch of some records."""
        import numpy as np

        grams, offsets = _grams(texts, words)
        bands = _bands(_signatures(grams, offsets), *layout(threshold))
        return cls(np.array([int(i, 16) for i in ids], np.uint64), bands, [grams], [offsets])

    @classmethod
    def joined(cls, parts: Iterable[Sketch]) -> Sketch:
        """The sketch of all records of several, in the order of their ids."""
        import numpy as np

        parts = list(parts)
        return cls(np.concatenate([p.ids for p in parts]), np.concatenate([p.bands for p in parts]),
                   [g for p in parts for g in p.grams], [o for p in parts for o in p.offsets])

    def save(self, folder: Path) -> None:
        """Write the arrays as .npy files."""
        import numpy as np

        for name, array in (("ids", self.ids), ("bands", self.bands), ("grams", self.grams[0]), ("offsets", self.offsets[0])):
            np.save(folder / f"{name}.npy", array, allow_pickle=False)

    @classmethod
    def open(cls, folder: Path) -> Sketch:
        """Read what ``save`` wrote; shingles are mapped, since few of them are looked at."""
        import numpy as np

        grams = folder / "grams.npy"
        few = grams.stat().st_size < 1 << 20
        return cls(np.load(folder / "ids.npy"), np.load(folder / "bands.npy"),
                   [np.load(grams, mmap_mode=None if few else "r")], [np.load(folder / "offsets.npy")])

    @cached_property
    def _starts(self) -> list[int]:
        return list(accumulate((len(o) - 1 for o in self.offsets), initial=0))

    @cached_property
    def _sets(self) -> dict[int, frozenset[int]]:
        return {}

    def gram_set(self, row: int) -> frozenset[int]:
        """The shingles of one record, hashed."""
        found = self._sets.get(row)
        if found is None:
            found = self._sets[row] = frozenset(self._gram_array(row).tolist())
        return found

    def _gram_array(self, row: int) -> np.ndarray:
        part = bisect_right(self._starts, row) - 1
        begin, end = self.offsets[part][row - self._starts[part]:][:2]
        return self.grams[part][begin:end]

    def jaccard(self, a: int, b: int) -> float:
        """Exact Jaccard similarity of two records' shingles (equal up to collisions of 64-bit hashes)."""
        first, second = self.gram_set(a), self.gram_set(b)
        common = len(first & second)
        return common / (len(first) + len(second) - common) if common else 0.0

    def at_least(self, a: int, b: int, threshold: float) -> bool:
        """True when two records are as similar as the threshold asks; sizes too different are refused unread."""
        first, second = len(self.gram_set(a)), len(self.gram_set(b))
        return min(first, second) >= threshold * max(first, second) and self.jaccard(a, b) >= threshold

    def buckets(self, threshold: float) -> Iterator[np.ndarray]:
        """Groups of two or more rows that share a band, each set of rows once; what a large one can't pair is parted."""
        import numpy as np

        sizes = np.concatenate([np.diff(o) for o in self.offsets]) if self.offsets else np.zeros(0, np.int64)
        rows = np.flatnonzero(sizes)
        seen: set[bytes] = set()
        large: dict[bytes, np.ndarray] = {}
        for band in range(self.bands.shape[1]):
            keys = self.bands[rows, band]
            order = np.argsort(keys, kind="stable")
            keys = keys[order]
            edges = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1], True]) if len(keys) else np.zeros(0, np.int64)
            for n in np.flatnonzero(np.diff(edges) > 1):
                bucket = rows[order[edges[n]:edges[n + 1]]]
                if len(bucket) > FEW:
                    large[_mark(bucket)] = bucket
                elif (mark := _mark(bucket)) not in seen:
                    seen.add(mark)
                    yield bucket
        for group in self._sharing(list(large.values()), threshold):
            if (mark := _mark(group)) not in seen:
                seen.add(mark)
                yield group

    def _sharing(self, buckets: list[np.ndarray], threshold: float) -> Iterator[np.ndarray]:
        """Groups of rows of one bucket that share one of their rarest shingles: each pair as similar as asked is in one.

        Two sets of which a share of *t* is common can't differ in all of their (1 - t) n + 1 rarest members (the prefix
        filter of Chaudhuri, Ganti, Kaushik, "A primitive operator for similarity joins", 2006). So a footer under every
        text, which puts all of them into one bucket, pairs none of them.
        """
        import numpy as np

        if not buckets:
            return
        rows = np.unique(np.concatenate(buckets))
        grams = [self._gram_array(row) for row in rows.tolist()]
        owners = np.repeat(np.arange(len(rows)), [len(g) for g in grams])
        _, kinds, counts = np.unique(np.concatenate(grams), return_inverse=True, return_counts=True)
        by_rank = np.argsort(counts, kind="stable")
        ranks = np.empty(len(counts), np.int64)
        ranks[by_rank] = np.arange(len(counts))
        owners, ranks = np.divmod(np.unique(owners * len(counts) + ranks[kinds]), len(counts))
        sizes = np.bincount(owners, minlength=len(rows))
        place = np.arange(len(owners)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        rarest = sizes - np.ceil(threshold * sizes - 1e-9).astype(np.int64) + 1
        chosen = (place < rarest[owners]) & (counts[by_rank][ranks] > 1)
        ranks, ends = ranks[chosen], np.cumsum(np.bincount(owners[chosen], minlength=len(rows)))
        for bucket in buckets:
            where = np.searchsorted(rows, bucket)
            begins = np.where(where > 0, ends[where - 1], 0)
            lengths = ends[where] - begins
            mine = np.repeat(np.arange(len(bucket)), lengths)
            held = ranks[np.repeat(begins - np.cumsum(lengths) + lengths, lengths) + np.arange(len(mine))]
            order = np.argsort(held, kind="stable")
            for begin, end in pairwise(np.flatnonzero(np.diff(held[order], prepend=-1, append=-1)).tolist()):
                if end - begin > 1:
                    yield bucket[mine[order[begin:end]]]


def near_duplicates(sketch: Sketch, threshold: float, *, always: Iterable[int] = ()) -> dict[int, tuple[int, float]]:
    """Records that are near one with a smaller id that stays: id -> (id that stays, similarity).

    Records are taken by id, so the result does not depend on their order; each that goes was compared exactly
    with the one it goes for.

    Parameters
    ----------
    always : ids that stay whatever they are like.
    """
    always = set(always)
    memberships: dict[int, list[int]] = defaultdict(list)
    for number, bucket in enumerate(sketch.buckets(threshold)):
        for row in bucket.tolist():
            memberships[row].append(number)
    ids = {row: int(sketch.ids[row]) for row in memberships}
    stay: dict[int, list[int]] = defaultdict(list)
    gone: dict[int, tuple[int, float]] = {}
    for row in sorted(memberships, key=lambda r: (ids[r] not in always, ids[r])):
        if ids[row] not in always:
            rivals = {other for number in memberships[row] for other in stay[number]}
            near = next((o for o in sorted(rivals, key=ids.__getitem__) if sketch.at_least(row, o, threshold)), None)
            if near is not None:
                gone[ids[row]] = ids[near], sketch.jaccard(row, near)
                continue
        for number in memberships[row]:
            stay[number].append(row)
    return gone


def clusters(sketch: Sketch, threshold: float, same: Iterable[tuple[int, int]] = ()) -> np.ndarray:
    """For each record the smallest id that a chain of near duplicates leads to: uint64 (n,).

    Parameters
    ----------
    same : further pairs of rows that belong together.
    """
    import numpy as np

    parent = list(range(len(sketch.ids)))

    def find(row: int) -> int:
        while parent[row] != row:
            parent[row] = row = parent[parent[row]]
        return row

    for a, b in same:
        parent[find(a)] = find(b)
    apart: set[tuple[int, int]] = set()
    for bucket in sketch.buckets(threshold):
        groups: dict[int, list[int]] = defaultdict(list)
        for row in bucket.tolist():
            groups[find(row)].append(row)
        waiting = list(groups)
        while len(waiting) > 1:
            reached = [waiting.pop()]
            for one in reached:  # grows with each group that is joined: those are compared with the rest in turn
                touched = [other for other in waiting if _touch(sketch, groups[one], groups[other], threshold, apart)]
                for other in touched:
                    parent[find(other)] = find(one)
                joined = set(touched)
                waiting = [w for w in waiting if w not in joined]
                reached += touched
    roots = np.array([find(row) for row in range(len(parent))], np.int64)
    smallest = np.full(len(parent), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(smallest, roots, sketch.ids)
    return smallest[roots] if parent else smallest


def _mark(rows: np.ndarray) -> bytes:
    return blake2b(rows.tobytes(), digest_size=16).digest()


def _touch(sketch: Sketch, some: list[int], others: list[int], threshold: float, apart: set[tuple[int, int]]) -> bool:
    for a in some:
        for b in others:
            pair = (a, b) if a < b else (b, a)
            if pair in apart:
                continue
            if sketch.at_least(a, b, threshold):
                return True
            apart.add(pair)
    return False


# --- hashing ---------------------------------------------------------------------------------------------------------


class _Vocabulary(dict):
    """word -> 64-bit hash, worked out once a word."""

    def __missing__(self, word: bytes | str) -> int:
        data = word if isinstance(word, bytes) else word.encode("utf-8", "surrogatepass")
        value = self[word] = int.from_bytes(blake2b(data, digest_size=8).digest(), "little")
        return value


def _words(text: str) -> list[bytes] | list[str]:
    return text.encode().translate(_ASCII_WORDS).split() if text.isascii() else _WORD.findall(text.lower())


def _grams(texts: Iterable[str | None], words: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of the shingles of all texts, and where each text's begin."""
    import numpy as np

    vocabulary = _Vocabulary()
    found = [_words(t) if t else [] for t in texts]
    lengths = np.array([len(f) for f in found], np.int64)
    flat = np.fromiter(map(vocabulary.__getitem__, chain.from_iterable([*found, [b""] * words])), np.uint64)  # room for the last window
    begins = np.cumsum(lengths) - lengths
    counts = np.where(lengths == 0, 0, np.maximum(1, lengths - words + 1))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    where = np.repeat(begins - offsets[:-1], counts) + np.arange(offsets[-1])
    sizes = np.repeat(np.minimum(lengths, words), counts)
    grams = sizes.astype(np.uint64)
    for k in range(words):
        inside = k < sizes
        mixed = (grams ^ (grams >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15) + flat[np.minimum(where + k, len(flat) - 1)]
        grams = np.where(inside, mixed, grams)
    grams = (grams ^ (grams >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    return grams ^ (grams >> np.uint64(29)), offsets


def _signatures(grams: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """MinHash signatures, uint32 (n, 128): the least value of 128 hash functions over each record's shingles."""
    import numpy as np

    random = np.random.default_rng(20_240_117)  # fixed: signatures must be the same on every machine and day
    masks = random.integers(0, 2**32, PERMUTATIONS, np.uint64).astype(np.uint32)
    factors = (random.integers(0, 2**31, PERMUTATIONS, np.uint64) * 2 + 1).astype(np.uint32)
    signatures = np.full((len(offsets) - 1, PERMUTATIONS), np.iinfo(np.uint32).max, np.uint32)
    rows = np.flatnonzero(np.diff(offsets))
    values = (grams ^ (grams >> np.uint64(32))).astype(np.uint32)
    begin = 0
    while begin < len(rows):
        end = max(begin + 1, int(np.searchsorted(offsets[rows], offsets[rows[begin]] + _BLOCK, "right")))
        chosen = rows[begin:end]
        low, high = offsets[chosen[0]], offsets[chosen[-1] + 1]
        block, starts = values[low:high], offsets[chosen] - low
        space, shifted = np.empty_like(block), np.empty_like(block)
        for n in range(PERMUTATIONS):
            np.bitwise_xor(block, masks[n], out=space)
            np.multiply(space, factors[n], out=space)
            np.right_shift(space, np.uint32(15), out=shifted)
            np.bitwise_xor(space, shifted, out=space)
            np.multiply(space, np.uint32(0x846CA68B), out=space)
            np.right_shift(space, np.uint32(16), out=shifted)
            np.bitwise_xor(space, shifted, out=space)
            signatures[chosen, n] = np.minimum.reduceat(space, starts)
        begin = end
    return signatures


def _bands(signatures: np.ndarray, bands: int, rows: int) -> np.ndarray:
    """One 64-bit hash for each band of a signature, uint64 (n, bands)."""
    import numpy as np

    cut = signatures[:, :bands * rows].reshape(len(signatures), bands, rows).astype(np.uint64)
    hashes = np.zeros((len(signatures), bands), np.uint64)
    for n in range(rows):
        hashes = (hashes ^ cut[:, :, n]) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    return hashes
