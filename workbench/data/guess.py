"""What files seem to be, told before anything runs: format, encoding, text column, records, size, the first records."""

from __future__ import annotations

import codecs
import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

from ..errors import SourceError
from ..workspace import Workspace
from .forms import readable
from .sources import Unit, files, formats
from .spec import Files

LOOKED_AT = 1_000_000
"""Bytes of a file that are looked at; beyond, records are estimated."""
SHOWN, SHOWN_FILES = 3, 20
OLD = ("cp1252", "cp1251", "latin-1")
"""Encodings offered for bytes that are no UTF-8, in this order."""


def guess(source: Files, workspace: Workspace) -> dict[str, Any]:
    """What the files of a source seem to be.

    Returns
    -------
    ``files`` (the first of them, each with ``name``, ``bytes``, ``format``, ``form``, ``encoding``, ``columns``,
    ``text``, ``records``, ``exact``, ``first``, and ``problem`` and ``offer`` where something is wrong), ``count``, ``bytes``,
    ``records``, ``exact``.

    Raises
    ------
    SourceError
        Where there is no file, or none of a known format.
    """
    units = files.units(source, workspace)
    looked = [_look(unit, source) for unit in units[:SHOWN_FILES]]
    weight = sum(u.weight for u in units)
    seen, records = sum(u.weight for u in units[:SHOWN_FILES]), sum(f["records"] for f in looked)
    whole = len(units) <= SHOWN_FILES and all(f["exact"] for f in looked)
    return {"files": looked, "count": len(units), "bytes": weight, "exact": whole,
            "records": records if len(units) <= SHOWN_FILES else round(records * weight / max(seen, 1))}


def _look(unit: Unit, source: Files) -> dict[str, Any]:
    found: dict[str, Any] = {"name": unit.name, "bytes": unit.weight, "format": unit.options["format"], "encoding": "", "columns": [],
                             "form": unit.options["form"], "text": None, "records": 0, "exact": True, "first": [], "problem": "",
                             "offer": None}
    try:
        head = _head(unit)
        found["encoding"], offered = _encoding(head, source) if unit.options["format"] not in ("parquet", "midi") else ("", None)
        if offered:
            found |= {"offer": {"field": "encoding", "value": offered},
                      "problem": f"not all of it is {found['encoding']}; what is not is set aside"}
        if not unit.weight:
            return found | {"problem": "is empty"}
        if unit.options["format"] in ("jsonl", "csv", "parquet"):
            with formats._readable(unit):
                rows = formats._first_rows(unit)
                found["columns"] = list(dict.fromkeys(str(name) for row in rows for name in row))[:40]
                found["text"] = formats._text_column(unit) if found["form"] == "text" else None
        counted, refused = _count(unit)
        found |= counted
        if refused and not found["problem"]:
            found["problem"] = f"{sum(refused.values()):,} set aside: {', '.join(f'{n:,} {why}' for why, n in refused.most_common(3))}"
    except SourceError as error:
        found["problem"] = f"{error.what}{f': {error.received}' if error.received else ''}"
        if found["columns"] and source.text is not None and source.text not in found["columns"]:
            found["problem"] = f"there is no column {source.text!r}; there is {', '.join(found['columns'][:8])}"
    return found


def _count(unit: Unit) -> tuple[dict[str, Any], Counter]:
    """Records, counted or estimated from the beginning, and the first of them; what can't be taken among those looked at, by reason."""
    if unit.options["format"] == "parquet":
        import pyarrow.parquet as pq

        first = [_shown(r, unit) for r in itertools.islice(formats.read(unit), SHOWN)]
        return {"records": pq.ParquetFile(unit.path).metadata.num_rows, "exact": True, "first": first}, Counter()
    first, refused, records, weight, exact = [], Counter(), 0, 0, True
    for record in _records(unit):
        if len(first) < SHOWN:
            first.append(_shown(record, unit))
        refused.update([record.reason] if record.reason else [])
        records += 1
        weight += len(record.text or "") + 1
        if weight > LOOKED_AT:
            exact = False
            break
    if exact:
        return {"records": records, "exact": True, "first": first}, refused
    return {"records": round(records * max(unit.weight, weight) / weight), "exact": False, "first": first}, refused


def _records(unit: Unit) -> Iterator[Any]:
    """Records from the beginning; of a large text file only that is read."""
    if unit.weight <= 8 * LOOKED_AT or unit.options["format"] not in ("text", "markdown"):
        return formats.read(unit)
    with formats._text_file(unit) as file:
        text = file.read(2 * LOOKED_AT)
    return (formats._checked(formats.Record(unit.name, f"lines {a}-{b}", piece)) for a, b, piece in formats.pieces(text))


def _shown(record: Any, unit: Unit) -> dict[str, Any]:
    text = readable(unit.options["form"], record.text) or ""
    return {"locator": record.locator, "text": text[:300] + "…" * (len(text) > 300), "problem": record.reason}


def _head(unit: Unit) -> bytes:
    with formats._readable(unit), formats._opened(unit) as file:
        return file.read(LOOKED_AT)


def _encoding(head: bytes, source: Files) -> tuple[str, str | None]:
    """How the bytes read, and an encoding to offer where they don't read as that."""
    if source.encoding:
        return source.encoding, None
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16", None
    try:
        codecs.getincrementaldecoder("utf-8-sig")().decode(head)
        return "utf-8", None
    except UnicodeDecodeError:
        pass
    if head[1:200:2].count(0) > 60 or head[0:200:2].count(0) > 60:
        return "utf-8", "utf-16"
    for name in OLD:
        try:
            text = codecs.getincrementaldecoder(name)().decode(head)
        except UnicodeDecodeError:
            continue
        letters = [c for c in text if c.isalpha()]
        if name == "cp1252" and 2 * sum(c > "\xbf" for c in letters) > len(letters):
            continue  # most letters have an accent: Cyrillic read as Latin
        return "utf-8", name
    return "utf-8", "latin-1"
