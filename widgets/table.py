"""Tables of any size: the rows stay here, sorted and filtered here; a page of them travels."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

PAGE = 50
"""Rows that travel at once."""
LONG = 400
"""Characters of a cell that travel; the whole is read in the reader."""


class Pages:
    """Pages of an Arrow table; the order of the last question is kept, so that turning a page costs nothing.

    Parameters
    ----------
    table : of any size.
    shown : columns that travel; none: all.
    searched : text columns that a filter looks into; none: all that hold text.

    Examples
    --------
    >>> import pyarrow as pa
    >>> pages = Pages(pa.table({"word": ["b", "a", "ab"], "count": [3, 1, 2]}))
    >>> pages.page(sort="count", filter="a")
    {'rows': [{'row': 1, 'word': 'a', 'count': 1}, {'row': 2, 'word': 'ab', 'count': 2}], 'total': 2}
    """

    def __init__(self, table: pa.Table, *, shown: Sequence[str] | None = None, searched: Sequence[str] | None = None):
        import pyarrow as pa

        text = [f.name for f in table.schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
        self.table, self.shown = table, list(shown or table.column_names)
        self.searched = list(searched or text)
        self._order: tuple[Any, np.ndarray | None] = (None, None)
        self._lock = threading.Lock()

    def order(self, sort: str | None = None, descending: bool = False, filter: str = "", mask: Any = None) -> np.ndarray | None:
        """Row numbers in the order asked, or None for all as they stand; ``mask`` (a boolean array) leaves rows out beforehand."""
        import numpy as np
        import pyarrow.compute as pc

        key = (sort, descending, filter, id(mask) if mask is not None else None)
        with self._lock:
            if self._order[0] == key:
                return self._order[1]
            kept = np.asarray(mask) if mask is not None else None
            if filter:
                found = np.zeros(self.table.num_rows, dtype=bool)
                for name in self.searched:
                    hit = pc.match_substring_regex(self.table[name], re.escape(filter), ignore_case=True)
                    found |= hit.fill_null(False).combine_chunks().to_numpy(zero_copy_only=False)
                kept = found if kept is None else kept & found
            rows = np.flatnonzero(kept) if kept is not None else None
            if sort is not None and sort in self.table.column_names:
                column = self.table[sort] if rows is None else self.table[sort].take(rows)
                by = pc.sort_indices(column, sort_keys=[("", "descending" if descending else "ascending")]).to_numpy()
                rows = by if rows is None else rows[by]
            self._order = (key, rows)
            return rows

    def page(self, *, start: int = 0, count: int = PAGE, sort: str | None = None, descending: bool = False, filter: str = "",
             mask: Any = None) -> dict[str, Any]:
        """``{"rows", "total"}``; each row says its number in the whole table as ``row``."""
        import numpy as np

        order = self.order(sort, descending, filter, mask)
        total = self.table.num_rows if order is None else len(order)
        start, count = max(0, int(start)), max(1, min(int(count), 500))
        numbers = np.arange(start, min(start + count, total)) if order is None else order[start:start + count]
        part = self.table.select(self.shown).take(numbers).to_pylist()
        rows = [{"row": int(n), **{k: _cell(v) for k, v in r.items()}} for n, r in zip(numbers, part, strict=True)]
        return {"rows": rows, "total": total}

    def place(self, index: int, **asked: Any) -> tuple[int, int]:
        """(row number, total) of the index-th row in the order asked: what a reader beside the table shows."""
        order = self.order(**asked)
        total = self.table.num_rows if order is None else len(order)
        return (int(index if order is None else order[index]) if 0 <= index < total else -1), total


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= LONG else value[:LONG] + "…"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    return value


def segments(text: str, spans: Iterable[tuple[int, int, str, str]], most: int = 20_000) -> list[dict[str, str]]:
    """A text cut at its spans ``(start, end, kind, label)``, for the reader; of overlapping spans the earlier counts.

    Offsets are characters as Python counts them; a page counts otherwise, so the text is cut here.

    Examples
    --------
    >>> segments("write to a@b.c now", [(9, 14, "pii", "email")])
    [{'text': 'write to '}, {'text': 'a@b.c', 'kind': 'pii', 'label': 'email'}, {'text': ' now'}]
    """
    found, at, end_of_text = [], 0, min(len(text), most)
    for start, end, kind, label in sorted(spans):
        start, end = max(start, at), min(end, end_of_text)
        if start >= end:
            continue
        if start > at:
            found.append({"text": text[at:start]})
        found.append({"text": text[start:end], "kind": kind, "label": label})
        at = end
    if at < end_of_text:
        found.append({"text": text[at:end_of_text]})
    if len(text) > most:
        found.append({"text": f"… and {len(text) - most:,} characters more"})
    return found
