"""The gateway's view of its replicas: what waits, who works on what, and what happens when a replica is gone."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from .balance import least_busy
from .wire import Unpacker, pack

PATIENCE = 10.0
"""Seconds that a request waits for a replica to come back before 503 is answered."""
TRIES = 4
"""Replicas that may die over one request before it is taken for the cause."""


class Refusal(Exception):
    """A request that gets no answer: HTTP status, words, and seconds after which to try again.

    ``counted`` is set once the metrics have it.
    """

    counted = False

    def __init__(self, status: int, words: str, *, field: str | None = None, code: str | None = None, retry_after: int | None = None):
        super().__init__(words)
        self.status, self.words, self.field, self.code, self.retry_after = status, words, field, code, retry_after


@dataclass(frozen=True)
class Piece:
    """Text that is new, and why the answer ended where it did."""

    text: str
    finish: str | None = None


class Job:
    """One accepted request: what was asked, what is known of the answer, and whom it waits for."""

    def __init__(self, request: str, digest: str, ask: dict[str, Any]):
        self.id, self.digest, self.ask = request, digest, ask
        self.tokens: list[int] = []
        self.sent = 0
        self.prompt_tokens = 0
        self.deaths = 0
        self.over = False
        self.timer: asyncio.TimerHandle | None = None
        self._pieces: asyncio.Queue[Piece | Exception | None] = asyncio.Queue()

    def put(self, piece: Piece | Exception | None) -> None:
        """Hand something to whoever reads; an error, a finish or None is the last."""
        if not self.over:
            self.over = not isinstance(piece, Piece) or piece.finish is not None
            self._pieces.put_nowait(piece)
            if self.over and self.timer:
                self.timer.cancel()

    async def pieces(self) -> AsyncIterator[Piece]:
        """Pieces as they come; ends early, without a finish, when the job is cancelled.

        Raises
        ------
        Refusal
        """
        while True:
            piece = await self._pieces.get()
            if piece is None:
                return
            if isinstance(piece, Exception):
                raise piece
            yield piece
            if piece.finish:
                return


class Channel(asyncio.Protocol):
    """The socket to one replica and the jobs that are with it."""

    def __init__(self, pool: Pool, replica: str, digest: str):
        self.pool, self.replica, self.digest = pool, replica, digest
        self.jobs: dict[str, Job] = {}
        self.draining = False
        self._unpacker = Unpacker()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        self.pool.lost(self)

    def data_received(self, data: bytes) -> None:
        for message in self._unpacker.feed(data):
            if "news" in message:
                for request, text, tokens, finish in message["news"]:
                    self._news(request, text, tokens, finish)
            elif "took" in message and (job := self.jobs.get(message["took"])):
                job.prompt_tokens = message["prompt_tokens"]
            elif "refused" in message and (job := self.jobs.pop(message["refused"], None)):
                job.put(Refusal(400, message["message"], field=message["field"], code="invalid_prompt"))
                self.pool.freed(self)

    def _news(self, request: str, text: str, tokens: list[int], finish: str | None) -> None:
        job = self.jobs.get(request)
        if job is None:
            return  # cancelled while this was on its way
        job.tokens += tokens
        job.sent += len(text)
        if finish:
            del self.jobs[request]
        if text or finish:
            job.put(Piece(text, finish))
        if finish:
            self.pool.freed(self)

    def give(self, job: Job) -> None:
        """Send a job to the replica, with what is known of its answer."""
        self.jobs[job.id] = job
        self._transport.write(pack({"ask": job.id, **job.ask, "given": job.tokens, "sent": job.sent}))

    def cancel(self, job: Job) -> None:
        """Have the replica forget a job."""
        if self.jobs.pop(job.id, None) and self._transport and not self._transport.is_closing():
            self._transport.write(pack({"cancel": job.id}))

    def close(self) -> None:
        """Close the socket; jobs that are still with it go to others."""
        if self._transport:
            self._transport.close()


class Pool:
    """All channels and jobs of a gateway.

    Parameters
    ----------
    idle : called with the id of a draining replica that has nothing left to do.
    """

    def __init__(self, idle: Callable[[str], None]):
        self.slots, self.most_waiting, self.seconds = 16, 256, 120.0
        self._idle = idle
        self._channels: dict[str, Channel] = {}
        self._waiting: dict[str, deque[Job]] = {}
        self._alone: dict[str, float] = {}
        self._foretold: dict[str, Callable[[str], None]] = {}

    @property
    def waiting(self) -> int:
        """Requests that no replica works on yet."""
        return sum(len(q) for q in self._waiting.values())

    def working(self, digest: str) -> int:
        """Requests that replicas of a version work on."""
        return sum(len(c.jobs) for c in self._channels.values() if c.digest == digest)

    def reachable(self, digest: str) -> bool:
        """True while a replica of a version answers, or was lost only just now."""
        return self._able(digest) or time.monotonic() - self._alone.get(digest, 0) < 2.0

    def _able(self, digest: str) -> bool:
        return any(c.digest == digest and not c.draining for c in self._channels.values())

    async def connect(self, replica: str, digest: str, sock: socket.socket) -> None:
        """Take a replica in."""
        sock.setblocking(False)
        channel = Channel(self, replica, digest)
        await asyncio.get_running_loop().create_connection(lambda: channel, sock=sock)
        self._channels[replica] = channel
        self._alone.pop(digest, None)
        self._dispatch(digest)
        if word := self._foretold.pop(replica, None):
            word(replica)

    def drain(self, replica: str) -> None:
        """Give a replica nothing more; ``idle`` is called when its last job is done. One that is being taken in hears of it then."""
        if channel := self._channels.get(replica):
            channel.draining = True
            self._dispatch(channel.digest)
            self._settle(channel)
        else:
            self._foretold[replica] = self.drain

    def drop(self, replica: str) -> None:
        """Let a replica go, also one that is being taken in."""
        if channel := self._channels.get(replica):
            channel.close()
        else:
            self._foretold[replica] = self.drop

    def accept(self, job: Job) -> None:
        """Take a job; from here on it is answered, whatever becomes of a replica.

        Raises
        ------
        Refusal
            429 when too many wait, 503 when no replica has answered for too long.
        """
        queue = self._waiting.setdefault(job.digest, deque())
        channel = self._free(job.digest)
        if channel and not queue:
            channel.give(job)
        else:
            alone = self._since(job.digest)
            if alone is not None and time.monotonic() - alone > PATIENCE:
                raise _no_replica()
            if self.waiting >= self.most_waiting:
                raise Refusal(429, f"{self.waiting} requests wait already, which is the most that may", code="rate_limit_exceeded",
                              retry_after=1)
            queue.append(job)
        job.timer = asyncio.get_running_loop().call_later(self.seconds, self._expire, job)

    def cancel(self, job: Job) -> None:
        """Nobody reads this answer any more: free its place."""
        if job in (queue := self._waiting.get(job.digest, ())):
            queue.remove(job)
        for channel in self._channels.values():
            if job.id in channel.jobs:
                channel.cancel(job)
                self.freed(channel)
                break
        job.put(None)

    def freed(self, channel: Channel) -> None:
        """A place has become free."""
        self._dispatch(channel.digest)
        self._settle(channel)

    def lost(self, channel: Channel) -> None:
        """A replica is gone: its jobs go on elsewhere, from the last token that came, the oldest first."""
        if self._channels.get(channel.replica) is channel:
            del self._channels[channel.replica]
        jobs, channel.jobs = list(channel.jobs.values()), {}
        for job in reversed(jobs):
            job.deaths += 1
            if job.deaths >= TRIES:
                job.put(Refusal(500, f"{TRIES} replicas ended while they worked on this request", code="replicas_died"))
            elif not job.over:
                self._waiting.setdefault(job.digest, deque()).appendleft(job)
        self._since(channel.digest)
        self._dispatch(channel.digest)

    def sweep(self) -> None:
        """Refuse what has waited too long for a version that nobody computes."""
        for digest, queue in self._waiting.items():
            if queue and (since := self._since(digest)) is not None and time.monotonic() - since > PATIENCE:
                while queue:
                    queue.popleft().put(_no_replica())

    def _since(self, digest: str) -> float | None:
        """When the last replica of a version was lost; None while one is there."""
        if self._able(digest):
            return None
        return self._alone.setdefault(digest, time.monotonic())

    def _free(self, digest: str) -> Channel | None:
        able = [c for c in self._channels.values() if c.digest == digest and not c.draining]
        key = least_busy(((c.replica, len(c.jobs)) for c in able), self.slots)
        # The last of a version to drain still takes what was accepted for it.
        if key is None and not able:
            key = least_busy(((c.replica, len(c.jobs)) for c in self._channels.values() if c.digest == digest), self.slots)
        return self._channels[key] if key else None

    def _dispatch(self, digest: str) -> None:
        queue = self._waiting.get(digest)
        while queue and (channel := self._free(digest)):
            channel.give(queue.popleft())

    def _settle(self, channel: Channel) -> None:
        if channel.draining and not channel.jobs and (self._able(channel.digest) or not self._waiting.get(channel.digest)):
            self._idle(channel.replica)

    def _expire(self, job: Job) -> None:
        if not job.over:
            job.put(Refusal(504, f"the answer took longer than {self.seconds:g} s, which limits.seconds allows", code="timeout"))
            self.cancel(job)


def _no_replica() -> Refusal:
    return Refusal(503, f"no replica of this model has answered for {PATIENCE:g} s; it is being started again", code="no_replica",
                   retry_after=5)
