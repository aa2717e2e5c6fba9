"""What people said of answers: right or wrong, with a note and a better answer; one JSON line an answer, which ``data`` reads."""

from __future__ import annotations

import getpass
import json
import time
from pathlib import Path
from typing import Any, Literal

from .. import processes
from ..errors import SpecError, WorkbenchError
from ..model import Model
from ..registry import Registry
from ..storage import write_atomic
from ..workspace import Workspace
from .trace import Answers

Mark = Literal["right", "wrong"]
MOST = 20_000
"""Characters of a note or of a better answer."""


class Feedback:
    """The marks on one endpoint's answers, in ``.workbench/feedback/<endpoint>.jsonl``.

    A line has ``id`` (of the answer), ``mark``, ``note``, ``better`` (the answer that would have been right, or None), ``prompt``,
    ``messages``, ``answer``, ``model`` and ``dataset`` (each name and digest; the dataset that taught the model, or None), ``endpoint``,
    ``at``, ``who``, and ``text``: the prompt and its right answer, so that the file is a source of the data word as it stands. A wrong
    answer without a better one has an empty text.

    Examples
    --------
    >>> Feedback(workspace, "docs-lm").mark(answer.id, "wrong", note="open has a mode")  # doctest: +SKIP
    """

    def __init__(self, workspace: Workspace, endpoint: str):
        self.workspace, self.endpoint = workspace, endpoint

    @property
    def path(self) -> Path:
        """The file; absent until something was marked."""
        return self.workspace.path("feedback", f"{self.endpoint}.jsonl")

    def rows(self) -> list[dict[str, Any]]:
        """What was said, the oldest first."""
        try:
            return [json.loads(line) for line in self.path.read_text("utf-8").splitlines() if line.strip()]
        except FileNotFoundError:
            return []

    def mark(self, answer: str, mark: Mark, *, note: str = "", better: str | None = None) -> dict[str, Any]:
        """Say of an answer that it is right or wrong; what was said of it before is replaced.

        Raises
        ------
        NotFoundError
            When no such answer is recorded.
        SpecError
            For another word than right and wrong, and for a note beyond 20,000 characters.
        """
        if mark not in ("right", "wrong"):
            raise SpecError.one("mark", f"received {str(mark)[:40]!r}; expected right or wrong", source="feedback")
        for name, text in (("note", note), ("better", better or "")):
            if len(text) > MOST:
                raise SpecError.one(name, f"has {len(text):,} characters; expected at most {MOST:,}", source="feedback")
        found = Answers(self.workspace.path("endpoints", self.endpoint)).get(answer)
        asked = found["asked"]
        said = [m["content"] + "\n" for m in asked.get("messages") or []]
        begin = asked["prompt"] if isinstance(asked.get("prompt"), str) else "".join(said)
        right = found["text"] if mark == "right" else better
        row = {"id": answer, "mark": mark, "note": note, "better": better, "prompt": asked.get("prompt"), "messages": asked.get("messages"),
               "answer": found["text"], "model": {"name": found["model"], "digest": found["digest"]},
               "dataset": self._taught(found["digest"]), "endpoint": self.endpoint, "at": time.time(), "who": _who(),
               "text": begin + right if right else ""}
        self._change(answer, row)
        return row

    def withdraw(self, answer: str) -> None:
        """Take back what was said of an answer."""
        self._change(answer, None)

    def _change(self, answer: str, row: dict[str, Any] | None) -> None:
        with processes.lock(self.workspace, f"feedback-{self.endpoint}"):
            rows = [r for r in self.rows() if r["id"] != answer] + ([row] if row else [])
            write_atomic(self.path, "".join(json.dumps(r) + "\n" for r in rows))

    def _taught(self, digest: str) -> dict[str, str] | None:
        try:
            taught = Model(Registry(self.workspace).by_digest("model", digest).path).manifest.get("dataset")
            return {"name": taught["name"], "digest": taught["digest"]} if taught else None
        except (WorkbenchError, KeyError):
            return None


def listed(workspace: Workspace) -> list[dict[str, Any]]:
    """What was said of the answers of all endpoints, the newest first."""
    rows = [row for path in workspace.path("feedback").glob("*.jsonl") for row in Feedback(workspace, path.stem).rows()]
    return sorted(rows, key=lambda r: -r["at"])


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
