"""What needs what: which steps may begin, which can no longer; decided from states alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from .spec import Step

State = Literal["waiting", "running", "cached", "done", "failed", "skipped"]
GOOD: tuple[State, ...] = ("cached", "done")
OVER: tuple[State, ...] = ("cached", "done", "failed", "skipped")


@dataclass(frozen=True)
class Graph:
    """The steps of a pipeline and their needs; holds no state itself.

    Examples
    --------
    >>> graph = Graph((Step(name="a", notebook="a.ipynb"), Step(name="b", notebook="b.ipynb", needs=("a",))))
    >>> graph.ready({"a": "waiting", "b": "waiting"})
    ['a']
    """

    steps: Sequence[Step]

    def names(self) -> list[str]:
        """Names in an order in which every step stands after what it needs; else as written."""
        left, ordered = {s.name: set(s.needs) for s in self.steps}, []
        while left:
            ready = next(n for n, needs in left.items() if not needs & set(left))
            ordered.append(ready)
            del left[ready]
        return ordered

    def needs(self, name: str) -> tuple[str, ...]:
        """What a step waits for itself."""
        return next(s.needs for s in self.steps if s.name == name)

    def above(self, name: str) -> set[str]:
        """Every step that must be over before this one, near or far."""
        found: set[str] = set()
        open_ = list(self.needs(name))
        while open_:
            need = open_.pop()
            if need not in found:
                found.add(need)
                open_ += self.needs(need)
        return found

    def ready(self, states: Mapping[str, State]) -> list[str]:
        """Waiting steps whose needs are all met, in order."""
        return [n for n in self.names() if states[n] == "waiting" and all(states[m] in GOOD for m in self.needs(n))]

    def lost(self, states: Mapping[str, State]) -> list[str]:
        """Waiting steps that can't begin any more, since something they need failed."""
        return [n for n in self.names() if states[n] == "waiting" and any(states[m] in ("failed", "skipped") for m in self.above(n))]

    def over(self, states: Mapping[str, State]) -> bool:
        """True if no step waits or works."""
        return all(states[s.name] in OVER for s in self.steps)

    def depth(self) -> dict[str, int]:
        """How many steps stand before each, along the longest way: its column in a drawing."""
        depth: dict[str, int] = {}
        for name in self.names():
            depth[name] = 1 + max((depth[n] for n in self.needs(name)), default=-1)
        return depth
