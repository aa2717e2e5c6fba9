"""What one task does: read units into a file, or take a partition through steps to the next file. Text stays in files."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..dataset import drop_schema, record_id, record_schema
from ..spec import Part
from ..storage import Stage, staging
from . import forms
from . import split as splitting
from .sources import Unit, source_module
from .spec import DataSpec
from .steps import judging, step_module

if TYPE_CHECKING:
    import pyarrow as pa

SCORES = ("characters", "symbols", "repeated_lines", "repeated_words")
"""Measures that are kept of each record; those of the first step that takes them count."""
RECORDS, DROPS, RESULT = "records.arrow", "drops.arrow", "result.json"
BATCH = 256_000
"""Bytes of content after which a read file begins a new batch: what partitions are put together from."""


class ReadTask(NamedTuple):
    """Units to read into one folder."""

    folder: str
    units: list[tuple[int, Unit]]
    """(number among all units, unit)"""
    batch: int = BATCH


class Piece(NamedTuple):
    """Batches ``first`` to ``last`` (excluded) of a folder's records."""

    folder: str
    first: int
    last: int


class StepTask(NamedTuple):
    """A partition to take through text steps and to leave a sketch of for the comparison that follows."""

    root: str
    """the workspace's"""
    folder: str
    pieces: list[Piece]
    spec: dict[str, Any]
    steps: list[int]
    """numbers of the text steps among the spec's steps"""
    compare: int | None
    """number of the comparing step that follows; None: the split"""
    decided: str | None = None
    """file with what the comparison before decided, and which step it was"""
    form: str = "text"
    """of the dataset's texts"""
    beyond: list[tuple[int, int]] = []
    """ranges of units that were read and lie beyond the end of their source"""


def read(task: ReadTask) -> dict[str, Any]:
    """Read units into ``task.folder``; done before, it is not done again.

    Returns
    -------
    ``units``: [number, bytes taken, records taken, reason -> records set aside] each; ``batches``: bytes of each batch.
    """
    import pyarrow as pa

    folder = Path(task.folder)
    if (folder / RESULT).exists():
        return json.loads((folder / RESULT).read_text())
    units, sizes, batch, refused, size = [], [], [], [], 0
    with _stage(folder) as stage:
        with pa.OSFile(str(stage / RECORDS), "wb") as sink, pa.ipc.new_file(sink, working_schema()) as writer:
            def write() -> None:
                writer.write_batch(pa.RecordBatch.from_pylist(batch, working_schema()))
                sizes.append(size)
                batch.clear()

            for number, unit in task.units:
                weight, taken, why = 0, 0, Counter()
                for record in source_module(unit.kind).read(unit):
                    content = record.image if record.image is not None else (record.text or "").encode()
                    row = {"id": record_id(record.source, record.locator, content), "text": record.text, "image": record.image,
                           "label": record.label, "source": record.source, "locator": record.locator, "unit": number}
                    if record.reason:
                        refused.append({**row, "step": "read", "reason": record.reason, "detail": record.detail})
                        why[record.reason] += 1
                        continue
                    batch.append({**row, "original": record.text})
                    weight, taken, size = weight + len(content), taken + 1, size + len(content)
                    if size >= task.batch:
                        write()
                        size = 0
                units.append([number, weight, taken, why])
            if batch:
                write()
        result = {"units": units, "batches": sizes}
        _write(stage / DROPS, refused, _dropped_schema())
        (stage / RESULT).write_text(json.dumps(result))
        stage.commit(folder, flush=False)
    return result


def advance(task: StepTask) -> dict[str, Any]:
    """Take a partition to the next comparison; done before, it is not done again.

    Returns
    -------
    ``rows``: records left; ``drops``: step -> reason -> records; ``found``: step -> kind -> findings.
    """
    import pyarrow as pa

    folder = Path(task.folder)
    if (folder / RESULT).exists():
        return json.loads((folder / RESULT).read_text())
    spec = DataSpec.load(task.spec)
    ledger = _Ledger(spec)
    beyond = {n for first, last in task.beyond for n in range(first, last)}
    rows = [r for r in records(task.pieces).to_pylist() if r["unit"] not in beyond]
    if task.decided:
        decided = json.loads(Path(task.decided).read_text())
        rows = [r for r in rows if ledger.stays(r, decided["step"], *decided["gone"].get(r["id"], ("", "")))]
    else:
        by_hand = set(spec.drop)
        rows = [r for r in rows if ledger.stays(r, "by hand", "dropped by hand" if r["id"] in by_hand else "", "")]
    for number in task.steps:
        rows = _judged(rows, spec.steps[number], Path(task.root), ledger, task.form)
    table = forms.marked(pa.Table.from_pylist(rows, working_schema()), task.form)
    with _stage(folder) as stage:
        _write(stage / RECORDS, rows, working_schema())
        _write(stage / DROPS, ledger.dropped, _dropped_schema())
        if task.compare is None:
            splitting.sketch(spec.split, table, stage.path)
        else:
            step_module(spec.steps[task.compare].step).sketch(spec.steps[task.compare], table, stage.path)
        result = {"rows": len(rows), "drops": ledger.counts(), "found": ledger.found}
        (stage / RESULT).write_text(json.dumps(result))
        stage.commit(folder, flush=False)
    return result


def _judged(rows: list[dict], step: Part, root: Path, ledger: _Ledger, form: str) -> list[dict]:
    judge = forms.fitted(judging(step, root), step.step, form)
    left = []
    for row in rows:
        if row["text"] is not None:
            verdict = judge(row["text"])
            if verdict.scores and row.get("characters") is None:
                row.update(verdict.scores)
            if not ledger.stays(row, step.step, verdict.reason, verdict.detail):
                continue
            if not verdict.reason:
                row["text"] = verdict.text
                for kind, n in verdict.counts.items():
                    ledger.found[step.step][kind] = ledger.found[step.step].get(kind, 0) + n
        left.append(row)
    return left


class _Ledger:
    """What went, why, and what was found, in one partition."""

    def __init__(self, spec: DataSpec):
        self.keep = frozenset(spec.keep)
        self.dropped: list[dict] = []
        self.found: dict[str, dict[str, int]] = defaultdict(dict)

    def stays(self, row: dict, step: str, reason: str, detail: str) -> bool:
        """True where there is no reason to go, or a person keeps the record; else it is set aside as it was read."""
        if not reason or row["id"] in self.keep:
            return True
        self.dropped.append({**row, "text": row["original"], "step": step, "reason": reason, "detail": detail})
        return False

    def counts(self) -> dict[str, dict[str, int]]:
        counts: dict[str, Counter] = defaultdict(Counter)
        for row in self.dropped:
            counts[row["step"]][row["reason"]] += 1
        return counts


# --- files -----------------------------------------------------------------------------------------------------------


def working_schema() -> pa.Schema:
    """A record on its way: as it reads now, as it was read, and the unit it came from."""
    import pyarrow as pa

    own = [f for f in record_schema() if f.name not in ("cluster", "split")]
    return pa.schema([*own, ("original", pa.large_string()), ("unit", pa.int64()), *((name, pa.float64()) for name in SCORES)])


def _dropped_schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema([*drop_schema(), ("unit", pa.int64()), *((name, pa.float64()) for name in SCORES)])


def records(pieces: list[Piece]) -> pa.Table:
    """The records of some batches, mapped from their files."""
    import pyarrow as pa

    batches = []
    for piece in pieces:
        reader = pa.ipc.open_file(pa.memory_map(str(Path(piece.folder) / RECORDS)))
        batches += [reader.get_batch(n) for n in range(piece.first, min(piece.last, reader.num_record_batches))]
    return pa.Table.from_batches(batches, working_schema())


def dropped(folders: list[Path]) -> pa.Table:
    """Everything that was set aside in some folders, with the number of its unit."""
    import pyarrow as pa

    tables = [pa.ipc.open_file(pa.memory_map(str(folder / DROPS))).read_all() for folder in folders]
    return pa.concat_tables(tables) if tables else _dropped_schema().empty_table()


def _stage(folder: Path) -> AbstractContextManager[Stage]:
    """A stage for a folder, unless the run has ended and its files are gone."""
    if not folder.parent.is_dir():
        raise FileNotFoundError(folder.parent)
    return staging(folder.parent)


def _write(path: Path, rows: list[dict], schema: pa.Schema) -> None:
    """Rows as one batch."""
    import pyarrow as pa

    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_pylist(rows, schema))
