"""A question as any protocol asks it, and its answer as it comes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .pool import Job, Piece, Refusal

if TYPE_CHECKING:
    from .gateway import Gateway


@dataclass(frozen=True)
class Version:
    """A model version in the traffic."""

    name: str
    digest: str
    weight: float

    @property
    def reference(self) -> str:
        return f"{self.name}@{self.digest[:12]}"


@dataclass(frozen=True)
class Question:
    """What a client asks, whatever the protocol: a prompt (text or tokens) or messages, and how to answer."""

    model: str
    prompt: str | list[int] | None
    messages: list[dict[str, str]] | None
    most: int | None
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stops: tuple[str, ...] = ()
    stream: bool = False


class Answer:
    """One answer as it comes; recorded before its last piece is handed on."""

    def __init__(self, gateway: Gateway, job: Job, version: Version, asked: dict[str, Any]):
        self._gateway, self._job, self._asked, self._begin = gateway, job, asked, time.monotonic()
        self.id, self.version, self.created = job.id, version, int(time.time())
        self.text, self.finish = "", None

    @property
    def usage(self) -> dict[str, int]:
        """Tokens read and written."""
        prompt, completion = self._job.prompt_tokens, len(self._job.tokens)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    async def pieces(self) -> AsyncIterator[Piece]:
        """Pieces of text; ends without a finish when the client is gone.

        Raises
        ------
        Refusal
        """
        counted = 0
        try:
            async for piece in self._job.pieces():
                if not self.text and self._asked["stream"]:
                    first = time.monotonic() - self._begin
                    self._gateway.metrics.first(self.version.reference, first)
                    self._gateway.pulse.first(self.version.reference, first)
                written = len(self._job.tokens)
                self._gateway.pulse.tokens(self.version.reference, written - counted)
                counted = written
                self.text += piece.text
                if piece.finish:
                    self.finish = piece.finish
                    self._close(200)
                yield piece
        except Refusal as refusal:
            self._close(refusal.status)
            refusal.counted = True
            raise
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Nobody reads on: free the place in the batch. Without effect on an answer that has ended."""
        if self.finish is None:
            self._gateway.pool.cancel(self._job)
            self._close(499)

    def _close(self, code: int) -> None:
        if self.finish is None:
            self.finish = "cancelled" if code == 499 else "error"
        self._gateway.ended(self, code, self._asked, time.monotonic() - self._begin)
