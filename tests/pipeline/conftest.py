"""Small notebooks and pipelines made for a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from workbench import runs
from workbench.workspace import Workspace


def _write_notebook(path: Path, *cells: str) -> Path:
    """A notebook of cells: those that begin with "#" and a space are Markdown, ``spec = …`` is the parameters cell."""
    import nbformat
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    made = []
    for order, text in enumerate(cells):
        cell = new_markdown_cell(text) if text.startswith(("# ", "## ")) else new_code_cell(text)
        cell["id"] = f"cell-{order}"
        if text.startswith("spec = "):
            cell["metadata"]["tags"] = ["parameters"]
        made.append(cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=made), path)
    return path


@pytest.fixture(scope="session")
def write_notebook() -> Callable[..., Path]:
    """``write_notebook(path, *cells)``."""
    return _write_notebook


@pytest.fixture(scope="session")
def write_pipeline(write_notebook) -> Callable[..., Path]:
    """``write_pipeline(folder, {step: [cells]}, needs={step: [...]}, specs={step: ...}, **fields)``: notebooks and pipeline.yaml."""

    def write(folder: Path, steps: dict[str, list[str]], *, needs: dict | None = None, specs: dict | None = None, **fields) -> Path:
        for name, cells in steps.items():
            write_notebook(folder / f"{name}.ipynb", *cells)
        document = {"word": "pipeline", "name": "small", **fields, "steps": [
            {"name": n, "notebook": f"{n}.ipynb", "needs": (needs or {}).get(n, []), "spec": (specs or {}).get(n)} for n in steps]}
        path = folder / "pipeline.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    return write


@pytest.fixture(scope="session")
def drive() -> Callable[..., runs.Run]:
    """``drive(pipeline, workspace)``: a run of it in this process, ended."""
    return lambda pipeline, workspace, **options: runs.submit(pipeline, workspace, place="here", **options)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Workspace:
    """A workspace for the tests of one file."""
    made = Workspace(tmp_path_factory.mktemp("place")).open()
    yield made
    runs.shut_down(made)
