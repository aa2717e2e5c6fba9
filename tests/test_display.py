"""Objects draw themselves: what matters is there, everything from outside is text, and nothing needs a script or the network."""

from __future__ import annotations

import json
import re
import time
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

from workbench.dataset import Dataset
from workbench.display import assessment_html, dataset_html, endpoint_html, flat, model_html, run_html, watch_html
from workbench.events import Events
from workbench.journal import Journal
from workbench.model import Model
from workbench.monitor.alerts import Alerts
from workbench.monitor.spec import MonitorSpec, Threshold
from workbench.monitor.watch import Watch
from workbench.policy import Evidence, Policy, Rule, judge
from workbench.runs import Run

HOSTILE = "<img src=x onerror=alert(1)>"


class Reader(HTMLParser):
    def __init__(self, html: str):
        super().__init__()
        self.open, self.text = [], ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert tag not in ("script", "img", "iframe", "link") and not any(n.startswith("on") for n, _ in attrs)
        if tag not in ("line", "circle", "br", "path", "rect", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in ("line", "circle", "br", "path", "rect", "polyline"):
            return
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data * ("style" not in self.open)


def drawn(html: str) -> str:
    """The text of a drawing that is well formed and safe."""
    assert not re.search(r"url\(|@import|https?://(?!127\.0\.0\.1)", html)
    return Reader(html).text


def artefact(folder, kind, manifest):
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "card.md").write_text(f"# A card of {HOSTILE}\n")
    return kind(folder)


def test_a_dataset(tmp_path):
    dataset = artefact(tmp_path / "d", Dataset, {
        "name": HOSTILE, "digest": "a" * 64, "created": 1.8e9, "run": "data-1", "modality": "text", "shards": [],
        "splits": {"train": {"records": 900, "bytes": 2_000_000}, "test": {"records": 100, "bytes": 300_000}},
        "drops": {"quality": {HOSTILE: 30, "too short": 20}}})
    text = drawn(dataset_html(dataset))
    assert HOSTILE in text and "1,000 records, 2.3 MB" in text and "90.0 %" in text and "30 of 1,050 (2.9 %)" in text and "2027" in text


def test_a_model(tmp_path):
    model = artefact(tmp_path / "m", Model, {"name": "bot", "digest": "b" * 64, "parameters": 1_250_000, "run": HOSTILE,
                                            "dataset": {"name": HOSTILE, "digest": "a" * 64}, "metrics": {"bits_per_byte": 2.25, "x": "y"}})
    (model.path / "model.safetensors").write_bytes(b"0" * 5000)
    text = drawn(model_html(model))
    assert "1,250,000 parameters" in text and f"{HOSTILE}@aaaaaaaaaaaa" in text and "bits per byte2.25" in text and "5 kB" in text


def test_an_assessment():
    policy = Policy(rules=(Rule(metric="memorised", at_most=0.05, theme="privacy"), Rule(metric="bits_per_byte", at_most=4.0),
                           Rule(metric="absent", at_least=1.0)))
    common = {"model": "b" * 64, "dataset": "a" * 64, "policy": policy.digest(), "at": time.time(), "variant": "v"}
    evidence = [Evidence("memorised", 0.2, 0.1, 0.3, 100, examples=({"prompt": HOSTILE, "n": 3},), **common),
                Evidence("bits_per_byte", 2.0, 1.9, 2.1, 100, beside={"gzip": 3.02}, **common),
                Evidence("extra", 1.5, 1.0, 2.0, 9, **common)]
    assessment = SimpleNamespace(
        evidence=evidence, verdict=lambda: judge(policy, evidence, model="b" * 64, now=time.time(), dataset="a" * 64),
        document={"model": {"name": HOSTILE, "digest": "b" * 64}, "dataset": {"name": "d", "digest": "a" * 64}, "policy_digest": "c" * 64})
    html = assessment_html(assessment)
    text = drawn(html)
    assert HOSTILE in text and "Must not be deployed" in text and "0.1 to 0.3" in text and "≤ 0.05" in text and "gzip 3.02" in text
    assert [s for s in ("fail", "pass", "missing") if s in text] == ["fail", "pass", "missing"] and "no rule asks for it" in text
    assert html.count('aria-label="beyond the bound"') == 1 and html.count('aria-label="within the bound"') == 1


@pytest.mark.parametrize("alive", [True, False])
def test_an_endpoint(alive):
    document = {
        "name": HOSTILE, "started": 1.8e9, "replicas": [{"pid": 7, "digest": "b" * 64, "state": "ready"}],
        "models": [{"name": "bot", "digest": "b" * 64, "weight": 90}, {"name": "new", "digest": "c" * 64, "weight": 10}]}
    endpoint = SimpleNamespace(alive=alive, address="http://127.0.0.1:8000/v1", token_file="/x/token", document=document,
                               client_code=lambda: {"curl": HOSTILE})
    text = drawn(endpoint_html(endpoint))
    assert HOSTILE in text and "bot@bbbbbbbbbbbb" in text and "90 %" in text and "pid 7" in text and ("up" if alive else "down") in text


@pytest.fixture
def entry(workspace):
    journal = Journal(workspace)
    made, _ = journal.add("data", HOSTILE, "key", {"word": "data", "name": "docs", "sources": [{"kind": "python-docs"}]}, {}, place="here")
    journal.claim(made.id)
    yield made
    journal.move(made.id, "failed")


def test_a_run_at_work(workspace, entry):
    events = Events(workspace)
    events.append(entry.id, "progress", done=30, total=120, unit="steps", label=HOSTILE, rate=12.5, left=7.2)
    for step in range(5):
        events.point(entry.id, "loss", step, 5.0 - step)
        events.point(entry.id, HOSTILE, step, 1.0)
    html = run_html(Run(workspace, entry.id))
    text = drawn(html)
    assert "running" in text and "30 of 120 (25.0 %) steps, 12.5 a second, 7.2 s left" in text and HOSTILE in text
    assert html.count("<polyline") == 2 and "python-docs" in text


def test_a_run_that_failed_and_one_that_is_done(workspace, entry):
    journal = Journal(workspace)
    journal.move(entry.id, "failed", failure={"what": HOSTILE, "where": "x", "traceback": f"Traceback\n{HOSTILE}"})
    assert drawn(run_html(Run(workspace, entry.id))).count(HOSTILE) == 2
    done, _ = journal.add("data", "docs", "other", {"word": "data", "name": "docs", "sources": [{"kind": "python-docs"}]}, {}, place="here")
    journal.claim(done.id)
    result = {"dataset": "docs", "port": 8000, "passed": False, "models": ["a", "b"], "note": None, "alerts": []}
    journal.move(done.id, "done", result=result)
    text = drawn(run_html(Run(workspace, done.id)))
    assert "port8000" in text and "passedno" in text and "modelsa, b" in text and "note" not in text and "alertsnone" in text


def test_a_watch(workspace):
    rule = Threshold(name="hot", metric="heat", above=3, lasts=5, summary=HOSTILE)
    watch = Watch(workspace, "m")
    watch.directory.mkdir(parents=True)
    (watch.directory / "wanted.json").write_text(json.dumps({"spec": MonitorSpec(name="m", rules=(rule,)).to_dict()}))
    assert "nothing is wrong" in drawn(watch_html(watch)) and "down" in drawn(watch_html(watch))
    for at in (0.0, 6.0):
        Alerts(workspace).apply("m", [rule], {"heat": [({"room": HOSTILE}, 5.0)]}, at, stale=60)
    text = drawn(watch_html(watch))
    assert text.count(HOSTILE) == 3 and "1 alert firing" in text and "above 3" in text and "6 rules" in text and "run-nan" in text


def test_flat_names_every_leaf():
    assert flat({"a": {"b": [1, 2], "c": [{"d": None}]}, "e": {}}) == [("a.b", "[1, 2]"), ("a.c.0.d", "–"), ("e", "{}")]
