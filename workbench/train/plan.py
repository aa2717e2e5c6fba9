"""How a train spec meets its data: steps and batch as they will be, and what had to give way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import SourceError
from .objectives import KINDS
from .spec import TrainSpec

MOST_EPOCHS = 8
"""Times that little text is gone through at most: beyond, a model only learns it by heart, and held-out text grows stranger to
it (Muennighoff et al., "Scaling data-constrained language models", 2023; on 60 kB of docs the turn came at five)."""
ENOUGH_STEPS = 300
"""Steps below which a batch is made smaller, so that little text still gives enough of them."""


@dataclass(frozen=True)
class Plan:
    """What each rank is told; plain numbers and words, so that it crosses processes as JSON."""

    objective: dict[str, Any]
    """the objective's part of the spec"""
    size: str
    context: int
    """tokens of a sample; 0 where samples are no text"""
    sequences: int
    """samples of a chunk: what a rank takes at once"""
    accumulate: int
    ranks: int
    """ranks that read different samples, as planned: a step takes ranks x accumulate chunks, however many ranks there are in the end"""
    steps: int
    trained: int
    """tokens (or other units) over all steps and ranks"""
    unit: str
    measure: str
    """name of what is measured on the held-out split"""
    scale: float
    """what makes it of the sums of ``Objective.scores``"""
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
    diverged: str
    """what follows a loss that is no number: stop, skip, rollback"""
    said: tuple[str, ...] = ()
    """what differs from the spec, and why, in sentences"""
    cuts: bool = False
    """ranks hold parts of the model"""
    tensor: int = 1
    """ranks that share out each matrix"""
    compile: bool = False
    recompute: bool = False
    skip: tuple[int, ...] = ()
    """steps that change nothing: a rollback leads past them"""
    hang_seconds: float = 600.0
    """seconds without a step after which ranks count as hung"""
    split: int = 1
    """parts that a rank's batch is computed in: more where the memory would not do"""

    @property
    def chunks(self) -> int:
        """Chunks of a step, over all ranks."""
        return self.ranks * self.accumulate

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def planned(spec: TrainSpec, count: int, prompts: Sequence[str] = ()) -> Plan:
    """The plan of a spec; ``prompts`` are those to continue where the spec names none.

    Parameters
    ----------
    count : tokens of the train split where tokens are pretrained, samples of it otherwise.

    Raises
    ------
    SourceError
        When there is too little for a single batch.

    Examples
    --------
    >>> plan = planned(TrainSpec(data="notes"), 3_000)
    >>> plan.sequences, plan.trained < TrainSpec(data="notes").tokens, len(plan.said)
    (1, True, 2)
    >>> plan = planned(TrainSpec(data="digits", objective={"kind": "gan"}, epochs=2), 1_000)
    >>> plan.steps, plan.trained, plan.unit
    (32, 2048, 'images')
    """
    kind, objective = KINDS[spec.objective.kind], spec.objective
    made = _of_tokens(spec, count) if kind.streams else _of_samples(spec, count)
    return Plan(objective=objective.model_dump(mode="json"), accumulate=spec.batch.accumulate, ranks=spec.hardware.readers, unit=kind.unit,
                measure=kind.measure, scale=kind.scale, optimizer=spec.optimizer or objective.OPTIMIZER,
                learning_rate=spec.rate, warmup=spec.warmup,
                weight_decay=objective.DECAY if spec.weight_decay is None else spec.weight_decay, clip=spec.clip, seed=spec.seed,
                accelerator=spec.hardware.accelerator, precision=spec.hardware.precision, every=spec.every.model_dump(),
                cuts=spec.hardware.cuts, tensor=spec.hardware.tensor, compile=spec.hardware.compile, recompute=spec.hardware.recompute,
                hang_seconds=spec.hardware.hang_seconds, diverged=spec.diverged, prompts=spec.prompts or tuple(prompts), **made)


def _of_tokens(spec: TrainSpec, count: int) -> dict[str, Any]:
    ranks, context, sequences, said = spec.hardware.readers, spec.model.context, spec.sequences, []
    if count < 2 * context + 1:
        raise SourceError("is too little text to train on", where=spec.data, received=f"{count:,} tokens",
                          allowed=f"{2 * context + 1:,} or more for a context of {context}",
                          hint="Add text" + (f", or set model.context={max(16, (count - 1) // 4)}" if count > 64 else ""))
    wanted = tokens = math.ceil(spec.epochs * count) if spec.epochs else spec.tokens
    if tokens > MOST_EPOCHS * count and not spec.epochs:
        tokens = MOST_EPOCHS * count
        said.append(f"{count:,} tokens of text are gone through {MOST_EPOCHS} times: {tokens:,} tokens instead of {spec.tokens:,}")
    a_sequence = ranks * spec.batch.accumulate * context
    fitting = max(1, min(sequences, tokens // (ENOUGH_STEPS * a_sequence)))
    if tokens < wanted and fitting < sequences:
        said.append(f"{fitting} sequence{'s' * (fitting > 1)} a rank and step instead of {sequences}, so that there are enough steps")
        sequences = fitting
    steps = math.ceil(tokens / (a_sequence * sequences))
    return {"size": spec.model.size, "context": context, "sequences": sequences, "steps": steps,
            "trained": steps * a_sequence * sequences, "said": tuple(said)}


def _of_samples(spec: TrainSpec, count: int) -> dict[str, Any]:
    ranks, sequences, said, kind = spec.hardware.readers, spec.sequences, [], KINDS[spec.objective.kind]
    chunks = ranks * spec.batch.accumulate
    if count < chunks:
        where = spec.data or getattr(spec.objective, "data_module", None) or getattr(spec.objective, "module", None)
        raise SourceError("holds less than a step takes", where=where, received=f"{count:,} {kind.unit} to train on",
                          allowed=f"{chunks:,} or more: one for each of {ranks} ranks" + (
                              f", {spec.batch.accumulate} times a step" if spec.batch.accumulate > 1 else ""),
                          hint="Add data, or set hardware.ranks=1")
    if sequences * chunks > count:
        sequences = count // chunks
        said.append(f"{sequences} a rank and step instead of {spec.sequences}: there are {count:,} {kind.unit}")
    steps = max(1, math.ceil((spec.epochs or spec.objective.EPOCHS) * count / (sequences * chunks)))
    return {"size": "", "context": getattr(spec.objective, "context", 0), "sequences": sequences, "steps": steps,
            "trained": steps * sequences * chunks, "said": tuple(said)}
