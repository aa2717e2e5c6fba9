"""What computes logits: one small protocol, and the table of the files that fulfil it."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..errors import WorkbenchError
from ..model import refuse_pickles

if TYPE_CHECKING:
    import torch

# model_type of config.json -> the class that computes it; imported only where such a model is loaded.
ENGINES = {"llama": "workbench.serve.engines.llama:LlamaEngine"}


class Engine(Protocol):
    """Sequences in rows 0…n-1, each with what the model keeps of it; one step advances all rows at once.

    An engine knows no request, no text and no sampling: tokens go in, logits come out.
    """

    context: int
    """most tokens that a row may hold"""
    slots: int
    """most rows"""

    def __init__(self, path: Path, slots: int): ...

    def add(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Append rows that hold the prompts; returns logits for their next tokens, float [prompts, vocabulary]."""

    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        """Append one token to every row; returns logits for the next ones, float [rows, vocabulary]."""

    def remove(self, row: int) -> None:
        """Free a row; the last row takes its number."""


def load_engine(path: str | Path, slots: int) -> Engine:
    """The engine for a model directory.

    Raises
    ------
    UnsafeFileError
        When the weights are offered as a pickle.
    WorkbenchError
        When no engine computes this kind of model.
    """
    path = Path(path)
    refuse_pickles(path)
    kind = json.loads((path / "config.json").read_text("utf-8")).get("model_type")
    if kind not in ENGINES:
        raise WorkbenchError("no engine computes this kind of model", where=path / "config.json", received=kind,
                             allowed=f"model_type {' or '.join(ENGINES)}", hint="An engine is one file under workbench/serve/engines")
    module, _, name = ENGINES[kind].partition(":")
    return getattr(importlib.import_module(module), name)(path, slots)
