"""Tunes that the project makes itself, in the manner of folk tunes: music that is there offline and belongs to nobody."""

from __future__ import annotations

from collections.abc import Iterator

from ...music.folk import compose
from ...storage import digest_file, digest_json
from ...workspace import Workspace
from ..spec import Tunes
from . import Record, Unit

MODALITY = "text"
AT_ONCE = 500
"""Tunes of one unit."""
WEIGHT = 330
"""Bytes of a tune, about."""


def inputs(source: Tunes, _workspace: Workspace) -> dict[str, str]:
    """The digest of the rules that the tunes are made by."""
    from ...music import folk

    return {"tunes": digest_json([digest_file(folk.__file__), source.count, source.seed])}


def form(source: Tunes, _workspace: Workspace) -> str:
    """``abc`` or ``midi``."""
    return source.form


def units(source: Tunes, _workspace: Workspace) -> list[Unit]:
    """Some hundred tunes each."""
    return [Unit("tunes", "", f"tunes {first}", WEIGHT * (min(first + AT_ONCE, source.count + 1) - first),
                 {"first": first, "last": min(first + AT_ONCE, source.count + 1), "seed": source.seed, "form": source.form})
            for first in range(1, source.count + 1, AT_ONCE)]


def read(unit: Unit) -> Iterator[Record]:
    """A record a tune."""
    from ...music import read_abc, write_tokens

    for number in range(unit.options["first"], unit.options["last"]):
        text = compose(number, unit.options["seed"])
        yield Record("tunes", f"tune {number}", write_tokens(read_abc(text)) if unit.options["form"] == "midi" else text)


def most(_source: Tunes) -> None:
    """No limit."""
