"""The serve spec: which models answer, with how much of the traffic, behind what limits."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from ..spec import Name, Part, Reference, Spec

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Share(Part):
    """A model version and its weight in the traffic."""

    model: Reference
    weight: float = Field(100, ge=0, le=1_000_000)
    """share of the requests, against the sum of all weights"""


class Limits(Part):
    """What one request and all together may take."""

    max_tokens: int = Field(512, ge=1)
    """most tokens one answer may have"""
    concurrent: int = Field(16, ge=1)
    """requests a replica computes at once"""
    waiting: int = Field(256, ge=0)
    """requests that may wait; beyond, 429 is answered"""
    seconds: float = Field(120, gt=0)
    """longest time for one answer, in seconds"""


class ServeSpec(Spec):
    """What answers at an endpoint."""

    WORD: ClassVar[str] = "serve"
    word: Literal["serve"] = "serve"
    name: Name
    """name of the endpoint; none: its first model's"""
    models: tuple[Share, ...] = Field(min_length=1)
    replicas: int = Field(2, ge=1, le=64)
    """processes that compute, for each model version"""
    threads: int = Field(1, ge=1)
    """threads a replica computes with"""
    host: str = "127.0.0.1"
    """address to listen on; anything but loopback needs a passing assessment"""
    port: int = Field(8000, ge=0, le=65_535)
    """port wanted; where it is taken, another is chosen and said"""
    token: str | None = None
    """name of the secret that clients must show; none: one is made and kept in the endpoint's directory"""
    limits: Limits = Limits()

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        """An endpoint without a name bears its first model's."""
        if isinstance(value, dict) and "name" not in value and isinstance(models := value.get("models"), list | tuple) and models:
            first = models[0].get("model") if isinstance(models[0], dict) else getattr(models[0], "model", None)
            if isinstance(first, str) and first.partition("@")[0]:
                return {**value, "name": first.partition("@")[0]}
        return value

    @model_validator(mode="after")
    def _some_traffic(self):
        if not sum(s.weight for s in self.models) > 0:
            raise ValueError("the weights of the models sum to 0; expected at least one above 0")
        if len({s.model for s in self.models}) != len(self.models):
            raise ValueError("a model stands twice; expected each once with its weight")
        return self

    @property
    def public(self) -> bool:
        """True if others than this machine can reach it."""
        return self.host not in LOOPBACK
