"""An endpoint that answers: where it is, who may ask, what stands behind it; held together by its supervisor."""

from __future__ import annotations

import contextlib
import json
import shlex
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from . import processes
from .errors import NotFoundError, WorkbenchError
from .storage import write_atomic
from .workspace import Workspace

if TYPE_CHECKING:
    import http.client


def process_name(name: str) -> str:
    """Name under which an endpoint's supervisor is recorded."""
    return f"endpoint/{name}"


@dataclass(frozen=True)
class Answer:
    """What an endpoint answered; ``str()`` is the text."""

    id: str
    text: str
    model: str
    finish: str
    """``stop`` (the model ended or met a stop sequence) or ``length``"""
    usage: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.text


class Stream:
    """An answer as it comes: iterate over its pieces of text; ``stop`` ends it from any thread.

    ``id``, ``model``, ``text``, ``finish`` (None until it ended; ``stopped`` after ``stop``), ``usage``, ``first`` (seconds from asking to
    the first text) and ``seconds`` say what is known of it at any time.

    Examples
    --------
    >>> stream = endpoint.stream("Return the", max_tokens=20)  # doctest: +SKIP
    >>> for piece in stream: print(piece, end="")              # doctest: +SKIP
    """

    def __init__(self, endpoint: Endpoint, body: dict[str, Any]):
        self._endpoint, self._body = endpoint, body
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None
        self._stopped = False
        self.id = self.model = ""
        self.text, self.finish = "", None
        self.usage: dict[str, int] = {}
        self.first: float | None = None
        self.seconds = 0.0

    def __iter__(self) -> Iterator[str]:
        """Ask, and give pieces of text as they come.

        Raises
        ------
        WorkbenchError
            With the endpoint's words; what came before stands in ``text``.
        """
        begin = time.monotonic()
        try:
            for event in self._events():
                if "error" in event:
                    raise WorkbenchError(event["error"]["message"], where=f"endpoint {self._endpoint.name}")
                self.id, self.model = event["id"], event["model"]
                self.usage = event.get("usage") or self.usage
                for choice in event["choices"]:
                    piece = choice.get("text") or (choice.get("delta") or {}).get("content") or ""
                    self.seconds = time.monotonic() - begin
                    if piece and self.first is None:
                        self.first = self.seconds
                    self.text += piece
                    self.finish = choice["finish_reason"] or self.finish
                    if piece:
                        yield piece
        except (OSError, ValueError, AttributeError) as error:  # http.client's own errors after its socket was closed are of all three
            if not self._stopped:
                raise self._endpoint._silent(error) from None
        finally:
            self.seconds = time.monotonic() - begin
            if self._stopped and self.finish is None:
                self.finish = "stopped"
            self._close()
        if self.finish is None:
            raise WorkbenchError("the answer broke off: the endpoint ended meanwhile", where=f"endpoint {self._endpoint.name}")

    @property
    def tokens_a_second(self) -> float | None:
        """Tokens after the first, by the seconds after the first; None for less than two."""
        count = self.usage.get("completion_tokens", 0)
        lasted = self.seconds - (self.first or 0)
        return (count - 1) / lasted if count > 1 and self.first is not None and lasted > 0 else None

    def stop(self) -> None:
        """End it: the endpoint computes no further."""
        self._stopped = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _events(self) -> Iterator[dict[str, Any]]:
        import http.client
        from urllib.parse import urlsplit

        where = urlsplit(self._endpoint.document["url"])
        path = "/v1/chat/completions" if "messages" in self._body else "/v1/completions"
        self._connection = http.client.HTTPConnection(where.hostname, where.port, timeout=600)
        self._connection.connect()
        self._socket = self._connection.sock
        if self._stopped:
            return
        self._connection.request("POST", path, json.dumps(self._body), self._endpoint._headers)
        response = self._connection.getresponse()
        if response.status != 200:
            raise self._endpoint._refused(response.read(), response.reason)
        for line in response:
            if line.startswith(b"data: ") and line != b"data: [DONE]\n":
                yield json.loads(line[6:])

    def _close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.close()


@dataclass(frozen=True)
class Endpoint:
    """A named endpoint of a workspace; reads its state each time it is asked.

    Examples
    --------
    >>> endpoint = Endpoint.open("docs-lm")  # doctest: +SKIP
    >>> answer = endpoint.complete("Return the", max_tokens=20)  # doctest: +SKIP
    >>> endpoint.trace(answer.id)["dataset"]  # doctest: +SKIP
    """

    workspace: Workspace
    name: str

    @classmethod
    def open(cls, name: str, workspace: Workspace | None = None) -> Endpoint:
        """The endpoint of a name.

        Raises
        ------
        NotFoundError
        """
        workspace = Workspace.find(workspace)
        found = cls(workspace, name)
        if not (found.folder / "endpoint.json").exists():
            raise NotFoundError.of("endpoint", name, [e.name for e in cls.listed(workspace)], hint="Make one: workbench serve MODEL")
        return found

    @classmethod
    def listed(cls, workspace: Workspace | None = None) -> list[Endpoint]:
        """All endpoints that ever answered, by name."""
        workspace = Workspace.find(workspace)
        return [cls(workspace, p.parent.name) for p in sorted(workspace.path("endpoints").glob("*/endpoint.json"))]

    @property
    def folder(self) -> Path:
        """Where its state lies."""
        return self.workspace.path("endpoints", self.name)

    @property
    def document(self) -> dict[str, Any]:
        """How it stands: models with weights, replicas with pid and state, url, run, problem …"""
        try:
            return json.loads((self.folder / "endpoint.json").read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            raise NotFoundError.of("endpoint", self.name, [e.name for e in self.listed(self.workspace)],
                                   hint="Make one: workbench serve MODEL") from None

    @property
    def alive(self) -> bool:
        """True while its supervisor lives and at least one replica answers."""
        process = processes.find(self.workspace, process_name(self.name))
        document = self.document
        return process is not None and process.pid == document["pid"] and document["state"] == "up"

    @property
    def state(self) -> Literal["up", "starting", "down", "lost"]:
        """``up``: it answers; ``starting``: nobody answers yet; ``down``: it was stopped; ``lost``: its supervisor is gone unasked."""
        document = self.document
        if document["state"] == "down":
            return "down"
        process = processes.find(self.workspace, process_name(self.name))
        return "lost" if process is None or process.pid != document["pid"] else document["state"]

    @property
    def last_sign(self) -> float:
        """When its supervisor last gave a sign of life, in seconds since the epoch; a living one gives it every few seconds."""
        return (self.folder / "endpoint.json").stat().st_mtime

    @property
    def address(self) -> str:
        """Base URL for OpenAI's clients: ``http://127.0.0.1:8000/v1``."""
        return f"{self.document['url']}/v1"

    @property
    def metrics_url(self) -> str:
        """Where Prometheus reads."""
        return f"{self.document['url']}/metrics"

    @property
    def token_file(self) -> Path:
        """The file that holds the token; only this user reads it."""
        return self.folder / "token"

    @property
    def token(self) -> str:
        """What a client must show."""
        return self.workspace.token(self.token_file)

    def complete(self, prompt: str, **options: Any) -> Answer:
        """The answer to a prompt.

        Parameters
        ----------
        options : ``model``, ``max_tokens``, ``temperature``, ``top_p``, ``seed``, ``stop`` as OpenAI's API has them.

        Raises
        ------
        WorkbenchError
            With the endpoint's words.
        """
        body = self._ask("/v1/completions", {"model": self.name, "max_tokens": 64, **options, "prompt": prompt, "stream": False})
        choice = body["choices"][0]
        return Answer(body["id"], choice["text"], body["model"], choice["finish_reason"], body["usage"])

    def stream(self, prompt: str | None = None, *, messages: Sequence[dict[str, str]] | None = None, **options: Any) -> Stream:
        """The answer to a prompt, or to the messages of a chat, piece by piece; asked when it is first iterated.

        Parameters
        ----------
        messages : ``{"role": "user" | "assistant" | "system", "content": …}``, the newest last.
        options : as in ``complete``.
        """
        asked = {"messages": list(messages)} if messages is not None else {"prompt": prompt or ""}
        how = {"stream": True, "stream_options": {"include_usage": True}}
        return Stream(self, {"model": self.name, "max_tokens": 64, **options, **asked, **how})

    def trace(self, answer: str | Answer | Stream) -> dict[str, Any]:
        """What made an answer: endpoint, model, run, dataset, recipe, and the spans of it that stand in the training text."""
        return self._ask(f"/v1/trace/{_quoted(answer)}")

    def record(self, answer: str | Answer | Stream, record: str) -> dict[str, Any]:
        """A record that taught an answer (its id from ``trace``): text, source, locator, and ``spans`` where the answer's words stand."""
        return self._ask(f"/v1/trace/{_quoted(answer)}/records/{_quoted(record)}")

    def status(self, *, patience: float = 5.0) -> dict[str, Any]:
        """Rates, times and tokens of each version over the last minutes, as ``serve.pulse`` tells them.

        Raises
        ------
        WorkbenchError
            When it does not answer within ``patience`` seconds.
        """
        return self._ask("/v1/status", patience=patience)

    @property
    def suggestions(self) -> list[str]:
        """Beginnings of prompts that suit what its models were taught; kept when it was deployed."""
        try:
            found = json.loads((self.folder / "suggestions.json").read_text("utf-8"))
            return [str(s) for s in found]
        except (FileNotFoundError, ValueError, TypeError):
            return []

    def client_code(self, prompt: str = "Return the") -> dict[str, str]:
        """Lines that ask this endpoint as they are pasted: ``curl`` for a shell, ``python`` for any Python with ``openai``."""
        body = json.dumps({"model": self.name, "prompt": prompt, "max_tokens": 40})
        token = shlex.quote(str(self.token_file))
        return {
            "curl": f'curl -s {self.address}/completions -H "Authorization: Bearer $(cat {token})" -H "Content-Type: application/json" '
                    f"-d {shlex.quote(body)}",
            "python": f"import openai, pathlib; print(openai.OpenAI(base_url={self.address!r}, "
                      f"api_key=pathlib.Path({str(self.token_file)!r}).read_text().strip())"
                      f".completions.create(model={self.name!r}, prompt={prompt!r}, max_tokens=40).choices[0].text)"}

    def client_programs(self, prompt: str = "Return the", model: str | None = None) -> dict[str, str]:
        """Small programs to begin with: ``curl``, ``python`` (with ``openai``), ``urllib`` (Python alone), ``javascript`` (Node or Deno).

        Each asks this endpoint as it is pasted on this machine and reads the token from its file; none holds it.
        """
        model, token = model or self.name, str(self.token_file)
        body = json.dumps({"model": model, "prompt": prompt, "max_tokens": 40}, ensure_ascii=False)
        return {
            "curl": f'curl -s {self.address}/completions \\\n  -H "Authorization: Bearer $(cat {shlex.quote(token)})" \\\n'
                    f'  -H "Content-Type: application/json" \\\n  -d {shlex.quote(body)}',
            "python": f"from pathlib import Path\nfrom openai import OpenAI\n\nclient = OpenAI(\n    base_url={self.address!r},\n"
                      f"    api_key=Path({token!r}).read_text().strip(),\n)\nanswer = client.completions.create(\n    model={model!r},\n"
                      f"    prompt={prompt!r},\n    max_tokens=40,\n)\nprint(answer.choices[0].text)",
            "urllib": "import json\nfrom pathlib import Path\nfrom urllib.request import Request, urlopen\n\n"
                      f"token = Path({token!r}).read_text().strip()\nrequest = Request(\n    {self.address + '/completions'!r},\n"
                      f"    json.dumps({{'model': {model!r}, 'prompt': {prompt!r}, 'max_tokens': 40}}).encode(),\n"
                      "    {'Authorization': f'Bearer {token}', 'Content-Type': 'application/json'},\n)\n"
                      "print(json.load(urlopen(request))['choices'][0]['text'])",
            "javascript": "import { readFile } from \"node:fs/promises\";\n\n"
                          f"const token = (await readFile({json.dumps(token)}, \"utf8\")).trim();\n"
                          f"const response = await fetch({json.dumps(self.address + '/completions')}, {{\n  method: \"POST\",\n"
                          "  headers: { Authorization: `Bearer ${token}`, \"Content-Type\": \"application/json\" },\n"
                          f"  body: JSON.stringify({body}),\n}});\nconsole.log((await response.json()).choices[0].text);"}

    def stop(self) -> bool:
        """End gateway, replicas and supervisor; true if one lived. What was recorded stays."""
        process = processes.find(self.workspace, process_name(self.name))
        if process is not None:
            process.end()
        processes.forget(self.workspace, process_name(self.name))
        with contextlib.suppress(NotFoundError):
            document = self.document
            if document["state"] != "down":  # its supervisor was killed before it could say so
                write_atomic(self.folder / "endpoint.json", json.dumps({**document, "state": "down"}, indent=1))
        return process is not None

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}

    def _ask(self, path: str, body: dict[str, Any] | None = None, *, patience: float = 600) -> dict[str, Any]:
        import urllib.error
        import urllib.request

        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.document["url"] + path, data, self._headers)  # noqa: S310 - the supervisor wrote it: loopback
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a loopback address is no proxy's business
        try:
            with opener.open(request, timeout=patience) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise self._refused(error.read(), error.reason) from None
        except OSError as error:
            raise self._silent(error) from None

    def _refused(self, body: bytes, reason: str) -> WorkbenchError:
        try:
            words = json.loads(body)["error"]["message"]
        except (ValueError, KeyError, TypeError):
            words = reason
        return WorkbenchError(words, where=f"endpoint {self.name}")

    def _silent(self, error: Exception) -> WorkbenchError:
        return WorkbenchError("does not answer", where=f"endpoint {self.name}", received=str(getattr(error, "reason", error)),
                              hint=f"Start it: workbench serve (its log: {self.workspace.path('logs', f'endpoint--{self.name}.log')})")

    def _repr_html_(self) -> str:
        from .display import endpoint_html

        return endpoint_html(self)

    def __str__(self) -> str:
        document = self.document
        shares = ", ".join(f"{m['name']}@{m['digest'][:12]} ({m['weight']:g})" for m in document["models"])
        return f"endpoint {self.name} at {self.address} ({'up' if self.alive else 'down'}): {shares}"


def _quoted(answer: str | Answer | Stream) -> str:
    from urllib.parse import quote

    return quote(answer if isinstance(answer, str) else answer.id, safe="")
