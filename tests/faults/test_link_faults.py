"""A cable that is cut, one that is slow, a machine that is gone: between two network namespaces, with real Dask workers in both."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from two_hosts import Hosts, possible, until

from workbench import runs
from workbench.events import Event
from workbench.journal import ENDED

pytestmark = pytest.mark.skipif(not possible(), reason="network namespaces need Linux and root")
soak = pytest.mark.skipif(not os.environ.get("WORKBENCH_SOAK"), reason="a long round: set WORKBENCH_SOAK=1")
DOCS = {"word": "data", "name": "docs", "sources": [{"kind": "python-docs", "max_megabytes": 0.3}]}
SPEC = {"word": "train", "data": "docs", "name": "linked", "model": {"size": "100K", "vocabulary": 512, "context": 64},
        "tokens": 150 * 512, "batch": {"sequences": 4}, "prompts": [], "hardware": {"ranks": 2, "threads": 1},
        "every": {"checkpoint": 20, "evaluate": 60}}
FEWER = SPEC | {"name": "linked-fewer", "hardware": {"ranks": 2, "min_ranks": 1, "threads": 1}}


@pytest.fixture(scope="module")
def hosts(tmp_path_factory) -> Iterator[Hosts]:
    made = Hosts(tmp_path_factory.mktemp("hosts"))
    try:
        made.up()
        runs.submit(DOCS, made.workspace, place="here").wait()
        yield made
    finally:
        made.down()


@pytest.fixture(scope="module")
def undisturbed(hosts) -> runs.Run:
    run = hosts.submit(SPEC)
    ended(hosts, run)
    return run


@pytest.fixture(autouse=True)
def _whole(hosts) -> Iterator[None]:
    """Each test finds the machines with a worker each, and leaves them with a cable and without a rank."""
    hosts.ready()
    yield
    hosts.cut(up=True)
    until(lambda: ranks_left(hosts) == [], 30, "ranks are gone")


def ranks_left(hosts: Hosts) -> list[str]:
    """Ranks on either machine: what a forkserver forked."""
    servers = {p.pid for n in (0, 1) for p in hosts.of(n) if "forkserver" in " ".join(p.cmdline())}
    return [f"{p.pid}" for n in (0, 1) for p in hosts.of(n) if p.ppid() in servers]


def at_step(hosts: Hosts, run: runs.Run, step: int, after: int = 0) -> Event:
    for event in hosts.events(run, after):
        if event.kind == "point" and event.name == "loss" and event.step >= step:
            return event
    raise AssertionError(f"{run} ended before step {step}: {run.failure}")


def ended(hosts: Hosts, run: runs.Run, seconds: float = 150) -> None:
    until(lambda: run.state in ENDED, seconds, f"{run} ends")
    assert run.state == "done", run.failure


def worlds(run: runs.Run) -> list[list[str]]:
    """Hosts of the ranks, each time that they were started."""
    return [[r["host"] for r in e.data["ranks"]] for e in run.events(kinds=["mark"]) if e.name == "ranks"]


def same(hosts: Hosts, run: runs.Run, undisturbed: runs.Run) -> None:
    ended(hosts, run)
    assert run.result["digest"] == undisturbed.result["digest"]
    for curve in ("loss", "bits_per_byte", "learning_rate", "gradient_norm"):
        assert run.curve(curve) == undisturbed.curve(curve)


def test_a_rank_on_each_machine(hosts, undisturbed):
    assert worlds(undisturbed) == [list(hosts.addresses)]


@soak
def test_a_cut_cable_is_noticed_and_the_run_goes_on_with_what_is_left_and_takes_up_what_comes_back(hosts, undisturbed):
    run = hosts.submit(FEWER | {"tokens": 6000 * 512})
    at_step(hosts, run, 50)
    hosts.cut()
    alone = next(e for e in hosts.events(run) if e.kind == "mark" and e.name == "ranks" and len(e.data["ranks"]) == 1)
    at_step(hosts, run, 100, alone.seq)
    hosts.cut(up=True)
    again = next(e for e in hosts.events(run, alone.seq) if e.kind == "mark" and e.name == "ranks" and len(e.data["ranks"]) == 2)
    assert {r["host"] for r in again.data["ranks"]} == set(hosts.addresses)
    until(lambda: any(e.kind == "point" for e in run.events(again.seq)), 60, "it goes on with both")
    run.stop()
    until(lambda: run.state in ENDED, 60, f"{run} ends")
    steps = sorted(s for s, _ in run.curve("loss"))
    assert steps == list(range(1, steps[-1] + 1))


def test_a_cut_cable_that_is_mended_changes_nothing(hosts, undisturbed):
    run = hosts.submit(SPEC)
    at_step(hosts, run, 50)
    hosts.cut()
    until(lambda: run.entry.attempt == 2 or any(e.name == "restart" for e in run.events(kinds=["mark"])), 60, "it is noticed")
    hosts.cut(up=True)
    same(hosts, run, undisturbed)


@soak
def test_a_slow_cable_makes_a_run_slow_and_nothing_else(hosts, undisturbed):
    run = hosts.submit(SPEC)
    at_step(hosts, run, 20)
    hosts.slow("30mbit")
    try:
        same(hosts, run, undisturbed)
    finally:
        hosts.fast()
    assert not any(e.name == "restart" for e in run.events(kinds=["mark"])) and run.entry.attempt == 1


def test_a_machine_that_is_gone(hosts, undisturbed):
    run = hosts.submit(FEWER)
    at_step(hosts, run, 50)
    assert worlds(run) == [list(hosts.addresses)]
    hosts.kill(1)
    try:
        ended(hosts, run)
        assert worlds(run)[-1] == [hosts.addresses[0]]
    finally:
        hosts.cut(up=True)
        hosts.worker(1)
    losses, wanted = dict(run.curve("loss")), dict(undisturbed.curve("loss"))
    assert sorted(losses) == sorted(wanted)
    assert [losses[s] for s in sorted(losses)] == pytest.approx([wanted[s] for s in sorted(losses)], rel=2e-3)
