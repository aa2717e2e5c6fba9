"""The train spec: what is learned, from which data, how long, on what."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, JsonValue, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from ..spec import Name, Part, Reference, Spec
from .objectives.spec import Objective, Pretrain


class Shape(Part):
    """The model's form: a Llama with random weights."""

    size: Literal["100K", "1M", "10M", "100M"] = "1M"
    """parameters, roughly, by name"""
    vocabulary: int = Field(2048, ge=300, le=65_536)
    """tokens of the byte-level BPE learned from the training text"""
    context: int = Field(256, ge=16, le=8192)
    """tokens that the model sees at once"""


class Batch(Part):
    """How many sequences make a step."""

    sequences: int | None = Field(None, ge=1)
    """sequences of ``context`` tokens (or chats, pairs, images) a rank takes at once; none: the objective's own, 4 for text: small
    batches learn more from few tokens"""
    accumulate: int = Field(1, ge=1)
    """batches whose gradients are summed before a step"""


class Hardware(Part):
    """What trains."""

    ranks: int = Field(2, ge=1, le=1024)
    """coupled processes, one a Dask worker"""
    min_ranks: int | None = Field(None, ge=1)
    """processes it begins and goes on with where no more workers are free; none: ``ranks``. Samples and their order stay the same,
    sums are rounded otherwise"""
    max_ranks: int | None = Field(None, ge=1)
    """processes it takes when there are more workers; none: ``ranks``. More than ``ranks`` are of use with ``batch.accumulate``"""
    threads: int | None = Field(None, ge=1)
    """threads a rank computes with; none: the machine's cores shared out"""
    accelerator: Literal["auto", "cpu", "gpu", "tpu", "mps"] = "auto"
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """ddp: each rank has the whole model; fsdp: each keeps its share of weights, gradients and optimizer states (FSDP2); auto: ddp, or
    fsdp where there is more than one tensor-parallel group"""
    tensor: int = Field(1, ge=1, le=64)
    """ranks of a tensor-parallel group: they read the same samples, and each computes a part of every matrix"""
    precision: Literal["32-true", "bf16-mixed", "bf16-true", "16-mixed"] = "32-true"
    """bf16-mixed and 16-mixed compute in half precision and keep single-precision weights; bf16-true keeps half"""
    compile: bool = False
    """torch.compile of the model's layers: faster steps after a minute or two"""
    recompute: bool = False
    """activation checkpointing: layers are computed once more in the backward pass, which takes less memory and more time"""
    hang_seconds: float = Field(600, ge=1, le=86_400)
    """seconds without a step after which ranks count as hung: the run fails with the stack of each"""

    @property
    def readers(self) -> int:
        """Ranks that read different samples: the ranks of a tensor-parallel group are one."""
        return max(1, self.ranks // self.tensor)

    @property
    def groups(self) -> list[list[int]]:
        """The ranks that read the same samples, reader by reader.

        Examples
        --------
        >>> Hardware(ranks=4, tensor=2).groups
        [[0, 1], [2, 3]]
        """
        return [[reader * self.tensor + n for n in range(self.tensor)] for reader in range(self.readers)]

    @property
    def cuts(self) -> bool:
        """Ranks hold parts of the model, and none the whole."""
        return self.tensor > 1 or self.strategy == "fsdp"

    @model_validator(mode="after")
    def _ordered(self) -> Hardware:
        least, most = self.min_ranks or self.ranks, self.max_ranks or self.ranks
        if not least <= self.ranks <= most:
            raise ValueError(f"received min_ranks {least}, ranks {self.ranks}, max_ranks {most}; expected them in rising order")
        return self


class Rhythm(Part):
    """How often what happens, in steps."""

    checkpoint: int = Field(50, ge=1)
    """steps between checkpoints: what a kill can cost"""
    evaluate: int = Field(100, ge=1)
    """steps between measures on the validation split"""
    sample: int = Field(200, ge=1)
    """steps between samples written by the model"""
    copies: int | None = Field(None, ge=1)
    """steps between copies in the hosts' memory, from which ranks go on when one dies; none: they go on from the checkpoint"""


class Keep(Part):
    """Which checkpoints stay. When a run is done only those of ``best`` and ``every`` do."""

    last: int = Field(2, ge=1)
    """the newest so many: the one before the last is for when the last is damaged"""
    best: int = Field(0, ge=0)
    """so many of those with the lowest held-out measure; a checkpoint is written at each measure then"""
    every: int | None = Field(None, ge=1)
    """those of each of so many steps"""


class Budget(Part):
    """What a run may spend: it ends at a checkpoint when the first of these is reached, and can be resumed."""

    hours: float | None = Field(None, gt=0)
    """hours of training"""
    kwh: float | None = Field(None, gt=0)
    """energy, by the settings' watts or as GPUs tell it"""
    money: float | None = Field(None, gt=0)
    """at the settings' prices"""


class Span(Part):
    """Numbers from low to high."""

    low: float
    high: float
    log: bool = False
    """spaced evenly in their logarithm"""
    integer: bool = False

    @model_validator(mode="after")
    def _rising(self):
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"received {self.low:g} to {self.high:g}; expected low < high" + (", both above 0" if self.log else ""))
        return self


class Sweep(Part):
    """Many trainings of one spec with other values: each is a run of its own, the best becomes the model."""

    over: dict[str, tuple[JsonValue, ...] | Span] = Field(min_length=1)
    """field of this spec (learning_rate, model.size) -> the values to try, or low and high"""
    how: Literal["grid", "random", "tpe"] = "tpe"
    """grid: every combination; random; tpe: where earlier trials did well (Bergstra et al. 2011)"""
    trials: int = Field(12, ge=1, le=10_000)
    """trials at most; a grid makes all of its own"""
    together: int = Field(2, ge=1, le=256)
    """trials side by side; those that find no free workers wait their turn"""
    prune: bool = True
    """end trials early that fall behind the others at the same point (asynchronous successive halving; Li et al. 2018)"""

    @model_validator(mode="after")
    def _of_values(self):
        for path, values in self.over.items():
            if isinstance(values, Span):
                if self.how == "grid":
                    raise ValueError(f"{path}: a grid needs values, not a span; expected a list such as [0.001, 0.01]")
            elif len(values) < 1:
                raise ValueError(f"{path}: no values to try; expected a list such as [0.001, 0.01], or low and high")
        return self


class TrainSpec(Spec):
    """What a model is trained on, and how."""

    WORD: ClassVar[str] = "train"
    word: Literal["train"] = "train"
    name: Name | None = None
    """name of the model; none: the dataset's name and "-lm\""""
    objective: Objective = Pretrain()
    """what is learned, and how"""
    data: Reference | None = None
    """dataset: name, name@version or name@digest"""
    model: Shape = Shape()
    """form of the model that pretraining begins; other objectives bring their own"""
    tokens: int = Field(1_200_000, ge=1)
    """tokens pretrained, all ranks together; rounded up to whole steps"""
    epochs: float | None = Field(None, gt=0)
    """times the data is gone through, in place of tokens; none: the objective's own"""
    batch: Batch = Batch()
    optimizer: Literal["muon", "adamw"] | None = None
    """muon: orthogonalised momentum for the layers' matrices, AdamW for the rest; adamw: for all; none: the objective's own. With
    the defaults on python-docs, half the tokens gave 2.13 bits a byte with muon and 2.8 with adamw"""
    learning_rate: float | None = Field(None, gt=0, le=0.1)
    """largest learning rate of the schedule, in AdamW's scale; none: the objective's own. For pretraining that is 1e-2: from 6e-3
    to 1.5e-2 the outcome hardly differs"""
    warmup: int = Field(20, ge=0)
    """steps over which the learning rate rises"""
    weight_decay: float | None = Field(None, ge=0, le=1)
    """share of itself by which a matrix shrinks, times the learning rate; none: the objective's own"""
    clip: float = Field(1.0, gt=0)
    """largest norm of the gradient"""
    seed: int = Field(0, ge=0)
    hardware: Hardware = Hardware()
    budget: Budget | None = None
    """what a run may spend, or all trials of a sweep together; none: as much as it takes"""
    diverged: Literal["stop", "skip", "rollback"] = "stop"
    """what follows a loss or gradient that is no number: an error; the step changes nothing; or back to the last checkpoint and
    on without that step"""
    sweep: Sweep | None = None
    """values to try, each in a run of its own; none: one training"""
    every: Rhythm = Rhythm()
    keep: Keep = Keep()
    start: str | None = None
    """checkpoint of another run to begin from, its id or id@step; none: random weights, or the objective's base"""
    prompts: tuple[str, ...] = ()
    """beginnings that the model continues as it learns; none: those of three held-out records"""

    @field_validator("data")
    @classmethod
    def _of_something(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and "objective" in info.data and info.data["objective"].NEEDS_DATA:  # of one that is faulty nobody knows
            raise PydanticCustomError("missing", "Field required")
        return value

    @field_validator("model")
    @classmethod
    def _brought(cls, value: Shape, info: ValidationInfo) -> Shape:
        objective = info.data.get("objective")
        if objective is not None and not isinstance(objective, Pretrain) and value != Shape():
            raise ValueError(f"is of pretraining only: objective {objective.kind} brings its own; expected no model here")
        return value

    @property
    def model_name(self) -> str:
        """The name that the model will bear."""
        return self.name or self.objective.named(self.data)

    @property
    def rate(self) -> float:
        """The largest learning rate: the spec's, or the objective's own."""
        return self.objective.RATE if self.learning_rate is None else self.learning_rate

    @property
    def sequences(self) -> int:
        """What a rank takes at once: the spec's, or the objective's own."""
        return self.batch.sequences or self.objective.SEQUENCES
