"""How a train spec meets its data: steps, context and batch as they will be, and what had to give way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import SourceError
from .spec import TrainSpec

MOST_EPOCHS = 8
"""Times that little text is gone through at most: beyond, a model only learns it by heart, and held-out text grows stranger to
it (Muennighoff et al., "Scaling data-constrained language models", 2023; on 60 kB of docs the turn came at five)."""
ENOUGH_STEPS = 300
"""Steps below which a batch is made smaller, so that little text still gives enough of them."""


@dataclass(frozen=True)
class Plan:
    """What each rank is told; plain numbers and words, so that it crosses processes as JSON."""

    size: str
    context: int
    sequences: int
    accumulate: int
    steps: int
    trained: int
    """tokens over all steps and ranks"""
    optimizer: str
    learning_rate: float
    warmup: int
    weight_decay: float
    clip: float
    seed: int
    accelerator: str
    precision: str
    every: dict[str, int]
    prompts: tuple[str, ...]
    said: tuple[str, ...] = ()
    """what differs from the spec, and why, in sentences"""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def planned(spec: TrainSpec, train_tokens: int, prompts: Sequence[str] = ()) -> Plan:
    """The plan of a spec for a number of training tokens; ``prompts`` are those to continue where the spec names none.

    Raises
    ------
    SourceError
        When there is too little text for a single batch.

    Examples
    --------
    >>> plan = planned(TrainSpec(data="notes"), 3_000)
    >>> plan.sequences, plan.trained < TrainSpec(data="notes").tokens, len(plan.said)
    (1, True, 2)
    """
    ranks, context, sequences, said = spec.hardware.ranks, spec.model.context, spec.batch.sequences, []
    if train_tokens < 2 * context + 1:
        raise SourceError("is too little text to train on", where=spec.data, received=f"{train_tokens:,} tokens",
                          allowed=f"{2 * context + 1:,} or more for a context of {context}",
                          hint="Add text" + (f", or set model.context={max(16, (train_tokens - 1) // 4)}" if train_tokens > 64 else ""))
    tokens = spec.tokens
    if tokens > MOST_EPOCHS * train_tokens:
        tokens = MOST_EPOCHS * train_tokens
        said.append(f"{train_tokens:,} tokens of text are gone through {MOST_EPOCHS} times: {tokens:,} tokens instead of {spec.tokens:,}")
    a_sequence = ranks * spec.batch.accumulate * context
    fitting = max(1, min(sequences, tokens // (ENOUGH_STEPS * a_sequence)))
    if tokens < spec.tokens and fitting < sequences:
        said.append(f"{fitting} sequence{'s' * (fitting > 1)} a rank and step instead of {sequences}, so that there are enough steps")
        sequences = fitting
    steps = math.ceil(tokens / (a_sequence * sequences))
    every = spec.every.model_dump()
    return Plan(size=spec.model.size, context=context, sequences=sequences, accumulate=spec.batch.accumulate, steps=steps,
                trained=steps * a_sequence * sequences, optimizer=spec.optimizer, learning_rate=spec.learning_rate,
                warmup=spec.warmup, weight_decay=spec.weight_decay, clip=spec.clip, seed=spec.seed,
                accelerator=spec.hardware.accelerator, precision=spec.hardware.precision, every=every,
                prompts=spec.prompts or tuple(prompts),
                said=tuple(said))
