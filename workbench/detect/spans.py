"""Verbatim spans: which pieces of a text stand word for word in a dataset's training text, and in which records."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import processes
from ..dataset import Dataset
from ..errors import SourceError, StorageError
from ..storage import digest_file, staging
from ..workspace import Workspace

FORMAT = 1
SEPARATOR = b"\xff"
"""Stands around every record; no UTF-8 text holds this byte, so no match crosses it."""
_FILES = ("text.bin", "suffixes.bin", "records.arrow")
_STRIDE = 64  # bytes compared at a time while a match is looked up


@dataclass(frozen=True)
class Span:
    """A piece of the text that was asked about: ``text == asked[start:end]``, offsets in characters."""

    start: int
    end: int
    text: str
    occurrences: int
    """times that it stands in the training text"""
    records: tuple[dict[str, Any], ...]
    """the first records that hold it: id, source, locator, and start and end in characters of the record"""


class SpanIndex:
    """Suffix array over the training text of a dataset, memory-mapped (Manber and Myers 1993; built by divsufsort).

    Takes five bytes of disk for a byte of text (nine beyond 2 GiB) and next to no memory.

    Raises
    ------
    StorageError
        When a file is missing or does not match the digest in the manifest.

    Examples
    --------
    >>> import tempfile
    >>> index = SpanIndex.build([("r1", "See the manual.", "a.txt", "0"), ("r2", "the manual says", "b.txt", "0")],
    ...                         tempfile.mkdtemp() + "/index")
    >>> [(s.text, s.occurrences, [r["id"] for r in s.records]) for s in index.longest("In the manual", min_characters=5)]
    [(' the manual', 1, ['r1'])]
    """

    def __init__(self, path: str | os.PathLike):
        import pyarrow as pa

        self.path = Path(path)
        try:
            self.manifest: dict[str, Any] = json.loads((self.path / "manifest.json").read_text("utf-8"))
            if self.manifest["format"] != FORMAT:
                raise StorageError("has another format", where=self.path, received=self.manifest["format"], allowed=f"format {FORMAT}")
            for name in _FILES:
                if digest_file(self.path / name) != self.manifest["files"][name]:
                    raise StorageError("does not match its digest", where=self.path / name, hint="Delete it; it is built again when needed")
        except (FileNotFoundError, ValueError, KeyError) as error:
            raise StorageError("is no whole index of spans", where=self.path, received=str(error)) from None
        self._text = _map(self.path / "text.bin")
        self._suffixes = memoryview(_map(self.path / "suffixes.bin")).cast("q" if self.manifest["wide"] else "i")
        self._records = pa.ipc.open_file(pa.memory_map(str(self.path / "records.arrow"))).read_all()
        self._starts = self._records["start"].to_numpy()

    @classmethod
    def build(cls, records: Any, path: str | os.PathLike, *, dataset: str = "") -> SpanIndex:
        """Index records ``(id, text, source, locator)`` and commit the files to ``path`` by one rename."""
        import numpy as np
        import pyarrow as pa
        from pydivsufsort import divsufsort

        path = Path(path)
        pieces, starts, names, at = [SEPARATOR], [], ([], [], []), 1
        for id_, text, source, locator in records:
            data = text.encode()
            pieces += [data, SEPARATOR]
            starts.append(at)
            at += len(data) + 1
            for column, value in zip(names, (id_, source, locator), strict=True):
                column.append(value)
        whole = np.frombuffer(bytearray().join(pieces), np.uint8)
        suffixes = divsufsort(whole)
        with staging(path.parent) as place:
            whole.tofile(place / "text.bin")
            suffixes.tofile(place / "suffixes.bin")
            table = pa.table({"start": pa.array(starts, pa.int64()),
                              **{n: pa.array(v, pa.string()) for n, v in zip(("id", "source", "locator"), names, strict=True)}})
            with pa.ipc.new_file(str(place / "records.arrow"), table.schema) as writer:
                writer.write_table(table)
            manifest = {"format": FORMAT, "dataset": dataset, "records": len(starts), "bytes": len(whole),
                        "wide": suffixes.dtype.itemsize == 8, "files": {f: digest_file(place / f) for f in _FILES}}
            (place / "manifest.json").write_text(json.dumps(manifest, indent=1), "utf-8")
            place.commit(path)
        return cls(path)

    def longest(self, text: str, *, most: int = 5, min_characters: int = 12, records: int = 5) -> list[Span]:
        """The longest pieces of a text that stand in the training text, the longest first.

        Each is maximal: one character more on either side stands nowhere in it. Of pieces that overlap, one of
        which more than half lies in longer ones is left out, and so is one without a letter or digit.

        Parameters
        ----------
        most : pieces returned.
        min_characters : shortest piece, in characters.
        records : records named for each piece, in the dataset's order.
        """
        whole = self._maximal(text, max(1, min_characters))
        whole = [(s, e) for s, e in whole if any(c.isalnum() for c in text[s:e])]
        taken: list[tuple[int, int]] = []
        covered = bytearray(len(text))
        for start, end in sorted(whole, key=lambda p: (p[0] - p[1], p[0])):
            if len(taken) == most:
                break
            if 2 * sum(covered[start:end]) <= end - start:
                covered[start:end] = b"\1" * (end - start)
                taken.append((start, end))
        return [self._span(text, start, end, records) for start, end in taken]

    def count(self, text: str) -> int:
        """Times that a text stands in the training text, within one record each."""
        low, high = self._interval(text.encode("utf-8", "surrogatepass"), 0, len(self._suffixes), 0)
        return high - low if text else 0

    def _maximal(self, text: str, shortest: int) -> list[tuple[int, int]]:
        """(start, end) in characters of every match that no other contains, by start."""
        data = text.encode("utf-8", "surrogatepass")
        # Byte offset of each character, and of the end: a match counts up to its last whole character.
        places = [n for n, byte in enumerate(data) if byte & 0xC0 != 0x80] + [len(data)]
        character = {place: n for n, place in enumerate(places)}
        found, reach = [], 0
        for n, place in enumerate(places[:len(places) - shortest]):
            end = place + self._match(data, place)
            while end not in character:
                end -= 1
            if character[end] > reach:
                reach = character[end]
                if reach - n >= shortest:
                    found.append((n, reach))
        return found

    def _match(self, data: bytes, place: int) -> int:
        """Length in bytes of the longest prefix of ``data[place:]`` that stands in the text."""
        low, high, known = 0, len(self._suffixes), 0
        while known < len(data) - place:
            piece = data[place + known:place + known + _STRIDE]
            left, right = self._interval(piece, low, high, known)
            if left == right:
                # Sorted neighbours of where it would stand share the most with it.
                return known + max((self._common(piece, self._suffixes[k] + known) for k in (left - 1, left) if low <= k < high), default=0)
            low, high, known = left, right, known + len(piece)
        return known

    def _common(self, piece: bytes, at: int) -> int:
        other = self._text[at:at + len(piece)]
        return next((n for n, (a, b) in enumerate(zip(piece, other, strict=False)) if a != b), min(len(piece), len(other)))

    def _interval(self, piece: bytes, low: int, high: int, skip: int) -> tuple[int, int]:
        """The suffixes within [low, high) that go on with ``piece`` after ``skip`` bytes (the same in all of them)."""
        text, suffixes, size = self._text, self._suffixes, len(piece)
        ends = []
        for past in (False, True):
            left, right = (ends[0] if past else low), high
            while left < right:
                middle = (left + right) // 2
                at = suffixes[middle] + skip
                found = text[at:at + size]
                if found < piece or (past and found == piece):
                    left = middle + 1
                else:
                    right = middle
            ends.append(left)
        return ends[0], ends[1]

    def _span(self, text: str, start: int, end: int, most: int) -> Span:
        import numpy as np

        data = text[start:end].encode()
        low, high = 0, len(self._suffixes)
        for known in range(0, len(data), _STRIDE):
            low, high = self._interval(data[known:known + _STRIDE], low, high, known)
        places = np.sort(np.asarray(self._suffixes[low:high]))
        rows, first = np.unique(np.searchsorted(self._starts, places, side="right") - 1, return_index=True)
        named = []
        for row, place in zip(rows[:most].tolist(), places[first[:most]].tolist(), strict=True):
            before = len(self._text[self._starts[row]:place].decode())
            named.append({**{c: self._records[c][row].as_py() for c in ("id", "source", "locator")},
                          "start": before, "end": before + end - start})
        return Span(start, end, text[start:end], high - low, tuple(named))


def index_for(workspace: Workspace, dataset: Dataset | str) -> SpanIndex:
    """The index of a dataset's training text; built once, by whoever needs it first, and kept in the workspace's cache.

    Parameters
    ----------
    dataset : the version, or a reference to it.

    Raises
    ------
    SourceError
        When the dataset holds no text.
    """
    if isinstance(dataset, str):
        dataset = Dataset.open(dataset, workspace)
    if dataset.modality != "text":
        raise SourceError("has no text to find spans in", where=dataset.reference, received=dataset.modality, allowed="a dataset of text")
    folder = workspace.path("cache", "spans")
    final = folder / dataset.digest
    if final.exists():
        with contextlib.suppress(StorageError):
            return _opened(final)
    with processes.lock(workspace, "spans", patience=600):
        if final.exists():
            try:
                return SpanIndex(final)
            except StorageError:
                shutil.rmtree(final)
        for left in folder.glob(".staging-*"):  # of a builder that was killed: whoever holds the lock is the only one
            shutil.rmtree(left, ignore_errors=True)
        table = dataset.table("train", ["id", "text", "source", "locator"])
        rows = (tuple(v.as_py() for v in row) for row in zip(*(table[c] for c in ("id", "text", "source", "locator")), strict=True))
        return SpanIndex.build((r for r in rows if r[1]), final, dataset=dataset.reference)


_open: dict[Path, tuple[tuple[int, ...], SpanIndex]] = {}


def _opened(final: Path) -> SpanIndex:
    """An index, opened and verified once a process while its files stay as they are."""
    try:
        files = [(final / name).stat() for name in ("manifest.json", *_FILES)]
    except FileNotFoundError:
        files = []
    mark = tuple(v for f in files for v in (f.st_ino, f.st_mtime_ns, f.st_size))
    known = _open.get(final)
    if known is None or known[0] != mark:
        known = (mark, SpanIndex(final))
        while len(_open) >= 4:  # the files are mapped: what is let go costs nothing but the look at its digests
            _open.pop(next(iter(_open)))
        _open[final] = known
    return known[1]


def _map(path: Path) -> mmap.mmap:
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
