"""The way from sources to endpoint: what was made from what, and a drawing of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..assessment import Assessment
from ..dataset import Dataset
from ..drawing import COLOURS, Markup, escape
from ..errors import NotFoundError, WorkbenchError
from ..journal import Journal
from ..model import Model
from ..registry import Registry
from ..workspace import Workspace

COLUMNS = {"source": 0, "dataset": 1, "model": 2, "assessment": 3, "endpoint": 3, "monitor": 4}
MOST_SOURCES = 6
_COLOUR = {"source": "#888888", "dataset": COLOURS[0], "model": COLOURS[1], "assessment": COLOURS[3], "endpoint": COLOURS[2],
           "monitor": COLOURS[4]}


@dataclass(frozen=True)
class Node:
    """One thing: a source, a version, an endpoint."""

    kind: str
    name: str
    digest: str = ""
    note: str = ""


@dataclass
class Lineage:
    """Things and which was made from which."""

    nodes: list[Node] = field(default_factory=list)
    edges: list[tuple[Node, Node]] = field(default_factory=list)

    def add(self, node: Node, *before: Node) -> Node:
        """A node, once, and what it was made from."""
        if node not in self.nodes:
            self.nodes.append(node)
        for origin in before:
            self.add(origin)
            if (origin, node) not in self.edges:
                self.edges.append((origin, node))
        return node

    def rows(self) -> list[list[str]]:
        """kind, name, digest, made from: the drawing as a table, from left to right."""
        return [[n.kind, n.name, n.digest, ", ".join(o.name for o, m in self.edges if m == n) or "–"]
                for n in sorted(self.nodes, key=lambda n: COLUMNS[n.kind])]


def trace(workspace: Workspace, products: Sequence[dict[str, Any]]) -> Lineage:
    """The lineage of what a pipeline made, back to the sources.

    Parameters
    ----------
    products : ``{"kind", "name", "digest"?, "run"}`` as the steps' records keep them.
    """
    lineage = Lineage()
    endpoints = []
    for product in products:
        if product["kind"] == "endpoint":
            models = [_model(workspace, lineage, digest) for digest, _ in product["models"] or []]
            endpoints.append(lineage.add(Node("endpoint", product["name"], note=_address(workspace, product["name"])), *models))
        elif product["kind"] == "dataset":
            _dataset(workspace, lineage, product["digest"], product["name"])
        elif product["kind"] == "model":
            _model(workspace, lineage, product["digest"])
        elif product["kind"] == "assessment":
            _assessment(workspace, lineage, product)
    for product in products:
        if product["kind"] == "monitor":
            lineage.add(Node("monitor", product["name"]), *endpoints)
    return lineage


def _address(workspace: Workspace, name: str) -> str:
    """Where an endpoint answers, without what all addresses share."""
    from ..endpoint import Endpoint

    try:
        return Endpoint.open(name, workspace).address.removeprefix("http://").removesuffix("/v1")
    except (WorkbenchError, KeyError):
        return ""


def _dataset(workspace: Workspace, lineage: Lineage, digest: str, name: str) -> Node:
    node = Node("dataset", name, digest)
    try:
        manifest = Dataset(Registry(workspace).by_digest("dataset", digest).path).manifest
    except NotFoundError:
        return lineage.add(node)
    return lineage.add(node, *_sources(workspace, manifest))


def _sources(workspace: Workspace, manifest: dict[str, Any]) -> list[Node]:
    """What the curating run read, by the names and digests that it recorded."""
    run = manifest.get("run")
    try:
        read = Journal(workspace).get(run).inputs if run else {}
    except NotFoundError:  # the dataset came from elsewhere, or its run was forgotten
        read = {}
    nodes = [Node("source", name, digest) for name, digest in read.items()]
    if len(nodes) > MOST_SOURCES:
        nodes = [*nodes[:MOST_SOURCES - 1], Node("source", f"and {len(nodes) - MOST_SOURCES + 1} more")]
    return nodes


def _model(workspace: Workspace, lineage: Lineage, digest: str) -> Node:
    try:
        manifest = Model(Registry(workspace).by_digest("model", digest).path).manifest
    except NotFoundError:
        return lineage.add(Node("model", "unknown", digest))
    taught = manifest.get("dataset")
    before = [_dataset(workspace, lineage, taught["digest"], taught["name"])] if taught else []
    return lineage.add(Node("model", manifest["name"], digest), *before)


def _assessment(workspace: Workspace, lineage: Lineage, product: dict[str, Any]) -> Node:
    try:
        found = Assessment.open(f"{product['name']}@{product['digest']}", workspace)
        verdict = "pass" if found.verdict().passed else "fail"
        model = _model(workspace, lineage, found.model)
    except WorkbenchError:
        return lineage.add(Node("assessment", product["name"], product["digest"]))
    return lineage.add(Node("assessment", product["name"], product["digest"], verdict), model)


def lineage_svg(lineage: Lineage) -> Markup:
    """Boxes from left to right, each with kind, name and the first twelve digits of its digest."""
    wide, high, gap_x, gap_y = 172, 58, 44, 16
    used = sorted({COLUMNS[n.kind] for n in lineage.nodes})
    columns = [[n for n in lineage.nodes if COLUMNS[n.kind] == c] for c in used]
    tallest = max((len(c) for c in columns), default=0)
    if not tallest:
        return Markup('<p class="wb-note">Nothing was made.</p>')
    width = len(columns) * (wide + gap_x) - gap_x + 4
    height = tallest * (high + gap_y) - gap_y + 4
    place = {}
    for order, column in enumerate(columns):
        top = (height - (len(column) * (high + gap_y) - gap_y)) / 2
        for row, node in enumerate(column):
            place[node] = (2 + order * (wide + gap_x), top + row * (high + gap_y))
    parts = []
    for origin, node in lineage.edges:
        (x1, y1), (x2, y2) = place[origin], place[node]
        x1, y1, y2 = x1 + wide, y1 + high / 2, y2 + high / 2
        bend = max(gap_x / 2, (x2 - x1) / 2)
        parts.append(f'<path d="M{x1:.0f},{y1:.1f} C{x1 + bend:.0f},{y1:.1f} {x2 - bend:.0f},{y2:.1f} {x2:.0f},{y2:.1f}" fill="none" '
                     f'stroke="currentColor" stroke-opacity=".35" stroke-width="1.5"/>'
                     f'<circle cx="{x2:.0f}" cy="{y2:.1f}" r="3" fill="{_COLOUR[node.kind]}"/>')
    for node, (x, y) in place.items():
        name = node.name if len(node.name) <= 24 else f"{node.name[:11]}…{node.name[-12:]}"
        under = node.digest[:12] or node.note
        kind = f"{node.kind} · {node.note}" if node.note and node.digest else node.kind
        parts.append(f'<g><title>{escape(f"{node.kind} {node.name} {node.digest}".strip())}</title>'
                     f'<rect x="{x}" y="{y:.1f}" width="{wide}" height="{high}" rx="6" fill="{_COLOUR[node.kind]}" fill-opacity=".1" '
                     f'stroke="{_COLOUR[node.kind]}"/>'
                     f'<text x="{x + 10}" y="{y + 16:.1f}" opacity=".75">{escape(kind)}</text>'
                     f'<text x="{x + 10}" y="{y + 33:.1f}" font-weight="600" style="font-size:12.5px">{escape(name)}</text>'
                     f'<text x="{x + 10}" y="{y + 49:.1f}" opacity=".75" font-family="monospace">{escape(under)}</text></g>')
    return Markup(f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
                  f'aria-label="lineage from sources to endpoint">{"".join(parts)}</svg>')
