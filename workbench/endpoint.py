"""An endpoint that answers: where it is, who may ask, what stands behind it; held together by its supervisor."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import processes
from .errors import NotFoundError, WorkbenchError
from .workspace import Workspace


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

    def trace(self, answer: str | Answer) -> dict[str, Any]:
        """What made an answer: endpoint, model, run, dataset, recipe, and the spans of it that stand in the training text."""
        from urllib.parse import quote

        return self._ask(f"/v1/trace/{quote(answer.id if isinstance(answer, Answer) else answer, safe='')}")

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

    def stop(self) -> bool:
        """End gateway, replicas and supervisor; true if one lived. What was recorded stays."""
        process = processes.find(self.workspace, process_name(self.name))
        if process is not None:
            process.end()
        processes.forget(self.workspace, process_name(self.name))
        return process is not None

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        import urllib.error
        import urllib.request

        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.document["url"] + path, data, {  # noqa: S310 - the supervisor wrote it: http on loopback
            "Authorization": f"Bearer {self.token}", "Content-Type": "application/json"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a loopback address is no proxy's business
        try:
            with opener.open(request, timeout=600) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            try:
                words = json.load(error)["error"]["message"]
            except (ValueError, KeyError, TypeError):
                words = error.reason
            raise WorkbenchError(words, where=f"endpoint {self.name}") from None
        except OSError as error:
            raise WorkbenchError("does not answer", where=f"endpoint {self.name}", received=str(getattr(error, "reason", error)),
                                 hint=f"Start it: workbench serve (its log: {self.workspace.path('logs', f'endpoint--{self.name}.log')})"
                                 ) from None

    def _repr_html_(self) -> str:
        from .display import endpoint_html

        return endpoint_html(self)

    def __str__(self) -> str:
        document = self.document
        shares = ", ".join(f"{m['name']}@{m['digest'][:12]} ({m['weight']:g})" for m in document["models"])
        return f"endpoint {self.name} at {self.address} ({'up' if self.alive else 'down'}): {shares}"
