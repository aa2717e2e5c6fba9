from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from widgets.table import LONG, Pages, segments


def test_pages_are_sorted_and_filtered_over_the_whole_table():
    table = pa.table({"text": [f"word {n % 7} <b>" for n in range(1000)], "count": list(range(1000))})
    pages = Pages(table)
    page = pages.page(sort="count", descending=True, filter="WORD 3 <", count=10)
    assert page["total"] == 143 and [r["count"] for r in page["rows"]] == [3 + 7 * n for n in range(142, 132, -1)]
    assert page["rows"][0]["row"] == page["rows"][0]["count"]
    assert pages.place(0, sort="count", descending=True, filter="WORD 3 <") == (997, 143)
    assert pages.page(start=990)["rows"][-1]["count"] == 999
    assert pages.page(filter="nowhere") == {"rows": [], "total": 0}


def test_a_mask_leaves_rows_out_and_long_cells_are_cut():
    pages = Pages(pa.table({"text": ["a" * 1000, "b"]}))
    assert pages.page(mask=[False, True])["rows"] == [{"row": 1, "text": "b"}]
    assert pages.page()["rows"][0]["text"] == "a" * LONG + "…"


@given(st.text(max_size=60), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=6))
def test_segments_are_the_text_cut_whatever_the_spans(text, spans):
    cut = segments(text, [(a, b, "k", "l") for a, b in spans])
    assert "".join(s["text"] for s in cut) == text
    covered = {n for a, b in spans for n in range(a, min(b, len(text)))}
    marked, at = set(), 0
    for segment in cut:
        if "kind" in segment:
            marked |= set(range(at, at + len(segment["text"])))
        at += len(segment["text"])
    assert marked == covered
