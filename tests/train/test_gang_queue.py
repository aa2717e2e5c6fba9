"""Who gets workers when: as many as are free, first come first served, without a trace of those that gave up."""

from __future__ import annotations

import threading

import pytest

from workbench import cluster
from workbench.train.ranks import gang as gangs
from workbench.train.ranks import leases
from workbench.train.ranks.gang import Gang

TARGETS = '''
import time

def steps(control, argument):
    """Steps without a collective, as many as are asked for, or until a stop is agreed."""
    for step in range(1, argument["steps"] + 1):
        control.begin(step)
        time.sleep(0.01)
        if control.stop_at is not None and step >= control.stop_at:
            break
    return {"step": step, "world": control.world, "stopped": step < argument["steps"]}
'''


NAMES = ("other", "elastic", "first", "second", "third", "fourth", "large", "small")
"""The runs of these tests."""


@pytest.fixture(autouse=True, scope="module")
def _targets(live):
    (live.root / "queue_targets.py").write_text(TARGETS)


@pytest.fixture
def gang(live):
    """Makes gangs that end with the test."""
    made: list[Gang] = []

    def make(run: str, count: int = 2, **options) -> Gang:
        made.append(Gang(cluster.connect(live), count, run=run, attempt=1, logs=live.path("logs", run), **options).__enter__())
        return made[-1]

    yield make
    for one in made:
        one.__exit__()
    assert table(live) == ({}, {}, set())


def table(live) -> tuple[dict, dict, set]:
    """What the scheduler knows of leases: wanted, places, runs that hold workers."""
    names = NAMES  # a run whose driver was killed in another test keeps its place for a while

    def read(dask_scheduler):
        found = leases.Leases.of(dask_scheduler)
        return dict(found.wanted), {run: p.least for run, p in found.places.items() if run in names}, {h.run for h in found.held.values()}

    return cluster.connect(live).run_on_scheduler(read)


class Waiting:
    """A claim in a thread of its own; ``said`` is what it waits for."""

    def __init__(self, gang: Gang, order: list[str]):
        self.gang, self.cancelled, self.said = gang, threading.Event(), []
        self.waits = threading.Event()

        def check() -> None:
            if self.cancelled.is_set():
                raise InterruptedError

        def claim() -> None:
            try:
                gang.claim(check, self.say)
                order.append(gang.run)
                self.waits.set()
            except InterruptedError:
                gang.__exit__()

        self.thread = threading.Thread(target=claim)
        self.thread.start()
        assert self.waits.wait(10)

    def say(self, text: str) -> None:
        self.said.append(text)
        self.waits.set()


def test_a_gang_takes_what_is_free_and_grows_when_there_is_more(live, gang, monkeypatch):
    monkeypatch.setattr(gangs, "GROW_AFTER", 0.4)
    monkeypatch.setattr(gangs, "GROW_LOOK", 0.1)
    other = gang("other", 1)
    other.claim()
    elastic = gang("elastic", 2, minimum=1)
    elastic.claim()
    mine = elastic.workers
    assert len(mine) == 1 and elastic.spare() == 0
    assert elastic.call("queue_targets:steps", {"steps": 3, "meeting": "none"}, grow=True) == [{"step": 3, "world": 1, "stopped": False}]
    threading.Timer(0.3, other.__exit__).start()
    ended = elastic.call("queue_targets:steps", {"steps": 100_000, "meeting": "none"}, grow=True)
    assert ended[0]["stopped"] and elastic.ended_for == "growth" and elastic.spare() == 1
    elastic.claim()
    assert len(elastic.workers) == 2 and set(mine) < set(elastic.workers)
    assert [r["world"] for r in elastic.call("queue_targets:steps", {"steps": 3, "meeting": "none"}, grow=True)] == [2, 2]


def test_first_come_first_served_and_who_gives_up_leaves_no_trace(live, gang):
    order: list[str] = []
    first = gang("first")
    first.claim()
    second, third, fourth = (Waiting(gang(name, count), order) for name, count in (("second", 2), ("third", 1), ("fourth", 1)))
    assert second.said == ["waiting for 2 workers: held by first"]
    assert third.said == ["waiting for 1 workers: held by first; second waits for longer"]
    third.cancelled.set()
    third.thread.join(10)
    wanted, places, held = table(live)
    assert (set(wanted), places, held) == ({"second", "fourth"}, {"first": 2, "second": 2, "fourth": 1}, {"first"})
    first.claim()  # as after the loss of a rank: what is at work keeps its workers
    assert order == [] and table(live)[2] == {"first"}
    first.__exit__()
    second.thread.join(10)
    assert order == ["second"] and table(live)[2] == {"second"}
    second.gang.__exit__()
    fourth.thread.join(10)
    assert order == ["second", "fourth"]


def test_a_run_that_needs_more_than_there_is_blocks_nobody_for_long(live, gang):
    def hurry(seconds: float, dask_scheduler=None) -> float:
        from workbench.train.ranks import leases

        before, leases.COMING = leases.COMING, seconds
        return before

    client = cluster.connect(live)
    before = client.run_on_scheduler(hurry, 0.5)
    try:
        order: list[str] = []
        large = Waiting(gang("large", 3), order)
        small = Waiting(gang("small", 2), order)
        assert small.said == ["waiting for 2 workers: large waits for longer"] or order == ["small"]
        small.thread.join(10)
        assert order == ["small"]
        large.cancelled.set()
        large.thread.join(10)
    finally:
        client.run_on_scheduler(hurry, before)
