"""A dataset version as a person goes through it: every record, kept and dropped, by what became of it, what it says and measures.

What is looked at is put once into files that are mapped, not read: columns of numbers, and the texts beside them. So a million records
take little of a process's own memory, and a page of them costs what fifty do.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..dataset import SPLITS, Dataset
from ..errors import StorageError
from ..storage import staging
from ..workspace import Workspace
from .forms import readable
from .partition import SCORES
from .spec import DataSpec

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

BATCH = 8_192
"""Records of one batch of the mapped texts."""
PATIENCE = 0.12
"""Seconds that an answer waits for a search; what was found until then is told, and that the search goes on."""
FORMAT = 1
SIDE_BY_SIDE = 2
"""Searches that go on when another is begun: two pages may look at one panel."""
REMEMBERED = 8
"""Versions whose mapped files are kept in the cache, the newest."""


class Review:
    """The records of a version.

    Kept records come first, in the order of the shards, then the dropped. ``codes`` says what became of each: 0 kept, else the number of
    its (step, reason) in ``reasons``. ``scores`` holds measures by name, NaN where none was taken.

    Parameters
    ----------
    dataset : the version.
    workspace : whose cache takes the mapped files.

    Examples
    --------
    >>> review = Review(Dataset.open("python-docs"), Workspace.find())  # doctest: +SKIP
    >>> review.page(review.mask("dropped"), key="dropped", count=1)["rows"][0]["reason"]  # doctest: +SKIP
    'near duplicate'
    """

    def __init__(self, dataset: Dataset, workspace: Workspace):
        import numpy as np
        import pyarrow as pa

        self.dataset, self.workspace = dataset, workspace
        self._own: tempfile.TemporaryDirectory | None = None
        folder = self._mapped()
        facts = json.loads((folder / "facts.json").read_text())
        self.reasons = [tuple(r) for r in facts["reasons"]]
        self.sources: list[str] = facts["sources"]
        self.kept, self.total = facts["kept"], facts["total"]
        self.ids, self.codes, self.splits, self.places, self.contents, self.where, self.lengths = (
            np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("id", "code", "split", "place", "content", "source", "length"))
        self.scores = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in facts["scores"]}
        self._file = pa.memory_map(str(folder / "records.arrow"))
        self._reader = pa.ipc.open_file(self._file)
        self._searches: OrderedDict[Any, Search] = OrderedDict()
        self._lock = threading.Lock()

    def _mapped(self) -> Path:
        """The mapped files of the version: in the workspace's cache, or of this process alone where that can't be written."""
        measured = "measured" if (self.dataset.path / "scores.parquet").exists() else "plain"
        folder = self.workspace.path("cache", "review", f"{FORMAT}-{self.dataset.digest[:32]}-{measured}-{self.dataset.name}")
        if (folder / "facts.json").exists():
            return folder
        try:
            with staging(folder.parent) as place:
                _build(self.dataset, place.path)
                place.commit(folder, flush=False)
            others = sorted((f for f in folder.parent.iterdir() if not f.name.startswith(".")), key=lambda f: -f.stat().st_mtime)
            for other in others[REMEMBERED:]:
                shutil.rmtree(other, ignore_errors=True)  # who has it mapped keeps it
        except StorageError:
            self._own = tempfile.TemporaryDirectory(prefix="workbench-review-", ignore_cleanup_errors=True)
            folder = Path(self._own.name)
            _build(self.dataset, folder)
        return folder

    @cached_property
    def spec(self) -> DataSpec:
        """The spec that made it."""
        return DataSpec.load({"word": "data", **{k: v for k, v in self.dataset.manifest["spec"].items() if k != "word"}})

    @cached_property
    def _by_id(self) -> np.ndarray:
        return self.ids.argsort(kind="stable")

    def rows_of(self, ids: Sequence[str]) -> np.ndarray:
        """Row numbers of ids; those that are not there are left out."""
        import numpy as np

        wanted = np.array([int(i, 16) for i in ids if re.fullmatch(r"[0-9a-f]{16}", i)], np.uint64)
        if not len(wanted) or not self.total:
            return np.zeros(0, np.int64)
        at = np.minimum(np.searchsorted(self.ids, wanted, sorter=self._by_id), self.total - 1)
        rows = self._by_id[at]
        return rows[self.ids[rows] == wanted]

    def texts(self, batch: int) -> pa.RecordBatch:
        """One batch of ``text``, ``locator``, ``detail``, ``label``, ``image``, mapped."""
        return self._reader.get_batch(batch)

    def row(self, number: int) -> dict[str, Any]:
        """One record, whole."""
        import math

        values = self.texts(number // BATCH).slice(number % BATCH, 1).to_pylist()[0]
        step, reason = self.reasons[self.codes[number]]
        scores = {name: float(column[number]) for name, column in self.scores.items() if not math.isnan(column[number])}
        split = SPLITS[self.splits[number]] if self.splits[number] >= 0 else ""
        return {"row": int(number), "id": f"{int(self.ids[number]):016x}", "source": self.sources[self.where[number]], "step": step,
                "reason": reason, "split": split, "length": int(self.lengths[number]), "scores": scores, **values}

    # What is shown ------------------------------------------------------------------------------------------------------------

    def counts(self) -> list[int]:
        """Records of each reason, in the order of ``reasons``."""
        import numpy as np

        return np.bincount(self.codes, minlength=len(self.reasons)).tolist()

    def only(self, rows: np.ndarray) -> np.ndarray:
        """The mask of some row numbers."""
        import numpy as np

        found = np.zeros(self.total, bool)
        found[rows] = True
        return found

    def mask(self, show: str = "all", *, code: int | None = None, split: str = "") -> np.ndarray | None:
        """Which records: ``all``, ``kept`` or ``dropped``, of a reason's number, of a split; None: all."""
        found = (self.codes == 0) == (show == "kept") if show in ("kept", "dropped") else None
        if code is not None:
            found = (self.codes == code) if found is None else found & (self.codes == code)
        if split:
            side = self.splits == SPLITS.index(split)
            found = side if found is None else found & side
        return found

    def search(self, key: str, mask: np.ndarray | None, text: str = "", sort: str | None = None, descending: bool = False) -> Search:
        """The records of a mask that hold a text, in an order; the last few are remembered by ``key``, which names the mask."""
        with self._lock:
            known = self._searches.pop(whole := (key, text, sort, descending), None)
            if known is None:
                known = Search(self, mask, text, sort, descending)
                running = [k for k, s in self._searches.items() if not s.done]
                for other in running[:-SIDE_BY_SIDE]:  # as somebody types, what was typed before is of no use
                    self._searches.pop(other).stop()
            self._searches[whole] = known
            while len(self._searches) > 6:
                self._searches.popitem(last=False)[1].stop()
            return known

    def page(self, mask: np.ndarray | None = None, *, key: str = "", start: int = 0, count: int = 50, sort: str | None = None,
             descending: bool = False, text: str = "", patience: float = PATIENCE) -> dict[str, Any]:
        """A page of records: ``rows`` (texts cut short), ``total``, ``done`` (False: the search goes on, ``total`` was found so far)."""
        search = self.search(key, mask, text, sort, descending)
        numbers, total, done = search.wait(start, count, patience)
        return {"rows": [_cut(self.row(int(n))) for n in numbers], "total": total, "done": done, "scanned": search.scanned}

    def histogram(self, name: str, low: float, high: float, bins: int = 48, logarithmic: bool = False) -> tuple[list[int], list[int]]:
        """Records kept and dropped in bins of a measure; what lies beyond the ends counts in the last bin."""
        import numpy as np

        values = np.asarray(self.scores[name])
        there = ~np.isnan(values)
        edges = np.geomspace(max(low, 1), high, bins + 1) if logarithmic else np.linspace(low, high, bins + 1)
        at = np.clip(np.searchsorted(edges, values[there], side="right") - 1, 0, bins - 1)
        kept = self.codes[there] == 0
        return np.bincount(at[kept], minlength=bins).tolist(), np.bincount(at[~kept], minlength=bins).tolist()

    def close(self) -> None:
        """End what searches."""
        for search in self._searches.values():
            search.stop()
        if self._own is not None:
            self._own.cleanup()


class Search:
    """Row numbers that answer a question; a text is looked for on a thread, and what was found so far can be had meanwhile."""

    def __init__(self, review: Review, mask: np.ndarray | None, text: str, sort: str | None, descending: bool):
        import numpy as np

        self.review, self._sort = review, (sort, descending)
        self._changed = threading.Condition()
        self._ended = False
        rows = None if mask is None else np.flatnonzero(mask)
        self.scanned = 0
        if text:
            self._found: list[np.ndarray] = []
            self.total, self.done, self.rows = 0, False, None
            threading.Thread(target=self._scan, args=(rows, text), daemon=True, name="search").start()
        else:
            self.rows = self._ordered(rows)
            self.total, self.done, self.scanned = review.total if rows is None else len(rows), True, review.total

    def _scan(self, rows: np.ndarray | None, text: str) -> None:
        import numpy as np
        import pyarrow.compute as pc

        review = self.review
        # A word that is written small is found in capitals too; one with capitals as it is written.
        small = text == text.lower()
        for batch in range(-(-review.total // BATCH)):
            if self._ended:
                return
            first = batch * BATCH
            if rows is not None:
                here = rows[np.searchsorted(rows, first):np.searchsorted(rows, first + BATCH)] - first
                if not len(here):
                    continue
            column = review.texts(batch)["text"]
            if rows is not None and len(here) < BATCH // 4:
                column = column.take(here)
                hits = here[pc.match_substring(column, text, ignore_case=small).fill_null(False).to_numpy(zero_copy_only=False)]
            else:
                hits = np.flatnonzero(pc.match_substring(column, text, ignore_case=small).fill_null(False).to_numpy(zero_copy_only=False))
                hits = hits if rows is None else np.intersect1d(hits, here, assume_unique=True)
            with self._changed:
                self.scanned = min(review.total, first + BATCH)
                if len(hits):
                    self._found.append(hits + first)
                    self.total += len(hits)
                self._changed.notify_all()
        found = np.concatenate(self._found) if self._found else np.zeros(0, np.int64)
        with self._changed:
            self.rows, self.done, self.scanned = self._ordered(found), True, review.total
            self._found.clear()
            self._changed.notify_all()

    def _ordered(self, rows: np.ndarray | None) -> np.ndarray | None:
        import numpy as np

        name, descending = self._sort
        values = self.review.lengths if name == "length" else self.review.scores.get(name or "")
        if values is None:
            return rows
        rows = np.arange(self.review.total) if rows is None else rows
        values = np.asarray(values, float)[rows]
        return rows[np.argsort(-values if descending else values, kind="stable")]

    def wait(self, start: int, count: int, patience: float) -> tuple[np.ndarray, int, bool]:
        """(row numbers of a page, records found, whether the search is over), after a time at most; an order is known at the end only."""
        import numpy as np

        end = time.monotonic() + patience
        with self._changed:
            if self._sort[0]:
                self._changed.wait_for(lambda: self.done or self._ended, 60)
            while not self.done and self.total < start + count and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)
            if not self.done:
                return np.concatenate([*self._found, np.zeros(0, np.int64)])[start:start + count], self.total, False
        if self.rows is None:
            return np.arange(start, max(start, min(start + count, self.total))), self.total, True
        return self.rows[start:start + count], self.total, True

    def stop(self) -> None:
        """Search no further."""
        self._ended = True


# --- the mapped files ----------------------------------------------------------------------------------------------------


def _build(dataset: Dataset, folder: Path) -> None:
    """Put a version into mapped files."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    reasons: dict[tuple[str, str], int] = {("", ""): 0}
    sources: dict[str, int] = {}
    columns: dict[str, list[np.ndarray]] = {n: [] for n in ("id", "code", "split", "place", "content", "source", "length")}
    schema = pa.schema([("text", pa.large_string()), ("locator", pa.string()), ("detail", pa.string()), ("label", pa.int64()),
                        ("image", pa.large_binary())])
    kept = 0
    with pa.OSFile(str(folder / "records.arrow"), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        waiting: list[pa.Table] = []
        for table in _tables(dataset):
            steps, why = table["step"].to_pylist(), table["reason"].to_pylist()
            code = [reasons.setdefault(pair, len(reasons)) for pair in zip(steps, why, strict=True)]
            names = table["source"].to_pylist()
            kept += code.count(0)
            contents = (t.encode() if t is not None else i or b"" for t, i in
                        zip(table["text"].to_pylist(), table["image"].to_pylist(), strict=True))
            columns["id"].append(np.array([int(i, 16) for i in table["id"].to_pylist()], np.uint64))
            columns["code"].append(np.array(code, np.int16))
            columns["split"].append(np.array([SPLITS.index(s) if s in SPLITS else -1 for s in table["split"].to_pylist()], np.int8))
            columns["source"].append(np.array([sources.setdefault(s, len(sources)) for s in names], np.int32))
            columns["place"].append(_hashes(f"{s}\0{at}".encode() for s, at in zip(names, table["locator"].to_pylist(), strict=True)))
            columns["content"].append(_hashes(contents))
            waiting.append(_as_read(table.select(schema.names).cast(schema), dataset.form))
            columns["length"].append(pc.fill_null(pc.utf8_length(waiting[-1]["text"]), 0).to_numpy().astype(np.int32))
            if sum(t.num_rows for t in waiting) >= BATCH:
                waiting = _write(writer, waiting, final=False)
        _write(writer, waiting, final=True)
    kinds = {"id": np.uint64, "code": np.int16, "split": np.int8, "place": np.uint64, "content": np.uint64, "source": np.int32,
             "length": np.int32}
    whole = {name: np.concatenate([*parts, np.zeros(0, kinds[name])]) for name, parts in columns.items()}
    for name, column in whole.items():
        np.save(folder / f"{name}.npy", column, allow_pickle=False)
    scores = _scores(dataset, whole["id"])
    for name, column in scores.items():
        np.save(folder / f"{name}.npy", column, allow_pickle=False)
    (folder / "facts.json").write_text(json.dumps({"reasons": list(reasons), "sources": list(sources), "kept": kept, "scores": list(scores),
                                                   "total": len(whole["id"])}))


def _as_read(table: pa.Table, form: str) -> pa.Table:
    """The records with texts as a person reads them."""
    import pyarrow as pa

    if form in ("chat", "preference"):
        texts = pa.array([readable(form, t) for t in table["text"].to_pylist()], pa.large_string())
        return table.set_column(table.column_names.index("text"), "text", texts)
    return table


def _tables(dataset: Dataset) -> Iterator[pa.Table]:
    """The records in pieces: the kept, then the dropped, with columns of both."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ["id", "text", "image", "label", "source", "locator", "split", "step", "reason", "detail"]
    for file in [*(dataset.path / s["path"] for s in dataset.manifest["shards"]), dataset.path / "dropped.parquet"]:
        found = pq.ParquetFile(file)
        for batch in found.iter_batches(batch_size=BATCH, columns=[n for n in names if n in found.schema_arrow.names]):
            table = pa.Table.from_batches([batch])
            for name in ("step", "reason", "detail"):
                if name not in table.column_names:
                    table = table.append_column(name, pa.array([""] * table.num_rows, pa.string()))
            yield table


def _write(writer: Any, tables: list[pa.Table], *, final: bool) -> list[pa.Table]:
    """Write whole batches; gives the rest."""
    import pyarrow as pa

    table = pa.concat_tables(tables).combine_chunks() if tables else None
    while table is not None and (table.num_rows >= BATCH or (final and table.num_rows)):
        writer.write_batch(table.slice(0, BATCH).combine_chunks().to_batches()[0])
        table = table.slice(BATCH)
    return [table] if table is not None and table.num_rows else []


def _hashes(values: Iterator[bytes]) -> np.ndarray:
    import numpy as np

    return np.frombuffer(b"".join(blake2b(v, digest_size=8).digest() for v in values), np.uint64)


def _scores(dataset: Dataset, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Measures in the order of the ids; {} where the version has none."""
    import numpy as np
    import pyarrow.parquet as pq

    path = dataset.path / "scores.parquet"
    if not path.exists() or not len(ids):
        return {}
    table = pq.read_table(path)
    known = np.array([int(i, 16) for i in table["id"].to_pylist()], np.uint64)
    order = known.argsort()
    at = order[np.minimum(np.searchsorted(known, ids, sorter=order), len(known) - 1)]
    there = known[at] == ids
    return {name: np.where(there, table[name].to_numpy()[at], np.nan) for name in SCORES}


def _cut(row: dict[str, Any], most: int = 300) -> dict[str, Any]:
    """A row as a table shows it."""
    text = row.pop("text")
    image = row.pop("image")
    return {**row, "text": f"image of {len(image):,} bytes" if image is not None else (text or "")[:most] + "…" * (len(text or "") > most)}
