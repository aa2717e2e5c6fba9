"""The steps over partitions: a task each on Dask; between them the driver compares hashes. Text stays in files."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..dataset import drop_schema, record_schema
from ..drawing import size
from ..driver import RunContext
from ..errors import SourceError
from ..journal import Journal
from ..storage import write_atomic
from . import partition, split
from .partition import Piece, ReadTask, StepTask
from .sources import Unit, form_of, source_module
from .spec import DataSpec
from .steps import Decision, compares, step_module

if TYPE_CHECKING:
    import pyarrow as pa

READ_AT_ONCE = 2_500_000
"""Bytes on disk that one task reads, where they lie in several files."""
PARTITION = 2_000_000
"""Bytes of content in a partition where the spec leaves their number open."""
DENSITY = 0.2
"""Bytes of text expected of each byte of a source that ends by its text, until some of it was read."""


@dataclass
class Curated:
    """What came of the steps: Arrow tables with ``record_schema`` and ``drop_schema``, and counts."""

    kept: pa.Table
    dropped: pa.Table
    drops: dict[str, dict[str, int]]
    """step -> reason -> records, in the order of the steps"""
    found: dict[str, dict[str, int]]
    """step -> kind -> findings"""
    scores: pa.Table | None = None
    """id and measures of the records that came to a step which measures; None where there is none"""


@dataclass
class _Reading:
    """What was read: batches, the folders they lie in, units beyond a source's end as ranges of their numbers."""

    pieces: list[tuple[Piece, int]] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    beyond: list[tuple[int, int]] = field(default_factory=list)


@contextlib.contextmanager
def place(run: RunContext) -> Iterator[Path]:
    """The directory for everything on the way: a new attempt of the run goes on from it, its end removes it.

    It belongs to one boot of the machine, since its files are not flushed.
    """
    import psutil

    folder = run.directory / f"parts-{psutil.boot_time():.0f}"
    for other in run.directory.glob("parts-*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        # An attempt that was superseded leaves the files to the one that goes on.
        if Journal(run.workspace).get(run.id).attempt == run.attempt:
            # Renamed first: a task that is still at work then finds no place to write to.
            shutil.rmtree(folder.rename(folder.with_name(f".parts-{run.attempt}")), ignore_errors=True)


def curate(spec: DataSpec, run: RunContext, folder: Path) -> Curated:
    """Read the sources, apply the steps that are on, split.

    Raises
    ------
    SourceError
        When a source gives no record, no record is left, or there is too little to split.
    """
    spec, form = spec.recipe(), form_of(spec, run.workspace)
    reading = _read(spec, run, folder)
    parts, beyond = _parts(reading.pieces, spec.partitions), reading.beyond
    folders, decided = list(reading.folders), None
    drops: dict[str, Counter] = {}
    found: dict[str, Counter] = {}
    for number, (steps, compare) in enumerate(_passes(spec)):
        names = [spec.steps[n].step for n in steps]
        follows = "split" if compare is None else spec.steps[compare].step
        here = [folder / f"pass-{number}-{n}" for n in range(len(parts))]
        results = run.map(partition.advance, [
            StepTask(str(run.workspace.root), str(f), part, spec.to_dict(), steps, compare, decided, form, beyond)
            for f, part in zip(here, parts, strict=True)], label=", ".join([*names, follows]))
        for result in results:
            for all_, mine in ((drops, result["drops"]), (found, result["found"])):
                for step, counts in mine.items():
                    all_.setdefault(step, Counter()).update(counts)
        for name in dict.fromkeys(["by hand"] * bool(number == 0 and spec.drop) + names):
            run.mark("dropped", by=name, reasons=dict(drops.get(name, {})), found=dict(found.get(name, {})))
        for name in dict.fromkeys(names):
            run.log(_said(name, drops.get(name), found.get(name)))
        folders += here
        parts, beyond = [[Piece(str(f), 0, 1)] for f in here], []
        run.check_stop()
        if compare is not None:
            decided = str(folder / f"decided-{number}.json")
            gone = _decide(spec, compare, here, Path(decided))
            counts = Counter(reason for reason, _ in gone.values())
            run.mark("dropped", by=follows, reasons=dict(counts), found={})
            run.log(_said(follows, counts))
        elif not sum(r["rows"] for r in results):
            most = max(((n, s, r) for s, c in drops.items() for r, n in c.items()), default=None)
            raise SourceError("the steps leave no record", where=spec.name,
                              received=f"{most[0]} dropped by {most[1]} ({most[2]})" if most else None,
                              hint="Loosen that step, or leave it out")
    run.progress(0, 1, "splits", "split")
    sides = split.decide(spec.split, here, name=spec.name)
    run.progress(1, 1, "splits", "split")
    left, gone = partition.records([p for part in parts for p in part]), _without(partition.dropped(folders), reading.beyond)
    kept, dropped = _with_sides(left, sides), gone.select(drop_schema().names)
    _say_unknown(spec, run, kept, dropped)
    return Curated(kept, dropped, _counted(spec, dropped), {s: dict(sorted(c.items())) for s, c in found.items()}, _scores(left, gone))


# --- reading ---------------------------------------------------------------------------------------------------------


def _read(spec: DataSpec, run: RunContext, folder: Path) -> _Reading:
    reading, base = _Reading(), 0
    sources = [(source_module(s.kind), s, source_module(s.kind).units(s, run.workspace)) for s in spec.sources]
    whole = sum(u.weight for _, _, units in sources for u in units)
    batch = min(partition.BATCH, max(1, whole // (4 * (spec.partitions or 1))))
    for module, source, units in sources:
        most, at, taken, records, refused = module.most(source), 0, 0, 0, Counter()
        while at < len(units) and (most is None or taken < most):
            groups = _groups(units, at, None if most is None else (most - taken) / _density(units[:at], taken))
            tasks = [ReadTask(str(folder / f"read-{base + first:07d}"), [(base + n, units[n]) for n in range(first, last)], batch)
                     for first, last in groups]
            for (_, last), task, result in zip(groups, tasks, run.map(partition.read, tasks, label="read"), strict=True):
                reading.folders.append(Path(task.folder))
                reading.pieces += [(Piece(task.folder, n, n + 1), weight) for n, weight in enumerate(result["batches"])]
                for number, weight, rows, why in result["units"]:
                    if most is not None and taken >= most:
                        reading.beyond.append((number, number + 1))
                        continue
                    taken, records = taken + weight, records + rows
                    refused.update(why)
                at = last
        if not records:
            raise SourceError("holds no record that can be taken", where=_called(source), received=_reasons(refused) or None,
                              hint="Text must be UTF-8 and not empty")
        skipped = module.skipped(source, run.workspace) if hasattr(module, "skipped") else []
        if skipped:
            run.log(f"not read, since no format is known for their endings: {', '.join(skipped[:10])}"
                    + f" and {len(skipped) - 10:,} more" * (len(skipped) > 10), "warning")
        run.log(f"read {_called(source)}: {records:,} record{'s' * (records != 1)}, {size(taken)}"
                + (f"; set aside: {_reasons(refused)}" if refused else ""))
        base += len(units)
    return reading


def _groups(units: list[Unit], first: int, wanted: float | None) -> list[tuple[int, int]]:
    """Runs of units for one task each, up to ``wanted`` bytes of them altogether."""
    groups, begin, weight, total = [], first, 0, 0
    for n in range(first, len(units)):
        weight, total = weight + units[n].weight, total + units[n].weight
        if weight >= READ_AT_ONCE or n == len(units) - 1 or (wanted is not None and total >= wanted):
            groups.append((begin, n + 1))
            begin, weight = n + 1, 0
            if wanted is not None and total >= wanted:
                break
    return groups


def _density(units: list[Unit], taken: int) -> float:
    weight = sum(u.weight for u in units)
    return max(taken / weight, DENSITY / 10) if weight else DENSITY


def _parts(pieces: list[tuple[Piece, int]], wanted: int | None) -> list[list[Piece]]:
    """Batches put together to partitions of about the same size."""
    total = sum(weight for _, weight in pieces)
    count = min(len(pieces), wanted or -(-total // PARTITION)) or 1
    parts: list[list[Piece]] = [[] for _ in range(count)]
    before = 0
    for piece, weight in pieces:
        part = parts[min(count - 1, (before + weight // 2) * count // max(total, 1))]
        before += weight
        if part and part[-1].folder == piece.folder and part[-1].last == piece.first:
            part[-1] = part[-1]._replace(last=piece.last)
        else:
            part.append(piece)
    return [part for part in parts if part] or [[]]


# --- between the passes ----------------------------------------------------------------------------------------------


def _passes(spec: DataSpec) -> list[tuple[list[int], int | None]]:
    """Numbers of text steps that one task applies in a row, and of the comparison (None: the split) after them."""
    passes: list[tuple[list[int], int | None]] = []
    steps: list[int] = []
    for n, step in enumerate(spec.steps):
        if compares(step):
            passes.append((steps, n))
            steps = []
        else:
            steps.append(n)
    return [*passes, (steps, None)]


def _decide(spec: DataSpec, number: int, folders: list[Path], path: Path) -> Decision:
    step = spec.steps[number]
    if path.exists():
        return json.loads(path.read_text())["gone"]
    gone = step_module(step.step).decide(step, folders, frozenset(spec.keep))
    write_atomic(path, json.dumps({"step": step.step, "gone": gone}))
    return gone


# --- the end ---------------------------------------------------------------------------------------------------------


def _with_sides(records: pa.Table, sides: dict[str, tuple[str, str]]) -> pa.Table:
    import pyarrow as pa

    ids = records["id"].to_pylist()
    columns = {name: records[name] for name in record_schema().names if name in records.schema.names}
    columns |= {"cluster": pa.array([sides[i][0] for i in ids], pa.string()), "split": pa.array([sides[i][1] for i in ids], pa.string())}
    return pa.table(columns).select(record_schema().names).cast(record_schema())


def _without(dropped: pa.Table, beyond: list[tuple[int, int]]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    left_out = pa.array([n for first, last in beyond for n in range(first, last)], pa.int64())
    return dropped.filter(pc.invert(pc.is_in(dropped["unit"], value_set=left_out)))


def _scores(*tables: pa.Table) -> pa.Table | None:
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pa.concat_tables([t.select(["id", *partition.SCORES]).filter(pc.is_valid(t[partition.SCORES[0]])) for t in tables])
    return found if found.num_rows else None


def _counted(spec: DataSpec, dropped: pa.Table) -> dict[str, dict[str, int]]:
    counts = Counter(zip(dropped["step"].to_pylist(), dropped["reason"].to_pylist(), strict=True))
    order = list(dict.fromkeys(["read", "by hand", *(s.step for s in spec.steps)]))
    return {step: reasons for step in order if (reasons := {r: n for (s, r), n in sorted(counts.items()) if s == step})}


def _say_unknown(spec: DataSpec, run: RunContext, kept: pa.Table, dropped: pa.Table) -> None:
    unknown = {*spec.keep, *spec.drop} - set(kept["id"].to_pylist()) - set(dropped["id"].to_pylist())
    if unknown:
        run.log(f"no record bears these ids of keep and drop: {', '.join(sorted(unknown)[:10])}; "
                "the sources have changed since they were named", "warning")


def _said(step: str, drops: Counter | None, found: Counter | None = None) -> str:
    text = f"{step}: {_reasons(drops) if drops else 'nothing'} set aside"
    return text + (f"; redacted: {_reasons(found)}" if found else "")


def _reasons(counts: Counter) -> str:
    return ", ".join(f"{n:,} {reason}" for reason, n in counts.most_common())


def _called(source: Any) -> str:
    return ", ".join(source.paths[:3]) if source.kind == "files" else source.kind
