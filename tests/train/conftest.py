"""A live cluster over a small dataset, and the weights that an undisturbed training ends with."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from workbench import pictures, processes, runs
from workbench.dataset import Dataset, drop_schema, record_id, record_schema, write_dataset
from workbench.workspace import Workspace

DOCS = {"word": "data", "name": "docs", "sources": [{"kind": "python-docs", "max_megabytes": 0.3}]}
SMALL = {"word": "train", "data": "docs", "name": "small", "model": {"size": "100K", "vocabulary": 512, "context": 64},
         "tokens": 150 * 512, "batch": {"sequences": 4}, "prompts": ["Return the"],
         "every": {"checkpoint": 20, "evaluate": 60, "sample": 150}}
"""150 steps of some ten milliseconds: long enough to kill something in it."""


@pytest.fixture(scope="session")
def live(tmp_path_factory) -> Iterator[Workspace]:
    """A workspace with the dataset "docs" and a cluster whose forkservers stay warm over the tests."""
    made = Workspace(tmp_path_factory.mktemp("live")).open()
    runs.submit(DOCS, made, place="here").wait()
    yield made
    runs.shut_down(made)
    assert processes.listed(made) == []


@pytest.fixture(scope="session")
def undisturbed(live) -> runs.Run:
    """The small training, undisturbed."""
    return runs.run(SMALL, live)


@pytest.fixture(scope="session")
def small() -> Callable[..., dict]:
    """The small spec, with changes."""
    return lambda **changes: {**SMALL, **changes}


class Drawn:
    """A workspace with datasets of small pictures: a bar that lies (label 0) or stands (label 1)."""

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self.dataset = self.make("dots", [8] * 32)

    def make(self, name: str, sizes: list[int]) -> Dataset:
        """A picture for each size, every fourth held out."""
        import numpy as np
        import pyarrow as pa

        records = []
        for n, size in enumerate(sizes):
            pixels = np.full((1, size, size), -1, np.float32)
            pixels[0, (n // 2) % size] = 1
            image = pictures.drawn(pixels if n % 2 else pixels.transpose(0, 2, 1))
            identity = record_id(name, str(n), image)
            records.append({"id": identity, "image": image, "label": n % 2, "source": name, "locator": str(n), "cluster": identity,
                            "split": "train" if n % 4 else "validation"})
        return write_dataset(self.workspace, name, pa.Table.from_pylist(records, schema=record_schema()), drop_schema().empty_table(),
                             card="", manifest={"modality": "image", "drops": {}, "parents": {}, "read": len(records)})


@pytest.fixture(scope="session")
def pictured(tmp_path_factory) -> Drawn:
    """Datasets of pictures, without a cluster."""
    return Drawn(Workspace(tmp_path_factory.mktemp("pictured")).open())
