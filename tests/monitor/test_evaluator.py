"""One look after another, in this process: endpoints that answer, err, slow down, vanish; runs that stick or lose their numbers."""

from __future__ import annotations

import math
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from workbench.events import Events
from workbench.journal import Journal
from workbench.monitor.evaluator import Evaluator
from workbench.monitor.metrics import parse
from workbench.monitor.spec import MonitorSpec


class Gateway:
    """A real server of ``/metrics`` with a gateway's counters."""

    def __init__(self):
        self.registry = CollectorRegistry()
        self.requests = Counter("workbench_requests", "r", ["endpoint", "model", "code"], registry=self.registry)
        self.seconds = Histogram("workbench_request_seconds", "s", ["endpoint", "model"], buckets=(1, 20), registry=self.registry)
        self.status, self.text = 200, None
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(gateway.status)
                self.end_headers()
                self.wfile.write(gateway.text or generate_latest(gateway.registry))

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, code: int, seconds: float, times: int = 1) -> None:
        for _ in range(times):
            self.requests.labels("docs", "m@1", str(code)).inc()
            self.seconds.labels("docs", "m@1").observe(seconds)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def gateway():
    made = Gateway()
    yield made
    made.close()


@pytest.fixture
def evaluator(workspace, gateway):
    url = f"http://127.0.0.1:{gateway.server.server_address[1]}/metrics"
    rules = [{"rule": "threshold", "name": "endpoint-down", "metric": "workbench_endpoint_up", "below": 1},
             {"rule": "threshold", "name": "endpoint-slow", "metric": "workbench_endpoint_p95_seconds", "above": 10}]
    return Evaluator(workspace, MonitorSpec.load({"word": "monitor", "rules": rules}), lambda _: {"docs": (url, None)})


def turned(evaluator: Evaluator) -> list[tuple[str, str]]:
    return [(alert.rule, turn) for alert, turn in evaluator.look()]


def test_errors_begin_and_end_with_the_window(evaluator, gateway, workspace):
    gateway.answer(500, 0.1, 40)  # before the watch began: not its business
    assert turned(evaluator) == []
    gateway.answer(200, 0.1, 90)
    assert turned(evaluator) == []
    gateway.answer(503, 0.1, 10)
    assert turned(evaluator) == [("endpoint-errors", "began")]
    [alert] = evaluator.alerts.listed(firing=True)
    assert alert.labels == {"endpoint": "docs"} and alert.value == 0.1
    gateway.answer(200, 0.1, 200)
    assert turned(evaluator) == [("endpoint-errors", "ended")]


def test_slow_answers(evaluator, gateway):
    evaluator.look()
    gateway.answer(200, 0.5, 90)
    gateway.answer(200, 15.0, 10)
    assert turned(evaluator) == [("endpoint-slow", "began")]
    [alert] = evaluator.alerts.listed()
    assert alert.labels == {"endpoint": "docs", "model": "m@1"} and 10 < alert.value <= 20


def test_down_in_every_way_and_up_again(evaluator, gateway):
    assert turned(evaluator) == []
    gateway.status = 503
    assert turned(evaluator) == [("endpoint-down", "began")]
    gateway.status = 200
    assert turned(evaluator) == [("endpoint-down", "ended")]
    gateway.text = b"<html>not metrics</html>"
    assert turned(evaluator) == [("endpoint-down", "began")]
    gateway.text = None
    assert turned(evaluator) == [("endpoint-down", "ended")]
    gateway.close()
    assert turned(evaluator) == [("endpoint-down", "began")]


def test_a_restart_of_the_evaluator_neither_repeats_nor_forgets(evaluator, gateway, workspace):
    evaluator.look()
    gateway.answer(500, 0.1, 10)
    assert turned(evaluator) == [("endpoint-errors", "began")]
    again = Evaluator(workspace, evaluator.spec, evaluator.targets)
    assert turned(again) == []
    gateway.answer(200, 0.1, 400)
    assert turned(again) == [("endpoint-errors", "ended")]


def test_nan_and_a_stuck_run(evaluator, workspace, at_work):
    entry, events = at_work(), Events(workspace)
    events.point(entry.id, "loss", 1, 2.0)
    assert turned(evaluator) == []
    events.point(entry.id, "loss", 2, math.nan)
    events.point(entry.id, "loss", 3, 2.0)  # good again by the time it is looked at
    assert turned(evaluator) == [("run-nan", "began")]
    Journal(workspace).database.execute("UPDATE runs SET started = started - 500 WHERE id = ?", (entry.id,))
    events.database.execute("UPDATE events SET at = at - 500 WHERE scope = ?", (entry.id,))
    stuck = Evaluator(workspace, evaluator.spec, evaluator.targets)
    assert turned(stuck) == [("run-stuck", "began")]
    [alert] = [a for a in stuck.alerts.listed() if a.rule == "run-stuck"]
    assert alert.labels == {"run": entry.id} and alert.value >= 500
    events.append(entry.id, "log", text="on it goes")
    assert turned(stuck) == [("run-stuck", "ended")]


def test_the_page_tells_of_endpoints_and_alerts(evaluator, gateway):
    evaluator.look()
    gateway.answer(500, 0.1, 3)
    evaluator.look()
    found = parse(evaluator.page().decode())
    assert ({"endpoint": "docs"}, 1.0) in found["workbench_endpoint_up"]
    assert found["workbench_endpoint_error_ratio"] == [({"endpoint": "docs"}, 1.0)]
    assert ({"monitor": "monitor", "rule": "endpoint-errors"}, 1.0) in found["workbench_alerts_firing"]
    assert ({"monitor": "monitor", "rule": "run-nan"}, 0.0) in found["workbench_alerts_firing"]


def test_a_look_is_cheap(evaluator, gateway, workspace, at_work):
    entry = at_work()
    Events(workspace).append_many([(entry.id, "point", time.time(), f"curve{n % 6}", n, 1.0, {}) for n in range(20_000)])
    gateway.answer(200, 0.1, 10)
    for _ in range(30):
        evaluator.look()
    begin = time.process_time()
    for _ in range(10):
        evaluator.look()
    assert (time.process_time() - begin) / 10 < 0.2  # a tenth of a core at the interval of 2 s
