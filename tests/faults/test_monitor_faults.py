"""kill -9 of the evaluator at any moment, also between sending and noting it: each breach and each end is told under one id."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from workbench import processes, runs
from workbench.events import Events
from workbench.journal import Journal
from workbench.monitor.alerts import Alerts
from workbench.monitor.watch import Watch


@pytest.fixture
def hook():
    """A receiver: what came, and what is done on the way before it answers."""
    class Hook:
        got: list = []
        before = staticmethod(lambda body: None)

    hook = Hook()
    hook.got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            hook.got.append(body)
            hook.before(body)
            with contextlib.suppress(OSError):  # who asked may be dead by now
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    hook.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    yield hook
    server.shutdown()
    server.server_close()


@pytest.fixture
def values(workspace):
    """A run at work whose loss a test sets."""
    journal, events = Journal(workspace), Events(workspace)
    entry, _ = journal.add("train", "small", "key", {"word": "train"}, {}, place="here")
    journal.claim(entry.id)
    steps = itertools.count()
    yield lambda value: events.point(entry.id, "loss", next(steps), value)
    journal.move(entry.id, "failed")


def spec(url: str, **fields) -> dict:
    rule = {"rule": "threshold", "name": "high", "metric": "workbench_run_value", "labels": {"name": "loss"}, "above": 3}
    return {"word": "monitor", "interval": 0.1, "port": 0, "builtin": False, "rules": [rule], "webhooks": [{"url": url}], **fields}


def until(condition, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def kill(workspace, name: str = "monitor") -> None:
    process = processes.find(workspace, f"monitor/{name}")
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: not process.alive)


def test_killed_between_sending_and_noting_it(workspace, hook, values):
    runs.run(spec(hook.url), workspace)
    watch, alerts = Watch.open("monitor", workspace), Alerts(workspace)
    killed: set[str] = set()

    def once(body: dict) -> None:
        if body["id"] not in killed:
            killed.add(body["id"])
            kill(workspace)

    hook.before = once
    for value, count in ((5.0, 1), (1.0, 2)):
        values(value)
        until(lambda count=count: len(killed) == count and not watch.alive)
        assert len(alerts.owed("monitor")) == 1  # sent, and not noted
        runs.run(spec(hook.url), workspace)
        until(lambda: not alerts.owed("monitor"))
    [alert] = alerts.listed()
    assert [b["id"] for b in hook.got] == [f"{alert.id}-begin"] * 2 + [f"{alert.id}-end"] * 2
    assert hook.got[0] == hook.got[1] and hook.got[2] == hook.got[3]
    assert [e.name for e in Events(workspace).tail("monitor/monitor", kinds=["alert"])] == ["began", "ended"]


def test_killed_at_any_moment(workspace, hook, values):
    moments, alerts = random.Random(4), Alerts(workspace)
    for value in itertools.islice(itertools.cycle([5.0, 1.0]), 6):
        runs.run(spec(hook.url), workspace)
        values(value)
        time.sleep(moments.uniform(0, 0.35))
        kill(workspace)
    runs.run(spec(hook.url), workspace)
    values(1.0)
    until(lambda: not alerts.listed(firing=True) and not alerts.owed("monitor"))
    found = alerts.listed()
    bodies: dict[str, dict] = {}
    for body in hook.got:
        assert bodies.setdefault(body["id"], body) == body
    assert set(bodies) == {f"{a.id}-{e}" for a in found for e in ("begin", "end")} and found
    order = list(dict.fromkeys(b["id"] for b in hook.got))
    assert [i.rpartition("-")[2] for i in order] == ["begin", "end"] * len(found)
    told = [(e.name, e.data["alert"]) for e in Events(workspace).tail("monitor/monitor", kinds=["alert"])]
    assert told == [(n, a.id) for a in reversed(found) for n in ("began", "ended")]


def test_a_watching_run_starts_a_killed_evaluator_again_and_outlives_its_own_driver(workspace, hook, values):
    run = runs.submit(spec(hook.url, seconds=9), workspace)
    watch = Watch(workspace, "monitor")
    until(lambda: watch.alive and run.progress)
    before = watch.process.pid
    kill(workspace)
    until(lambda: watch.alive and watch.process.pid != before)
    evaluator = watch.process
    os.kill(processes.find(workspace, f"run/{run.id}").pid, signal.SIGKILL)
    values(5.0)
    until(lambda: hook.got)  # nobody drives, and the watch goes on
    run.wait(60)
    assert run.entry.attempt == 2 and [a["rule"] for a in run.result["alerts"]] == ["high"]
    assert not evaluator.alive and not watch.alive


def test_two_evaluators_never_work_at_once(workspace, hook):
    runs.run(spec(hook.url), workspace)
    first = Watch.open("monitor", workspace).process
    processes.forget(workspace, "monitor/monitor")  # as if it had been killed before it was noted
    other = processes.start(workspace, "monitor/monitor", "workbench.monitor.evaluator", "monitor")
    until(lambda: not other.alive, 60)
    assert first.alive
    assert "another evaluator is at work" in workspace.path("logs", "monitor--monitor.log").read_text()
    first.end()
