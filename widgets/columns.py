"""Long curves as column files beside the events: written once by a process of its own, then mapped into memory by every kernel.

The events stay the truth: a file holds them up to a cursor, and what came after is read from the events.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.events import Events
from workbench.storage import digest_json
from workbench.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

# A value that is no number stands as text, since SQLite has no NaN; 9e999 is SQLite's infinity.
_VALUE = "COALESCE(value, CASE json_extract(data, '$.number') WHEN 'inf' THEN 9e999 WHEN '-inf' THEN -9e999 END)"
_OF = "FROM events WHERE scope = ? AND kind = 'point' AND name = ?"


def read(events: Events, scope: str, name: str) -> np.ndarray:
    """All points of a curve from the events: rows of steps, values and times, by step; of a step written twice the later counts."""
    import numpy as np

    rows = events.database.execute(f"SELECT step, {_VALUE}, at {_OF} ORDER BY step, seq", (scope, name))
    rows.row_factory = None  # plain tuples: half the time of named ones
    parts = []
    while batch := rows.fetchmany(100_000):  # a million tuples at once would take a quarter of a gigabyte
        parts.append(np.array(batch, dtype=np.float64).T)
    table = np.concatenate(parts, axis=1) if parts else np.empty((3, 0))
    if table.shape[1] > 1:
        table = table[:, np.append(table[0, 1:] != table[0, :-1], True)]
    return table


def path_of(events: Events, scope: str, name: str) -> Path:
    """Where the column file of a curve lies."""
    return Path(events.database.path).parent / "cache" / "curves" / f"{digest_json([scope, name])[:32]}.npy"


def mapped(events: Events, scope: str, name: str) -> tuple[np.ndarray, int] | None:
    """A curve's column file, shape (3, n), and the cursor up to which it holds the events; None where there is none that fits."""
    import numpy as np

    try:
        table = np.load(path_of(events, scope, name), mmap_mode="r", allow_pickle=False)
        seq, step = int(table[0, 0]), table[1, 0]
    except (OSError, ValueError, IndexError):
        return None
    row = events.database.row("SELECT scope, name, step FROM events WHERE seq = ?", (seq,))
    if row is None or (row["scope"], row["name"], row["step"]) != (scope, name, step):
        return None  # the database is another
    return table[:, 1:], seq


def after(events: Events, scope: str, name: str, seq: int) -> list[tuple[float, float | None, float]]:
    """The points of a curve after a cursor, as they came: (step, value, time)."""
    # The plus keeps SQLite from the index of points, in which it would go through all of them.
    rows = events.database.execute(f"SELECT step, {_VALUE}, at FROM events WHERE scope = ? AND seq > ? AND kind = 'point' AND +name = ? "
                                   "ORDER BY seq", (scope, seq, name))
    rows.row_factory = None
    return rows.fetchall()


def write(workspace: Workspace, scope: str, name: str) -> None:
    """Write a curve's column file, whole or not at all."""
    import numpy as np

    events = Events(workspace)
    # Only what stands now: the cursor is the newest event of all, so that nothing before it is missing.
    last = events.database.row("SELECT seq, step FROM events WHERE scope = ? AND kind = 'point' AND +name = ? ORDER BY seq DESC LIMIT 1",
                               (scope, name))
    table = read(events, scope, name)
    if last is None:
        return
    path = path_of(events, scope, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}")
    try:
        with open(part, "wb") as file:
            np.save(file, np.concatenate([[[last["seq"]], [last["step"]], [0.0]], table], axis=1))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_apart(workspace: Workspace, scope: str, name: str) -> bool:
    """Write it in a process of its own and wait: a kernel that reads a million rows itself answers no page meanwhile."""
    done = subprocess.run([sys.executable, "-m", "widgets.columns", str(workspace.root), scope, name], stdin=subprocess.DEVNULL,
                          capture_output=True, check=False)
    return done.returncode == 0


if __name__ == "__main__":
    write(Workspace(sys.argv[1]), sys.argv[2], sys.argv[3])
