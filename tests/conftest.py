"""Workspaces for tests: a fresh one, and one that holds a small dataset and a model really trained on it."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from workbench import runs
from workbench.workspace import Workspace

CONTEXT = 96

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Begun in the background of a script: children would inherit deafness to Ctrl-C, which some tests press.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_logreport(report) -> None:
    """Count what was survived: with WORKBENCH_COUNTS=FILE each test leaves a line there, which ``faults/counts.py`` sums up."""
    file = os.environ.get("WORKBENCH_COUNTS")
    if file and (report.when == "call" or report.outcome != "passed"):
        with open(file, "a", encoding="utf-8") as lines:
            lines.write(json.dumps({"test": report.nodeid, "when": report.when, "outcome": report.outcome}) + "\n")


@pytest.fixture(autouse=True)
def _no_workspace_from_outside(monkeypatch):
    """A test never meets the workspace or the pipeline step of whoever started it."""
    for name in ("WORKBENCH_ROOT", "WORKBENCH_STEP"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def workspace(tmp_path) -> Iterator[Workspace]:
    """A fresh workspace; whatever works in it is ended afterwards."""
    made = Workspace(tmp_path / "workspace").open()
    yield made
    runs.shut_down(made)


@pytest.fixture(scope="session")
def copy_of_taught(tmp_path_factory) -> Callable[[Path], Workspace]:
    """A function that copies the taught workspace to a directory that is not there yet."""
    original = Workspace(tmp_path_factory.mktemp("taught")).open()
    _teach(original)

    def copy(folder: Path) -> Workspace:
        shutil.copytree(original.root, folder, dirs_exist_ok=True)
        return Workspace(folder).open()

    return copy


@pytest.fixture
def taught(copy_of_taught, tmp_path) -> Iterator[Workspace]:
    """A workspace of its own with the dataset "docs" and the model "docs-lm" that learned from it."""
    made = copy_of_taught(tmp_path / "taught")
    yield made
    runs.shut_down(made)


def texts() -> list[tuple[str, str]]:
    """(place, text) of docstrings of the interpreter's own modules, longest modules first."""
    import argparse
    import collections
    import datetime
    import difflib
    import heapq
    import json
    import pathlib
    import random
    import statistics
    import textwrap

    found: dict[str, str] = {}
    for module in (argparse, collections, datetime, difflib, heapq, json, pathlib, random, statistics, textwrap):
        members = [(module.__name__, module)]
        for name, value in sorted(vars(module).items()):
            if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == module.__name__:
                members.append((f"{module.__name__}.{name}", value))
                members += [(f"{module.__name__}.{name}.{n}", v) for n, v in sorted(vars(value).items())] if inspect.isclass(value) else []
        for place, member in members:
            text = inspect.getdoc(member) if callable(member) or inspect.ismodule(member) else None
            if text and len(text) >= 80 and text not in found.values():
                found[place] = text
    return sorted(found.items())


def _teach(workspace: Workspace) -> None:
    import pyarrow as pa
    import torch

    from workbench.dataset import record_id, record_schema, write_dataset
    from workbench.model import learn_tokenizer, llama_config, new_llama, save_tokenizer, write_model

    torch.set_num_threads(1)  # two threads on a busy machine wait for each other: ten times the seconds
    records = []
    for number, (place, text) in enumerate(texts()):
        name = record_id("stdlib", place, text.encode())
        split = {3: "validation", 7: "test"}.get(number % 10, "train")
        records.append({"id": name, "text": text, "image": None, "label": None, "source": "stdlib", "locator": place, "cluster": name,
                        "split": split})
    kept = pa.Table.from_pylist(records, schema=record_schema())
    from workbench.dataset import drop_schema

    spec = {"word": "data", "version": 1, "name": "docs", "sources": [{"kind": "python-docs"}]}
    dataset = write_dataset(workspace, "docs", kept, drop_schema().empty_table(), card="# docs\n",
                            manifest={"modality": "text", "spec": spec, "parents": {}, "drops": {}, "read": len(records)})

    tokenizer = learn_tokenizer(dataset.texts("train"), 512)
    stream = torch.tensor([i for t in dataset.texts("train") for i in [0, *tokenizer(t).input_ids]] + [0])
    model = new_llama(llama_config("100K", len(tokenizer), CONTEXT), seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.95), weight_decay=0.1)
    generator, begin, steps = torch.Generator().manual_seed(0), time.monotonic(), 120
    for _ in range(steps):
        starts = torch.randint(len(stream) - CONTEXT, (16,), generator=generator)
        batch = torch.stack([stream[s:s + CONTEXT] for s in starts])
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def save(folder: Path) -> None:
        model.save_pretrained(folder)
        save_tokenizer(tokenizer, folder)

    write_model(workspace, "docs-lm", save, card="# docs-lm\n", manifest={
        "parameters": model.num_parameters(), "dataset": {"name": "docs", "digest": dataset.digest},
        "metrics": {"loss": float(loss.detach()), "tokens": steps * 16 * CONTEXT, "seconds": time.monotonic() - begin},
        "spec": {"word": "train", "version": 1, "data": "docs"}})
