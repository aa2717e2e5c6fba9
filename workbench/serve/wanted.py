"""What an endpoint is asked to be: one small file that a run writes and the supervisor follows."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from ..errors import SpecError
from ..spec import Name, Part, problems
from ..storage import write_atomic
from .spec import Limits

FILE = "wanted.json"


class WantedModel(Part):
    """A model version and its weight in the traffic; files are found by digest, never by path."""

    name: Name
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    weight: float = Field(ge=0)


class Wanted(Part):
    """The state that a supervisor brings about; ``generation`` tells who asked, and when it is reached."""

    generation: str
    run: str
    models: tuple[WantedModel, ...] = Field(min_length=1)
    replicas: int = Field(ge=1)
    threads: int = Field(ge=1)
    host: str
    port: int = Field(ge=0, le=65_535)
    limits: Limits

    @property
    def in_traffic(self) -> list[tuple[str, str]]:
        """(name, digest) of every model with weight."""
        return [(m.name, m.digest) for m in self.models if m.weight > 0]

    def write(self, folder: Path) -> None:
        """Ask for this state."""
        write_atomic(folder / FILE, json.dumps(self.model_dump(mode="json"), indent=1), mode=0o600)


def read(folder: Path) -> Wanted | None:
    """The state that is asked for, or None.

    Raises
    ------
    SpecError
        When the file was edited to something that can't be.
    """
    try:
        return Wanted.model_validate(json.loads((folder / FILE).read_text("utf-8")))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise SpecError(problems(Wanted, error), source=str(folder / FILE)) from None
    except ValueError as error:
        raise SpecError.one("", f"{error}; expected JSON", source=str(folder / FILE)) from None


@dataclass(frozen=True)
class Member:
    """A replica as the plan sees it; ``shape`` is what it was started with (threads, slots)."""

    id: str
    digest: str
    shape: tuple[int, int]
    state: Literal["starting", "ready", "draining", "ending"]


@dataclass(frozen=True)
class Plan:
    """What follows from what is wanted and what is.

    ``able``: every version wanted has a replica that answers, so traffic may shift; ``complete``: all are there and no other.
    """

    start: tuple[str, ...]
    drain: tuple[str, ...]
    end: tuple[str, ...]
    able: bool
    complete: bool


def plan(digests: Sequence[str], count: int, shape: tuple[int, int], members: Sequence[Member], *, shifted: bool,
         held: Collection[str] = ()) -> Plan:
    """The next moves of a supervisor; pure, so that every state can be tried.

    Parameters
    ----------
    digests : versions wanted, ``count`` replicas each.
    shifted : true once the gateway routes to exactly these versions; no replica of another is drained before.
    held : versions that died too often lately and must wait.

    Examples
    --------
    >>> old = Member("r1", "a", (1, 16), "ready")
    >>> plan(["b"], 1, (1, 16), [old], shifted=False)
    Plan(start=('b',), drain=(), end=(), able=False, complete=False)
    >>> plan(["b"], 1, (1, 16), [old, Member("r2", "b", (1, 16), "ready")], shifted=True)
    Plan(start=(), drain=('r1',), end=(), able=True, complete=False)
    """
    start: list[str] = []
    drain: list[str] = []
    end: list[str] = []
    able = complete = True
    for digest in dict.fromkeys(digests):
        of_it = [m for m in members if m.digest == digest and m.state in ("starting", "ready")]
        fitting = [m for m in of_it if m.shape == shape]
        ready = [m for m in fitting if m.state == "ready"]
        if digest not in held:
            start += [digest] * (count - len(fitting))
        able &= any(m.state == "ready" for m in of_it)
        complete &= len(ready) == len(fitting) == count
        drain += [m.id for m in ready[count:]]
        if len(ready) >= count:  # those of another shape stay until their successors answer
            drain += [m.id for m in of_it if m.shape != shape and m.state == "ready"]
        end += [m.id for m in of_it if m.shape != shape and m.state == "starting"]
    others = [m for m in members if m.digest not in digests]
    end += [m.id for m in others if m.state == "starting"]
    drain += [m.id for m in others if m.state == "ready" and shifted]
    complete &= shifted and not drain and not end and all(m.state in ("starting", "ready") and m.digest in digests for m in members)
    return Plan(tuple(start), tuple(drain), tuple(end), able, complete)
