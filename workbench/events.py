"""Points, samples, states and log lines of running work: appended and tailed from any process."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .storage import Database
from .workspace import Workspace

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, scope TEXT NOT NULL, kind TEXT NOT NULL, at REAL NOT NULL,
  name TEXT, step INTEGER, value REAL, data TEXT);
CREATE INDEX IF NOT EXISTS events_scope ON events (scope, seq);
CREATE INDEX IF NOT EXISTS events_points ON events (scope, name, step) WHERE kind = 'point';
CREATE INDEX IF NOT EXISTS events_rest ON events (scope, seq) WHERE kind <> 'point';
"""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened in a scope (a run id, ``endpoint/<name>``, ``machine``).

    ``kind`` is one of ``state``, ``point``, ``sample``, ``progress``, ``log``, ``mark``, ``probe``, ``alert``;
    ``seq`` is the cursor: larger is later, over all processes.
    """

    seq: int
    scope: str
    kind: str
    at: float
    name: str | None = None
    step: int | None = None
    value: float | None = None
    data: dict[str, Any] = field(default_factory=dict)


class Events:
    """The live store of a workspace, one SQLite table.

    Examples
    --------
    >>> import tempfile
    >>> events = Events(Workspace(tempfile.mkdtemp()).open())
    >>> events.point("run-1", "loss", 3, 0.5)
    >>> [(e.name, e.step, e.value) for e in events.tail("run-1")]
    [('loss', 3, 0.5)]
    """

    def __init__(self, workspace: Workspace):
        self.database = Database(workspace.path("events.db"), _SCHEMA)

    def append(self, scope: str, kind: str, *, name: str | None = None, step: int | None = None,
               value: float | None = None, at: float | None = None, **data: Any) -> None:
        """Add one event; NaN and infinities are kept in ``data`` as text, since SQLite has no NaN."""
        self.append_many([(scope, kind, at or time.time(), name, step, value, data)])

    def append_many(self, rows: Iterable[tuple[str, str, float, str | None, int | None, float | None, dict[str, Any]]]) -> None:
        """Add events ``(scope, kind, at, name, step, value, data)`` in one transaction."""
        ready = [(s, k, at, n, st, *_number(v, d)) for s, k, at, n, st, v, d in rows]
        with self.database.transaction() as connection:
            connection.executemany("INSERT INTO events (scope, kind, at, name, step, value, data) VALUES (?,?,?,?,?,?,?)", ready)

    def point(self, scope: str, name: str, step: int, value: float) -> None:
        """Add one point of a curve."""
        self.append(scope, "point", name=name, step=step, value=value)

    def tail(self, scope: str | None = None, *, after: int = 0, kinds: Iterable[str] | None = None,
             limit: int = 10_000) -> list[Event]:
        """Events after a cursor, oldest first; without a scope, of everything."""
        sql, values = "SELECT * FROM events WHERE seq > ?", [after]
        if scope is not None:
            sql, values = sql + " AND scope = ?", [*values, scope]
        if kinds is not None:
            kinds = list(kinds)
            sql, values = sql + f" AND kind IN ({','.join('?' * len(kinds))})", [*values, *kinds]
            sql += " AND kind <> 'point'" * ("point" not in kinds)  # says to SQLite that the index of the rest will do
        return [_event(r) for r in self.database.rows(sql + " ORDER BY seq LIMIT ?", (*values, limit))]

    def last(self, scope: str, kind: str, name: str | None = None) -> Event | None:
        """The newest event of a kind (and name)."""
        sql, values = "SELECT * FROM events WHERE scope = ? AND kind = ?" + " AND kind <> 'point'" * (kind != "point"), (scope, kind)
        if name is not None:
            sql, values = sql + " AND name = ?", (*values, name)
        row = self.database.row(sql + " ORDER BY seq DESC LIMIT 1", values)
        return _event(row) if row else None

    def curve(self, scope: str, name: str) -> list[tuple[int, float]]:
        """The points of one curve as (step, value), by step; a step written twice keeps its last value."""
        rows = self.database.rows("SELECT step, value, data FROM events WHERE scope = ? AND kind = 'point' AND name = ? "
                                  "ORDER BY step, seq", (scope, name))
        found = {r["step"]: r["value"] if r["value"] is not None else float(json.loads(r["data"]).get("number", "nan"))
                 for r in rows}
        return list(found.items())

    def names(self, scope: str) -> list[str]:
        """Names of the curves of a scope."""
        # From name to name along the index: a curve of a million points costs no more than one of ten.
        found: list[str] = []
        while (row := self.database.row("SELECT name FROM events WHERE scope = ? AND kind = 'point' AND name > ? ORDER BY name LIMIT 1",
                                        (scope, found[-1] if found else ""))):
            found.append(row["name"])
        return found

    def follow(self, scope: str, *, after: int = 0, interval: float = 0.1, until=lambda: False) -> Iterator[Event]:
        """Events as they come, until ``until()`` is true and nothing is left."""
        while True:
            ended = until()
            batch = self.tail(scope, after=after)
            yield from batch
            if batch:
                after = batch[-1].seq
            elif ended:
                return
            else:
                time.sleep(interval)


def _number(value: float | None, data: dict[str, Any]) -> tuple[float | None, str | None]:
    if value is not None and value - value != 0:  # NaN or an infinity
        return None, json.dumps({**data, "number": str(value)})
    return value, json.dumps(data) if data else None


def _event(row) -> Event:
    data = json.loads(row["data"]) if row["data"] else {}
    value = row["value"]
    if value is None and "number" in data:
        value = float(data["number"])
    return Event(row["seq"], row["scope"], row["kind"], row["at"], row["name"], row["step"], value, data)
