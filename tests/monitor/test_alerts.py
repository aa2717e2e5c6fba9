"""The alerts' state machine, alone and durable: begins and ends alternate, each said once, over any values, restarts and kills."""

from __future__ import annotations

import itertools
import json
import sqlite3
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.events import Events
from workbench.monitor.alerts import Alerts, Standing, step
from workbench.monitor.spec import Absence, Threshold
from workbench.workspace import Workspace

HOT = Threshold(name="hot", metric="heat", above=3, lasts=5)
ONCE = Threshold(name="once", metric="heat", above=3)
MISSING = Absence(name="missing", metric="heat", lasts=5)
STALE = 10.0
HOOKS = ("http://a", "http://b")

looks = st.lists(st.tuples(st.floats(0.1, 8), st.sampled_from([True, False, None])), max_size=40)


@given(looks, st.floats(0, 12))
def test_begins_and_ends_alternate_and_a_begin_needs_its_time(seen, lasts):
    standing, now, turns, breach = Standing(), 1000.0, [], None
    for passed, breached in seen:
        now += passed
        standing, turn = step(standing, breached, now, lasts=lasts, stale=STALE)
        if breached is False:
            breach = None
        elif breached and breach is None:
            breach = now
        if turn == "began":
            assert breached and now - standing.since >= lasts and standing.since >= breach
        if turn == "ended":
            assert breached is not True
        turns += [turn] * bool(turn)
        assert (standing.phase == "firing") == (len(turns) % 2 == 1)
    assert all(t == w for t, w in zip(turns, itertools.cycle(["began", "ended"]), strict=False))


@given(looks)
def test_without_a_duration_it_follows_the_value(seen):
    standing, now = Standing(), 0.0
    for passed, breached in seen:
        now += passed
        standing, _ = step(standing, breached, now, lasts=0, stale=STALE)
        if breached is not None:
            assert (standing.phase == "firing") is breached


def test_nothing_known_keeps_the_standing_for_a_while_only():
    firing = Standing("firing", 0.0, 100.0)
    assert step(firing, None, 110.0, lasts=0, stale=10) == (firing, None)
    assert step(firing, None, 110.1, lasts=0, stale=10) == (Standing(seen=100.0), "ended")
    assert step(Standing("pending", 99.0, 100.0), None, 120.0, lasts=50, stale=10) == (Standing(seen=100.0), None)


HEATS: list[dict[str, float]] = [{}, {"a": 5.0}, {"a": 1.0, "b": 5.0}, {"a": 5.0, "b": 5.0}, {"b": float("nan")}]


class Killed(Exception):
    pass


def killed_at(alerts: Alerts, statement: int):
    """Let the evaluator die at its n-th statement that changes something: SQLite sees a transaction that never ends."""
    count = itertools.count(1)

    def watch(sql: str) -> None:
        if sql.split(maxsplit=1)[0] in ("INSERT", "UPDATE", "DELETE", "COMMIT") and next(count) == statement:
            raise Killed

    connection = alerts.database._connection()

    class Dying:
        def __getattr__(self, name):
            return getattr(connection, name)

        def execute(self, sql, *values):
            watch(sql)
            return connection.execute(sql, *values)

    alerts.database._local.connection = Dying()
    return connection


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0.5, 7), st.sampled_from(HEATS),
                          st.sampled_from(["", "", "restart", "kill"]), st.integers(1, 9)), max_size=15))
def test_over_restarts_and_kills_each_breach_is_said_once_and_its_end_once(seen):
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(folder).open()
        alerts, now, rules, accepted = Alerts(workspace), 1e9, [HOT, ONCE, MISSING], {u: [] for u in HOOKS}
        turned = []
        for passed, heat, event, statement in seen:
            now += passed
            samples = {"heat": [({"room": r}, v) for r, v in heat.items()]} if heat else {}
            if event == "kill":
                connection = killed_at(alerts, statement)
                try:
                    turned += alerts.apply("m", rules, samples, now, stale=STALE, webhooks=HOOKS)
                except (Killed, sqlite3.Error):
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
            if event:
                alerts = Alerts(workspace)
                alerts.retire("m", rules, HOOKS, now)
            turned += alerts.apply("m", rules, samples, now, stale=STALE, webhooks=HOOKS)
            alerts.tell("m")
            if event != "restart":
                for url in HOOKS:
                    while owed := alerts.due("m", url, now):
                        for delivery in owed:
                            accepted[url].append(delivery["id"])
                            alerts.settle(delivery, None)
        found = alerts.listed("m", limit=10_000)
        assert len([t for t in turned if t[1] == "began"]) == len(found)
        expected = {f"{a.id}-{e}" for a in found for e in (["begin"] if a.firing else ["begin", "end"])}
        owed = {(d["url"], d["id"]) for d in alerts.owed("m")}
        for url in HOOKS:
            assert len(accepted[url]) == len(set(accepted[url]))
            assert set(accepted[url]) | {i for u, i in owed if u == url} == expected
            ends = [i for i in accepted[url] if i.endswith("-end")]
            assert all(accepted[url].index(i) > accepted[url].index(i.replace("-end", "-begin")) for i in ends)
        told = [(e.data["alert"], e.name) for e in Events(workspace).tail("monitor/m")]
        assert len(told) == len(set(told)) and {f"{a}-{'begin' if n == 'began' else 'end'}" for a, n in told} == expected
        for rule, series in {(a.rule, json.dumps(a.labels)) for a in found}:
            mine = sorted((a for a in found if a.rule == rule and json.dumps(a.labels) == series), key=lambda a: a.began)
            assert all(a.ended is not None and a.ended <= b.began for a, b in itertools.pairwise(mine))


def test_a_kill_between_the_event_and_its_note_makes_no_second_event(workspace):
    alerts = Alerts(workspace)
    alerts.apply("m", [ONCE], {"heat": [({}, 5.0)]}, 100.0, stale=STALE)
    alerts.tell("m")
    alerts.database.execute("UPDATE alerts SET told = 0")
    Alerts(workspace).tell("m")
    assert [e.name for e in Events(workspace).tail("monitor/m", kinds=["alert"])] == ["began"]


def test_a_rule_that_is_no_longer_asked_ends_its_alert_and_says_why(workspace):
    alerts = Alerts(workspace)
    alerts.apply("m", [ONCE], {"heat": [({"room": "a"}, 5.0)]}, 100.0, stale=STALE, webhooks=HOOKS)
    alerts.retire("m", [HOT], HOOKS[:1], 101.0)
    [alert] = alerts.listed("m")
    assert alert.ended == 101.0 and alert.why == "the rule is no longer asked"
    assert [(d["url"], d["id"].rpartition("-")[2]) for d in alerts.owed("m")] == [(HOOKS[0], "begin"), (HOOKS[0], "end")]
    assert alerts.apply("m", [HOT], {}, 102.0, stale=STALE) == []


def test_absence_counts_from_when_the_value_was_last_there_or_the_watch_began(workspace):
    alerts = Alerts(workspace)
    there = {"heat": [({"room": "a"}, 1.0)]}
    said = [bool(alerts.apply("m", [MISSING], s, at, stale=STALE)) for s, at in
            [({}, 0.0), ({}, 4.9), (there, 5.0), ({}, 6.0), ({}, 10.9), ({}, 11.0), ({}, 30.0), (there, 31.0)]]
    assert said == [False, False, False, False, False, True, False, True]
    assert [(a.began, a.ended, a.labels) for a in alerts.listed("m")] == [(11.0, 31.0, {})]


def test_the_payload_is_alertmanagers_with_an_id_that_stays(workspace):
    alerts = Alerts(workspace)
    rule = Threshold(name="hot", metric="heat", above=3, summary="<b>hot</b>")
    alerts.apply("m", [rule], {"heat": [({"room": "a"}, 5.0)]}, 100.0, stale=STALE, webhooks=HOOKS)
    alerts.apply("m", [rule], {"heat": [({"room": "a"}, 2.0)]}, 160.5, stale=STALE, webhooks=HOOKS)
    alert = alerts.listed("m")[0]
    [begin, end] = [json.loads(d["body"]) for d in alerts.owed("m") if d["url"] == HOOKS[0]]
    assert (begin["id"], begin["status"], begin["version"]) == (f"{alert.id}-begin", "firing", "4")
    assert (end["id"], end["status"], end["groupKey"]) == (f"{alert.id}-end", "resolved", begin["groupKey"])
    assert end["alerts"] == [{"status": "resolved", "labels": {"alertname": "hot", "room": "a"}, "fingerprint": alert.id,
                              "annotations": {"summary": "<b>hot</b>", "value": "5"}, "startsAt": "1970-01-01T00:01:40.000Z",
                              "endsAt": "1970-01-01T00:02:40.500Z", "generatorURL": ""}]


@pytest.mark.parametrize("firing", [True, False])
def test_listed_by_monitor_and_state(workspace, firing):
    alerts = Alerts(workspace)
    alerts.apply("m", [ONCE], {"heat": [({"room": r}, 5.0) for r in "ab"]}, 100.0, stale=STALE)
    alerts.apply("other", [ONCE], {"heat": [({"room": "c"}, 5.0)]}, 100.0, stale=STALE)
    alerts.apply("m", [ONCE], {"heat": [({"room": "a"}, 5.0), ({"room": "b"}, 0.0)]}, 101.0, stale=STALE)
    assert sorted(a.labels["room"] for a in alerts.listed("m", firing=firing)) == (["a"] if firing else ["a", "b"])
    assert len(alerts.listed()) == 3
