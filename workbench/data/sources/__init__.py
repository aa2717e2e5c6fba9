"""Where records come from: one source a file, found by the ``kind`` that a spec names."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from ...errors import NotFoundError, SourceError
from ...workspace import Workspace

SOURCES = {
    "python-docs": "workbench.data.sources.python_docs",
    "digits": "workbench.data.sources.digits",
    "moving-digits": "workbench.data.sources.moving_digits",
    "images": "workbench.data.sources.images",
    "tunes": "workbench.data.sources.tunes",
    "questions": "workbench.data.sources.questions",
    "files": "workbench.data.sources.files",
}
"""kind -> module that satisfies ``Source``; a new source is a file here, a line here and a class in ``spec.py``."""


class Unit(NamedTuple):
    """A part of a source that one task reads alone; plain values, so that it travels to any worker."""

    kind: str
    path: str
    """file to open"""
    name: str
    """what records call it"""
    weight: int
    """bytes on disk"""
    options: dict[str, Any] = {}


class Record(NamedTuple):
    """A record as read; with a reason it can't be taken and is set aside under it."""

    source: str
    locator: str
    text: str | None = None
    image: bytes | None = None
    label: int | None = None
    reason: str = ""
    detail: str = ""


class Source(Protocol):
    """What a source's module offers.

    What its texts are, if they are no plain text, it says by ``form(source, workspace)``: ``chat``, ``preference``, ``abc`` or ``midi``.
    What more a manifest should tell, by ``facts(source, workspace)``.
    """

    MODALITY: str
    """``text``, ``image`` or ``clip``"""

    def inputs(self, source: Any, workspace: Workspace) -> dict[str, str]:
        """Name -> digest of everything that may be read; quick; refuses what can't be read with ``SourceError``."""

    def units(self, source: Any, workspace: Workspace) -> list[Unit]:
        """What there is to read, in an order that depends on nothing but the content and the names."""

    def read(self, unit: Unit) -> Iterator[Record]:
        """Records of one unit."""

    def most(self, source: Any) -> int | None:
        """Bytes of text after which reading ends at a unit's end; None: no limit."""


def source_module(kind: str) -> Source:
    """The module of a kind of source."""
    if kind not in SOURCES:
        raise NotFoundError.of("source", kind, SOURCES)
    return importlib.import_module(SOURCES[kind])  # type: ignore[return-value]


def form_of(spec: Any, workspace: Workspace) -> str:
    """The form of the records that a spec's sources give: ``text``, ``chat``, ``preference``, ``abc``, ``midi``; else the modality.

    Raises
    ------
    SourceError
        Where the sources differ.
    """
    found = {}
    for source in spec.sources:
        module = source_module(source.kind)
        found[module.form(source, workspace) if hasattr(module, "form") else module.MODALITY] = source.kind
    if len(found) > 1:
        raise SourceError("records of several forms can't be in one dataset", where=spec.name,
                          received=", ".join(f"{form} from {kind}" for form, kind in found.items()), hint="Make a dataset of each")
    return next(iter(found))
