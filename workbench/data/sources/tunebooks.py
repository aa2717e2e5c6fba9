"""Files of tunes: ABC, many in a file, and MIDI, one in a file."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from ...errors import SourceError
from . import Record, Unit


def read_book(unit: Unit) -> Iterator[Record]:
    """A record a tune of an ABC file: as it stands, or as words of notes where the dataset is of MIDI; each is read to be sure."""
    from ...music import read_abc, write_tokens

    opened = gzip.open if unit.path.lower().endswith(".gz") else open
    with opened(unit.path, "rb") as file:
        raw = file.read()
    encoding = unit.options.get("encoding") or "utf-8-sig"
    whole = raw.decode(encoding, "surrogateescape" if encoding == "utf-8-sig" else "strict").replace("\r\n", "\n").replace("\r", "\n")
    for line, text in tunes_of(whole):
        number = re.search(r"^X:[ \t]*(\d+)", text, re.MULTILINE)
        place = f"X:{number[1]}, line {line}" if number else f"line {line}"
        try:
            tune = read_abc(text, name=place)
        except SourceError as error:
            yield Record(unit.name, place, text, reason="no ABC that can be played", detail=str(error))
            continue
        if not tune.notes:
            yield Record(unit.name, place, text, reason="no notes", detail=place)
        else:
            yield Record(unit.name, place, text if unit.options.get("form") != "midi" else write_tokens(tune))


def read_file(unit: Unit) -> Iterator[Record]:
    """One record: the words of a MIDI file's notes."""
    from ...music import read_midi, write_tokens

    try:
        tune = read_midi(Path(unit.path).read_bytes(), name=unit.name)
    except SourceError as error:
        yield Record(unit.name, "file", "", reason="no MIDI that can be played", detail=str(error))
        return
    yield Record(unit.name, "file", write_tokens(tune), reason="" if tune.notes else "no notes", detail="" if tune.notes else unit.name)


READERS: dict[str, Callable[[Unit], Iterator[Record]]] = {"abc": read_book, "midi": read_file}


def tunes_of(text: str) -> Iterator[tuple[int, str]]:
    r"""The tunes of an ABC file, each with its first line's number; what stands before the first holds for none.

    Examples
    --------
    >>> list(tunes_of("% a book\n\nX:1\nK:C\nCDE\n\nX:2\nK:G\nG4\n"))
    [(3, 'X:1\nK:C\nCDE'), (7, 'X:2\nK:G\nG4')]
    """
    lines = text.split("\n")
    starts = [n for n, line in enumerate(lines) if re.match(r"X:[ \t]*\d", line)]
    if not starts and re.search(r"^K:", text, re.MULTILINE):
        starts = [0]  # a tune without a number
    for first, last in zip(starts, [*starts[1:], len(lines)], strict=True):
        end = next((n for n in range(first + 1, last) if not lines[n].strip()), last)
        yield first + 1, "\n".join(lines[first:end]).rstrip()
