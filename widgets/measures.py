"""What the curves of a training are called and counted in, by its objective."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.train.objectives import KINDS

_LOSS = {"pretrain": "nats a token", "sft": "nats an answer token", "dpo": "nats a pair", "diffusion": "squared error",
         "gan": "nats an image"}
_HELD_OUT = {"bits_per_byte": ("held out", "bits a byte"), "answer_loss": ("held out", "nats an answer token"),
             "preference_loss": ("held out", "nats a pair"), "noise_error": ("held out", "squared error of the noise"),
             "distance": ("held out", "distance"), "val_loss": ("held out", "")}


def objective_of(spec: Mapping[str, Any]) -> str:
    """The kind of a spec's objective; of one that says none, the usual."""
    kind = (spec.get("objective") or {}).get("kind", "pretrain")
    return kind if kind in KINDS else "pretrain"


def sees(objective: str) -> str:
    """What a batch of an objective can be shown as: ``tokens``, ``pictures``, or ``parts`` where only a module of one's own knows.

    Examples
    --------
    >>> [sees(kind) for kind in ("sft", "gan", "module")]
    ['tokens', 'pictures', 'parts']
    """
    return "parts" if objective == "module" else "pictures" if KINDS[objective].unit == "images" else "tokens"


def words(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Names of curves and units of a run by its spec.

    Returns
    -------
    dict
        ``first`` (curves that say whether it learns), ``curves`` (name -> title and unit), ``measure``, ``measured`` (its unit),
        ``unit`` (what is counted), ``rate`` (name of the curve of its speed), ``sees`` (what its first batch is made of).

    Examples
    --------
    >>> found = words({"objective": {"kind": "diffusion"}})
    >>> found["first"], found["rate"], found["curves"]["noise_error"]
    (['loss', 'noise_error'], 'images_per_second', ['held out', 'squared error of the noise'])
    """
    name = objective_of(spec)
    kind = KINDS[name]
    title, measured = _HELD_OUT.get(kind.measure, (kind.measure.replace("_", " "), ""))
    rate = f"{kind.unit}_per_second"
    return {"first": ["loss", kind.measure], "measure": kind.measure, "measured": measured, "unit": kind.unit, "rate": rate,
            "sees": sees(name),
            "curves": {"loss": ["loss", _LOSS.get(name, "")], kind.measure: [title, measured], "learning_rate": ["learning rate", ""],
                       rate: ["speed", f"{kind.unit} a second"], "gradient_norm": ["gradient norm", ""]}}
