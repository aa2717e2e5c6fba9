"""The table of runs: what was asked, which state it is in, who drives it, what came of it."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from typing import Any, Literal

from .errors import NotFoundError
from .events import Events
from .storage import Database
from .workspace import Workspace

State = Literal["queued", "running", "stopping", "stopped", "failed", "done"]
ENDED = ("stopped", "failed", "done")
TRANSITIONS: dict[str, tuple[str, ...]] = {
    "queued": ("running", "stopping", "stopped", "failed"),
    "running": ("running", "stopping", "stopped", "failed", "done"),
    "stopping": ("stopping", "stopped", "failed", "done"),
    "stopped": ("queued",),
    "failed": ("queued",),
    "done": (),
}
"""From each state, the states that may follow; ``running`` again is a new attempt."""

_AT_ONCE = "end at once"
"""Among a run's words: to stop, and to wait for nothing. No driver takes it away."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
  id TEXT PRIMARY KEY, word TEXT NOT NULL, name TEXT NOT NULL, key TEXT NOT NULL, spec TEXT NOT NULL, inputs TEXT NOT NULL,
  place TEXT NOT NULL DEFAULT 'cluster',
  state TEXT NOT NULL, attempt INTEGER NOT NULL DEFAULT 0, submitted REAL NOT NULL, started REAL, ended REAL, beat REAL,
  result TEXT, failure TEXT);
CREATE INDEX IF NOT EXISTS runs_key ON runs (key);
CREATE TABLE IF NOT EXISTS words (seq INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL, word TEXT NOT NULL, data TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Entry:
    """One row: a run as recorded."""

    id: str
    word: str
    name: str
    key: str
    spec: dict[str, Any]
    inputs: dict[str, str]
    place: str
    state: State
    attempt: int
    submitted: float
    started: float | None
    ended: float | None
    beat: float | None
    result: dict[str, Any] | None
    failure: dict[str, Any] | None


class Superseded(BaseException):
    """Raised in a driver whose run another driver has taken over; it must end without a word."""


class Journal:
    """All runs of a workspace. Every change of state is one transaction and one event."""

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self.database = Database(workspace.path("registry.db"), _SCHEMA)
        self.events = Events(workspace)

    def add(self, word: str, name: str, key: str, spec: dict, inputs: dict[str, str], *, place: str = "cluster",
            again: bool = False) -> tuple[Entry, bool]:
        """Record a queued run, or find the one of the same key that is at work or done.

        Returns
        -------
        (entry, found)
        """
        run_id = f"{word}-{time.strftime('%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
        with self.database.transaction() as connection:
            if not again:
                row = connection.execute("SELECT * FROM runs WHERE key = ? AND state IN ('done', 'running', 'queued') "
                                         "ORDER BY state = 'done' DESC, rowid DESC LIMIT 1", (key,)).fetchone()
                if row:
                    return _entry(row), True
            connection.execute("INSERT INTO runs (id, word, name, key, spec, inputs, place, state, submitted) "
                               "VALUES (?,?,?,?,?,?,?,'queued',?)",
                               (run_id, word, name, key, json.dumps(spec), json.dumps(inputs), place, time.time()))
        self.events.append(run_id, "state", name="queued")
        return self.get(run_id), False

    def get(self, run_id: str) -> Entry:
        """The run of an id, or of an id's unambiguous beginning."""
        rows = self.database.rows("SELECT * FROM runs WHERE id = ? OR id LIKE ? ORDER BY id = ? DESC LIMIT 2",
                                  (run_id, run_id.replace("%", "") + "%", run_id))
        if not rows or (len(rows) > 1 and rows[0]["id"] != run_id):
            raise NotFoundError.of("run", run_id, [e.id for e in self.entries(limit=200)], hint="List them: workbench runs")
        return _entry(rows[0])

    def entries(self, *, word: str | None = None, states: tuple[str, ...] | None = None, limit: int = 1000) -> list[Entry]:
        """Runs, the newest first, in the order in which they were submitted, whatever the clock said."""
        sql, values = "SELECT * FROM runs WHERE 1", []
        if word:
            sql, values = sql + " AND word = ?", [*values, word]
        if states:
            sql, values = sql + f" AND state IN ({','.join('?' * len(states))})", [*values, *states]
        return [_entry(r) for r in self.database.rows(sql + " ORDER BY rowid DESC LIMIT ?", (*values, limit))]

    def move(self, run_id: str, state: State, *, attempt: int | None = None, result: dict | None = None,
             failure: dict | None = None) -> Entry:
        """Change a state, if the table of transitions allows it; else nothing happens.

        Parameters
        ----------
        attempt : the attempt on whose behalf this is asked; refused when a newer one has begun.

        Raises
        ------
        Superseded
            When the attempt is not the current one.
        """
        now = time.time()
        with self.database.transaction() as connection:
            row = connection.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone()
            if row is None:
                raise NotFoundError.of("run", run_id, [])
            if attempt is not None and row["attempt"] != attempt:
                raise Superseded(f"{run_id}: attempt {attempt} was superseded by {row['attempt']}")
            if state not in TRANSITIONS[row["state"]]:
                return _entry(row)
            connection.execute("UPDATE runs SET state = ?, ended = ?, result = COALESCE(?, result), failure = ? WHERE id = ?",
                               (state, now if state in ENDED else None, json.dumps(result) if result is not None else None,
                                json.dumps(failure) if failure is not None else None, run_id))
        self.events.append(run_id, "state", name=state, **({"failure": failure} if failure else {}))
        return self.get(run_id)

    def resume(self, run_id: str) -> bool:
        """Queue a run again that was stopped or failed; true for the one who did it, however many ask at once."""
        with self.database.transaction() as connection:
            # The beat says when it was asked for again: a driver has that long to take it up.
            changed = connection.execute("UPDATE runs SET state = 'queued', ended = NULL, failure = NULL, beat = ? "
                                         "WHERE id = ? AND state IN ('stopped', 'failed')", (time.time(), run_id)).rowcount
            if changed:
                connection.execute("DELETE FROM words WHERE run = ? AND word = ?", (run_id, _AT_ONCE))
        if changed:
            self.events.append(run_id, "state", name="queued", again=True)
        return bool(changed)

    def claim(self, run_id: str) -> Entry | None:
        """Begin the next attempt of a run that waits or whose driver is gone; None when it has ended."""
        with self.database.transaction() as connection:
            row = connection.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone()
            if row is None or row["state"] in ENDED:
                return None
            state = "stopping" if row["state"] == "stopping" else "running"
            connection.execute("UPDATE runs SET state = ?, attempt = attempt + 1, beat = ?, started = COALESCE(started, ?) WHERE id = ?",
                               (state, time.time(), time.time(), run_id))
        entry = self.get(run_id)
        self.events.append(run_id, "state", name=state, attempt=entry.attempt)
        return entry

    def beat(self, run_id: str, attempt: int) -> State:
        """A driver's sign of life; returns the state, so that it learns of a stop.

        Raises
        ------
        Superseded
            When a newer attempt has begun.
        """
        row = self.database.row("SELECT state, attempt FROM runs WHERE id = ?", (run_id,))
        if row is None or row["attempt"] != attempt:
            raise Superseded(run_id)
        self.database.execute("UPDATE runs SET beat = ? WHERE id = ? AND attempt = ?", (time.time(), run_id, attempt))
        return row["state"]

    def hurry(self, run_id: str) -> None:
        """Ask a run to stop, and to wait for nothing; holds until it is resumed."""
        self.say(run_id, _AT_ONCE, {})
        self.move(run_id, "stopping")

    def hurried(self, run_id: str) -> bool:
        """True where a run was asked to wait for nothing."""
        return self.database.row("SELECT 1 FROM words WHERE run = ? AND word = ? LIMIT 1", (run_id, _AT_ONCE)) is not None

    def say(self, run_id: str, word: str, values: dict[str, Any]) -> None:
        """Leave a word for the driver of a run; it waits for whichever attempt comes by first."""
        self.database.execute("INSERT INTO words (run, word, data) VALUES (?,?,?)", (run_id, word, json.dumps(values)))

    def heard(self, run_id: str, attempt: int) -> list[tuple[str, dict[str, Any]]]:
        """The words that wait for a driver, in order, taken away for it; none for an attempt that was superseded."""
        if not self.database.row("SELECT 1 FROM words WHERE run = ? AND word != ? LIMIT 1", (run_id, _AT_ONCE)):
            return []
        with self.database.transaction() as connection:
            row = connection.execute("SELECT attempt FROM runs WHERE id = ?", (run_id,)).fetchone()
            if row is None or row["attempt"] != attempt:
                return []
            these = (run_id, _AT_ONCE)
            rows = connection.execute("SELECT word, data FROM words WHERE run = ? AND word != ? ORDER BY seq", these).fetchall()
            connection.execute("DELETE FROM words WHERE run = ? AND word != ?", these)
        return [(r["word"], json.loads(r["data"])) for r in rows]


def _entry(row) -> Entry:
    loaded = {n: json.loads(row[n]) if row[n] else None for n in ("spec", "inputs", "result", "failure")}
    return Entry(**{**dict(row), **loaded, "inputs": loaded["inputs"] or {}})
