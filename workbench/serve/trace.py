"""From an answer back to what made it: every answer is recorded, and leads to model, run, data, recipe and records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..dataset import Dataset
from ..errors import NotFoundError, WorkbenchError
from ..model import Model
from ..registry import Registry
from ..storage import Database
from ..workspace import Workspace

KEPT = 100_000
"""Answers kept; older ones are forgotten."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, at REAL NOT NULL, model TEXT NOT NULL, digest TEXT NOT NULL,
  asked TEXT NOT NULL, text TEXT NOT NULL, finish TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
  seconds REAL NOT NULL);
"""


class Answers:
    """The answers of an endpoint, one SQLite table beside its other state."""

    def __init__(self, folder: Path):
        self.database = Database(folder / "answers.db", _SCHEMA)
        self._added = 0

    def add(self, answer: str, *, at: float, model: str, digest: str, asked: dict[str, Any], text: str, finish: str,
            prompt_tokens: int, completion_tokens: int, seconds: float) -> None:
        """Record an answer; recorded once, however often it is added."""
        self.database.execute(
            "INSERT OR IGNORE INTO answers (id, at, model, digest, asked, text, finish, prompt_tokens, completion_tokens, seconds) "
            "VALUES (?,?,?,?,?,?,?,?,?,?)",
            (answer, at, model, digest, json.dumps(asked), text, finish, prompt_tokens, completion_tokens, seconds))
        self._added += 1
        if self._added % 1000 == 0:
            self.database.execute("DELETE FROM answers WHERE number <= (SELECT MAX(number) FROM answers) - ?", (KEPT,))

    def get(self, answer: str) -> dict[str, Any]:
        """One answer as it was given.

        Raises
        ------
        NotFoundError
        """
        row = self.database.row("SELECT * FROM answers WHERE id = ?", (answer,))
        if row is None:
            raise NotFoundError(f'no answer "{answer[:80]}" is recorded here', hint="Take the id that the answer bears")
        return {k: json.loads(row[k]) if k == "asked" else row[k] for k in row.keys() if k != "number"}  # noqa: SIM118 - a Row has no others


def trace(workspace: Workspace, endpoint: str, answer: dict[str, Any], *, most: int = 5) -> dict[str, Any]:
    """The way of an answer: endpoint, model, run, dataset version, recipe, and the spans of it that stand in the training text.

    What is no longer there is None, and ``missing`` says in words why.
    """
    missing: list[str] = []
    found: dict[str, Any] = {"id": answer["id"], "at": answer["at"], "endpoint": endpoint, "answer": answer, "model": None, "run": None,
                             "dataset": None, "recipe": None, "spans": []}
    try:
        version = Registry(workspace).resolve("model", f"{answer['model']}@{answer['digest']}")
        manifest = Model(version.path).manifest
        found["model"] = {"name": version.name, "digest": version.digest, "version": version.number,
                          "metrics": manifest.get("metrics"), "spec": manifest.get("spec")}
        found["run"] = manifest.get("run")
        source = manifest.get("dataset") or {}
        if not source:
            raise NotFoundError("the model's manifest names no dataset", where=version.reference)
        found["dataset"] = {**source, "sources": None}
        dataset = Dataset.open(f"{source['name']}@{source['digest']}", workspace)
        found["recipe"] = dataset.manifest.get("spec")
        found["dataset"] |= {"run": dataset.manifest.get("run"), "parents": dataset.manifest.get("parents"),
                             "sources": (found["recipe"] or {}).get("sources")}
        found["spans"] = spans(workspace, dataset, answer["text"], most=most)
    except WorkbenchError as error:
        missing.append(str(error))
    return {**found, "missing": missing}


def taught_by(workspace: Workspace, answer: dict[str, Any], record: str) -> dict[str, Any]:
    """A record that taught an answer: its text, where it comes from, and where in it the answer's words stand.

    Returns
    -------
    dict
        ``id``, ``text``, ``source``, ``locator``, ``split``, ``dataset`` (name, digest, version) and ``spans``:
        ``[start, end]`` in characters of the record, by start.

    Raises
    ------
    NotFoundError
        When the model, its dataset or the record is gone.
    """
    registry = Registry(workspace)
    source = Model(registry.by_digest("model", answer["digest"]).path).manifest.get("dataset")
    if not source:
        raise NotFoundError("the model's manifest names no dataset", where=f"{answer['model']}@{answer['digest'][:12]}")
    version = registry.resolve("dataset", f"{source['name']}@{source['digest']}")
    dataset = Dataset(version.path)
    found = _record(dataset, record)
    places = sorted({(r["start"], r["end"]) for s in spans(workspace, dataset, answer["text"]) for r in s["records"] if r["id"] == record})
    return {**found, "dataset": {"name": version.name, "digest": version.digest, "version": version.number}, "spans": places}


def _record(dataset: Dataset, record: str) -> dict[str, Any]:
    """One record's words, read past all others."""
    import pyarrow.parquet as pq

    for shard in dataset.manifest["shards"]:
        rows = pq.read_table(dataset.path / shard["path"], columns=["id", "text", "source", "locator", "split"],
                             filters=[("id", "=", record)], partitioning=None).to_pylist()
        if rows:
            return rows[0]
    raise NotFoundError(f"no record {record[:80]!r}", where=dataset.reference)


def spans(workspace: Workspace, dataset: Dataset, text: str, *, most: int = 5) -> list[dict[str, Any]]:
    """The longest pieces of a text that stand word for word in a dataset's training text, with their records."""
    from ..detect.spans import index_for

    return [{"start": s.start, "end": s.end, "text": s.text, "occurrences": s.occurrences, "records": list(s.records)}
            for s in index_for(workspace, dataset).longest(text, most=most)]
