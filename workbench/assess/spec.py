"""The assess spec: which model, on which data, by which probes, under which policy."""

from __future__ import annotations

import functools
import operator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ..policy import Policy
from ..spec import Name, Reference, Spec
from .probes import KINDS

Probe = Annotated[functools.reduce(operator.or_, KINDS.values()), Field(discriminator="probe")]
DEFAULT = ("bits_per_byte", "memorised", "pii_generated", "group_likelihood_gap")


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
    probes: tuple[Probe, ...] = Field(tuple(KINDS[name]() for name in DEFAULT), min_length=1)
    policy: Policy | None = None
    """rules; none: the workspace's"""
    seed: int = Field(0, ge=0)
