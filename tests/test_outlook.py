"""What somebody meets who comes back."""

from __future__ import annotations

import datetime
import time

from workbench import runs
from workbench.journal import Journal
from workbench.monitor.alerts import Alerts
from workbench.monitor.spec import Threshold
from workbench.outlook import Outlook
from workbench.policy import Waiver
from workbench.registry import Registry
from workbench.waivers import record

DIGITS = {"word": "data", "name": "digits", "sources": [{"kind": "digits"}], "steps": []}


def fail(journal: Journal, name: str) -> str:
    entry, _ = journal.add("data", name, name, {**DIGITS, "version": 1, "name": name}, {}, place="here")
    journal.claim(entry.id)
    journal.move(entry.id, "failed", failure={"what": "no such file\nand more"})
    return entry.id


def test_a_failed_run_needs_somebody_until_it_is_dismissed_or_done_again(workspace):
    outlook, journal = Outlook(workspace), Journal(workspace)
    first, second = fail(journal, "digits"), fail(journal, "notes")
    assert {n.open["run"]: n.text for n in outlook.needs()} == {
        first: "data digits failed: no such file", second: "data notes failed: no such file"}
    assert outlook.needs(time.time() + 8 * 86_400) == []
    outlook.dismiss(f"run/{second}")
    runs.submit(DIGITS, workspace, place="here")
    assert Outlook(workspace).needs() == []


def test_an_alert_comes_first_and_goes_when_it_is_acknowledged(workspace):
    outlook, alerts = Outlook(workspace), Alerts(workspace)
    fail(Journal(workspace), "notes")
    rule = Threshold(name="hot", metric="m", above=1, summary="too hot")
    alerts.apply("watch", [rule], {"m": [({}, 5.0)]}, time.time(), stale=60, webhooks=())
    needs = outlook.needs()
    assert [n.id.partition("/")[0] for n in needs] == ["alert", "run"]
    assert needs[0].open == {"word": "monitor", "spec": {"name": "watch"}}
    outlook.acknowledge(needs[0].id)
    assert [n.id.partition("/")[0] for n in outlook.needs()] == ["run"]


def test_the_end_of_a_waiver_is_said_a_week_before(taught):
    model = Registry(taught).resolve("model", "docs-lm")
    today = datetime.date.today()
    for days in (3, 30):
        record(taught, Waiver(metric="memorised" if days == 3 else "bits_per_byte", model=model.digest[:12],
                              reason="a reason long enough", until=today + datetime.timedelta(days)))
    (need,) = Outlook(taught).needs()
    assert "memorised for docs-lm ends on" in need.text and need.level == "warning"


def test_what_ended_while_nobody_looked_is_told_once(workspace):
    outlook = Outlook(workspace)
    assert outlook.looked() is None
    outlook.look()
    run = runs.submit(DIGITS, workspace, place="here")
    assert [e.id for e in outlook.ended_since(outlook.looked())] == [run.id]
    outlook.look()
    assert outlook.ended_since(outlook.looked()) == []


def test_a_search_takes_every_word_and_pages(taught):
    outlook, journal = Outlook(taught), Journal(taught)
    for number in range(25):
        entry, _ = journal.add("data", f"notes_{number}", str(number), {**DIGITS, "version": 1}, {}, place="here")
        journal.move(entry.id, "stopped")
    found, total = outlook.find("notes stopped", start=20, count=10)
    assert (len(found), total) == (5, 25) and {f.kind for f in found} == {"run"}
    assert outlook.find("notes_7")[1] == 1  # an underscore is no pattern
    assert outlook.find("%")[1] == 0
    assert [(f.kind, f.name, f.state) for f in outlook.find("docs", kind="model")[0]] == [("model", "docs-lm", "v1")]
    assert outlook.find("x' OR 1=1 --")[1] == 0
