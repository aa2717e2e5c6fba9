"""A browser, a JupyterLab over a workspace of its own, and what looks at a page's accessibility."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from servers import CHROMIUM, Lab, browser, lab_server, stop_kernels

from workbench import runs
from workbench.workspace import Workspace

PATIENCE = 60_000
"""Milliseconds that a page may take for what is waited for: a machine that is slow and busy takes them."""
AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in Path(item.fspath).parents and not Path(CHROMIUM).exists():
            item.add_marker(pytest.mark.skip(reason="no Chromium"))


@pytest.fixture(scope="module")  # while one is open, this thread has a running event loop: no other test may meet it
def chromium() -> Iterator[Any]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Workspace]:
    """A workspace for the servers of a module."""
    made = Workspace(tmp_path_factory.mktemp("place")).open()
    (made.root / "workbench.toml").touch()
    yield made
    runs.shut_down(made)


@pytest.fixture(scope="module")
def lab_address(place, tmp_path_factory) -> Iterator[str]:
    with lab_server(place.root, tmp_path_factory.mktemp("logs")) as address:
        yield address
        stop_kernels(address)


@pytest.fixture(scope="module")
def window(chromium) -> Iterator[Any]:
    """What the pages of a module share: JupyterLab's scripts are fetched and compiled once."""
    made = chromium.new_context()
    yield made
    made.close()


@pytest.fixture
def lab(lab_address, window) -> Iterator[Lab]:
    """A page of its own; its kernels end with it."""
    page = window.new_page()
    page.set_viewport_size({"width": 1200, "height": 1000})
    page.set_default_timeout(PATIENCE)
    yield Lab(page, lab_address)
    page.close()
    stop_kernels(lab_address)


@pytest.fixture
def axe() -> Callable[[Any], list[str]]:
    """A function that gives axe-core's findings within the panels of a page; ``npm install`` in this folder brings it."""
    if not AXE.exists():
        pytest.skip("axe-core is missing: npm install --prefix tests/browser")

    def findings(page: Any) -> list[str]:
        page.evaluate(AXE.read_text())
        return page.evaluate("async () => (await axe.run('.wbp')).violations.map(v => v.id + ': ' + v.nodes.map(n => n.html.slice(0, 160)"
                              " + ' ' + n.failureSummary.slice(0, 200)).slice(0, 3).join(' | '))")

    return findings
