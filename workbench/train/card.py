"""The draft of a model card: what is known of a model when its training ends (after Mitchell et al. 2019)."""

from __future__ import annotations

from typing import Any

from ..dataset import Dataset
from .spec import TrainSpec


def draft(spec: TrainSpec, dataset: Dataset, *, run: str, parameters: int, metrics: dict[str, Any], plan: dict[str, Any]) -> str:
    """Markdown; the assessment fills in what it finds."""
    splits = dataset.manifest["splits"]
    # File names are data: nothing in them may pass for Markdown.
    parents = [f"`{p.replace('`', chr(39))}`" for p in sorted(dataset.manifest.get("parents") or {})]
    sources = ", ".join(parents[:8]) + (f" and {len(parents) - 8} more" if len(parents) > 8 else "") or "see its card"
    spent = f"{metrics['seconds']:.0f} s on {plan['world']} ranks" if metrics.get("seconds") else f"{plan['world']} ranks"
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags: [llama, from-scratch]
---
# {spec.model_name}

A Llama-form language model with {parameters:,} parameters, trained from random weights. It continues text like that of its
dataset; it was not taught to follow instructions, and what it says need not be true.

## Data

Dataset `{dataset.reference}`: {splits["train"]["records"]:,} records, {splits["train"]["bytes"] / 1e6:.2f} MB to train on,
{splits["validation"]["records"]:,} records held out to watch. Sources: {sources}.

## Training

| | |
|---|---|
| run | `{run}` |
| tokens | {metrics["tokens"]:,} in {metrics["steps"]:,} steps |
| vocabulary, context | {metrics["vocabulary"]:,} tokens of byte-level BPE, {plan["context"]} |
| optimizer | {plan["optimizer"]}, learning rate {plan["learning_rate"]:g}, warm-up {plan["warmup"]} steps, cosine to zero |
| batch | {plan["ranks"]} ranks x {plan["sequences"]} sequences x {plan["accumulate"]} |
| precision, seed | {plan["precision"]}, {plan["seed"]} |
| took | {spent} |

## Measures

Held-out text (validation split): **{metrics["bits_per_byte"]:.3f} bits a byte**; last training loss {metrics["loss"]:.3f} nats a token.
{_learned(metrics.get("gain"))}
## Limits and risks

Not assessed yet. Run `workbench assess {spec.model_name}` for memorisation, personal data, group differences and the verdict of the policy.
A model of this size can repeat training text word for word and carries the slant of its data.
"""


def _learned(gain: dict[str, Any] | None) -> str:
    if not gain:
        return ""
    return f"""
On {gain["windows"]} windows of it, before the first step and after the last: {gain["before"]:.3f} → {gain["after"]:.3f} bits a byte,
a difference of {gain["difference"]:+.3f} (95 % interval {gain["low"]:+.3f} to {gain["high"]:+.3f}, windows resampled in pairs).
"""
