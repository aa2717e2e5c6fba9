"""Acknowledged, silenced, told: what a person does about alerts is durable and said once."""

from __future__ import annotations

import time

import pytest

from workbench.cli.alerts import parse_time
from workbench.errors import NotFoundError, SpecError, WorkbenchError
from workbench.events import Events
from workbench.monitor.alerts import Alerts
from workbench.monitor.spec import Threshold

HOT = Threshold(name="hot", metric="heat", above=3)
HOOK = ("http://a",)


def look(alerts: Alerts, value: float, now: float):
    return alerts.apply("m", [HOT], {"heat": [({"room": "a"}, value)]}, now, stale=10, webhooks=HOOK)


def test_an_acknowledgement_is_recorded_once_and_ends_with_its_alert(workspace):
    alerts = Alerts(workspace)
    look(alerts, 5, 100)
    [alert] = alerts.listed("m")
    assert alert.acknowledged is None
    alerts.acknowledge(alert.id[:8], note="on it", who="ada")
    again = Alerts(workspace).acknowledge(alert.id, note="me too", who="bob")  # the first who took it has it
    assert (again.who, again.note) == ("ada", "on it") and again.acknowledged <= time.time()
    alerts.tell("m")
    assert [e.data["who"] for e in Events(workspace).tail("monitor/m") if e.name == "acknowledged"] == ["ada"]
    look(alerts, 1, 110)
    look(alerts, 5, 120)
    new, old = alerts.listed("m")
    assert new.acknowledged is None and old.who == "ada" and old.ended == 110
    with pytest.raises(WorkbenchError, match="has ended"):
        alerts.acknowledge(old.id)
    with pytest.raises(NotFoundError):
        alerts.acknowledge("nothing")
    with pytest.raises(NotFoundError):
        alerts.acknowledge("%")
    alerts.acknowledge(new.id)
    assert alerts.withdraw(new.id).acknowledged is None


def test_a_silenced_rule_tells_no_webhook_until_the_silence_is_over(workspace):
    alerts, now = Alerts(workspace), time.time()
    alerts.silence("m", "hot", 100)
    look(alerts, 5, now)
    look(alerts, 1, now + 1)  # began and ended unheard
    look(alerts, 5, now + 2)
    assert alerts.owed("m") == [] and alerts.silences("m")["hot"]["until"] > now
    look(alerts, 5, now + 101)
    assert [d["id"].rpartition("-")[2] for d in alerts.owed("m")] == ["begin"]
    look(alerts, 1, now + 102)
    assert [d["id"].rpartition("-")[2] for d in alerts.owed("m")] == ["begin", "end"]
    alerts.silence("m", "hot", 100)
    alerts.silence("m", "hot", 0)
    assert alerts.silences("m") == {}


def test_what_each_rule_saw(workspace):
    alerts = Alerts(workspace)
    look(alerts, 2, 100)
    assert alerts.seen("m") == {"hot": {"at": 100, "series": 1, "value": 2}} and alerts.standings("m") == []
    alerts.apply("m", [HOT], {}, 101, stale=10)
    assert alerts.seen("m")["hot"]["series"] == 0
    alerts.retire("m", [], (), 102)
    assert alerts.seen("m") == {}


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("15m", 900), ("1.5h", 5400), ("0", 0)])
def test_times_of_the_command_line(text, seconds):
    assert parse_time(text) == seconds
    with pytest.raises(SpecError):
        parse_time(text + " ages")
