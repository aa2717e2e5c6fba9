"""A live cluster over a small dataset, and the weights that an undisturbed training ends with."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from drawn import Drawn

from workbench import processes, runs
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


@pytest.fixture(scope="session")
def pictured(tmp_path_factory) -> Drawn:
    """Datasets of pictures, without a cluster."""
    return Drawn(Workspace(tmp_path_factory.mktemp("pictured")).open())
