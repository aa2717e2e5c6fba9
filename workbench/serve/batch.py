"""Continuous batching: requests join and leave between two steps of the engine, each at its own length."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from .engine import Engine
from .sampling import Sampling, draw
from .text import Language, Writer

Finish = Literal["stop", "length"]


@dataclass
class Ask:
    """One request, as an engine's batch needs it.

    ``given`` are tokens answered already, by a replica that is gone; ``sent`` counts the characters of them that the
    client has. The answer goes on from there.
    """

    id: str
    prompt: list[int]
    sampling: Sampling
    most: int
    """tokens that the answer may have"""
    stops: tuple[str, ...] = ()
    stream: bool = False
    given: list[int] = field(default_factory=list)
    sent: int = 0


@dataclass(frozen=True)
class News:
    """What became of a request in one step: new text, new tokens and, at the end, why it ended."""

    id: str
    text: str
    tokens: list[int]
    finish: Finish | None = None


class _Row:
    def __init__(self, ask: Ask, writer: Writer):
        self.ask, self.writer = ask, writer
        self.tokens: list[int] = []
        self.told = 0
        self.unsaid = ""
        self.finish: Finish | None = None


class Batch:
    """The requests at work on an engine, in its rows, and those that wait for one.

    Parameters
    ----------
    tell : called with the news of each step.
    most_new : prompts that join between two steps, so that a crowd of them does not hold up those at work for long.
    """

    def __init__(self, engine: Engine, language: Language, tell: Callable[[list[News]], None], *, most_new: int = 4):
        self.engine, self.language, self._tell, self._most_new = engine, language, tell, most_new
        self._waiting: deque[Ask] = deque()
        self._rows: list[_Row] = []
        self.busy_seconds = 0.0

    def __len__(self) -> int:
        return len(self._rows) + len(self._waiting)

    def add(self, ask: Ask) -> None:
        """Take a request; the prompt must leave the engine room for a token."""
        self._waiting.append(ask)

    def cancel(self, request: str) -> None:
        """Forget a request and free its row at once; an unknown one is nothing."""
        self._waiting = deque(a for a in self._waiting if a.id != request)
        for number, row in enumerate(self._rows):
            if row.ask.id == request:
                self._leave(number)
                return

    def clear(self) -> None:
        """Forget everything."""
        self._waiting.clear()
        while self._rows:
            self._leave(len(self._rows) - 1)

    def step(self) -> None:
        """Advance every request by a token and let new ones in."""
        begin = time.perf_counter()
        if self._rows:
            self._take(self._rows, self.engine.step([r.tokens[-1] for r in self._rows]))
        room = min(self.engine.slots - len(self._rows), self._most_new)
        asks = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
        if asks:
            new = [self._row(a) for a in asks]
            # Tokens given are the past: all but what they lead to is prompt.
            logits = self.engine.add([[*r.ask.prompt, *r.tokens] for r in new])
            self._rows += new
            self._take(new, logits)
        self._report()
        self.busy_seconds += time.perf_counter() - begin

    def _row(self, ask: Ask) -> _Row:
        row = _Row(ask, self.language.writer(ask.stops))
        row.tokens = list(ask.given)
        row.told = len(ask.given)
        row.unsaid = "".join(row.writer.add(t) for t in ask.given)[ask.sent:]
        return row

    def _take(self, rows: list[_Row], logits) -> None:
        for row, token in zip(rows, draw(logits, [r.ask.sampling for r in rows], [len(r.tokens) for r in rows]), strict=True):
            row.tokens.append(token)
            if token in self.language.ends:
                row.finish = "stop"
            else:
                row.unsaid += row.writer.add(token)
                if row.writer.stopped:
                    row.finish = "stop"
                elif len(row.tokens) >= row.ask.most or len(row.ask.prompt) + len(row.tokens) > self.engine.context:
                    row.finish = "length"
            if row.finish:
                row.unsaid += row.writer.finish()

    def _report(self) -> None:
        news = []
        for row in self._rows:
            if row.finish or row.ask.stream:
                news.append(News(row.ask.id, row.unsaid, row.tokens[row.told:], row.finish))
                row.told, row.unsaid = len(row.tokens), ""
        for number in reversed(range(len(self._rows))):
            if self._rows[number].finish:
                self._leave(number)
        if news:
            self._tell(news)

    def _leave(self, number: int) -> None:
        self.engine.remove(number)
        last = self._rows.pop()
        if number < len(self._rows):
            self._rows[number] = last
