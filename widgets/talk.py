"""Questions of a page to an endpoint, and their answers as they come: read by threads, told at most ten times a second."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from workbench.endpoint import Endpoint, Stream
from workbench.errors import WorkbenchError

PACE = 0.1
"""Least seconds between two messages about one question."""
KEPT = 200
"""Questions of a session that are kept."""
MOST = 4
"""Questions that may be at work at once."""
LONG = 50_000
"""Characters of an answer that travel to a page which opens it anew."""


class Side:
    """One version's answer to a question."""

    def __init__(self, model: str, stream: Stream):
        self.model, self.stream = model, stream
        self.state, self.error = "waiting", ""
        self.mark: dict[str, Any] | None = None
        self.fresh: list[str] = []
        self.told = ""

    def facts(self) -> dict[str, Any]:
        """Everything but the text."""
        stream = self.stream
        return {"model": self.model, "state": self.state, "error": self.error, "id": stream.id, "served": stream.model,
                "first": stream.first, "seconds": stream.seconds, "tokens": stream.usage.get("completion_tokens"),
                "rate": stream.tokens_a_second, "finish": stream.finish, "mark": self.mark}


class Exchange:
    """A question and its answers, one or two of them side by side."""

    def __init__(self, number: int, chat: int | None, prompt: str, options: dict[str, Any], sides: list[Side]):
        self.number, self.chat, self.prompt, self.options, self.sides = number, chat, prompt, options, sides
        self.at, self.parts = time.time(), 0
        self.changed = threading.Condition()

    @property
    def over(self) -> bool:
        return all(s.state in ("done", "stopped", "failed") for s in self.sides)

    def told(self) -> dict[str, Any]:
        """The exchange as it stands, texts included."""
        with self.changed:
            sides = [{**s.facts(), "text": _short(s.told)} for s in self.sides]
            return {"number": self.number, "chat": self.chat, "prompt": _short(self.prompt), "options": self.options, "at": self.at,
                    "parts": self.parts, "over": self.over, "sides": sides}


class Talk:
    """What one kernel's panel asked of its endpoint in this session.

    Parameters
    ----------
    send : tells every page; called from threads.
    """

    def __init__(self, send: Callable[[dict[str, Any]], None]):
        self._send = send
        self._numbers = itertools.count(1)
        self.exchanges: deque[Exchange] = deque(maxlen=KEPT)

    def ask(self, endpoint: Endpoint, models: Sequence[str], prompt: str, *, chat: int | None = None, **options: Any) -> Exchange:
        """Put a prompt to one version or to several, with the same seed; returns at once.

        Parameters
        ----------
        models : what to ask, as the endpoint names it.
        chat : number of the first exchange of a chat that goes on, 0 for a new chat; None: the prompt is continued.

        Raises
        ------
        WorkbenchError
            When too many questions are at work.
        """
        if sum(not e.over for e in self.exchanges) >= MOST:
            raise WorkbenchError(f"{MOST} questions are at work already", hint="Stop one, or wait for an answer")
        options = {"seed": random.randrange(2**31), **{k: v for k, v in options.items() if v is not None}}
        number = next(self._numbers)
        sides = []
        for place, model in enumerate(models):
            asked = {"prompt": prompt} if chat is None else {"messages": [*self._before(chat, place), {"role": "user", "content": prompt}]}
            sides.append(Side(model, endpoint.stream(**asked, model=model, **options)))
        exchange = Exchange(number, None if chat is None else chat or number, prompt, options, sides)
        self.exchanges.append(exchange)
        self._send({"talk": number, "exchange": exchange.told()})
        for side in sides:
            threading.Thread(target=self._read, args=(exchange, side), name="workbench-answer", daemon=True).start()
        threading.Thread(target=self._tell, args=(exchange,), name="workbench-talk", daemon=True).start()
        return exchange

    def find(self, number: int) -> Exchange:
        """The exchange of a number.

        Raises
        ------
        WorkbenchError
            When it was too long ago.
        """
        found = next((e for e in self.exchanges if e.number == number), None)
        if found is None:
            raise WorkbenchError("that question is no longer kept in this session")
        return found

    def stop(self, number: int | None = None) -> None:
        """Stop an exchange, or all."""
        for exchange in list(self.exchanges):
            if number in (None, exchange.number):
                for side in exchange.sides:
                    if side.state in ("waiting", "answering"):
                        side.stream.stop()

    def _before(self, chat: int, place: int) -> list[dict[str, str]]:
        said = []
        for exchange in self.exchanges:
            if exchange.chat == chat and chat:
                side = exchange.sides[min(place, len(exchange.sides) - 1)]
                said += [{"role": "user", "content": exchange.prompt}, {"role": "assistant", "content": side.stream.text}]
        return said

    def _read(self, exchange: Exchange, side: Side) -> None:
        state, error = "done", ""
        try:
            for piece in side.stream:
                with exchange.changed:
                    side.state = "answering"
                    side.fresh.append(piece)
                    exchange.changed.notify_all()
            state = "stopped" if side.stream.finish == "stopped" else "done"
        except WorkbenchError as failure:
            state, error = "failed", str(failure)
        except Exception as failure:  # noqa: BLE001 - a page waits for the end of it
            state, error = "failed", f"{type(failure).__name__}: {failure}"
        with exchange.changed:
            side.state, side.error = state, error
            exchange.changed.notify_all()

    def _tell(self, exchange: Exchange) -> None:
        while True:
            with exchange.changed:
                exchange.changed.wait_for(lambda: exchange.over or any(s.fresh for s in exchange.sides))
                exchange.parts += 1
                sides = []
                for side in exchange.sides:
                    fresh = "".join(side.fresh)
                    side.fresh.clear()
                    side.told += fresh
                    sides.append({**side.facts(), "fresh": fresh})
                message = {"talk": exchange.number, "part": exchange.parts, "over": exchange.over, "sides": sides}
            self._send(message)
            if message["over"]:
                return
            time.sleep(PACE)


def _short(text: str) -> str:
    return text if len(text) <= LONG else f"{text[:LONG]}… and {len(text) - LONG:,} characters more"
