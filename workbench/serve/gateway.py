"""The gateway: a process of its own that takes HTTP, shares it out to replicas and records what was answered."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
import time
from collections import Counter
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ..errors import NotFoundError, PolicyError, WorkbenchError, near
from ..workspace import Workspace
from . import door
from .answer import Answer, Question, Version
from .balance import Turns
from .metrics import CONTENT_TYPE, Metrics
from .pool import Job, Pool, Refusal
from .protocols import openai
from .pulse import Pulse
from .trace import Answers, taught_by, trace


class Gateway:
    """What all requests share; protocols ask it and write its answers down in their own form."""

    def __init__(self, workspace: Workspace, name: str, tell: Any):
        self.workspace, self.name, self._tell = workspace, name, tell
        self.folder = workspace.path("endpoints", name)
        self.pool = Pool(lambda replica: tell(("idle", replica)))
        self.metrics, self.pulse = Metrics(name), Pulse()
        self.answers = Answers(self.folder)
        self.versions: dict[str, Version] = {}
        self.most_tokens, self.token, self.public = 512, "", False
        self._turns: dict[str, Turns] = {}
        self._host = "127.0.0.1"

    def bind(self, sock: socket.socket) -> None:
        """Note what is listened on: whether others can reach it is read from the socket itself."""
        self._host = sock.getsockname()[0]
        self.public = not door.is_loopback(self._host)

    def route(self, models: list[dict[str, Any]], limits: dict[str, Any]) -> None:
        """Put traffic and limits in force.

        Raises
        ------
        PolicyError
            When others could reach a model that the policy does not permit; then nothing changes.
        """
        door.check(self.workspace, self._host, [(m["name"], m["digest"]) for m in models if m["weight"] > 0])
        self.versions = {m["digest"]: Version(m["name"], m["digest"], m["weight"]) for m in models}
        self.most_tokens = limits["max_tokens"]
        self.pool.slots, self.pool.most_waiting, self.pool.seconds = limits["concurrent"], limits["waiting"], limits["seconds"]
        self.token = self.workspace.token(self.folder / "token")
        groups = {self.name: list(self.versions.values())}
        for version in self.versions.values():
            groups.setdefault(version.name, [])
            if version.name != self.name:
                groups[version.name].append(version)
        self._turns = {}
        for group, members in groups.items():
            weights = {v.digest: v.weight for v in members}
            # A name whose versions have no weight is still answered to whoever asks for it.
            self._turns[group] = Turns(weights if any(weights.values()) else dict.fromkeys(weights, 1))

    def names(self) -> list[str]:
        """What a client may ask for as ``model``."""
        return [*self._turns, *(v.reference for v in self.versions.values())]

    def choose(self, model: str) -> Version:
        """The version that answers the next request for a model.

        Raises
        ------
        Refusal
            404 for a name that nothing here bears.
        """
        if turns := self._turns.get(model):
            digest = turns.next([d for d in turns.weights if self.pool.reachable(d)])
            if digest is not None:
                return self.versions[digest]
        name, _, which = model.partition("@")
        for version in self.versions.values():
            if version.name == name and len(which) >= 6 and version.digest.startswith(which):
                return version
        close = near(model, self.names())
        raise Refusal(404, f"no model {model[:100]!r} answers here; expected one of {', '.join(self.names())}"
                      + (f'. Did you mean "{close}"?' if close else ""), field="model", code="model_not_found")

    def ask(self, question: Question, kind: str) -> Answer:
        """Accept a question: from here on its version, its id and its seed are fixed.

        Raises
        ------
        Refusal
        """
        if question.most is not None and question.most > self.most_tokens:
            raise Refusal(400, f"max_tokens is {question.most}; this endpoint allows at most {self.most_tokens}", field="max_tokens",
                          code="max_tokens_too_large")
        version = self.choose(question.model)
        seed = question.seed if question.seed is not None else secrets.randbits(63)
        how = {"seed": seed, "temperature": question.temperature, "top_p": question.top_p, "stops": list(question.stops),
               "most": question.most or self.most_tokens, "stream": question.stream}
        ask = {"prompt": question.prompt, "messages": question.messages, **how}
        job = Job(f"{kind}-{secrets.token_hex(12)}", version.digest, ask)
        try:
            self.pool.accept(job)
        except Refusal as refusal:
            self.count(version.reference, refusal.status)
            refusal.counted = True
            raise
        return Answer(self, job, version, ask)

    def count(self, model: str, code: int, seconds: float = 0.0, **tokens: int) -> None:
        """Count a request that has ended."""
        self.metrics.answered(model, code, seconds, **tokens)
        self.pulse.answered(model, code, seconds)

    def ended(self, answer: Answer, code: int, asked: dict[str, Any], seconds: float) -> None:
        """Count an answer and write it down."""
        usage = answer.usage
        self.count(answer.version.reference, code, seconds, prompt=usage["prompt_tokens"], completion=usage["completion_tokens"])
        if code not in (200, 499):
            return
        try:
            self.answers.add(answer.id, at=time.time(), model=answer.version.name, digest=answer.version.digest, asked=asked,
                             text=answer.text, finish=answer.finish, seconds=seconds, prompt_tokens=usage["prompt_tokens"],
                             completion_tokens=usage["completion_tokens"])
        except Exception as error:  # noqa: BLE001 - a full disk must not take the answer from the client
            print(f"answer {answer.id} is not recorded: {error}", file=sys.stderr)

    def app(self) -> Starlette:
        """The HTTP application."""
        routes = [Route("/health", self._health), Route("/metrics", self._metrics), Route("/v1/status", self._status),
                  Route("/v1/trace/{id}/records/{record}", self._record), Route("/v1/trace/{id:path}", self._trace),
                  *openai.routes(self)]

        async def refused(_: Request, refusal: Exception) -> Response:
            if not refusal.counted:
                self.count("", refusal.status)
            return openai.refusal(refusal)

        async def http_refused(request: Request, error: Exception) -> Response:
            self.count("", error.status_code)
            return openai.error(error.status_code, f"{request.method} {request.url.path}: {error.detail}", headers=error.headers)

        async def broken(_: Request, error: Exception) -> Response:
            self.count("", 500)
            return openai.error(500, f"the gateway failed: {type(error).__name__}", code="internal_error")

        return Starlette(routes=routes, exception_handlers={Refusal: refused, HTTPException: http_refused, Exception: broken})

    def guard(self, app: Starlette) -> Any:
        """The application behind its door: nothing under /v1 without the token."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                return
            headers = dict(scope["headers"])
            open_ = scope["path"] == "/health" or (scope["path"] == "/metrics" and not self.public)
            if not open_ and not door.knows(headers.get(b"authorization", b"").decode("latin-1"), self.token):
                where = "Ask whoever runs this endpoint for it" if self.public else f"It lies in {self.folder / 'token'}"
                response = openai.error(401, f"a token is needed: send the header 'Authorization: Bearer TOKEN'. {where}.",
                                        code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
                self.count("", 401)
                await response(scope, receive, send)
            else:
                await app(scope, receive, send)

        return guarded

    async def _health(self, _: Request) -> Response:
        ready = any(self.pool.reachable(d) for d, v in self.versions.items() if v.weight > 0)
        return openai.Json({"status": "ok" if ready else "starting"}, status_code=200 if ready else 503)

    async def _metrics(self, _: Request) -> Response:
        return Response(self.metrics.page(self.pool.waiting), media_type=CONTENT_TYPE)

    async def _status(self, _: Request) -> Response:
        look = self.pulse.look(self.versions.values())
        for version in look["versions"]:
            version["working"] = self.pool.working(version["digest"])
        return openai.Json({**look, "waiting": self.pool.waiting, "most_tokens": self.most_tokens})

    async def _trace(self, request: Request) -> Response:
        try:
            answer = self.answers.get(request.path_params["id"])
        except NotFoundError as error:
            return openai.error(404, str(error), code="answer_not_found")
        return openai.Json(await asyncio.to_thread(trace, self.workspace, self.name, answer))

    async def _record(self, request: Request) -> Response:
        try:
            answer = self.answers.get(request.path_params["id"])
            found = await asyncio.to_thread(taught_by, self.workspace, answer, request.path_params["record"])
        except WorkbenchError as error:
            return openai.error(404, str(error), code="record_not_found")
        return openai.Json(found)


def main(connection: Connection, argument: dict[str, Any]) -> None:
    """What the forkserver's child runs.

    Parameters
    ----------
    connection : to the supervisor: ``listen`` (a socket follows), ``route``, ``replica`` (a socket follows), ``drain``, ``drop``,
        ``replicas``, ``end``; its end is this process's end.
    argument : ``root`` of the workspace and ``name`` of the endpoint.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    workspace = Workspace(argument["root"]).open()
    word, _ = connection.recv()
    assert word == "listen"
    sock = socket.socket(fileno=recv_handle(connection))
    gateway = Gateway(workspace, argument["name"], lambda message: _tell(connection, message))
    gateway.bind(sock)
    word, models, limits = connection.recv()
    assert word == "route"
    try:
        gateway.route(models, limits)  # before the first byte is taken from anybody
    except WorkbenchError as error:
        _tell(connection, ("refused", str(error)))
        raise SystemExit(3) from None
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(gateway, sock, connection))


async def _serve(gateway: Gateway, sock: socket.socket, connection: Connection) -> None:
    import uvicorn

    config = uvicorn.Config(gateway.guard(gateway.app()), log_level="warning", access_log=False, lifespan="off", server_header=False,
                            timeout_keep_alive=75, timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    loop, tasks = asyncio.get_running_loop(), set()

    def end() -> None:
        loop.remove_reader(connection.fileno())
        server.should_exit = True

    def obey() -> None:
        try:
            while connection.poll():
                word, *rest = connection.recv()
                if word == "route":
                    try:
                        gateway.route(*rest)
                        _tell(connection, ("routed",))
                    except PolicyError as error:
                        _tell(connection, ("refused", str(error)))
                elif word == "replica":
                    replica = socket.socket(fileno=recv_handle(connection))
                    task = loop.create_task(gateway.pool.connect(*rest, replica))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                elif word == "drain":
                    gateway.pool.drain(*rest)
                elif word == "drop":
                    gateway.pool.drop(*rest)
                elif word == "replicas":
                    gateway.metrics.replicas(Counter((r["model"], r["state"]) for r in rest[0]))
                elif word == "ping":
                    _tell(connection, ("pong",))
                elif word == "end":
                    end()
        except (EOFError, OSError):
            end()

    async def sweep() -> None:
        while True:
            await asyncio.sleep(0.5)
            gateway.pool.sweep()

    loop.add_reader(connection.fileno(), obey)
    # libuv takes blocking from what it watches (uv_poll_init): a word whose socket is still on its way would read as the end.
    os.set_blocking(connection.fileno(), True)
    tasks.add(loop.create_task(sweep()))
    _tell(connection, ("up", os.getpid()))
    with contextlib.suppress(asyncio.CancelledError):
        await server.serve(sockets=[sock])
    for task in tasks:
        task.cancel()


def _tell(connection: Connection, message: tuple[Any, ...]) -> None:
    with contextlib.suppress(OSError):
        connection.send(message)
