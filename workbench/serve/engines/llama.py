"""Llama-form models over a static KV cache: rows stay packed, so that a step reads the cache as one view, without a copy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import embedding, linear, rms_norm, scaled_dot_product_attention, silu

from ...errors import WorkbenchError
from ...model import load_weights

_STRIDE = 32
"""The cache is read up to a multiple of this many positions."""


@dataclass(frozen=True)
class _Layer:
    """Weights of one layer; queries, keys and values are one matrix, gate and up another."""

    norm: torch.Tensor
    qkv: torch.Tensor
    out: torch.Tensor
    norm2: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor


class LlamaEngine:
    """Forward passes as transformers' ``LlamaForCausalLM`` makes them in fp32, for many sequences at once.

    Parameters
    ----------
    path : directory with ``config.json`` and safetensors.
    slots : most sequences at once; memory grows with the positions really used.
    """

    def __init__(self, path: Path, slots: int):
        config = json.loads((path / "config.json").read_text("utf-8"))
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        self.slots, self.context = slots, int(config["max_position_embeddings"])
        self._heads = int(config["num_attention_heads"])
        self._kv_heads = int(config.get("num_key_value_heads") or self._heads)
        self._size = int(config.get("head_dim") or config["hidden_size"] // self._heads)
        self._eps = float(config["rms_norm_eps"])
        tensors = {k: v for file in sorted(path.glob("*.safetensors")) for k, v in load_weights(file).items()}
        self._take(path, tensors, int(config["num_hidden_layers"]), bool(config.get("tie_word_embeddings")))

        theta = float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0)
        inverse = 1.0 / (theta ** (torch.arange(0, self._size, 2, dtype=torch.int64).float() / self._size))
        angles = torch.outer(torch.arange(self.context).float(), inverse)
        self._cos, self._sin = (torch.cat([f, f], -1) for f in (angles.cos(), angles.sin()))
        columns = torch.arange(self.context)
        self._masks = torch.where(columns[None] <= columns[:, None], 0.0, -torch.inf)
        # numpy's zeros take no memory until written; what was never written must be finite, since 0 × NaN is NaN.
        shape = (len(self._layers), slots, self._kv_heads, self.context, self._size)
        self._keys, self._values = (torch.from_numpy(np.zeros(shape, np.float32)) for _ in range(2))
        self._lengths: list[int] = []

    def _take(self, path: Path, tensors: dict[str, torch.Tensor], layers: int, tied: bool) -> None:
        def get(*names: str) -> torch.Tensor:
            try:
                found = [tensors[n] for n in names]
            except KeyError as error:
                raise WorkbenchError("a weight is missing", where=path / "model.safetensors", received=str(error).strip("'")) from None
            weight = (torch.cat(found) if len(found) > 1 else found[0]).float().contiguous()
            if not torch.isfinite(weight).all():
                raise WorkbenchError("weights hold NaN or infinities", where=path / "model.safetensors", received=names[0],
                                     hint="Train again, with a smaller learning rate")
            return weight

        self._embed = get("model.embed_tokens.weight")
        self._head = self._embed if tied or "lm_head.weight" not in tensors else get("lm_head.weight")
        self._norm = get("model.norm.weight")
        self._layers = []
        for n in range(layers):
            at, mlp = f"model.layers.{n}.self_attn", f"model.layers.{n}.mlp"
            self._layers.append(_Layer(
                get(f"model.layers.{n}.input_layernorm.weight"),
                get(f"{at}.q_proj.weight", f"{at}.k_proj.weight", f"{at}.v_proj.weight"), get(f"{at}.o_proj.weight"),
                get(f"model.layers.{n}.post_attention_layernorm.weight"),
                get(f"{mlp}.gate_proj.weight", f"{mlp}.up_proj.weight"), get(f"{mlp}.down_proj.weight")))

    @classmethod
    def computes(cls, config: Mapping[str, Any]) -> bool:
        """True of a configuration with SiLU, plain rotary positions and no biases."""
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        return (config.get("hidden_act", "silu") in ("silu", "swish") and rope.get("rope_type", rope.get("type", "default")) == "default"
                and not config.get("attention_bias") and not config.get("mlp_bias"))

    @torch.inference_mode()
    def add(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Append rows; shorter prompts are padded on the right, where the causal mask hides them."""
        lengths, first = [len(p) for p in prompts], len(self._lengths)
        count, longest = len(prompts), max(lengths)
        tokens = torch.zeros(count, longest, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            tokens[row, :len(prompt)] = torch.tensor(prompt)
        cos, sin = self._cos[:longest], self._sin[:longest]
        x = embedding(tokens, self._embed)
        for n, layer in enumerate(self._layers):
            q, k, v = self._project(x, layer)
            q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
            q, k = _turn(q, cos, sin), _turn(k, cos, sin)
            self._keys[n, first:first + count, :, :longest] = k
            self._values[n, first:first + count, :, :longest] = v
            mixed = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self._heads != self._kv_heads)
            x = self._feed(x, mixed.transpose(1, 2).reshape(count, longest, -1), layer)
        self._lengths += lengths
        last = x[torch.arange(count), torch.tensor(lengths) - 1]
        return linear(self._normalise(last, self._norm), self._head)

    @torch.inference_mode()
    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        """One decoding step over all rows."""
        count, longest = len(self._lengths), max(self._lengths) + 1
        reach = min(self.context, -(-longest // _STRIDE) * _STRIDE)
        rows, places = torch.arange(count), torch.tensor(self._lengths)
        cos, sin = self._cos[places][:, None], self._sin[places][:, None]
        mask = self._masks[places, :reach][:, None, None]
        x = embedding(torch.tensor(tokens), self._embed)
        for n, layer in enumerate(self._layers):
            q, k, v = self._project(x, layer)
            keys, values = self._keys[n], self._values[n]
            keys[rows, :, places] = _turn(k, cos, sin)
            values[rows, :, places] = v
            mixed = scaled_dot_product_attention(_turn(q, cos, sin)[:, :, None], keys[:count, :, :reach], values[:count, :, :reach],
                                                   attn_mask=mask, enable_gqa=self._heads != self._kv_heads)
            x = self._feed(x, mixed.reshape(count, -1), layer)
        self._lengths = [n + 1 for n in self._lengths]
        return linear(self._normalise(x, self._norm), self._head)

    def remove(self, row: int) -> None:
        """Free a row: the last one moves into its place."""
        last = len(self._lengths) - 1
        if row != last:
            length = self._lengths[row] = self._lengths[last]
            self._keys[:, row, :, :length] = self._keys[:, last, :, :length]
            self._values[:, row, :, :length] = self._values[:, last, :, :length]
        self._lengths.pop()

    def _normalise(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return rms_norm(x, (x.shape[-1],), weight, self._eps)

    def _project(self, x: torch.Tensor, layer: _Layer) -> tuple[torch.Tensor, ...]:
        """Queries, keys and values, each [..., heads, size]."""
        mixed = linear(self._normalise(x, layer.norm), layer.qkv).view(*x.shape[:-1], -1, self._size)
        return mixed.split([self._heads, self._kv_heads, self._kv_heads], dim=-2)

    def _feed(self, x: torch.Tensor, mixed: torch.Tensor, layer: _Layer) -> torch.Tensor:
        """What follows attention: the residual and the gated feed-forward layer."""
        x = x + linear(mixed, layer.out)
        gate, up = linear(self._normalise(x, layer.norm2), layer.gate_up).chunk(2, -1)
        return x + linear(silu(gate) * up, layer.down)


def _turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions (Su et al., "RoFormer", 2021), halves as transformers lays them out."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin
