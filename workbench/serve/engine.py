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

# model_type of config.json -> the class that computes it faster, where it ``computes`` that configuration.
ENGINES = {"llama": "workbench.serve.engines.llama:LlamaEngine"}
ANY = "workbench.serve.engines.causal:CausalEngine"
"""What computes all others."""


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
        When no engine computes this kind of model, or its weights are not those of its configuration or no numbers.
    """
    path = Path(path)
    refuse_pickles(path)
    config = json.loads((path / "config.json").read_text("utf-8"))
    kind = config.get("model_type")
    if not kind:
        raise WorkbenchError("no engine computes this kind of model", where=path / "config.json", received="no model_type",
                             allowed="a language model in Hugging Face's form")
    if kind in ENGINES and (own := _engine(ENGINES[kind])).computes(config):
        return own(path, slots)
    return _engine(ANY)(path, slots)


def _engine(place: str) -> type:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
