"""Copies passed on to the next host, so that with a host no shard is lost: a socket a rank, a word and its bytes at a time."""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import queue
import re
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...forkserver import exactly

_NAME = re.compile(r"rank-\d{1,6}\.[a-z]")
_HEAD = struct.Struct("!II")
"""Bytes of the token and of the word that follow."""
PATIENCE = 30.0
"""Seconds without a byte after which the other end counts as gone."""


class Receiver:
    """Takes in what ranks of the host before this one send, into this host's place for copies."""

    def __init__(self, root: Path):
        self.root, self.token = root, os.urandom(16).hex()
        host = own_address()
        self._listening = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.address = [host, self._listening.getsockname()[1]]
        threading.Thread(target=self._accept, name="copies-come", daemon=True).start()

    def close(self) -> None:
        """Take in no more."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._listening.accept()
                threading.Thread(target=self._take, args=(connection,), name="copies-come", daemon=True).start()

    def _take(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, ValueError, KeyError):
            while True:
                token, word = (exactly(connection, n) for n in _HEAD.unpack(exactly(connection, _HEAD.size)))
                if not hmac.compare_digest(token, self.token.encode()):
                    return
                self._keep(connection, json.loads(word))
                connection.sendall(b"+")

    def _keep(self, connection: socket.socket, word: dict[str, Any]) -> None:
        if not _NAME.fullmatch(word["file"]):
            raise ValueError(word["file"])
        shown = self.root / f"{word['file']}.json"
        shown.unlink(missing_ok=True)
        with open(self.root / word["file"], "r+b" if (self.root / word["file"]).exists() else "w+b") as file:
            left = word["size"]
            while left:
                part = connection.recv(min(left, 1 << 20))
                if not part:
                    raise ConnectionError("the other end is gone")
                file.write(part)
                left -= len(part)
        hidden = shown.with_suffix(".new")
        hidden.write_text(json.dumps(word))
        hidden.replace(shown)


class Sender:
    """Sends a rank's copies to a receiver, one at a time, off the loop.

    Parameters
    ----------
    address, token : the receiver's.
    bytes_of : gives the bytes of a word's copy.
    """

    def __init__(self, address: list, token: str, bytes_of: Callable[[dict[str, Any]], memoryview]):
        self.address, self.token, self.bytes_of = (address[0], address[1]), token.encode(), bytes_of
        self._idle = threading.Event()
        self._idle.set()
        self._words: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._connection: socket.socket | None = None
        threading.Thread(target=self._work, name="copies-go", daemon=True).start()

    def send(self, word: dict[str, Any]) -> None:
        """Send a copy; returns at once."""
        self._idle.clear()
        self._words.put(word)

    def wait(self) -> None:
        """Wait until what was handed over is there, or could not be brought there."""
        self._idle.wait()

    def _work(self) -> None:
        while True:
            word = self._words.get()
            try:
                self._bring(word)
            except OSError:  # the next host may be about to leave: the next copy is tried anew
                self._connection = None
            finally:
                self._idle.set()

    def _bring(self, word: dict[str, Any]) -> None:
        if self._connection is None:
            self._connection = socket.create_connection(self.address, PATIENCE)
        raw = json.dumps(word).encode()
        self._connection.sendall(_HEAD.pack(len(self.token), len(raw)) + self.token + raw)
        with self.bytes_of(word) as held:
            self._connection.sendall(held)
        if self._connection.recv(1) != b"+":
            raise OSError("was not taken")


def own_address() -> str:
    """The address by which this host reaches the ranks' meeting place, and so is reached from there."""
    main = os.environ.get("MASTER_ADDR", "127.0.0.1")
    with socket.socket(socket.AF_INET6 if ":" in main else socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.connect((main, 9))  # sends nothing: only asks which way it would go
        return asked.getsockname()[0]
