"""Any language model that transformers computes with keys and values, many sequences at once: each padded on the left to the longest."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn.functional import pad
from transformers import DynamicCache

from ...errors import WorkbenchError
from ...model import load_pretrained

UNSAID = 2048
"""Tokens that a model is given at most whose configuration names no bound."""


class CausalEngine:
    """transformers' own forward passes in fp32.

    Parameters
    ----------
    path : directory in Hugging Face's form.
    slots : most sequences at once; memory grows with the positions really used.

    Raises
    ------
    SourceError
        Where the weights don't load.
    WorkbenchError
        Where they are no numbers, or the model keeps something else of a sequence than keys and values.
    """

    def __init__(self, path: Path, slots: int):
        self._model = load_pretrained(path).eval()
        if getattr(self._model, "_is_stateful", False):
            raise WorkbenchError("no engine computes this kind of model", where=path / "config.json",
                                 received=self._model.config.model_type, hint="An engine is one file under workbench/serve/engines",
                                 allowed="a model whose layers keep keys and values alone: no recurrent states")
        for name, weight in self._model.state_dict().items():
            if weight.is_floating_point() and not torch.isfinite(weight).all():
                raise WorkbenchError("weights hold NaN or infinities", where=path / "model.safetensors", received=name,
                                     hint="Train again, with a smaller learning rate")
        config = self._model.config.get_text_config()
        self.slots = slots
        self.context = int(getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or UNSAID)
        self._takes = set(inspect.signature(self._model.forward).parameters)
        self._kept: list[tuple[torch.Tensor, torch.Tensor]] = []
        """keys and values of each layer, float [rows, heads, longest, size], each row's at the right"""
        self._lengths: list[int] = []

    @torch.inference_mode()
    def add(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Append rows that hold the prompts."""
        lengths = [len(p) for p in prompts]
        longest = max(lengths)
        tokens = torch.zeros(len(prompts), longest, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            tokens[row, longest - len(prompt):] = torch.tensor(prompt)
        logits, made = self._forward(tokens, lengths, DynamicCache())
        if self._lengths:
            width = max(longest, *self._lengths)
            made = [tuple(torch.cat([_padded(old, width), _padded(new, width)]) for old, new in zip(*pair, strict=True))
                    for pair in zip(self._kept, made, strict=True)]
        self._kept, self._lengths = made, self._lengths + lengths
        return logits

    @torch.inference_mode()
    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        """One decoding step over all rows."""
        cache = DynamicCache()
        for n, (keys, values) in enumerate(self._kept):
            cache.update(keys, values, n)
        self._lengths = [n + 1 for n in self._lengths]
        logits, self._kept = self._forward(torch.tensor(tokens)[:, None], self._lengths, cache)
        return logits

    @torch.inference_mode()
    def remove(self, row: int) -> None:
        """Free a row: the last one moves into its place; what no row needs any more is let go."""
        last = len(self._lengths) - 1
        self._lengths[row] = self._lengths[last]
        self._lengths.pop()
        width = max(self._lengths, default=0)
        order = [last if n == row else n for n in range(last)]
        self._kept = [(k[order, :, k.shape[2] - width:], v[order, :, v.shape[2] - width:]) for k, v in self._kept] if order else []

    def _forward(self, tokens: torch.Tensor, lengths: list[int], cache: DynamicCache) -> tuple[torch.Tensor, list]:
        """Logits behind the last tokens, and what is kept of all; rows are so long once these tokens are in."""
        longest, count = max(lengths), tokens.shape[1]
        mask = torch.arange(longest)[None] >= longest - torch.tensor(lengths)[:, None]
        given = {"position_ids": (mask.long().cumsum(1) - 1).clamp(min=0)[:, -count:], "logits_to_keep": 1}
        found = self._model(input_ids=tokens, attention_mask=mask.long(), past_key_values=cache, use_cache=True,
                            **{k: v for k, v in given.items() if k in self._takes})
        return found.logits[:, -1].float(), [(layer.keys, layer.values) for layer in found.past_key_values.layers]


def _padded(kept: torch.Tensor, width: int) -> torch.Tensor:
    return pad(kept, (0, 0, width - kept.shape[2], 0))
