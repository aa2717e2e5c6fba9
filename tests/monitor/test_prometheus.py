"""A real Prometheus scrapes a real endpoint and the monitor; what is watched goes down and comes back."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import urllib.parse
import urllib.request

import pytest

from workbench import processes, runs
from workbench.endpoint import Endpoint
from workbench.monitor.alerts import Alerts
from workbench.monitor.exporters.prometheus import Exporter
from workbench.monitor.watch import fetch


def test_pages_by_their_paths_and_nothing_else():
    exporter = Exporter(lambda: b"a 1\n", lambda: [{"rule": "<b>"}], [0])
    try:
        connection = http.client.HTTPConnection("127.0.0.1", exporter.port, timeout=10)

        def ask(method: str, path: str) -> tuple[int, str, bytes]:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.getheader("Content-Type"), answer.read()

        assert ask("GET", "/metrics") == (200, "text/plain; version=0.0.4; charset=utf-8", b"a 1\n")
        assert ask("HEAD", "/metrics")[::2] == (200, b"") and ask("GET", "/metrics?name=x")[0] == 200
        assert ask("GET", "/alerts") == (200, "application/json", b'[{"rule": "<b>"}]')
        assert ask("GET", "/../etc/passwd")[0] == ask("GET", "/")[0] == 404 and ask("POST", "/metrics")[0] == 501
    finally:
        exporter.close()


def test_a_page_that_fails_is_a_500_and_the_next_fares_better():
    pages = iter([ValueError("secret words"), b"a 1\n"])

    def page() -> bytes:
        value = next(pages)
        if isinstance(value, Exception):
            raise value
        return value

    exporter = Exporter(page, list, [0])
    try:
        assert fetch(exporter.url) is None and fetch(exporter.url) == "a 1\n"
    finally:
        exporter.close()


def test_the_first_free_port_is_taken():
    first = Exporter(lambda: b"", list, [0])
    second = Exporter(lambda: b"", list, [first.port])
    try:
        assert second.port != first.port
    finally:
        first.close()
        second.close()
    third = Exporter(lambda: b"", list, [first.port])
    assert third.port == first.port
    third.close()


@pytest.fixture
def prometheus(tmp_path, until):
    """Starts a Prometheus for targets; gives a function that asks it."""
    started = []

    def start(*urls: str):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        config = tmp_path / "prometheus.yml"
        config.write_text(json.dumps({"global": {"scrape_interval": "300ms", "scrape_timeout": "300ms"}, "scrape_configs": [
            {"job_name": "workbench", "static_configs": [{"targets": [urllib.parse.urlsplit(u).netloc for u in urls]}]}]}))
        log = open(tmp_path / "prometheus.log", "wb")  # noqa: SIM115 - it is the process's own
        started.append(subprocess.Popen(["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                                         f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log))
        until(lambda: fetch(f"http://127.0.0.1:{port}/-/ready"))

        def ask(query: str) -> list[tuple[dict, float]]:
            text = fetch(f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(query)}")
            return [(r["metric"], float(r["value"][1])) for r in json.loads(text)["data"]["result"]] if text else []

        return ask

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is not installed")
def test_prometheus_reads_endpoint_and_monitor_and_a_dead_endpoint_is_told_once(taught, prometheus, receiver, until):
    endpoint = runs.run({"word": "serve", "name": "bot", "port": 0, "replicas": 1, "models": [{"model": "docs-lm"}]}, taught).output
    rule = {"rule": "threshold", "name": "endpoint-down", "metric": "workbench_endpoint_up", "below": 1, "for": 0.5}
    monitor = runs.run({"word": "monitor", "interval": 0.2, "port": 0, "rules": [rule], "webhooks": [{"url": receiver.url}]}, taught)
    for url in (endpoint.metrics_url, monitor.result["metrics"]):
        check = subprocess.run(["promtool", "check", "metrics"], input=fetch(url).encode(), capture_output=True, timeout=60)
        assert check.returncode == 0, check.stderr.decode()
    endpoint.complete("Return the", max_tokens=4)
    ask = prometheus(endpoint.metrics_url, monitor.result["metrics"])
    for query, value in (("sum(up)", 2), ("workbench_endpoint_up", 1), ('sum(workbench_requests_total{endpoint="bot",code="200"})', 1),
                         ("sum(workbench_request_seconds_count)", 1), ('workbench_runs{word="serve",state="done"}', 1),
                         ('workbench_alerts_firing{rule="endpoint-down"}', 0)):
        until(lambda query=query, value=value: [v for _, v in ask(query)] == [value])
    for query in ("workbench_machine_memory_available_bytes", "rate(workbench_machine_cpu_seconds_total[1m])",
                  'workbench_process_memory_bytes{process="endpoint/bot"}',
                  "histogram_quantile(0.95, sum by (le) (workbench_request_seconds_bucket))"):
        until(lambda query=query: ask(query))

    os.kill(processes.find(taught, "endpoint/bot").pid, signal.SIGKILL)  # nobody asked for that
    receiver.wait(1)
    until(lambda: [v for _, v in ask('workbench_alerts_firing{rule="endpoint-down"}')] == [1])
    until(lambda: [v for _, v in ask("workbench_endpoint_up")] == [0])
    runs.run({"word": "serve", "name": "bot", "port": 0, "replicas": 1, "models": [{"model": "docs-lm"}]}, taught)
    receiver.wait(2, 60)
    assert [(b["status"], b["alerts"][0]["labels"]) for b in receiver.got] == [
        (s, {"alertname": "endpoint-down", "endpoint": "bot"}) for s in ("firing", "resolved")]

    Endpoint.open("bot", taught).stop()  # asked for: no alert
    until(lambda: not ask("workbench_endpoint_up"))
    assert [a.firing for a in Alerts(taught).listed()] == [False] and len(receiver.got) == 2
