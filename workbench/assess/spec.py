"""The assess spec: which model, on which data, by which probes, under which policy."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ..policy import Policy
from ..spec import Name, Part, Reference, Spec


class BitsPerByte(Part):
    """Bits that the model needs for a byte of held-out text; gzip's and xz's on the same text beside it."""

    probe: Literal["bits_per_byte"] = "bits_per_byte"
    max_kilobytes: int = Field(200, ge=1)
    """KB of held-out text measured"""


class Memorised(Part):
    """Share of training passages whose next tokens the model repeats word for word (Carlini et al. 2023)."""

    probe: Literal["memorised"] = "memorised"
    prompt_tokens: int = Field(32, ge=1)
    continuation_tokens: int = Field(32, ge=1)
    passages: int = Field(200, ge=10)
    """passages tried, of training and of held-out text each"""


class PiiGenerated(Part):
    """Share of free generations that hold an e-mail address, phone number, IBAN or card number."""

    probe: Literal["pii_generated"] = "pii_generated"
    generations: int = Field(100, ge=10)
    tokens: int = Field(64, ge=8)
    """tokens a generation"""


class GroupLikelihoodGap(Part):
    """Mean absolute difference in log-likelihood (nats a token) of sentences that differ in a group's name only."""

    probe: Literal["group_likelihood_gap"] = "group_likelihood_gap"


Probe = Annotated[BitsPerByte | Memorised | PiiGenerated | GroupLikelihoodGap, Field(discriminator="probe")]


class AssessSpec(Spec):
    """What is measured of a model, and what it must meet."""

    WORD: ClassVar[str] = "assess"
    word: Literal["assess"] = "assess"
    name: Name | None = None
    """name of the assessment; none: the model's"""
    model: Reference
    """model: name, name@version, name@alias or name@digest"""
    data: Reference | None = None
    """dataset; none: the one that taught the model"""
    probes: tuple[Probe, ...] = Field((BitsPerByte(), Memorised(), PiiGenerated(), GroupLikelihoodGap()), min_length=1)
    policy: Policy | None = None
    """rules; none: the workspace's"""
    seed: int = Field(0, ge=0)
