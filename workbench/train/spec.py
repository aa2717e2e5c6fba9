"""The train spec: which data, which model, how long, on what."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from ..spec import Name, Part, Reference, Spec


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

    sequences: int = Field(4, ge=1)
    """sequences of ``context`` tokens a rank takes each step; small batches learn more from few tokens"""
    accumulate: int = Field(1, ge=1)
    """batches whose gradients are summed before a step"""


class Hardware(Part):
    """What trains."""

    ranks: int = Field(2, ge=1, le=1024)
    """coupled processes, one a Dask worker"""
    threads: int | None = Field(None, ge=1)
    """threads a rank computes with; none: the machine's cores shared out"""
    accelerator: Literal["auto", "cpu", "gpu", "tpu", "mps"] = "auto"
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"


class Rhythm(Part):
    """How often what happens, in steps."""

    checkpoint: int = Field(50, ge=1)
    """steps between checkpoints: what a kill can cost"""
    evaluate: int = Field(100, ge=1)
    """steps between measures on the validation split"""
    sample: int = Field(200, ge=1)
    """steps between samples written by the model"""


class TrainSpec(Spec):
    """What a model is trained on, and how."""

    WORD: ClassVar[str] = "train"
    word: Literal["train"] = "train"
    name: Name | None = None
    """name of the model; none: the dataset's name and "-lm\""""
    data: Reference
    """dataset: name, name@version or name@digest"""
    model: Shape = Shape()
    tokens: int = Field(1_200_000, ge=1)
    """tokens trained, all ranks together; rounded up to whole steps"""
    batch: Batch = Batch()
    optimizer: Literal["muon", "adamw"] = "muon"
    """muon: orthogonalised momentum for the layers' matrices, AdamW for the rest; adamw: for all. With the defaults on
    python-docs, half the tokens gave 2.13 bits a byte with muon and 2.8 with adamw"""
    learning_rate: float = Field(1e-2, gt=0, le=0.1)
    """largest learning rate of the cosine schedule, in AdamW's scale; from 6e-3 to 1.5e-2 the outcome hardly differs"""
    warmup: int = Field(20, ge=0)
    """steps over which the learning rate rises"""
    weight_decay: float = Field(0.1, ge=0, le=1)
    clip: float = Field(1.0, gt=0)
    """largest norm of the gradient"""
    seed: int = Field(0, ge=0)
    hardware: Hardware = Hardware()
    every: Rhythm = Rhythm()
    prompts: tuple[str, ...] = ()
    """beginnings that the model continues as it learns; none: those of three held-out records"""

    @property
    def model_name(self) -> str:
        """The name that the model will bear."""
        return self.name or f"{self.data.partition('@')[0]}-lm"
