"""The live store: any process appends, any process tails from a cursor, nothing is lost or seen twice."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.events import Events
from workbench.workspace import Workspace


def _write(root: str, scope: str, count: int, ready) -> None:
    events = Events(Workspace(root))
    ready.set()
    for n in range(count):
        events.point(scope, "n", n, float(n))


def test_a_tail_sees_each_event_of_many_writers_once_and_in_order(workspace):
    context = multiprocessing.get_context("spawn")
    ready = [context.Event() for _ in range(3)]
    writers = [context.Process(target=_write, args=(str(workspace.root), f"run-{n}", 400, ready[n])) for n in range(3)]
    for writer in writers:
        writer.start()
    for one in ready:
        one.wait(60)
    events, seen, cursor = Events(workspace), [], 0
    deadline = time.monotonic() + 120
    while any(w.is_alive() for w in writers) or len(seen) < 1200:
        assert time.monotonic() < deadline, f"{len(seen)} of 1200 events were seen"
        batch = events.tail(after=cursor, limit=100)
        cursor = batch[-1].seq if batch else cursor
        seen += batch
    assert len(seen) == 1200 and [e.seq for e in seen] == sorted({e.seq for e in seen})
    for n in range(3):
        assert [e.step for e in seen if e.scope == f"run-{n}"] == list(range(400))


def test_kill_of_a_writer_leaves_whole_events(workspace):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    writer = context.Process(target=_write, args=(str(workspace.root), "run", 10**6, ready))
    writer.start()
    ready.wait(60)
    events = Events(workspace)
    deadline = time.monotonic() + 120
    while len(events.tail("run")) < 20:
        assert time.monotonic() < deadline and writer.is_alive(), "the writer wrote nothing"
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    steps = [s for s, _ in events.curve("run", "n")]
    assert steps == list(range(len(steps)))
    events.point("run", "n", len(steps), 0.5)
    assert events.curve("run", "n")[-1] == (len(steps), 0.5)


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(width=64)), max_size=20))
@settings(deadline=None, max_examples=50)
def test_a_curve_is_by_step_and_a_step_written_again_keeps_its_last_value(tmp_path_factory, points):
    events = Events(Workspace(tmp_path_factory.mktemp("curve")).open())
    for step, value in points:
        events.point("run", "loss", step, value)
    wanted = dict(sorted(dict(points).items()))
    found = dict(events.curve("run", "loss"))
    assert list(found) == list(wanted)
    assert all(found[s] == v or (math.isnan(found[s]) and math.isnan(v)) for s, v in wanted.items())


def test_follow_ends_when_nothing_is_left(workspace):
    events = Events(workspace)
    for n in range(3):
        events.append("run", "log", name="info", text=f"line {n} <b>")
    assert [e.data["text"] for e in events.follow("run", until=lambda: True)] == ["line 0 <b>", "line 1 <b>", "line 2 <b>"]
    assert events.last("run", "log").data["text"] == "line 2 <b>" and events.names("run") == []
