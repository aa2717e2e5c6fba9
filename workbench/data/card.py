"""The data card: what is in a dataset, where it comes from, what was done to it and what it is not good for."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from .spec import DataSpec

if TYPE_CHECKING:
    from .recipe import Curated

_ORIGINS = {
    "python-docs": "docstrings and comments of the Python standard library and of installed packages, each under its package's licence",
    "questions": "signatures and docstrings of the Python standard library, under its licence",
    "tunes": "made by rule by the workbench; nobody's work",
    "moving-digits": "UCI's \"Optical Recognition of Handwritten Digits\", as scikit-learn brings it along, moved by the workbench",
    "digits": "UCI's \"Optical Recognition of Handwritten Digits\", as scikit-learn brings it along",
}
_CALLED = {"chat": "chat", "preference": "preference", "abc": "tune (ABC)", "midi": "tune (words of MIDI notes)"}
_SHOWN = 30
"""Sources that are listed by name."""


def data_card(spec: DataSpec, curated: Curated, manifest: dict[str, Any]) -> str:
    """The card in Markdown, after Gebru et al., "Datasheets for datasets" (2021): what a reader can check, no more."""
    kept, text = curated.kept, manifest["modality"] == "text"
    splits, sources = Counter(kept["split"].to_pylist()), Counter(kept["source"].to_pylist())
    shares = [[s, f"{splits[s]:,}", f"{100 * splits[s] / kept.num_rows:.1f} %"] for s in ("train", "validation", "test")]
    origins = [f"- {escape(name)}: {n:,} records" + (f" ({_ORIGINS[name]})" if name in _ORIGINS else "")
               for name, n in sorted(sources.items())]
    if len(origins) > _SHOWN:
        origins[_SHOWN:] = [f"- and {len(origins) - _SHOWN:,} more"]
    dropped = [[step, reason, f"{n:,}"] for step, reasons in curated.drops.items() for reason, n in reasons.items()]
    found = ", ".join(f"{n:,} {kind}" for kind, n in manifest["pii"].items()) or "nothing was found"
    looked = f"Redacted: {found}." if any(s.step == "pii" for s in spec.steps) else "Not looked for."
    whole = (f"Near duplicates (Jaccard similarity of word 5-grams from {spec.split.cluster_threshold:g}) lie on one side together, so "
             f"nothing near a training record is held out. Seed {spec.split.seed}.")
    limits = ("What is in the sources is in the dataset: their errors, views, languages and licences. "
              "The steps know length, repetition and symbols, not truth.")
    unseen = "Names, postal addresses and the like are not looked for: whether the text may be used is for a person to judge."
    made = f"Workbench {manifest['package']['version']}, Python {manifest['environment']['python']}, with this spec:"
    return "\n\n".join([
        f"# {escape(spec.name)}",
        f"{kept.num_rows:,} {_CALLED.get(manifest['form'], manifest['modality'])} records, kept of {manifest['read']:,} that were read.",
        "## Splits", _table(["split", "records", "share"], shares), whole,
        "## Sources", "\n".join(origins),
        "## Steps", "\n".join(f"{n}. {_step(step)}" for n, step in enumerate(spec.steps, 1)) or "None.",
        "## Dropped", _table(["step", "reason", "records"], dropped) if dropped else "Nothing.",
        "Every dropped record is kept as it was read, with its reason, in `dropped.parquet`.",
        *(["## Personal data", f"{looked} {unseen}"] if text else []),
        "## Limits", limits,
        "## How it was made", made, f"```yaml\n{spec.to_yaml().replace('```', chr(39) * 3)}```"]) + "\n"


def escape(text: str) -> str:
    r"""Text as itself in Markdown and in the HTML that is made of it.

    Examples
    --------
    >>> escape("<b>a_b</b>")
    '&lt;b&gt;a\\_b&lt;/b&gt;'
    """
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")
    return re.sub(r"([\\`*_\[\]|#!~])", r"\\\1", text)


def _step(step: Any) -> str:
    options = {k: v for k, v in step.model_dump(mode="json").items() if k != "step"}
    said = ", ".join(f"{k.replace('_', ' ')} {', '.join(map(str, v)) if isinstance(v, list) else v}" for k, v in options.items())
    return escape(step.step + (f": {said}" if said else ""))


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *([escape(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
