"""What a file holds: txt and Markdown cut into records, JSONL, CSV and Parquet row by row, tunes."""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import io
import json
import re
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from ... import chats
from ...errors import SourceError, near
from . import Record, Unit, conversations, tunebooks

ENDINGS = {".txt": "text", ".text": "text", ".md": "markdown", ".markdown": "markdown", ".jsonl": "jsonl", ".ndjson": "jsonl",
           ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".abc": "abc", ".mid": "midi", ".midi": "midi"}
"""ending -> format; each but Parquet and MIDI may have ``.gz`` behind it."""
PIECE = 1_000
"""Characters after which a new record begins at the next paragraph."""
LONGEST = 4_000
"""Characters after which a record is cut within a paragraph: at a line, a sentence, a word."""
SHORT = 120
"""A section of Markdown with fewer characters is joined with the one that follows."""
GUESSED = ("text", "content", "body")
"""Columns taken for the text, in this order, before the one with the longest texts."""
LOOKED_AT = 100
"""Rows looked at to guess the column."""


def of(path: Path) -> str | None:
    """The format that a file's ending means, or None."""
    name = path.name.lower()
    inner = name.removesuffix(".gz")
    found = ENDINGS.get(Path(inner).suffix)
    return None if found in ("parquet", "midi") and inner != name else found


def check(unit: Unit) -> None:
    """Look at the beginning of a file: refuse what has no text column, no chat of the layout that it seems to have, or can't be opened."""
    if unit.weight and unit.options["format"] in _COLUMNS:
        with _readable(unit):
            _taking(unit)


def read(unit: Unit) -> Iterator[Record]:
    """All records of a file; those that can't be taken have a reason."""
    if unit.weight:
        with _readable(unit):
            for record in _READERS[unit.options["format"]](unit):
                yield _checked(record)


def form_of(unit: Unit) -> str:
    """What the records of a file are: ``text``, ``chat``, ``preference``, ``abc`` or ``midi``."""
    if unit.options["format"] not in _COLUMNS:
        return unit.options["format"] if unit.options["format"] in tunebooks.READERS else "text"
    if unit.options.get("text") is not None or not unit.weight:
        return "text"
    with _readable(unit):
        return conversations.form_of(_first_rows(unit))


def pieces(text: str, first_line: int = 1) -> Iterator[tuple[int, int, str]]:
    r"""A long text cut at paragraphs: (first line, last line, piece); lines count from ``first_line``.

    Pieces have ``PIECE`` characters or a paragraph more, at most ``LONGEST``, and a short rest joins the one before.

    Examples
    --------
    >>> [(a, b, len(t)) for a, b, t in pieces("word " * 100 + "\n\n" + "word " * 150 + "\n\n" + "word " * 200)]
    [(1, 3, 1252), (5, 5, 1000)]
    """
    blocks: list[list[Any]] = []
    for start, end, paragraph in _paragraphs(text, first_line):
        full = not blocks or len(blocks[-1][2]) >= PIECE or len(blocks[-1][2]) + len(paragraph) > LONGEST
        if full:
            blocks.append([start, end, paragraph])
        else:
            blocks[-1] = [blocks[-1][0], end, blocks[-1][2] + "\n" * (start - blocks[-1][1]) + paragraph]
    if len(blocks) > 1 and len(blocks[-1][2]) < PIECE // 4 and len(blocks[-2][2]) + len(blocks[-1][2]) <= LONGEST:
        start, end, rest = blocks.pop()
        blocks[-1] = [blocks[-1][0], end, blocks[-1][2] + "\n" * (start - blocks[-1][1]) + rest]
    yield from map(tuple, blocks)


def _paragraphs(text: str, line: int) -> Iterator[tuple[int, int, str]]:
    for part in re.split(r"(\n(?:[^\S\n]*\n)+)", text):
        if part.strip():
            at = line
            for cut in _cut(part):
                yield at, at + cut.rstrip("\n").count("\n"), cut.rstrip("\n")
                at += cut.count("\n")
        line += part.count("\n")


def _cut(paragraph: str) -> Iterator[str]:
    while len(paragraph) > LONGEST:
        head = paragraph[:LONGEST]
        at = next((m for m in (head.rfind("\n"), head.rfind(". ") + 1, head.rfind(" ")) if m > LONGEST // 4), LONGEST - 1) + 1
        yield paragraph[:at]
        paragraph = paragraph[at:]
    yield paragraph


# --- txt and Markdown ------------------------------------------------------------------------------------------------


def _read_text(unit: Unit) -> Iterator[Record]:
    for start, end, text in pieces(_decoded(unit)):
        yield Record(unit.name, f"line {start}" if start == end else f"lines {start}-{end}", text)


def _read_markdown(unit: Unit) -> Iterator[Record]:
    for path, line, section in sections(_decoded(unit)):
        for start, _, text in pieces(section, line):
            yield Record(unit.name, f"{path}, line {start}" if path else f"line {start}", text)


def sections(text: str) -> Iterator[tuple[str, int, str]]:
    r"""Markdown cut before each heading: (headings that lead to it, first line, section with its heading).

    A heading is ``#`` to ``######`` and a space, outside of fenced code (CommonMark 0.31, 4.2). A short section is joined
    with what follows it.

    Examples
    --------
    >>> [(p, n) for p, n, _ in sections("# Tea\n\n## Water\n" + "Boil it. " * 20 + "\n## Leaves\n" + "Two spoons. " * 20)]
    [('Tea', 1), ('Tea > Leaves', 5)]
    """
    found: list[list[Any]] = [["", 1, []]]
    trail: list[tuple[int, str]] = []
    fence = ""
    for number, line in enumerate(text.split("\n"), 1):
        mark = re.match(r" {0,3}(`{3,}|~{3,})", line)
        if mark and not fence:
            fence = mark[1]
        elif mark and fence and mark[1].startswith(fence):
            fence = ""
        heading = None if fence else re.match(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$", line)
        if heading:
            depth = len(heading[1])
            trail = [*((d, t) for d, t in trail if d < depth), (depth, (heading[2] or "").strip())]
            if len("\n".join(found[-1][2]).strip()) >= SHORT:
                found.append([" > ".join(t for _, t in trail), number, []])
            elif not any(part.strip() for part in found[-1][2]):
                found[-1][:2] = [" > ".join(t for _, t in trail), number]
                found[-1][2].clear()
        found[-1][2].append(line)
    if len(found) > 1 and len("\n".join(found[-1][2]).strip()) < SHORT:
        last = found.pop()
        found[-1][2] += last[2]
    for path, number, lines in found:
        yield path, number, "\n".join(lines)


# --- rows ------------------------------------------------------------------------------------------------------------


def _read_jsonl(unit: Unit) -> Iterator[Record]:
    take, _ = _taking(unit)
    for number, row, fault in _json_rows(unit):
        place = f"line {number}"
        if fault:
            yield Record(unit.name, place, row, reason=fault[0], detail=f"{place}: {fault[1]}")
        else:
            yield take(place, row)


def _json_rows(unit: Unit) -> Iterator[tuple[int, Any, tuple[str, str] | None]]:
    """(line number, object or the line as it stands, (reason, detail) where it is broken)."""
    given = unit.options.get("encoding")
    with _opened(unit) as file:
        for number, line in enumerate(file if given != "utf-16" else (t.encode("utf-16") for t in _text_file(unit)), 1):
            try:
                text = line.decode(given or ("utf-8-sig" if number == 1 else "utf-8")).strip()
                if text:
                    row = json.loads(text)
                    fault = None if isinstance(row, dict | str) else ("not an object", f"{type(row).__name__} where an object is due")
                    yield number, text if fault else row, fault
            except UnicodeDecodeError as error:
                at = error.start
                yield number, line.decode("utf-8", "replace").strip(), (f"invalid {(given or 'UTF-8').upper()}",
                                                                        f"byte {at + 1} is 0x{line[at]:02x}")
            except (json.JSONDecodeError, RecursionError) as error:
                yield number, text, ("broken JSON", f"{error}")


def _read_csv(unit: Unit) -> Iterator[Record]:
    take, _ = _taking(unit)
    for line, row, fault in _csv_rows(unit):
        if fault:
            yield Record(unit.name, f"line {line}", row, reason="broken row", detail=f"line {line}: {fault}")
        else:
            yield take(f"line {line}", row)


def _csv_rows(unit: Unit) -> Iterator[tuple[int, Any, str | None]]:
    csv.field_size_limit(1 << 30)
    with _text_file(unit) as file:
        first = file.readline()
        delimiter = max(",;\t|", key=lambda d: (first.count(d), -",;\t|".index(d)))
        reader = csv.reader(chain([first], file), delimiter=delimiter, strict=True)
        header: list[str] | None = None
        line = 1
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield line, "", str(error)
                line = reader.line_num + 1
                continue
            if header is None:
                header = [name.strip() for name in row]
            elif len(row) == len(header):
                yield line, dict(zip(header, row, strict=True)), None
            elif row:
                yield line, delimiter.join(row), f"{len(row)} fields where the header has {len(header)}"
            line = reader.line_num + 1


def _read_parquet(unit: Unit) -> Iterator[Record]:
    import pyarrow.parquet as pq

    take, wanted = _taking(unit)
    table = pq.ParquetFile(unit.path)
    names = [name for name in table.schema_arrow.names if name in (*wanted, "label")]
    row = 0
    for batch in table.iter_batches(batch_size=4096, columns=names):
        for values in batch.to_pylist():
            row += 1
            yield take(f"row {row}", values)


def _taking(unit: Unit) -> tuple[Callable[[str, Any], Record], tuple[str, ...]]:
    """What makes a record of a row, by its place, in the form that the file's records have; and the columns that it needs."""
    form = unit.options.get("form") or form_of(unit)
    if form in chats.FORMS:
        layout = conversations.layout(unit, _first_rows(unit), form)
        return partial(conversations.record, unit, expected=layout), (*conversations.LAYOUTS[layout], *conversations.BESIDE[layout])
    column = _text_column(unit)
    return partial(_row_record, unit, column=column), (column,)


def _row_record(unit: Unit, place: str, row: Any, column: str | None) -> Record:
    if isinstance(row, str):  # JSONL of bare strings
        return Record(unit.name, place, row)
    text, label = row.get(column), row.get("label")
    if isinstance(label, str) and re.fullmatch(r"-?\d{1,18}", label):
        label = int(label)
    label = label if isinstance(label, int) and not isinstance(label, bool) and abs(label) < 1 << 63 else None
    if not isinstance(text, str):
        what = "is missing" if text is None else f"is {type(text).__name__} and no text"
        shown = json.dumps(row, ensure_ascii=False, default=str)
        return Record(unit.name, place, shown, reason="no text", detail=f"{place}: {column!r} {what}")
    return Record(unit.name, place, text, label=label)


# --- the text column -------------------------------------------------------------------------------------------------

_COLUMNS = ("jsonl", "csv", "parquet")


def _text_column(unit: Unit) -> str | None:
    """The column that holds the text: as asked, or guessed from the first rows; None where JSONL holds bare strings.

    Raises
    ------
    SourceError
        When the asked column is not there, or none holds text.
    """
    asked = unit.options.get("text")
    rows = _first_rows(unit)
    names = list(dict.fromkeys(name for row in rows for name in row))
    if asked is not None:
        if rows and asked not in names:
            close = near(asked, names)
            raise SourceError("has no such column", where=unit.name, received=asked, allowed=f"one of {', '.join(map(str, names[:12]))}",
                              hint=f'Did you mean "{close}"?' if close else None)
        return asked
    texts = defaultdict(list)
    for row in rows:
        for name, value in row.items():
            if isinstance(value, str):
                texts[name].append(len(value))
    for wanted in GUESSED:
        found = next((n for n in texts if n.strip().lower() == wanted), None)
        if found is not None:
            return found
    if texts:
        return max(texts, key=lambda n: (sum(texts[n]), -names.index(n)))
    if rows:
        raise SourceError("no column holds text", where=unit.name, received=names[:12], hint="Name the column in the source: text: NAME")
    return None


def _first_rows(unit: Unit) -> list[dict[str, Any]]:
    if unit.options["format"] == "parquet":
        import pyarrow.parquet as pq

        batches = pq.ParquetFile(unit.path).iter_batches(batch_size=LOOKED_AT)
        return next((b.to_pylist() for b in batches), [])
    found = []
    rows = _json_rows(unit) if unit.options["format"] == "jsonl" else _csv_rows(unit)
    with contextlib.closing(rows):
        for number, (_, row, fault) in enumerate(rows):
            if fault is None and isinstance(row, dict):
                found.append(row)
            if len(found) == LOOKED_AT or number > 100 * LOOKED_AT:
                break
    return found


# --- bytes -----------------------------------------------------------------------------------------------------------


def _opened(unit: Unit) -> Any:
    return gzip.open(unit.path, "rb") if unit.path.lower().endswith(".gz") else open(unit.path, "rb")


def _text_file(unit: Unit) -> io.TextIOWrapper:
    """A file as text, line ends as they are; bytes that are no UTF-8 become lone surrogates, see ``_checked``."""
    with _opened(unit) as file:
        wide = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    given = unit.options.get("encoding")
    given = "utf-16" if given in (None, "utf-8") and wide else given
    encoding, errors = (given, "strict") if given not in (None, "utf-8") else ("utf-8-sig", "surrogateescape")
    return io.TextIOWrapper(_opened(unit), encoding, errors, newline="")


def _decoded(unit: Unit) -> str:
    """The whole text with one kind of line end."""
    with _text_file(unit) as file:
        return file.read().replace("\r\n", "\n").replace("\r", "\n")


def _checked(record: Record) -> Record:
    """A record that holds no text or what is no text has a reason."""
    text = record.text or ""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        shown = re.sub(r"[\ud800-\udfff]", "\ufffd", text)
        if record.reason:
            return record._replace(text=shown)
        what = f"byte 0x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"half of a surrogate pair, U+{code:04X},"
        reason = "invalid UTF-8" if what.startswith("byte") else "invalid Unicode"
        return record._replace(text=shown, reason=reason, detail=f"{record.locator}: {what} at character {error.start + 1}")
    if not record.reason and not text.strip():
        return record._replace(reason="empty", detail=record.locator)
    return record


@contextlib.contextmanager
def _readable(unit: Unit) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SourceError("is damaged or cut off", where=unit.name, received=str(error), hint="Copy or download it again") from None
    except OSError as error:
        raise SourceError("can't be read", where=unit.name, received=error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        raise SourceError(f"is no valid {error.encoding}", where=unit.name, received=f"byte {error.start + 1}: {error.reason}",
                          hint="Save it as UTF-8") from None
    except ValueError as error:
        if type(error).__module__.startswith("pyarrow"):
            raise SourceError("is no Parquet file, or a damaged one", where=unit.name, received=str(error).splitlines()[0]) from None
        raise


_READERS: dict[str, Any] = {"text": _read_text, "markdown": _read_markdown, "jsonl": _read_jsonl, "csv": _read_csv,
                            "parquet": _read_parquet, **tunebooks.READERS}
