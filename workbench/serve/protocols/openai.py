"""OpenAI's HTTP protocol (API reference, 2024): models, completions and chat completions, whole and streamed."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ...spec import problems
from ..answer import Answer, Question
from ..pool import Refusal

if TYPE_CHECKING:
    from ..gateway import Gateway

DEFAULT_TOKENS = 16
"""Tokens of a completion that says nothing about its length, as OpenAI's API has it."""
MOST_BODY = 8 << 20
"""Bytes of a request's body."""


class _Options(BaseModel):
    model_config = ConfigDict(extra="ignore")
    include_usage: bool = False


class _Ask(BaseModel):
    """The fields that both kinds of completion share; those of no effect here are taken only with their neutral value."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())
    model: str
    stream: bool | None = False
    stream_options: _Options | None = None
    stop: str | list[str] | None = None
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    n: Literal[1] | None = None
    frequency_penalty: Literal[0] | None = None
    presence_penalty: Literal[0] | None = None
    logit_bias: dict[str, float] | None = Field(None, max_length=0)
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @field_validator("frequency_penalty", "presence_penalty", mode="before")
    @classmethod
    def _zero(cls, value: object) -> object:
        return 0 if isinstance(value, float) and value == 0 else value

    @field_validator("stop")
    @classmethod
    def _some(cls, value: str | list[str] | None) -> str | list[str] | None:
        if isinstance(value, list) and len(value) > 4:
            raise ValueError("at most 4 stop sequences are taken")
        return value

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class CompletionAsk(_Ask):
    """A prompt to go on from."""

    prompt: str | list[int] | list[str] = Field("", max_length=1_000_000)
    max_tokens: int | None = Field(None, ge=1)
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None
    logprobs: None = None
    suffix: None = None

    @field_validator("prompt")
    @classmethod
    def _one(cls, value: str | list[int] | list[str]) -> str | list[int]:
        if isinstance(value, list) and value and isinstance(value[0], str):
            if len(value) > 1:
                raise ValueError("one prompt a request is taken; send others beside it: they are computed together")
            return value[0]
        return value


class _Text(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["text"]
    text: str


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid")
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[_Text]
    name: str | None = None
    refusal: None = None

    def plain(self) -> dict[str, str]:
        content = self.content if isinstance(self.content, str) else "".join(p.text for p in self.content)
        return {"role": self.role, "content": content}


class _Format(BaseModel):
    type: Literal["text"]


class ChatAsk(_Ask):
    """Messages that the assistant answers."""

    messages: list[_Message] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: Literal[False] | None = None
    top_logprobs: Literal[0] | None = None
    response_format: _Format | None = None
    tools: list[Any] | None = Field(None, max_length=0)
    tool_choice: Literal["none"] | None = None
    parallel_tool_calls: bool | None = None


class Json(JSONResponse):
    """JSON in ASCII: a lone surrogate in what a client sent is escaped like any other character, not an error."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode()


def routes(gateway: Gateway) -> list[Route]:
    """The routes of this protocol."""

    async def models(_: Request) -> Response:
        return Json({"object": "list", "data": [_model(name) for name in gateway.names()]})

    async def model(request: Request) -> Response:
        name = request.path_params["model"]
        return Json(_model(name if name in gateway.names() else gateway.choose(name).reference))

    async def completions(request: Request) -> Response:
        ask = await _read(request, CompletionAsk)
        return await _respond(gateway, request, ask, chat=False)

    async def chat(request: Request) -> Response:
        ask = await _read(request, ChatAsk)
        return await _respond(gateway, request, ask, chat=True)

    return [Route("/v1/models", models), Route("/v1/models/{model}", model),
            Route("/v1/completions", completions, methods=["POST"]), Route("/v1/chat/completions", chat, methods=["POST"])]


def error(status: int, message: str, *, field: str | None = None, code: str | None = None,
          headers: dict[str, str] | None = None) -> Json:
    """An error in the form that OpenAI's clients read."""
    kind = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}.get(
        status, "invalid_request_error" if status < 500 else "server_error")
    return Json({"error": {"message": message, "type": kind, "param": field, "code": code}}, status_code=status, headers=headers)


def refusal(refused: Refusal) -> Json:
    """A refusal as an error, with Retry-After where it helps."""
    headers = {"Retry-After": str(refused.retry_after)} if refused.retry_after else None
    return error(refused.status, refused.words, field=refused.field, code=refused.code, headers=headers)


async def _read(request: Request, kind: type[_Ask]) -> Any:
    try:
        value = json.loads(await _body(request))
        if not isinstance(value, dict):
            raise TypeError
    except (ValueError, TypeError, RecursionError):
        raise Refusal(400, "the body is no JSON object", code="invalid_json") from None
    try:
        return kind.model_validate(value)
    except ValidationError as failure:
        faults = problems(kind, failure)
        raise Refusal(400, "; ".join(map(str, faults)), field=faults[0].path or None, code="invalid_value") from None


async def _body(request: Request) -> bytes:
    if int(request.headers.get("content-length", 0)) <= MOST_BODY:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > MOST_BODY:
                break
        else:
            return bytes(body)
    raise Refusal(413, f"the body is larger than {MOST_BODY >> 20} MB", code="too_large")


async def _respond(gateway: Gateway, request: Request, ask: Any, *, chat: bool) -> Response:
    most = (ask.max_completion_tokens or ask.max_tokens) if chat else ask.max_tokens or min(DEFAULT_TOKENS, gateway.most_tokens)
    answer = gateway.ask(Question(
        ask.model, None if chat else ask.prompt, [m.plain() for m in ask.messages] if chat else None, most, seed=ask.seed,
        temperature=1.0 if ask.temperature is None else ask.temperature, top_p=ask.top_p or 1.0, stops=ask.stops,
        stream=bool(ask.stream)), "chatcmpl" if chat else "cmpl")
    if ask.stream:
        return Stream(answer, chat=chat, usage=bool(ask.stream_options and ask.stream_options.include_usage))
    async with _reader(answer, request.receive):
        async for _ in answer.pieces():
            pass
    return Json(_whole(answer, chat=chat))


class Stream(Response):
    """An answer as server-sent events; a refusal that comes before the first piece is an error like any other."""

    def __init__(self, answer: Answer, *, chat: bool, usage: bool):
        self._answer, self._chat, self._usage = answer, chat, usage
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False
        async with _reader(self._answer, receive):
            try:
                async for piece in self._answer.pieces():
                    if not begun:
                        begun = True
                        await send({"type": "http.response.start", "status": 200, "headers": [
                            (b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"),
                            (b"x-accel-buffering", b"no")]})
                        if self._chat:
                            await _event(send, _chunk(self._answer, {"role": "assistant", "content": ""}, None, chat=True))
                    if piece.text:
                        content = {"content": piece.text} if self._chat else piece.text
                        await _event(send, _chunk(self._answer, content, None, chat=self._chat))
            except Refusal as refused:
                if not begun:
                    await refusal(refused)(scope, receive, send)
                    return
                await _event(send, json.loads(refusal(refused).body))
            else:
                if self._answer.finish in ("stop", "length"):
                    await _event(send, _chunk(self._answer, {} if self._chat else "", self._answer.finish, chat=self._chat))
                    if self._usage:
                        await _event(send, {**_head(self._answer, chat=self._chat, chunk=True), "choices": [], "usage": self._answer.usage})
                    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


@contextlib.asynccontextmanager
async def _reader(answer: Answer, receive: Receive) -> AsyncIterator[None]:
    """While an answer is made: when its reader hangs up, it is abandoned at once."""

    async def listen() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        answer.abandon()

    listening = asyncio.ensure_future(listen())
    try:
        yield
    finally:
        listening.cancel()
        answer.abandon()


async def _event(send: Send, body: dict[str, Any]) -> None:
    data = json.dumps(body, separators=(",", ":")).encode()
    await send({"type": "http.response.body", "body": b"data: " + data + b"\n\n", "more_body": True})


def _head(answer: Answer, *, chat: bool, chunk: bool) -> dict[str, Any]:
    kind = ("chat.completion.chunk" if chunk else "chat.completion") if chat else "text_completion"
    return {"id": answer.id, "object": kind, "created": answer.created, "model": answer.version.reference}


def _chunk(answer: Answer, content: Any, finish: str | None, *, chat: bool) -> dict[str, Any]:
    choice = {"index": 0, "delta" if chat else "text": content, "logprobs": None, "finish_reason": finish}
    return {**_head(answer, chat=chat, chunk=True), "choices": [choice]}


def _whole(answer: Answer, *, chat: bool) -> dict[str, Any]:
    content = {"message": {"role": "assistant", "content": answer.text, "refusal": None}} if chat else {"text": answer.text}
    choice = {"index": 0, **content, "logprobs": None, "finish_reason": answer.finish}
    return {**_head(answer, chat=chat, chunk=False), "choices": [choice], "usage": answer.usage}


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "workbench"}
