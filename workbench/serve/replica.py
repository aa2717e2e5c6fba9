"""A replica: a forked process that loads one registered model and answers a gateway over a unix socket."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import time
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from pathlib import Path
from typing import Any

from ..errors import WorkbenchError
from ..model import Model
from .batch import Ask, Batch, News
from .engine import Engine, load_engine
from .sampling import Sampling
from .text import Language
from .wire import Unpacker, pack

PATIENCE = 20.0
"""Seconds that a gateway may leave its socket unread before it is given up."""


def main(connection: Connection, argument: dict[str, Any]) -> None:
    """What the forkserver's child runs.

    Parameters
    ----------
    connection : to the supervisor: ``gateway`` (a socket follows), ``ping``, ``end``; its end is this process's end.
    argument : ``path`` and ``digest`` of the model, ``slots``, ``threads``.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for whoever started all this
    try:
        import torch

        torch.set_num_threads(argument["threads"])
        begin = time.monotonic()
        model = Model(Path(argument["path"]))
        model.verify(argument["digest"])
        engine, language = load_engine(model.path, argument["slots"]), Language(model.path)
        engine.add([language.tokens("warm")])  # the first pass pays for what libraries set up lazily
        engine.step([0])
        engine.remove(0)
    except Exception as error:
        what = str(error) if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError):
            connection.send(("failed", {"what": what, "kind": type(error).__name__}))
        raise
    connection.send(("ready", {"seconds": time.monotonic() - begin}))
    Replica(connection, engine, language).run()


class Replica:
    """The loop: between two steps of the batch it hears supervisor and gateway; when nothing is asked, it sleeps."""

    def __init__(self, connection: Connection, engine: Engine, language: Language):
        self._connection, self._engine, self._language = connection, engine, language
        self._batch = Batch(engine, language, self._tell)
        self._gateway: socket.socket | None = None
        self._unpacker = Unpacker()

    def run(self) -> None:
        """Work until the supervisor says so or is gone."""
        while True:
            sources = [self._connection, *([self._gateway] if self._gateway else [])]
            ready, _, _ = select.select(sources, [], [], 0 if len(self._batch) else None)
            if self._connection in ready and not self._obey():
                return
            if self._gateway is not None and self._gateway in ready:
                self._hear()
            if len(self._batch):
                self._batch.step()

    def _obey(self) -> bool:
        try:
            word, *rest = self._connection.recv()
            if word == "gateway":
                self._drop()
                self._gateway = socket.socket(fileno=recv_handle(self._connection))
                self._gateway.settimeout(PATIENCE)
            elif word == "ping":
                self._connection.send(("pong", *rest))
            return word != "end"
        except (EOFError, OSError):
            return False

    def _hear(self) -> None:
        try:
            data = self._gateway.recv(1 << 16)
            if not data:
                raise ConnectionResetError
            for message in self._unpacker.feed(data):
                if "cancel" in message:
                    self._batch.cancel(message["cancel"])
                else:
                    self._take(message)
        except OSError:
            self._drop()

    def _take(self, message: dict[str, Any]) -> None:
        try:
            text = self._language.chat(message["messages"]) if message["messages"] else message["prompt"]
            tokens = text if isinstance(text, list) else self._language.tokens(text)
            self._check(tokens)
        except (WorkbenchError, UnicodeEncodeError, TypeError) as error:
            what = str(error) if isinstance(error, WorkbenchError) else "the prompt holds characters that are no valid Unicode text"
            self._send({"refused": message["ask"], "message": what, "field": "messages" if message["messages"] else "prompt"})
            return
        self._send({"took": message["ask"], "prompt_tokens": len(tokens)})
        self._batch.add(Ask(message["ask"], tokens, Sampling(message["seed"], message["temperature"], message["top_p"]), message["most"],
                            tuple(message["stops"]), message["stream"], message["given"], message["sent"]))

    def _check(self, tokens: list[int]) -> None:
        if not tokens:
            raise WorkbenchError("the prompt is empty", allowed="at least one token")
        if len(tokens) > self._engine.context:
            raise WorkbenchError(f"the prompt has {len(tokens)} tokens; the model's context has room for {self._engine.context}",
                                 hint="Shorten the prompt")
        wrong = [t for t in tokens if not 0 <= t < self._language.size]
        if wrong:
            raise WorkbenchError("the prompt holds a token that the model does not know", received=wrong[0],
                                 allowed=f"0 to {self._language.size - 1}")

    def _tell(self, news: list[News]) -> None:
        self._send({"news": [[n.id, n.text, n.tokens, n.finish] for n in news]})

    def _send(self, message: dict[str, Any]) -> None:
        if self._gateway is None:
            return
        try:
            self._gateway.sendall(pack(message))
        except OSError:
            self._drop()

    def _drop(self) -> None:
        """The gateway is gone: what it asked for nobody will read."""
        if self._gateway is not None:
            self._gateway.close()
            self._gateway = None
        self._batch.clear()
        self._unpacker = Unpacker()

