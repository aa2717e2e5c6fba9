"""Webhooks that refuse, break, redirect, are slow or gone: each is told until it accepts, in order, under one id."""

from __future__ import annotations

import threading
import time

import pytest

from workbench.monitor import webhook
from workbench.monitor.alerts import Alerts
from workbench.monitor.spec import Threshold, Webhook
from workbench.monitor.webhook import Sender

RULE = Threshold(name="hot", metric="heat", above=3)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(webhook, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(webhook, "LONGEST_PAUSE", 0.2)
    monkeypatch.setattr(webhook, "TIMEOUT", 1.0)


def breach(alerts: Alerts, urls: list[str], *, ended: bool = False, room: str = "a") -> None:
    alerts.apply("m", [RULE], {"heat": [({"room": room}, 5.0)]}, time.time(), stale=60, webhooks=urls)
    if ended:
        alerts.apply("m", [RULE], {"heat": [({"room": room}, 0.0)]}, time.time(), stale=60, webhooks=urls)


def test_it_is_tried_until_accepted_under_the_same_id_and_the_end_waits_for_the_begin(workspace, receiver, until, quick):
    answers = iter([500, 404, 302, 429, 202, 204])
    receiver.answer = lambda body: next(answers)
    alerts = Alerts(workspace)
    breach(alerts, [receiver.url], ended=True)
    sender = Sender(workspace, "m", Webhook(url=receiver.url))
    until(lambda: not alerts.owed("m"))
    sender.close()
    name = alerts.listed("m")[0].id
    assert receiver.visits == []  # nobody went where the redirect led
    assert [b["id"] for b in receiver.got] == [f"{name}-begin"] * 5 + [f"{name}-end"]
    assert all(b == receiver.got[0] for b in receiver.got[:5])
    assert [h["Idempotency-Key"] for h in receiver.headers] == [b["id"] for b in receiver.got]


def test_nobody_there_is_noted_and_tried_again(workspace, receivers, until, quick):
    alerts, gone = Alerts(workspace), receivers()
    gone.close()
    breach(alerts, [gone.url])
    sender = Sender(workspace, "m", Webhook(url=gone.url))
    until(lambda: alerts.owed("m")[0]["tries"] >= 3)
    sender.close()
    assert "refused" in alerts.owed("m")[0]["problem"].lower()


def test_a_receiver_that_hangs_delays_no_other(workspace, receivers, until, quick):
    slow, fast, alerts = receivers(), receivers(), Alerts(workspace)
    release = threading.Event()
    slow.answer = lambda body: 200 if release.wait(20) else 500
    breach(alerts, [slow.url, fast.url], ended=True)
    senders = [Sender(workspace, "m", Webhook(url=r.url)) for r in (slow, fast)]
    fast.wait(2)
    assert {d["url"] for d in alerts.owed("m")} == {slow.url}
    release.set()
    until(lambda: not alerts.owed("m"))
    for sender in senders:
        sender.close()
    assert len({b["id"] for b in slow.got}) == 2


def test_a_breach_that_can_not_be_delivered_does_not_hold_up_the_next(workspace, receiver, until, quick):
    receiver.answer = lambda body: 400 if body["commonLabels"]["room"] == "a" else 200
    alerts = Alerts(workspace)
    breach(alerts, [receiver.url], room="a")
    breach(alerts, [receiver.url], room="b", ended=True)
    sender = Sender(workspace, "m", Webhook(url=receiver.url))
    until(lambda: [d["alert"] for d in alerts.owed("m")] == [a.id for a in alerts.listed("m") if a.labels["room"] == "a"])
    sender.close()


def test_the_secret_is_shown_and_never_stored(workspace, receiver, until, monkeypatch):
    (workspace.root / "workbench.toml").write_text('[secrets]\nhook = "HOOK_TOKEN"\n')
    monkeypatch.setenv("HOOK_TOKEN", "s3cret-value")
    alerts = Alerts(workspace)
    breach(alerts, [receiver.url])
    sender = Sender(workspace, "m", Webhook(url=receiver.url, secret="hook"))
    until(lambda: not alerts.owed("m"))
    sender.close()
    assert receiver.headers[0]["Authorization"] == "Bearer s3cret-value"
    assert not any(b"s3cret-value" in p.read_bytes() for p in workspace.state.rglob("*") if p.is_file())
