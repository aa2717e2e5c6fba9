"""Alerts at the command line: listed, acknowledged, taken back; rules silenced."""

from __future__ import annotations

import json
import time

from workbench.monitor.alerts import Alerts
from workbench.monitor.spec import MonitorSpec, Threshold
from workbench.monitor.watch import Watch

HOT = Threshold(name="hot", metric="heat", above=3, summary="too \x1b[31mwarm")


def test_an_alert_is_listed_acknowledged_and_taken_back(cli_here, workspace):
    assert "Nothing is wrong" in cli_here("alerts", cwd=workspace.root).stdout
    Alerts(workspace).apply("m", [HOT], {"heat": [({"room": "a"}, 5.0)]}, time.time(), stale=10)
    listed = cli_here("alerts", cwd=workspace.root).stdout
    assert "hot" in listed and "room a" in listed and "firing" in listed and "\x1b" not in listed
    [alert] = json.loads(cli_here("alerts", "--json", cwd=workspace.root).stdout)
    assert "on it" in cli_here("ack", alert["alert"][:10], "--note", "on it", cwd=workspace.root).stdout
    assert Alerts(workspace).listed(firing=True)[0].note == "on it"
    assert json.loads(cli_here("ack", alert["alert"], "--undo", "--json", cwd=workspace.root).stdout)["acknowledged"] is None
    assert "alert" in cli_here("ack", "nothing", cwd=workspace.root, code=2).stderr


def test_a_rule_is_silenced_for_a_while(cli_here, workspace):
    watch = Watch(workspace, "monitor")
    watch.directory.mkdir(parents=True)
    (watch.directory / "wanted.json").write_text(json.dumps({"spec": MonitorSpec().to_dict(), "run": "r", "until": None}))
    assert "silent for" in cli_here("silence", "endpoint-slow", "--for", "2h", "--note", "a load test", cwd=workspace.root).stdout
    assert Alerts(workspace).silences("monitor")["endpoint-slow"]["note"] == "a load test"
    cli_here("silence", "endpoint-slow", "--for", "0", cwd=workspace.root)
    assert Alerts(workspace).silences("monitor") == {}
    assert "endpoint-slow" in cli_here("silence", "endpoint-slo", cwd=workspace.root, code=2).stderr
    assert "expected a time" in cli_here("silence", "endpoint-slow", "--for", "soon", cwd=workspace.root, code=2).stderr
