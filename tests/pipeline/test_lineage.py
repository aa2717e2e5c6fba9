"""The way from sources to endpoint, read from what was registered, drawn with every name as text."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from workbench.pipeline.lineage import MOST_SOURCES, Lineage, Node, lineage_svg, trace


def test_everything_is_traced_back_to_its_sources(made):
    lineage = trace(made.workspace, [*made.products, {"kind": "endpoint", "name": "gone", "models": [[made.model.digest, 100.0]]},
                                     {"kind": "monitor", "name": "watch"}])
    kinds = [row[0] for row in lineage.rows()]
    assert kinds == ["source"] * MOST_SOURCES + ["dataset", "model", "assessment", "endpoint", "monitor"]
    before = {row[0]: row[3] for row in lineage.rows()}
    assert before["model"] == made.dataset.name and before["assessment"] == before["endpoint"] == "bot" and before["monitor"] == "gone"
    sources = [row for row in lineage.rows() if row[0] == "source"]
    assert sources[0][1:3] == ["<img src=x onerror=alert(1)>", "5" * 64] and sources[-1][1] == "and 5 more"
    assert next(n for n in lineage.nodes if n.kind == "assessment").note == "fail"


def test_what_is_registered_no_longer_is_still_named(workspace):
    lineage = trace(workspace, [{"kind": "dataset", "name": "lost", "digest": "1" * 64}, {"kind": "model", "name": "m", "digest": "2" * 64},
                                {"kind": "assessment", "name": "a", "digest": "3" * 64}])
    assert [(n.kind, n.digest[0]) for n in lineage.nodes] == [("dataset", "1"), ("model", "2"), ("assessment", "3")]


def test_the_drawing_is_well_formed_and_shows_each_thing_once(made):
    lineage = trace(made.workspace, made.products)
    svg = lineage_svg(lineage)
    root = ET.fromstring(svg)
    assert len(list(root.iter("rect"))) == len(lineage.nodes) and len(list(root.iter("path"))) == len(lineage.edges)
    assert "<img" not in svg and "&lt;img" in svg
    width, height = (float(root.get(n)) for n in ("width", "height"))
    for rect in root.iter("rect"):
        x, y, w, h = (float(rect.get(n)) for n in ("x", "y", "width", "height"))
        assert x >= 0 and x + w <= width and y >= 0 and y + h <= height


def test_nothing_made_is_said():
    assert "Nothing was made" in lineage_svg(Lineage())


def test_the_same_thing_stands_once():
    lineage, a, b = Lineage(), Node("dataset", "a", "1"), Node("model", "b", "2")
    lineage.add(b, a)
    lineage.add(Node("model", "b", "2"), Node("dataset", "a", "1"))
    assert lineage.nodes == [b, a] and lineage.edges == [(a, b)]
