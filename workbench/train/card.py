"""The draft of a model card: what is known of a model when its training ends (after Mitchell et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..dataset import Dataset
from .spec import TrainSpec


@dataclass(frozen=True)
class Words:
    """What a card says of an objective's models; ``{…}`` are filled in."""

    tags: str
    what: str
    """what it is and what it is not"""
    measure: str
    """how its measure is read, after the number"""
    risk: str
    front: str = ""
    """lines of the front matter besides"""


_TEXT = "library_name: transformers\npipeline_tag: text-generation\n"
_REPEATS = "A model of this size can repeat training text word for word and carries the slant of its data."
_AS_BASE = f"{_REPEATS} What its base was trained on, the base's card must tell."
_IMAGES = "It can repeat images of its dataset and carries their slant."
KINDS = {
    "pretrain": Words(
        "[llama, from-scratch]", """\
A Llama-form language model with {parameters:,} parameters, trained from random weights. It continues text like that of its
dataset; it was not taught to follow instructions, and what it says need not be true.""", "bits a byte", _REPEATS, _TEXT),
    "sft": Words(
        "[{how}, sft]", """\
The base {base} with {parameters:,} parameters, taught to answer by the chats of its dataset ({trained}). The loss was on the
answers only. It answers like them; what it says need not be true.""", "nats a token of the held-out answers", _AS_BASE, _TEXT),
    "dpo": Words(
        "[{how}, dpo]", """\
The base {base} with {parameters:,} parameters, taught to prefer the answers that its dataset says were chosen ({trained}).
A loss of 0.693 is the base's own. What it says need not be true.""", "of loss over held-out pairs", _AS_BASE, _TEXT),
    "gan": Words(
        "[dcgan, from-scratch]", """\
A generator of images with {parameters:,} parameters, trained against a discriminator from random weights. It makes images like
those of its dataset.""", "distance", _IMAGES),
    "diffusion": Words(
        "[diffusion, from-scratch]", """\
A model of {parameters:,} parameters that makes images or clips like those of its dataset out of noise, trained from random
weights.""", "mean squared error of the noise", _IMAGES),
    "module": Words(
        "[lightning]", "A LightningModule of its user with {parameters:,} parameters.", "",
        "What it is for and what it can do wrong, its maker must say."),
}
"""Words by objective."""


def draft(spec: TrainSpec, dataset: Dataset | None, *, run: str, parameters: int, metrics: dict[str, Any], plan: dict[str, Any]) -> str:
    """Markdown; the assessment fills in what it finds."""
    kind = spec.objective.kind
    words, named = KINDS[kind], _named(spec, parameters)
    spent = f"{metrics['seconds']:.0f} s on {plan['world']} ranks" if metrics.get("seconds") else f"{plan['world']} ranks"
    value = metrics.get(plan["measure"])
    measured = "not measured" if value is None else f"**{value:.3f}{' ' if words.measure else ''}{words.measure}**"
    rows = [("run", f"`{run}`"), (plan["unit"], f"{metrics[plan['unit']]:,} in {metrics['steps']:,} steps"), *_more(spec, metrics, plan),
            ("optimizer", f"{plan['optimizer']}, learning rate {plan['learning_rate']:g}, warm-up {plan['warmup']} steps, cosine to zero"),
            ("batch", f"{plan['ranks']} ranks x {plan['sequences']} {_samples(kind, plan)} x {plan['accumulate']}"),
            ("precision, seed", f"{plan['precision']}, {plan['seed']}"), ("took", spent)]
    table = "\n".join(f"| {name} | {said} |" for name, said in rows)
    return f"""---
{words.front}tags: {words.tags.format(**named)}
---
# {spec.model_name}

{words.what.format(**named)}

## Data

{_data(dataset)}

## Training

| | |
|---|---|
{table}

## Measures

Held out (validation split): {measured}{_last(metrics.get("loss"))}
{_learned(metrics.get("gain"), words.measure)}
## Limits and risks

{_judged(kind, spec.model_name)}
{words.risk}
"""


def _judged(kind: str, name: str) -> str:
    if kind in ("gan", "diffusion"):
        return "Not assessed: the workbench's probes measure text. Look at `samples.png`, and at what it makes beside its dataset."
    return (f"Not assessed yet. Run `workbench assess {name}` for memorisation, personal data, group differences and the verdict of the "
            "policy.")


def _samples(kind: str, plan: dict[str, Any]) -> str:
    return "sequences" if kind == "pretrain" else plan["unit"]


def _named(spec: TrainSpec, parameters: int) -> dict[str, Any]:
    adapter = getattr(spec.objective, "adapter", None)
    return {"parameters": parameters, "base": f"`{_plain(getattr(spec.objective, 'base', ''))}`", "how": "lora" if adapter else "full",
            "trained": f"LoRA of rank {adapter.rank}, merged in; by itself in `adapter/`" if adapter else "all weights"}


def _more(spec: TrainSpec, metrics: dict[str, Any], plan: dict[str, Any]) -> list[tuple[str, str]]:
    kind, found = spec.objective.kind, []
    if kind == "pretrain":
        found.append(("vocabulary, context", f"{metrics['vocabulary']:,} tokens of byte-level BPE, {plan['context']}"))
    if kind in ("sft", "dpo"):
        base, adapter = metrics["base"], spec.objective.adapter
        lora = adapter and f"LoRA, rank {adapter.rank}, alpha {adapter.alpha:g}, dropout {adapter.dropout:g}"
        records = f"{metrics['cut']:,} records cut, {metrics['left_out']:,} left out"
        found += [("base", f"`{_plain(base['reference'])}`, digest `{base['digest'][:12]}`"), ("trained", lora or "all weights"),
                  ("answers", f"{metrics['answer_tokens']:,} trained tokens an epoch, context {plan['context']:,}; {records}")]
        found += [("beta", f"{spec.objective.beta:g}")] if kind == "dpo" else []
    return found


def _data(dataset: Dataset | None) -> str:
    if dataset is None:
        return "None of the workbench's datasets."
    splits = dataset.manifest["splits"]
    # File names are data: nothing in them may pass for Markdown.
    parents = [f"`{_plain(p)}`" for p in sorted(dataset.manifest.get("parents") or {})]
    sources = ", ".join(parents[:8]) + (f" and {len(parents) - 8} more" if len(parents) > 8 else "") or "see its card"
    return f"""Dataset `{dataset.reference}`: {splits["train"]["records"]:,} records, {splits["train"]["bytes"] / 1e6:.2f} MB to train on,
{splits["validation"]["records"]:,} records held out to watch. Sources: {sources}."""


def _last(loss: float | None) -> str:
    return "" if loss is None else f"; last training loss {loss:.3f}."


def _plain(text: str) -> str:
    return text.replace("`", "'").replace("\n", " ")


def _learned(gain: dict[str, Any] | None, measure: str) -> str:
    if not gain:
        return ""
    interval = "" if gain["low"] is None else f" (95 % interval {gain['low']:+.3f} to {gain['high']:+.3f}, parts resampled in pairs)"
    return f"""
On {gain["windows"]} parts of it, before the first step and after the last: {gain["before"]:.3f} → {gain["after"]:.3f} {measure},
a difference of {gain["difference"]:+.3f}{interval}.
"""
