"""What is printed: text made harmless for a terminal, tables, JSON, and how a spec's run is told."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Control characters, and the signs that turn the direction of writing: a terminal obeys both.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def clean(text: object) -> str:
    """Text as a terminal may get it: what would steer the terminal stands as its code.

    Examples
    --------
    >>> print(clean("a" + chr(27) + "[31mb").replace(chr(92), "/"))
    a/x1b[31mb
    """
    return _UNSAFE.sub(lambda m: m[0].encode("unicode_escape").decode(), str(text).replace("\r\n", "\n"))


def one_line(text: object, most: int = 100) -> str:
    """Text in one line, cut at ``most`` characters."""
    flat = clean(" ".join(str(text).split()))
    return flat if len(flat) <= most else flat[:most - 1] + "…"


def say(text: object = "") -> None:
    """A line of result, on standard output."""
    print(clean(text))


def tell(text: object) -> None:
    """A line about the work, on standard error."""
    print(clean(text), file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, indent=1, ensure_ascii=False, default=str), flush=True)


def print_table(headers: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """A table, or a sentence where there is nothing."""
    from ..drawing import table_text

    rows = [[one_line(c, 60) if isinstance(c, str) else c for c in r] for r in rows]
    say(table_text(headers, rows) if rows else empty)


def print_facts(facts: Mapping[str, object]) -> None:
    """Names and values in two columns."""
    from ..drawing import number

    wide = max(map(len, facts), default=0)
    for name, value in facts.items():
        text = "–" if value is None else str(value) if isinstance(value, str | bool) else number(value)
        say(f"{name:<{wide}}  {text}")


def terminal() -> bool:
    """True where a person sits at a terminal that can draw progress."""
    import os

    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
