"""Frames between gateway and replica: four bytes of length, then JSON; many requests share one unix socket.

Gateway to replica::

    {"ask": id, "prompt": text | [tokens] | null, "messages": [...] | null, "seed", "temperature", "top_p", "most", "stops",
     "stream", "given": [tokens], "sent": characters}
    {"cancel": id}

Replica to gateway::

    {"took": id, "prompt_tokens": n}                            accepted; the prompt's length
    {"news": [[id, text, [tokens], finish | null], ...]}        one step
    {"refused": id, "message": text, "field": name | null}      the client's fault
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

MOST = 64 << 20
"""Bytes of one frame."""
_LENGTH = struct.Struct(">I")


def pack(message: dict[str, Any]) -> bytes:
    """A message as a frame."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return _LENGTH.pack(len(body)) + body


class Unpacker:
    """Frames out of a stream of bytes.

    Examples
    --------
    >>> unpacker, frame = Unpacker(), pack({"cancel": "a"})
    >>> list(unpacker.feed(frame[:3])), list(unpacker.feed(frame[3:] + frame))
    ([], [{'cancel': 'a'}, {'cancel': 'a'}])
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The messages that are whole after ``data``.

        Raises
        ------
        ValueError
            When the bytes are no frames: the other side is not one of ours.
        """
        self._buffer += data
        while len(self._buffer) >= 4:
            (size,) = _LENGTH.unpack_from(self._buffer)
            if size > MOST:
                raise ValueError(f"a frame of {size} bytes; expected at most {MOST}")
            if len(self._buffer) < 4 + size:
                return
            body = bytes(self._buffer[4:4 + size])
            del self._buffer[:4 + size]
            yield json.loads(body)
