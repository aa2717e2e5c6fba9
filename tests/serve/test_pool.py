"""The gateway's pool, where words about a replica come before the replica itself."""

from __future__ import annotations

import asyncio
import socket

import pytest

from workbench.serve.pool import Pool


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("word", ["drain", "drop"])
def test_a_word_about_a_replica_counts_whether_it_is_taken_in_already_or_not(word, early):
    async def told() -> tuple[list[str], bool, bytes]:
        idle: list[str] = []
        pool = Pool(idle.append)
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        if early:
            getattr(pool, word)("r1")
        await pool.connect("r1", "a" * 64, ours)
        if not early:
            getattr(pool, word)("r1")
        await asyncio.sleep(0.05)
        try:
            end = theirs.recv(1)
        except BlockingIOError:
            end = b"open"
        theirs.close()
        return idle, pool._able("a" * 64), end

    idle, able, end = asyncio.run(told())
    assert not able
    assert (idle, end) == ((["r1"], b"open") if word == "drain" else ([], b""))
