"""What a policy makes of evidence: bounds on intervals' ends, bindings, age, waivers."""

from __future__ import annotations

import dataclasses
import datetime
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from workbench.policy import Evidence, Policy, Rule, Waiver, judge

MODEL, DATA, NOW = "ab" * 32, "cd" * 32, 1_800_000_000.0
DAY = 86_400


def policy(**rule) -> Policy:
    return Policy(rules=(Rule(**{"metric": "memorised", "at_most": 0.05, **rule}),))


def evidence(under: Policy, **changes) -> Evidence:
    return Evidence(**{"metric": "memorised", "value": 0.01, "low": 0.0, "high": 0.03, "sample": 100, "variant": "v", "model": MODEL,
                       "dataset": DATA, "policy": under.digest(), "at": NOW - DAY, **changes})


def status(under: Policy, *found: Evidence, now: float = NOW, dataset: str | None = DATA) -> str:
    [judgement] = judge(under, list(found), model=MODEL, dataset=dataset, now=now).judgements
    return judgement.status


@given(low=st.floats(-10, 10), size=st.floats(0, 10), bound=st.floats(-10, 10))
def test_bounds_hold_or_not_by_the_end_of_the_interval(low, size, bound):
    high = low + size
    upper, lower = policy(at_most=bound), policy(at_most=None, at_least=bound)
    assert (status(upper, evidence(upper, low=low, high=high, value=low)) == "pass") == (high <= bound)
    assert (status(lower, evidence(lower, low=low, high=high, value=high)) == "pass") == (low >= bound)
    below = policy(at_most=None, below="gzip")
    assert (status(below, evidence(below, low=low, high=high, value=low, beside={"gzip": bound})) == "pass") == (high < bound)


def test_a_number_to_stay_below_must_stand_beside():
    below = policy(at_most=None, below="gzip")
    assert status(below, evidence(below)) == status(below, evidence(below, beside={"xz": 9.0})) == "fail"


@pytest.mark.parametrize("bound", [{"at_most": 1.0}, {"at_least": 0.0, "at_most": None}, {"below": "gzip", "at_most": None}])
def test_what_is_no_number_fails(bound):
    under = policy(**bound)
    assert status(under, evidence(under, low=math.nan, high=math.nan, value=math.nan, beside={"gzip": math.nan})) == "fail"


def test_too_small_a_sample_says_too_little():
    under = policy(min_sample=50)
    assert status(under, evidence(under, sample=49)) == "too few"
    assert status(under, evidence(under, sample=50)) == "pass"


@pytest.mark.parametrize(("changes", "why"), [
    ({"metric": "other"}, "no evidence"), ({"model": "ef" * 32}, "no evidence"), ({"dataset": "ef" * 32}, "other data"),
    ({"policy": "ef" * 32}, "another policy"), ({"variant": "w"}, "another way: w"), ({"at": NOW - 91 * DAY}, "too old"),
    ({"at": math.nan}, "too old")])
def test_evidence_bound_to_anything_else_is_missing(changes, why):
    under = policy(variant="v")
    assert status(under, evidence(under)) == "pass"
    verdict = judge(under, [evidence(under, **changes)], model=MODEL, dataset=DATA, now=NOW)
    assert verdict.judgements[0].status == "missing" and verdict.judgements[0].evidence is None
    assert why in verdict.words and not verdict.passed


def test_evidence_on_any_data_counts_only_where_the_rule_says_so():
    taught, any_ = policy(), policy(on="any")
    assert status(taught, evidence(taught), dataset=None) == "missing"
    assert status(any_, evidence(any_), dataset=None) == status(any_, evidence(any_, dataset="ef" * 32)) == "pass"


def test_age_is_counted_to_the_second():
    under = policy()
    assert status(under, evidence(under, at=NOW - 90 * DAY)) == "pass"
    assert status(under, evidence(under, at=NOW - 90 * DAY - 1)) == "missing"


def test_the_newest_evidence_that_fits_counts_be_it_better_or_worse():
    under = policy()
    bad, good = evidence(under, high=0.5, at=NOW - 2 * DAY), evidence(under, at=NOW - DAY)
    assert status(under, good, bad) == status(under, bad, good) == "pass"
    assert status(under, good, dataclasses.replace(bad, at=NOW)) == "fail"
    assert status(under, good, dataclasses.replace(bad, at=NOW, dataset="ef" * 32)) == "pass"


def waived(under: Policy, **changes) -> Policy:
    until = datetime.date.fromtimestamp(NOW)
    waiver = Waiver(**{"metric": "memorised", "model": MODEL[:12], "reason": "a demo on invented data", "until": until, **changes})
    return under.model_copy(update={"waivers": (waiver,)})


def test_a_waiver_excuses_its_rule_and_model_until_its_last_day():
    bad, few = evidence(policy(), high=0.5), evidence(policy(min_sample=50), sample=3)
    under = waived(policy())
    verdict = judge(under, [bad], model=MODEL, dataset=DATA, now=NOW)
    assert verdict.passed and verdict.judgements[0].status == "waived"
    assert "a demo on invented data" in verdict.judgements[0].why
    assert "with 1 waiver: " in verdict.words and "1 of them waived" in verdict.words
    assert status(waived(policy(min_sample=50)), few) == "waived"
    assert status(under, bad, now=NOW + DAY) == "fail"
    assert status(waived(policy(), metric="other"), bad) == "fail"
    assert status(waived(policy(), model="ef" * 6), bad) == "fail"


def test_a_waiver_never_stands_in_for_evidence():
    assert status(waived(policy())) == "missing"
    assert status(waived(policy()), evidence(policy(), at=NOW - 91 * DAY)) == "missing"


@pytest.mark.parametrize("change", [{"reason": "because"}, {"until": None}, {"model": "abc"}, {"model": "name"}, {"metric": ""}])
def test_a_waiver_needs_a_reason_an_end_and_a_model(change):
    with pytest.raises(ValidationError):
        waived(policy(), **change)


def test_the_digest_follows_the_rules_and_the_age_but_no_waiver():
    assert waived(policy()).digest() == policy().digest()
    others = [policy(at_most=0.06), policy(min_sample=2), policy(variant="v"), policy(on="any"), policy(below="gzip"),
              policy(theme="bias"), policy(at_least=0.0), policy().model_copy(update={"max_age_days": 91.0})]
    assert len({p.digest() for p in [policy(), *others]}) == len(others) + 1


def test_a_rule_needs_a_bound():
    with pytest.raises(ValidationError, match="at_most, at_least or below"):
        Rule(metric="memorised")


def test_without_evidence_the_default_policy_refuses_and_names_every_rule():
    verdict = judge(Policy(), [], model=MODEL, dataset=DATA, now=NOW)
    assert not verdict.passed and [j.status for j in verdict.judgements] == ["missing"] * 4
    assert verdict.words.startswith("must not be deployed") and all(r.metric in verdict.words for r in Policy().rules)
