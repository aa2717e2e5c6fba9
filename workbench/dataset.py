"""A dataset version: immutable Parquet shards, a manifest, the dropped records and a card."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import chats
from .errors import NotFoundError, SourceError, StorageError
from .registry import Registry
from .storage import digest_bytes, digest_file, staging
from .workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

SPLITS = ("train", "validation", "test")
DIGESTED = ("id", "text", "image", "label", "source", "locator", "split")
"""The columns that make a version's logical digest."""


def record_schema() -> pa.Schema:
    """Columns of a record: what it says, where it comes from, where it went.

    ``id`` names the original content and place; ``text`` (of chats canonical JSON) or ``image`` (bytes of a picture, animated of clips)
    is the content;
    ``source`` is a file or a built-in's name, ``locator`` the place in it; ``cluster`` is the smallest
    id among its near duplicates.
    """
    import pyarrow as pa

    return pa.schema([("id", pa.string()), ("text", pa.large_string()), ("image", pa.large_binary()), ("label", pa.int64()),
                      ("source", pa.string()), ("locator", pa.string()), ("cluster", pa.string()), ("split", pa.string())])


def drop_schema() -> pa.Schema:
    """Columns of a dropped record: the record, the step that dropped it, the reason, the place of the reason."""
    import pyarrow as pa

    return pa.schema([*record_schema(), ("step", pa.string()), ("reason", pa.string()), ("detail", pa.string())])


def record_id(source: str, locator: str, content: bytes) -> str:
    """The id of a record: 16 hexadecimal digits of SHA-256 over place and original content."""
    return digest_bytes(b"\0".join((source.encode(), locator.encode(), content)))[:16]


def logical_digest(tables: Iterable[pa.Table]) -> str:
    """SHA-256 over the sorted digests of the rows: the same however rows are ordered, split or compressed.

    Each row is hashed as its ``DIGESTED`` columns in turn, each with its type and length before it.
    """
    rows = []
    for table in tables:
        for batch in table.select(DIGESTED).to_batches(max_chunksize=10_000):
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                state = hashlib.sha256()
                for value in row:
                    kind, data = _bytes(value)
                    state.update(struct.pack("<bq", kind, len(data)))
                    state.update(data)
                rows.append(state.digest())
    rows.sort()
    return hashlib.sha256(b"".join(rows)).hexdigest()


def _bytes(value: object) -> tuple[int, bytes]:
    if value is None:
        return 0, b""
    if isinstance(value, str):
        return 1, value.encode("utf-8", "surrogatepass")
    if isinstance(value, bytes):
        return 2, value
    return 3, struct.pack("<q", value)


@dataclass(frozen=True)
class Dataset:
    """One immutable dataset version on disk.

    Examples
    --------
    >>> dataset = Dataset.open("python-docs")  # doctest: +SKIP
    >>> next(dataset.texts("train"))  # doctest: +SKIP
    'Return a list of ...'
    """

    path: Path

    @classmethod
    def open(cls, reference: str, workspace: Workspace | None = None) -> Dataset:
        """The version that a reference means: ``name``, ``name@v2``, ``name@digest``."""
        return cls(Registry(Workspace.find(workspace)).resolve("dataset", reference).path)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What is in it, where it came from and how it was made."""
        try:
            return json.loads((self.path / "manifest.json").read_text("utf-8"))
        except FileNotFoundError:
            raise NotFoundError("is no dataset version: it has no manifest.json", where=self.path) from None

    @property
    def name(self) -> str:
        return self.manifest["name"]

    @property
    def digest(self) -> str:
        return self.manifest["digest"]

    @property
    def reference(self) -> str:
        return f"{self.name}@{self.digest[:12]}"

    @property
    def modality(self) -> str:
        """``text``, ``image`` or ``clip``."""
        return self.manifest["modality"]

    @property
    def form(self) -> str:
        """What a record is: of texts ``text``, ``chat``, ``preference``, ``abc`` or ``midi`` (words of notes); else the modality."""
        return self.manifest.get("form") or self.modality

    def table(self, split: str | None = None, columns: list[str] | None = None) -> pa.Table:
        """Records of a split (or all) as one Arrow table, in shard order."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        shards = [s for s in self.manifest["shards"] if split in (None, s["split"])]
        if not shards:
            empty = record_schema().empty_table()
            return empty.select(columns) if columns else empty
        return pa.concat_tables([pq.read_table(self.path / s["path"], columns=columns, partitioning=None) for s in shards])

    def texts(self, split: str) -> Iterator[str]:
        """Texts of a split, in shard order."""
        for chunk in self.table(split, ["text"])["text"].chunks:
            for value in chunk:
                yield value.as_py()

    def chats(self, split: str) -> Iterator[dict[str, list[dict[str, str]]]]:
        """Chats of a split: ``{"messages": [{"role": …, "content": …}, …]}`` each.

        Raises
        ------
        SourceError
            Where it holds something else.
        """
        return self._parsed("chat", split)

    def preferences(self, split: str) -> Iterator[dict[str, list[dict[str, str]]]]:
        """Preferences of a split: ``{"prompt": [message, …], "chosen": [message, …], "rejected": [message, …]}`` each.

        Raises
        ------
        SourceError
            Where it holds something else.
        """
        return self._parsed("preference", split)

    def _parsed(self, form: str, split: str) -> Iterator[dict[str, list[dict[str, str]]]]:
        if self.form != form:
            raise SourceError(f"holds no {form}s", where=self.reference, received=f"records of form {self.form}", allowed=f"form {form}",
                              hint="A dataset gets its form from its source: rows with messages, conversations, prompt + completion or "
                                   "instruction + output are chats; rows with chosen + rejected are preferences")
        return (chats.parsed(form, text) for text in self.texts(split))

    def pixels(self, split: str) -> np.ndarray:
        """Pictures of a split as float32 in [-1, 1]: (n, channels, height, width), clips (n, channels, frames, height, width).

        Raises
        ------
        SourceError
            Where it holds texts, or pictures of several shapes: says which, and how many of each.
        """
        from . import pictures

        if self.modality == "text":
            raise SourceError("holds no pictures", where=self.reference, received=f"records of form {self.form}", allowed="images or clips")
        images = self.table(split, ["image"])["image"].to_pylist()
        found = pictures.batch(images, where=f"{self.reference}, {split}", clips=self.modality == "clip")
        if not len(found):
            return found.reshape(0, *(self.manifest.get(n, 1) for n in (("channels", "frames", "height", "width") if self.modality == "clip"
                                                                        else ("channels", "height", "width"))))
        return found

    def first(self, most: int, split: str = "train") -> list[dict[str, Any]]:
        """The first records of a split (where it has none, of all), without reading the others."""
        import pyarrow.parquet as pq

        shards = self.manifest.get("shards") or []
        for shard in [s for s in shards if s["split"] == split] or shards:
            for batch in pq.ParquetFile(self.path / shard["path"], buffer_size=1 << 16, pre_buffer=False).iter_batches(batch_size=most):
                return batch.to_pylist()
        return []

    def beginnings(self, most: int, characters: int = 32) -> list[str]:
        """First words of held-out records, whole words of one line each: what a model of this text may be asked to go on with.

        Of chats what was asked first, of tunes the header.
        """
        texts = next((t for split in ("test", "validation", "train") if (t := [x for x in islice(self.texts(split), 400) if x])), [])
        if self.form in chats.FORMS:
            parts = (next(iter(chats.parsed(self.form, t).values())) for t in texts)
            asked = (next((m["content"] for m in messages if m["role"] == "user"), "") for messages in parts)
            return list(dict.fromkeys(filter(None, asked)))[:most]
        if self.form == "abc":
            return [t[:m.end()] for t in texts if (m := re.search(r"^K:.*\n", t, re.MULTILINE))][:most]
        if self.form == "midi":
            return [" ".join(t.split()[:8]) for t in texts[:most]]
        return beginnings(texts, most, characters)

    def dropped(self) -> pa.Table:
        """Every record that a step dropped, with step, reason and detail."""
        import pyarrow.parquet as pq

        return pq.read_table(self.path / "dropped.parquet")

    def record(self, record_id: str) -> dict[str, Any]:
        """One kept record by its id."""
        import pyarrow.parquet as pq

        for shard in self.manifest["shards"]:  # one at a time: no more of it is in memory than a shard
            found = pq.read_table(self.path / shard["path"], filters=[("id", "==", record_id)], partitioning=None).to_pylist()
            if found:
                return found[0]
        raise NotFoundError(f"no record {record_id!r}", where=self.reference)

    @property
    def card(self) -> str:
        """The data card, Markdown."""
        return (self.path / "card.md").read_text("utf-8")

    def verify(self) -> None:
        """Check every shard against the digest that the manifest gives."""
        for shard in self.manifest["shards"]:
            if digest_file(self.path / shard["path"]) != shard["sha256"]:
                raise StorageError("does not match its digest", where=self.path / shard["path"],
                                   hint="Curate again with --again; the damaged copy can be deleted")

    def _repr_html_(self) -> str:
        from .display import dataset_html

        return dataset_html(self)

    def __str__(self) -> str:
        splits = ", ".join(f"{s} {v['records']:,}" for s, v in self.manifest["splits"].items())
        return f"dataset {self.reference} ({splits} records)"


def _whole(path: Path) -> bool:
    """True if a version is there and matches its own digests."""
    try:
        Dataset(path).verify()
        return (path / "dropped.parquet").exists() and (path / "card.md").exists()
    except (NotFoundError, StorageError, OSError, ValueError, KeyError):
        return False


def write_dataset(workspace: Workspace, name: str, kept: pa.Table, dropped: pa.Table, *, manifest: dict[str, Any], card: str,
                  run: str | None = None, shard_rows: int = 50_000, scores: pa.Table | None = None) -> Dataset:
    """Commit a version atomically and register it; the same content gives the same path.

    Parameters
    ----------
    kept : records with ``record_schema``.
    dropped : records with ``drop_schema``.
    manifest : what the maker knows (``modality``, ``spec``, ``parents``, ``drops`` ...); digest, splits and
        shards are added here.
    scores : what was measured of kept and dropped records: ``id`` and float columns.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    digest = logical_digest([kept])
    final = workspace.path("datasets", name, digest)
    if not _whole(final):
        with staging(final.parent) as place:
            (place / "data").mkdir()
            shards, splits = [], {}
            for split in SPLITS:
                part = kept.filter(pc.field("split") == split)
                part = part.sort_by([("source", "ascending"), ("locator", "ascending"), ("id", "ascending")])
                splits[split] = {"records": part.num_rows,
                                 "bytes": sum(int(pc.sum(pc.binary_length(part[c])).as_py() or 0) for c in ("text", "image"))}
                for start in range(0, part.num_rows, shard_rows):
                    file = f"data/{split}-{start // shard_rows:05d}.parquet"
                    pq.write_table(part.slice(start, shard_rows), place / file, compression="zstd")
                    shards.append({"path": file, "split": split, "rows": min(shard_rows, part.num_rows - start),
                                   "sha256": digest_file(place / file)})
            pq.write_table(dropped.sort_by([("step", "ascending"), ("id", "ascending")]), place / "dropped.parquet", compression="zstd")
            if scores is not None:
                pq.write_table(scores.sort_by("id"), place / "scores.parquet", compression="zstd")
            (place / "card.md").write_text(card, "utf-8")
            whole = {"format": 1, "name": name, "digest": digest, "created": time.time(), "run": run, **manifest,
                     "splits": splits, "shards": shards}
            (place / "manifest.json").write_text(json.dumps(whole, indent=1), "utf-8")
            if not _whole(final):
                shutil.rmtree(final, ignore_errors=True)  # a damaged copy
            place.commit(final)
    if scores is not None and not (final / "scores.parquet").exists():  # made before measures were kept
        with staging(final.parent) as place:
            pq.write_table(scores.sort_by("id"), place / "scores.parquet", compression="zstd")
            os.replace(place / "scores.parquet", final / "scores.parquet")
    Registry(workspace).register("dataset", name, digest, final, run=run, meta={"splits": Dataset(final).manifest["splits"]})
    return Dataset(final)


def beginnings(texts: Sequence[str], most: int, characters: int = 32) -> list[str]:
    """First words of texts, spread over all of them.

    Examples
    --------
    >>> beginnings(["Return the value of the argument.", "x", "Open a file and read it whole."], 4, 12)
    ['Return the', 'Open a file']
    """
    found = []
    for text in texts[::max(1, len(texts) // (4 * most))]:
        line = text.strip().partition("\n")[0]
        words = line[:characters].rpartition(" ")[0] if len(line) > characters else line.rpartition(" ")[0]
        if len(words.split()) >= 2 and words[0].isalnum() and words not in found:
            found.append(words)
    return found[:most]
