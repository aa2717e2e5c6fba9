"""The detached evaluator by its runs: started once, found again, replaced by another spec, ended; ports; metrics by HTTP."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys

import psutil
import pytest

from workbench import processes, runs
from workbench.errors import NotFoundError
from workbench.events import Events
from workbench.monitor.alerts import Alerts
from workbench.monitor.metrics import parse
from workbench.monitor.watch import Watch, fetch

HIGH = {"rule": "threshold", "name": "high", "metric": "workbench_run_value", "labels": {"name": "loss"}, "above": 3,
        "summary": "<script>alert(1)</script> & more"}


def spec(**fields) -> dict:
    return {"word": "monitor", "interval": 0.1, "port": 0, "rules": [HIGH], **fields}


def test_it_stays_is_found_again_and_tells_each_breach_once_and_its_end(workspace, receiver, at_work):
    entry, events = at_work(), Events(workspace)
    run = runs.run(spec(webhooks=[{"url": receiver.url}]), workspace)
    assert run.result["monitor"] == "monitor" and run.state == "done"
    watch = Watch.open("monitor", workspace)
    assert watch.alive and watch.metrics_url == run.result["metrics"]
    events.point(entry.id, "loss", 1, 5.0)
    receiver.wait(1)
    pid = watch.process.pid
    again = runs.run(spec(webhooks=[{"url": receiver.url}]), workspace)  # nothing changed: the same evaluator goes on
    assert again.id != run.id and watch.process.pid == pid and [a["rule"] for a in again.result["alerts"]] == ["high"]
    events.point(entry.id, "loss", 2, 1.0)
    receiver.wait(2)
    [alert] = Alerts(workspace).listed()
    assert [b["id"] for b in receiver.got] == [f"{alert.id}-begin", f"{alert.id}-end"]
    assert [e.name for e in events.tail("monitor/monitor", kinds=["alert"])] == ["began", "ended"]
    assert [a["id"] for a in json.loads(fetch(watch.metrics_url.replace("/metrics", "/alerts")))] == [alert.id]
    drawn = watch._repr_html_()
    assert "&lt;script&gt;" in drawn and "<script>" not in drawn and "high" in str(alert)


def test_metrics_by_http_from_any_process(workspace, at_work):
    entry = at_work()
    Events(workspace).point(entry.id, "loss", 1, 2.5)
    url = runs.run(spec(), workspace).result["metrics"]
    code = f"import urllib.request; print(urllib.request.urlopen({url!r}).read().decode())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ({"run": entry.id, "name": "loss"}, 2.5) in parse(out.stdout)["workbench_run_value"]
    assert fetch(url.replace("/metrics", "/health")) and fetch(url.replace("/metrics", "/other")) is None
    listening = [c for c in psutil.Process(Watch.open("monitor", workspace).process.pid).net_connections() if c.status == "LISTEN"]
    assert [c.laddr.ip for c in listening] == ["127.0.0.1"]


def test_another_spec_replaces_it_and_ends_what_is_no_longer_asked(workspace, at_work, until):
    entry = at_work()
    Events(workspace).point(entry.id, "loss", 1, 5.0)
    runs.run(spec(), workspace)
    watch, alerts = Watch.open("monitor", workspace), Alerts(workspace)
    until(lambda: alerts.listed(firing=True))
    before = watch.process
    runs.run(spec(rules=[]), workspace)
    assert watch.process.pid != before.pid and not before.alive
    assert [a.why for a in alerts.listed()] == ["the rule is no longer asked"]


def test_a_port_that_is_taken_is_said_and_the_one_chosen_is_kept(workspace):
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as holder:
        port = holder.server_address[1]
        run = runs.run(spec(port=port), workspace)
        chosen, said = run.result["port"], [e.data["text"] for e in run.events(kinds=["log"])]
        assert chosen != port and f"port {port} is taken: /metrics answers on {chosen}" in said
        Watch.open("monitor", workspace).stop()
        assert runs.run(spec(port=port), workspace).result["port"] == chosen
        Watch.open("monitor", workspace).stop()
    assert runs.run(spec(port=port), workspace).result["port"] == port


def test_with_seconds_the_run_watches_that_long_and_leaves_nothing(workspace, at_work):
    entry = at_work()
    Events(workspace).point(entry.id, "loss", 1, 5.0)
    run = runs.run(spec(name="brief", seconds=2), workspace)
    assert run.entry.ended - run.entry.started >= 2
    assert [a["rule"] for a in run.result["alerts"]] == ["high"] and run.progress["done"] == run.progress["total"]
    assert processes.find(workspace, "monitor/brief") is None and not Watch.open("brief", workspace).alive


def test_stop_of_a_watching_run_and_end_of_everything(workspace, until):
    run = runs.submit(spec(name="long", seconds=600), workspace)
    watch = Watch(workspace, "long")
    until(lambda: watch.alive)
    run.stop()
    run.wait(30, check=False)
    assert run.state == "stopped" and not watch.alive
    runs.run(spec(name="stays"), workspace)
    process = Watch.open("stays", workspace).process
    runs.shut_down(workspace)
    assert not process.alive and processes.listed(workspace) == []


def test_a_secret_without_value_and_an_unknown_name_are_refused(workspace):
    with pytest.raises(NotFoundError, match='no secret "hook"'):
        runs.submit(spec(webhooks=[{"url": "http://127.0.0.1:1/x", "secret": "hook"}]), workspace)
    assert runs.listed(workspace) == []
    os.makedirs(workspace.path("monitors", "night"))
    workspace.path("monitors", "night", "wanted.json").write_text("{}")
    with pytest.raises(NotFoundError, match='Did you mean "night"'):
        Watch.open("nihgt", workspace)
