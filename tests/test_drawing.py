"""Numbers in words, tables and curves: for any values well formed, escaped, and true to what they are given."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

from hypothesis import example, given
from hypothesis import strategies as st

from workbench import drawing
from workbench.drawing import Markup, ago, curve_svg, curves, duration, escape, number, pill, size, table, table_html, thin, ticks, when

finite = st.floats(-1e12, 1e12, allow_nan=False)
texts = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=30)


@given(finite, finite, st.integers(1, 12))
@example(0.0, 5e-324, 1)
@example(5e-324, 5e-324, 2)
def test_ticks_are_round_even_and_hold_the_range(a, b, wanted):
    low, high = min(a, b), max(a, b)
    found = ticks(low, high, wanted)
    assert len(found) >= 2 and found == sorted(found)
    tolerance = 1e-6 * max(abs(low), abs(high), 1e-9) + 1e-9
    assert found[0] <= low + tolerance and found[-1] >= high - tolerance
    assert len(found) <= 2 * wanted + 3


@given(st.lists(st.tuples(st.integers(0, 10_000), st.floats(-1e6, 1e6)), min_size=1, max_size=400), st.integers(10, 200))
def test_thinning_keeps_ends_and_extremes(points, most):
    points = sorted(points)
    kept = thin(points, most)
    assert set(kept) <= set(points) and kept[0] == points[0] and kept[-1] == points[-1] and list(kept) == sorted(kept)
    assert min(v for _, v in kept) == min(v for _, v in points) and max(v for _, v in kept) == max(v for _, v in points)
    assert len(kept) <= most + 4


@given(st.dictionaries(texts, st.lists(st.tuples(st.integers(0, 1000), st.floats()), max_size=30), max_size=4), texts)
def test_curves_are_well_formed_and_inside_their_frame_for_any_values(series, label):
    svg = curve_svg({n: sorted(p, key=lambda q: q[0]) for n, p in series.items()}, "step", label)
    root = ET.fromstring(svg)
    for line in root.iter("polyline"):
        for point in line.get("points").split():
            x, y = map(float, point.split(","))
            assert -1 <= x <= 641 and -1 <= y <= 221
    if root.tag == "svg":
        lost = sum(not abs(y) < 1e300 for p in series.values() for _, y in p)
        assert (f"{lost} of" in svg) == (lost > 0)


def test_a_value_that_is_not_finite_breaks_the_line():
    svg = curve_svg({"loss": [(0, 1.0), (1, 2.0), (2, math.nan), (3, 1.0), (4, 0.5)]}, "step", "loss")
    assert svg.count("<polyline") == 2 and "1 of 5 values are not finite" in svg
    assert "no points yet" in curve_svg({"loss": []}, "step", "loss")


@given(st.lists(st.lists(texts, min_size=2, max_size=2), max_size=5))
def test_tables_show_text_as_text(rows):
    html = table_html(["<b>", "&"], rows, "<i>")
    root = ET.fromstring(html)
    assert [[td.text or "" for td in tr] for tr in root.find("tbody")] == rows
    assert [th.text for th in root.find("thead/tr")] == ["<b>", "&"] and root.find("caption").text == "<i>"


def test_a_table_draws_itself_and_reads_as_text():
    made = table(["word", "count"], [["<the>", 1200], ["of", None]], "Words")
    assert repr(made) == "Words\nword   count\n<the>  1,200\nof     –"
    html = made._repr_html_()
    assert '<td class="wb-n">1,200</td>' in html and "&lt;the&gt;" in html and "<script" not in html


def test_curves_as_text_say_their_ends():
    assert repr(curves({"loss": [(0, 5.0), (100, 2.5)]}, "step", "nats")) == "nats\nloss: 5 at 0 → 2.5 at 100 step"


def test_markup_stays_and_all_else_is_escaped():
    assert escape(Markup("<b>")) == "<b>" and escape("<b>\"'") == "&lt;b&gt;&quot;&#x27;" and "&lt;x&gt;" in pill("<x>")


def test_numbers_sizes_spans_and_times_in_words():
    assert [number(v) for v in (10_412, 0.02564, 3.0, 123_456.7, -math.inf, math.nan, True, "x")] == [
        "10,412", "0.02564", "3", "123,457", "−∞", "not a number", "True", "x"]
    assert [size(v) for v in (0, 999, 1000, 8_240_000, 5e9, 3e13)] == ["0 bytes", "999 bytes", "1 kB", "8.24 MB", "5 GB", "30 TB"]
    assert [duration(v) for v in (0.042, 9.5, 59.94, 59.96, 192, 3599.6, 7260, 200_000)] == [
        "42 ms", "9.5 s", "59.9 s", "1 min 0 s", "3 min 12 s", "1 h 0 min", "2 h 1 min", "2 days 7 h"]
    assert [ago(0, now) for now in (4, 45, 200, 7200, 400_000)] == [
        "just now", "45 seconds ago", "3 minutes ago", "2 hours ago", "5 days ago"]
    assert "2027" in when(1.8e9)


def test_every_state_of_the_workbench_has_a_colour():
    from workbench.journal import TRANSITIONS
    from workbench.pipeline.graph import OVER

    assert set(TRANSITIONS) | set(OVER) | {"pass", "fail", "missing", "too few", "waived", "up", "down", "firing"} <= set(drawing.STATES)
