"""Words to ranks at work on a real cluster: wait and go on, change, show where they stand; ranks that hang, freeze or fail."""

from __future__ import annotations

import os
import queue
import signal
import threading

import pytest
from test_gang import ended

from workbench import cluster
from workbench.train.ranks import watch
from workbench.train.ranks.gang import Gang, RankError, RankLost

TARGETS = '''
import os, time
import torch.distributed as dist

def steps(control, argument):
    """Steps that end in a barrier, until a stop is agreed."""
    took = []
    for step in range(argument.get("first", 1), 100_000):
        control.begin(step)
        for word in ("set", "profile"):
            took += [[word, step, values] for values in control.due(word, step)]
        dist.barrier()
        control.send("step", step=step)
        time.sleep(0.01)
        if control.stop_at is not None and step >= control.stop_at:
            return {"step": step, "took": took}

def hang(control, argument):
    control.begin(1)
    if control.rank == 1:
        fall_asleep()
    dist.barrier()

def fall_asleep():
    time.sleep(100)

def long_act(control, argument):
    control.begin(1)
    with control.busy("measuring"):
        time.sleep(argument["seconds"])
    return control.rank

def only_one_fails(control, argument):
    control.begin(1)
    if control.rank == 1:
        broken_by_the_user()
    dist.barrier()

def broken_by_the_user():
    raise KeyError("no such column")

def exchange(control, argument):
    return control.exchange(f"from {control.rank}"), control.exchange(control.rank)
'''
"""What the ranks run: lies in the workspace, from where workers import."""


@pytest.fixture(autouse=True, scope="module")
def _targets(live):
    (live.root / "live_targets.py").write_text(TARGETS)


@pytest.fixture
def gang(live, request):
    name = request.node.name.replace("[", "-").replace("]", "")
    with Gang(cluster.connect(live), 2, run=name, attempt=1, logs=live.path("logs", name)) as made:
        made.claim()
        yield made


class Asker:
    """Says words to a call that goes on in a thread of its own, and waits for what comes of them."""

    def __init__(self, gang: Gang, **options):
        self.words, self.heard, self.stop = queue.SimpleQueue(), queue.SimpleQueue(), threading.Event()
        self.seen: list[dict] = []
        self.end: list = []

        def call() -> None:
            try:
                self.end.append(gang.call("live_targets:steps", options, stop=self.stop, words=self.said, on_message=self.heard.put))
            except RankLost as lost:
                self.end.append(lost)

        self.thread = threading.Thread(target=call)
        self.thread.start()

    def said(self) -> list:
        found = []
        while not self.words.empty():
            found.append(self.words.get())
        return found

    def ask(self, word: str, answer: str, **values) -> dict:
        self.words.put((word, values))
        return self.until(answer)

    def until(self, kind: str, **wanted) -> dict:
        while True:
            message = self.heard.get(timeout=120)
            self.seen.append(message)
            if message["kind"] == kind and all(message[k] >= v for k, v in wanted.items()):
                return message

    def result(self):
        self.stop.set()
        self.thread.join(30)
        return self.end[0]


def test_words_to_ranks_at_work(gang):
    asker = Asker(gang, first=41)  # as from a checkpoint at 40
    changed = asker.ask("set", "changed", learning_rate=0.5)
    assert changed["step"] > 40 and changed["values"] == {"learning_rate": 0.5}
    paused = asker.ask("pause", "paused")
    again = asker.ask("set", "changed", learning_rate=0.25)
    assert again["step"] == paused["step"] + 1  # nothing went on meanwhile
    shown = asker.ask("stacks", "stacks")
    assert [r["rank"] for r in shown["ranks"]] == [0, 1]
    assert all("in steps" in r["threads"][0]["stack"] and r["step"] == paused["step"] for r in shown["ranks"])
    asker.ask("on", "continued")
    asker.until("step", step=paused["step"] + 1)
    profiling = asker.ask("profile", "profiling", steps=3)
    results = asker.result()
    assert gang.ended_for == "asked" and results[0] == results[1]
    assert [list(t) for t in results[0]["took"]] == [
        ["set", changed["step"], {"learning_rate": 0.5}], ["set", again["step"], {"learning_rate": 0.25}],
        ["profile", profiling["step"], {"steps": 3}]]
    steps = [m["step"] for m in asker.seen if m["kind"] == "step" and m["rank"] == 0]
    assert steps == list(range(41, 41 + len(steps)))


def test_a_pause_outlives_the_loss_of_a_rank_and_ends_with_a_stop(gang):
    first = Asker(gang)
    pids = [r["pid"] for r in first.until("started")["ranks"]]
    first.ask("pause", "paused")
    os.kill(pids[1], signal.SIGKILL)
    first.thread.join(30)
    assert isinstance(first.end[0], RankLost)
    second = Asker(gang, first=7)
    assert second.until("paused")["step"] == 6
    assert [r["step"] for r in second.result()] == [7, 7]


def test_ranks_that_hang_are_shown_where_they_stand(gang):
    words = "no step for 1.5 s: rank 0 at step 1: .*; rank 1 at step 1: live_targets.py:25 in fall_asleep"
    with pytest.raises(RankError, match=words) as caught:
        gang.call("live_targets:hang", {}, patience=1.5)
    assert caught.value.cause["kind"] == "HungError" and "dist.barrier()" in caught.value.cause["traceback"]
    # A long act that a rank speaks of is no hang.
    assert gang.call("live_targets:long_act", {"seconds": 3.5}, patience=1.5) == [0, 1]


def test_the_first_real_error_is_told_not_the_collectives(gang):
    with pytest.raises(RankError, match="no such column") as caught:
        gang.call("live_targets:only_one_fails", {})
    assert caught.value.cause["rank"] == 1 and "in broken_by_the_user" in caught.value.cause["traceback"]


def test_a_frozen_rank_is_lost_and_the_gang_begins_again(gang, monkeypatch):
    monkeypatch.setattr(watch, "FROZEN", 2.0)
    asker = Asker(gang)
    pids = [r["pid"] for r in asker.until("started")["ranks"]]
    asker.until("step", step=3)
    os.kill(pids[1], signal.SIGSTOP)
    asker.thread.join(30)
    assert "rank 1 was frozen" in str(asker.end[0]) and asker.end[0].ranks == (1,)
    again = Asker(gang)
    again.until("step", step=3)
    assert again.result()[0]["step"] >= 3
    for pid in pids:
        ended(pid)


def test_a_worker_that_falls_silent_is_lost_and_given_to_nobody_until_it_is_heard_of_again(live, gang, monkeypatch):
    def hurry(seconds: float, dask_scheduler=None) -> float:
        from workbench.train.ranks import leases

        before, leases.HEARD = leases.HEARD, seconds
        return before

    monkeypatch.setattr(watch, "LINK", 4.0)
    before = cluster.connect(live).run_on_scheduler(hurry, 3.0)
    asker = Asker(gang)
    ranks = asker.until("started")["ranks"]
    asker.until("step", step=3)
    worker = cluster.connect(live).run(os.getpid, workers=[ranks[1]["worker"]])[ranks[1]["worker"]]
    os.kill(worker, signal.SIGSTOP)  # to the others this is a cut link: its rank goes on, and nothing is heard of it
    try:
        asker.thread.join(30)
        assert "was not heard of for 4 s" in str(asker.end[0]) and asker.end[0].ranks == (1,)
        said, tries = [], iter(range(20))
        with pytest.raises(InterruptedError):
            gang.claim(lambda: given_up(tries), said.append)
        assert said == ["waiting for 2 workers: 1 are there"]
    finally:
        os.kill(worker, signal.SIGCONT)
        cluster.connect(live).run_on_scheduler(hurry, before)
    gang.claim()
    again = Asker(gang)
    again.until("step", step=3)
    assert again.result()[0]["step"] >= 3
    for rank in ranks:
        ended(rank["pid"])


def given_up(tries) -> None:
    if next(tries, None) is None:
        raise InterruptedError


def test_what_ranks_exchange_through_the_driver(gang):
    assert gang.call("live_targets:exchange", {"meeting": "none"}) == [(("from 0", "from 1"), (0, 1))] * 2
