"""How steps see a record: a chat by its words, a tune as notes that no rule for words applies to."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from .. import chats
from ..errors import SourceError
from .steps import Verdict

if TYPE_CHECKING:
    import pyarrow as pa

TUNES = ("abc", "midi")
WHOLE = ("quality",)
"""Steps that look at all the words of a chat together; the others go from message to message."""
FOR_WORDS = ("quality", "pii")
"""Steps that know words, and find nothing in notes."""
_FIELD = re.compile(r"^([A-JN-PRSTWZ]):(.*)$", re.MULTILINE)
"""A field of ABC that holds words: title, composer, who wrote it down."""


def words(form: str, text: str | None) -> str | None:
    """What records are compared by: the words, without the JSON around them."""
    return chats.words(form, text) if form in chats.FORMS and text is not None else text


def readable(form: str, text: str | None) -> str | None:
    """A record as a person reads it; what could not be taken stays as it is."""
    try:
        return chats.spoken(form, text) if form in chats.FORMS and text is not None else text
    except SourceError:
        return text


def marked(records: pa.Table, form: str) -> pa.Table:
    """The same records, with the form noted in the schema for what compares them."""
    return records.replace_schema_metadata({"form": form})


def compared(records: pa.Table) -> list[str | None]:
    """The words of each record of a table that bears its form."""
    form = (records.schema.metadata or {}).get(b"form", b"text").decode()
    return [words(form, text) for text in records["text"].to_pylist()]


def fitted(judge: Callable[[str], Verdict], step: str, form: str) -> Callable[[str], Verdict]:
    r"""What judges records of a form, made of what judges a text.

    Examples
    --------
    >>> chat = chats.written("chat", {"messages": [{"role": "assistant", "content": "b  a"}]})
    >>> fitted(lambda text: Verdict(text.upper()), "function", "chat")(chat).text
    '{"messages": [{"role": "assistant", "content": "B  A"}]}'
    """
    if form in chats.FORMS:
        return (lambda text: judge(_kept(form, text))._replace(text=text)) if step in WHOLE else (
            lambda text: _each(judge, text, lambda change: chats.replaced(form, text, change)))
    if form == "abc" and step == "pii":
        return lambda text: _each(judge, text, lambda change: _FIELD.sub(lambda m: f"{m[1]}:{change(m[2])}", text))
    if form in TUNES and step in FOR_WORDS:
        return Verdict
    return judge


def _kept(form: str, text: str) -> str:
    """The words that are to be good ones: a rejected answer may be as bad as it is, and may repeat the chosen one."""
    return "\n".join(m["content"] for part, messages in chats.parsed(form, text).items() if part != "rejected" for m in messages)


def _each(judge: Callable[[str], Verdict], text: str, through: Callable[[Callable[[str], str]], str]) -> Verdict:
    """The verdict on a record from the verdicts on its parts: the first reason counts, changes and counts add up."""
    reasons: list[tuple[str, str]] = []
    counts: Counter[str] = Counter()

    def change(part: str) -> str:
        verdict = judge(part)
        if verdict.reason:
            reasons.append((verdict.reason, f"part {len(parts) + 1}: {verdict.detail}"))
        parts.append(part)
        counts.update(verdict.counts)
        return verdict.text

    parts: list[str] = []
    changed = through(change)
    return Verdict(text, *reasons[0]) if reasons else Verdict(changed, counts=dict(counts))
