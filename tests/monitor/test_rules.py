"""What a rule sees; the built-in rules; specs that say nothing are refused."""

from __future__ import annotations

import math

import pytest

from workbench.errors import SpecError
from workbench.monitor.rules import BUILTIN, observe, rules_of, sentence
from workbench.monitor.spec import Absence, MonitorSpec, Threshold

SAMPLES = {"heat": [({"room": "a", "floor": "1"}, 5.0), ({"room": "b", "floor": "1"}, 1.0), ({"room": "c", "floor": "2"}, math.nan)]}


@pytest.mark.parametrize(("rule", "seen"), [
    (Threshold(name="x", metric="heat", above=3), {"a": True, "b": False, "c": None}),
    (Threshold(name="x", metric="heat", below=3), {"a": False, "b": True, "c": None}),
    (Threshold(name="x", metric="heat", above=4, below=2), {"a": True, "b": True, "c": None}),
    (Threshold(name="x", metric="heat", above=5), {"a": False, "b": False, "c": None}),
    (Threshold(name="x", metric="heat", above=3, labels={"floor": "2"}), {"c": None}),
    (Threshold(name="x", metric="heat", above=3, labels={"floor": "3"}), {}),
    (Threshold(name="x", metric="cold", above=3), {})])
def test_a_threshold_looks_at_each_series_by_itself(rule, seen):
    assert {o.labels["room"]: o.breached for o in observe(rule, SAMPLES)} == seen


@pytest.mark.parametrize(("rule", "breached"), [
    (Absence(name="x", metric="heat"), False), (Absence(name="x", metric="cold"), True),
    (Absence(name="x", metric="heat", labels={"room": "a"}), False), (Absence(name="x", metric="heat", labels={"room": "z"}), True)])
def test_absence_asks_whether_any_series_is_there(rule, breached):
    [seen] = observe(rule, SAMPLES)
    assert seen.breached is breached and seen.labels == rule.labels


def test_the_builtin_rules_are_there_unless_left_out_and_can_be_replaced_by_name():
    names = ["endpoint-down", "endpoint-errors", "endpoint-slow", "run-stuck", "run-nan"]
    assert [r.name for r in BUILTIN] == names == [r.name for r in rules_of(MonitorSpec())]
    assert rules_of(MonitorSpec(builtin=False)) == ()
    own = Threshold(name="endpoint-slow", metric="workbench_endpoint_p95_seconds", above=0.5)
    assert [r for r in rules_of(MonitorSpec(rules=(own,))) if r.name == "endpoint-slow"] == [own]


def test_an_alert_says_its_summary_or_what_was_asked_and_seen():
    rule = Threshold(name="x", metric="heat", above=3, lasts=10)
    assert sentence(rule, observe(rule, SAMPLES)[0]) == "heat is 5: above 3 for 10 s"
    assert sentence(Threshold(name="x", metric="heat", above=3, summary="too hot"), observe(rule, SAMPLES)[0]) == "too hot"
    missing = Absence(name="x", metric="cold")
    assert sentence(missing, observe(missing, SAMPLES)[0]) == "cold has had no value for 30 s"


@pytest.mark.parametrize(("part", "words"), [
    ({"rules": [{"rule": "threshold", "name": "x", "metric": "heat"}]}, "needs above, below or both"),
    ({"rules": [{"rule": "absence", "name": "x", "metric": m} for m in "ab"]}, "rule's name stands twice: x"),
    ({"webhooks": [{"url": "ftp://x"}]}, "webhooks.0.url"),
    ({"webhooks": [{"url": "http://x"}, {"url": "http://x"}]}, "webhook's url stands twice"),
    ({"rules": [{"rule": "treshold", "name": "x", "metric": "heat"}]}, 'did you mean "threshold"'),
    ({"interval": 0}, "expected a number ≥ 0.1")])
def test_a_spec_that_can_not_work_is_refused(part, words):
    with pytest.raises(SpecError, match=words.replace(".", r"\.")):
        MonitorSpec.load({"word": "monitor", **part})


def test_yaml_goes_round():
    spec = MonitorSpec.load({"word": "monitor", "rules": [{"rule": "threshold", "name": "x", "metric": "m", "above": 1, "for": 3}]})
    assert spec.rules[0].lasts == 3 and MonitorSpec.load(spec.to_yaml()) == spec and "for: 3" in spec.to_yaml()
