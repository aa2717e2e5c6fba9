"""What a driver says to ranks at work and what they agree on: to stop, to wait, to change, to show where they stand."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from ...errors import SpecError, near

WORDS = {"pause": (), "on": (), "stacks": (), "set": ("learning_rate",), "profile": ("steps",)}
"""What a training at work can be told, with the values that a word takes."""
PROFILED = 10
"""Steps that are profiled where nobody says how many."""
_MOST_PROFILED = 1000


def accepted(word: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a word as ranks will get them.

    Raises
    ------
    SpecError
        For a word that a training doesn't know, or values that don't fit.

    Examples
    --------
    >>> accepted("set", {"learning_rate": "1e-3"}), accepted("profile", {})
    ({'learning_rate': 0.001}, {'steps': 10})
    """
    if word not in WORDS:
        close = near(word, WORDS)
        guess = f'; did you mean "{close}"?' if close else ""
        raise SpecError.one("word", f'received "{word}"; expected one of {", ".join(WORDS)}{guess}')
    strange = sorted(set(values) - set(WORDS[word]))
    if strange:
        raise SpecError.one(f"{word}.{strange[0]}", f"is no value of {word}; expected {' or '.join(WORDS[word]) or 'none'}")
    if word == "set":
        if not values:
            raise SpecError.one("set", "received nothing; expected learning_rate, a number above 0")
        return {"learning_rate": _number("set.learning_rate", values["learning_rate"])}
    if word == "profile":
        steps = _number("profile.steps", values.get("steps", PROFILED))
        if steps != int(steps) or steps > _MOST_PROFILED:
            raise SpecError.one("profile.steps", f"received {steps:g}; expected a whole number up to {_MOST_PROFILED}")
        return {"steps": int(steps)}
    return {}


def _number(where: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise SpecError.one(where, f"received {value!r}; expected a number above 0")
    return number


class Agreement:
    """The driver's side of what ``control.Control`` does in each rank; decides, and sends nothing.

    One agreement at a time: the ranks are held, each says which step it has begun, and all hear what is agreed on the
    step behind the furthest. What is asked meanwhile waits its turn; a stop goes first, and behind it nothing is agreed on: ranks
    that were to wait before the step at which they stop would wait for ever.

    Examples
    --------
    >>> talk = Agreement(2)
    >>> talk.ask("set", {"learning_rate": 0.1})
    >>> talk.next()
    ([['hold', 1]], [])
    >>> talk.take({"kind": "held", "number": 1, "rank": 0, "step": 7})
    ([], [])
    >>> talk.take({"kind": "held", "number": 1, "rank": 1, "step": 8})[1]
    [{'kind': 'changed', 'step': 9, 'values': {'learning_rate': 0.1}}]
    """

    def __init__(self, world: int):
        self.world = world
        self.waiting: deque[tuple[str, dict[str, Any]]] = deque()
        self.current: tuple[int, str, dict[str, Any]] | None = None
        self.pausing = self.stopping = False
        """True from the moment that a pause is agreed until it is over; once a stop is agreed."""
        self._numbers = itertools.count(1)
        self._steps: dict[int, int] = {}
        self._paused: dict[int, int] = {}
        self._stacks: dict[int, dict[int, dict[str, Any]]] = {}

    @property
    def unheard(self) -> list[tuple[str, dict[str, Any]]]:
        """What was asked and not agreed on yet, without stops: whoever begins again asks it again."""
        held = [self.current[1:]] if self.current else []
        again = [*held, *self.waiting, *[("stacks", {})] * len(self._stacks)]
        return [("pause", {})] * self.pausing + [w for w in again if w[0] != "stop"]

    @property
    def showing(self) -> dict[int, dict[str, Any]]:
        """The stacks that have come of those asked for last, by rank."""
        return self._stacks[max(self._stacks)] if self._stacks else {}

    def ask(self, word: str, values: Mapping[str, Any] | None = None) -> None:
        """Put a word in the queue."""
        (self.waiting.appendleft if word in ("stop", "stacks") else self.waiting.append)((word, dict(values or {})))

    def next(self) -> tuple[list[list], list[dict[str, Any]]]:
        """What must be told to all ranks now, and what there is to say to whoever asked."""
        told, said = [], []
        while self.waiting:
            word, values = self.waiting[0]
            if word == "stacks":
                number = next(self._numbers)
                self._stacks[number] = {}
                told.append(["stacks", number])
            elif self.current is not None or self.stopping:
                break
            elif word == "on":
                told, said = told + [["on"]] * self.pausing, said + [{"kind": "continued"}] * self.pausing
                self.pausing = False
            elif word != "pause" or not self.pausing:
                self.current, self._steps = (next(self._numbers), word, values), {}
                told.append(["hold", self.current[0]])
            self.waiting.popleft()
        return told, said

    def take(self, message: Mapping[str, Any]) -> tuple[list[list], list[dict[str, Any]]]:
        """Note what a rank says; returns what must be told to all ranks, and what there is to say to whoever asked."""
        kind, rank = message["kind"], message.get("rank")
        if kind == "held" and self.current is not None and message["number"] == self.current[0]:
            self._steps[rank] = message["step"]
            if len(self._steps) == self.world:
                return self._agree(max(self._steps.values()))
        elif kind == "paused" and self.pausing:
            self._paused[rank] = message["step"]
            if len(self._paused) == self.world:
                return [], [{"kind": "paused", "step": max(self._paused.values())}]
        elif kind == "stacks" and message["number"] in self._stacks:
            found = self._stacks[message["number"]]
            found[rank] = {k: message[k] for k in ("rank", "step", "doing", "threads")}
            if len(found) == self.world:
                del self._stacks[message["number"]]
                return [], [{"kind": "stacks", "ranks": [found[r] for r in sorted(found)]}]
        return [], []

    def _agree(self, furthest: int) -> tuple[list[list], list[dict[str, Any]]]:
        number, word, values = self.current
        self.current = None
        # One further than any has begun: a rank that has begun the furthest step may be behind its end already and
        # wait before the next, while another is still in it. Both must meet the word to stop inside the same step.
        if word == "stop":
            self.pausing, self.stopping = False, True
            return [["release", number, {"stop": furthest + 1}]], []
        if word == "pause":
            self.pausing, self._paused = True, {}
            return [["release", number, {"pause": furthest}]], []
        agreed = {"from": furthest + 1, "word": word, "values": values}
        return ([["release", number, agreed]],
                [{"kind": "changed" if word == "set" else "profiling", "step": furthest + 1, "values": values}])
