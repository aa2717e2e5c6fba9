"""Gangs on a real cluster, with no framework in them; and what their watch decides from what it hears."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from workbench import cluster
from workbench.errors import ClusterError
from workbench.train.ranks.gang import Gang, RankError, RankLost
from workbench.train.ranks.watch import FROZEN, LINK, SILENCE, Watch

TARGETS = '''
import os, time

def place(control, argument):
    import torch
    print("rank", control.rank, "speaks")
    return {"rank": control.rank, "pid": os.getpid(), "world": os.environ["WORLD_SIZE"], "environment": sorted(os.environ),
            "threads": torch.get_num_threads()}

def fail(control, argument):
    if control.rank == 1:
        raise ValueError("rank 1 says no")
    time.sleep(100)

def wait(control, argument):
    control.send("ready")
    time.sleep(100)
'''
"""What the ranks run: lies in the workspace, from where workers import."""
PLAN = {"token": "r/1/1", "world": 2, "ranks": [{"rank": 0, "worker": "a"}, {"rank": 1, "worker": "b"}]}


HERE = {"kind": "here", "status": "sleeping"}
"""What a host says of a rank that says nothing itself."""


def watch(*messages: dict, now: float = 1.0) -> tuple[Watch, list]:
    watch, answers = Watch(PLAN), []
    watch.begin(0.0)
    for message in messages:
        answers += watch.take({"token": "r/1/1", **message}, now - 0.5 if message["kind"] == "here" else 0.5)
    watch.judge(now)
    return watch, answers


def test_what_ranks_exchange_comes_back_to_all_once_all_have_given():
    _, answers = watch({"kind": "exchange", "rank": 1, "round": 1, "value": "b"})
    assert answers == []
    _, answers = watch({"kind": "exchange", "rank": 1, "round": 1, "value": "b"}, {"kind": "exchange", "rank": 0, "round": 1, "value": "a"})
    assert answers == [["exchanged", 1, ["a", "b"]]]


def test_done_and_then_ended_is_a_success_and_words_of_another_gang_are_nothing():
    seen, answers = watch({"kind": "done", "rank": 0, "value": 1}, {"kind": "ended", "rank": 0, "status": 0},
                          {"kind": "done", "rank": 1, "value": 2}, {"kind": "error", "rank": 1, "token": "r/0/1", "error": {"what": "old"}})
    assert seen.complete and seen.results == {0: 1, 1: 2} and answers == []


@pytest.mark.parametrize(("messages", "options", "error", "words"), [
    ([{"kind": "ended", "rank": 1, "status": -9, "tail": ""}], {}, RankLost, r"rank 1 was killed \(SIGKILL\)"),
    ([{"kind": "lost", "worker": "b"}], {}, RankLost, "worker b left"),
    ([{"kind": "error", "rank": 0, "error": {"what": "no good", "peer": False}}], {}, RankError, "no good"),
    ([{"kind": "error", "rank": 0, "error": {"what": "no good", "lost": "lost a loader"}}], {}, RankLost, "rank 0 lost a loader"),
    # A peer's death makes this rank fail too: the error is not the work's own.
    ([{"kind": "error", "rank": 0, "error": {"what": "gloo", "peer": True}}, {"kind": "ended", "rank": 1, "status": -9}], {},
     RankLost, "rank 1"),
    ([{"kind": "error", "rank": 0, "error": {"what": "gloo", "peer": True}}], {"now": 9.0}, RankLost, "lost the connection: gloo"),
    ([], {"now": LINK + 1}, RankLost, "worker a, b was not heard of"),
    ([HERE | {"rank": 0}, HERE | {"rank": 1}], {"now": SILENCE + 1}, RankLost, "rank 0, 1 was silent"),
    ([HERE | {"rank": 0, "status": "stopped"}, HERE | {"rank": 1}], {"now": FROZEN + 1}, RankLost, "rank 0 was frozen"),
])
def test_what_ends_a_gang(messages, options, error, words):
    with pytest.raises(error, match=words):
        watch(*messages, **options)


def test_a_worker_that_will_end_is_no_loss_yet_and_a_peers_word_of_it_is_kept():
    seen, answers = watch({"kind": "notice", "rank": 1})
    assert seen.leaving == {1} and answers == []


def test_a_worker_that_leaves_behind_its_ranks_last_word_is_no_loss():
    seen, _ = watch({"kind": "done", "rank": 1, "value": 2}, {"kind": "lost", "worker": "b"}, {"kind": "lost", "worker": "of others"})
    assert not seen.complete
    seen, _ = watch({"kind": "done", "rank": 0, "value": 1}, {"kind": "lost", "worker": "a"}, {"kind": "done", "rank": 1, "value": 2})
    assert seen.complete


def test_a_lost_connection_alone_is_given_time_to_show_its_cause():
    watch({"kind": "error", "rank": 0, "error": {"what": "gloo", "peer": True}}, now=2.0)


@pytest.fixture(autouse=True, scope="module")
def _targets(live):
    (live.root / "rank_targets.py").write_text(TARGETS)


def gang(live, run: str, attempt: int = 1, count: int = 2) -> Gang:
    return Gang(cluster.connect(live), count, run=run, attempt=attempt, logs=live.path("logs", run))


def test_each_rank_gets_its_place_and_its_own_log(live):
    with gang(live, "places") as made:
        made.claim()
        results = made.call("rank_targets:place", {})
    assert [r["rank"] for r in results] == [0, 1] and len({r["pid"] for r in results}) == 2
    assert all(r["world"] == "2" and "MALLOC_TRIM_THRESHOLD_" not in r["environment"] and r["threads"] >= 1 for r in results)
    assert [live.path("logs", "places", f"rank-{n}.log").read_text() for n in range(2)] == ["rank 0 speaks\n", "rank 1 speaks\n"]


def test_an_error_comes_back_with_its_traceback_and_the_other_rank_is_ended(live):
    started = []
    with gang(live, "fails") as made:
        made.claim()
        with pytest.raises(RankError, match="rank 1 says no") as caught:
            made.call("rank_targets:fail", {}, on_message=started.append)
    assert "in fail" in caught.value.cause["traceback"] and caught.value.cause["rank"] == 1
    ended(started[0]["ranks"][0]["pid"])


def test_a_dead_holders_lease_is_free_and_a_newer_attempt_takes_over_and_ends_the_old_ranks(live):
    started, over = [], []

    def old() -> None:
        with gang(live, "old") as made:
            made.claim()
            try:
                made.call("rank_targets:wait", {}, on_message=started.append)
            except RankLost as lost:
                over.append(str(lost))

    thread = threading.Thread(target=old)
    thread.start()
    deadline = time.monotonic() + 120
    while not any(m["kind"] == "ready" for m in started):
        assert time.monotonic() < deadline and thread.is_alive(), "the ranks did not begin"
        time.sleep(0.02)
    with gang(live, "other") as other, pytest.raises(InterruptedError):
        other.claim(check=give_up(3))  # held by another run: waits
    with gang(live, "old", attempt=2) as newer:
        newer.claim(check=give_up(50))
        assert len(newer.workers) == 2
        thread.join(30)
    assert "was killed (SIGKILL)" in over[0]
    for rank in started[0]["ranks"]:
        ended(rank["pid"])
    with gang(live, "other") as other:
        other.claim(check=give_up(50))


def test_a_lease_ends_with_the_process_that_held_it(live):
    import subprocess
    import sys

    code = ("import sys, os; from pathlib import Path; from workbench import cluster; from workbench.workspace import Workspace\n"
            "from workbench.train.ranks.gang import Gang; live = Workspace(sys.argv[1])\n"
            "made = Gang(cluster.connect(live), 2, run='short', attempt=1, logs=live.path('logs', 'short')).__enter__()\n"
            "made.claim(); print('held', flush=True); sys.stdin.read()")
    process = subprocess.Popen([sys.executable, "-c", code, str(live.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with gang(live, "next") as made:
        made.claim(check=give_up(100))


def test_more_ranks_than_workers_says_what_would_fit(live):
    words = "too few workers; received 2; expected 3 or more.*ranks to 2"
    with gang(live, "many", count=3) as made, pytest.raises(ClusterError, match=words):
        made.claim(patience=0.3)


def give_up(times: int):
    """A check that raises when it was called that often."""
    left = iter(range(times))

    def check() -> None:
        if next(left, None) is None:
            raise InterruptedError

    return check


def ended(pid: int) -> None:
    import psutil

    deadline = time.monotonic() + 15
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f"{pid} lives on"
        time.sleep(0.02)
