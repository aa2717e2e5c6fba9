"""Small notebooks and pipelines made for a test."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest
import yaml

from workbench import runs
from workbench.workspace import Workspace

HOSTILE = "<img src=x onerror=alert(1)>"


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


@pytest.fixture
def made(workspace) -> SimpleNamespace:
    """A dataset with hostile names, a model taught by it and its assessment, really registered, as the steps' records name them."""
    import pyarrow as pa
    from safetensors.numpy import save_file

    from workbench.assessment import write_assessment
    from workbench.dataset import drop_schema, record_id, record_schema, write_dataset
    from workbench.journal import Journal
    from workbench.model import write_model
    from workbench.policy import Evidence, Policy, Rule

    read = {HOSTILE: "5" * 64, **{f"f{n}.txt": "6" * 64 for n in range(9)}}
    entry, _ = Journal(workspace).add("data", HOSTILE, "key", {"word": "data"}, read, place="here")
    Journal(workspace).move(entry.id, "stopped")
    rows = [{"id": record_id("s", str(n), b"t"), "text": f"text {n}", "source": "s", "locator": str(n), "cluster": str(n), "split": "train"}
            for n in range(3)]
    dataset = write_dataset(workspace, HOSTILE, pa.Table.from_pylist(rows, schema=record_schema()), drop_schema().empty_table(),
                            card="# c\n", manifest={"modality": "text", "spec": {}, "parents": {}, "drops": {}}, run=entry.id)
    taught = {"name": dataset.name, "digest": dataset.digest}

    def save(folder: Path) -> None:
        save_file({"w": numpy.zeros(3, numpy.float32)}, folder / "model.safetensors")
        (folder / "config.json").write_text("{}")
        (folder / "tokenizer.json").write_text("{}")

    model = write_model(workspace, "bot", save, card="# bot\n", manifest={"parameters": 3, "dataset": taught, "metrics": {}, "spec": {}})
    policy = Policy(rules=(Rule(metric="memorised", at_most=0.05, theme="privacy"), Rule(metric="bits_per_byte", at_most=4.0)))
    evidence = [Evidence("memorised", 0.2, 0.1, 0.3, 100, "v", model.digest, dataset.digest, policy.digest(), time.time(),
                         examples=({"prompt": HOSTILE},)),
                Evidence("bits_per_byte", 2.0, 1.9, 2.1, 100, "v", model.digest, dataset.digest, policy.digest(), time.time())]
    assessment = write_assessment(workspace, "bot", model={"name": "bot", "digest": model.digest}, dataset=taught, taught=dataset.digest,
                                  policy=policy, evidence=evidence, card="# card\n")
    products = [{"kind": k, "name": a.name, "digest": a.digest, "run": entry.id}
                for k, a in (("dataset", dataset), ("model", model), ("assessment", assessment))]
    return SimpleNamespace(workspace=workspace, dataset=dataset, model=model, assessment=assessment, products=products)
