"""Waivers as acts: granted only where there is something to waive, in the audit log, at every door, and withdrawn."""

from __future__ import annotations

import datetime
import time

import pytest
from test_assessment import DAY, MODEL, good, place, write  # noqa: F401 - a fixture

from workbench.assessment import compare, doors, permit_for, standing, waive
from workbench.errors import NotFoundError, PolicyError, SpecError
from workbench.policy import Evidence, Policy, amount, explain
from workbench.registry import Registry
from workbench.waivers import granted, withdraw

REASON = "only invented records were used"
SOON = datetime.date.today() + datetime.timedelta(days=3)


def failing(workspace):
    evidence = [e if e.metric != "memorised" else Evidence(**{**e.__dict__, "value": 0.08, "low": 0.04, "high": 0.14}) for e in good()]
    return write(workspace, evidence)


def test_a_waiver_opens_every_door_until_it_is_withdrawn(place):  # noqa: F811
    made = failing(place)
    assert permit_for(place, MODEL) is None and [d["open"] for d in doors(made.verdict())] == [False, False, True]
    grant = waive(place, "m", "memorised", reason=REASON, until=SOON, asked_by="ada")
    assert made.verdict().words == standing(place, MODEL).words == "may be deployed with 1 waiver: 4 rules met, 1 of them waived"
    assert all(d["open"] for d in doors(made.verdict())) and REASON in made.verdict().judgements[1].why
    permit = permit_for(place, MODEL)
    Registry(place).set_alias("model", "m", "production", permit=permit)
    assert not standing(place, MODEL, now=time.time() + 5 * DAY).passed and not made.verdict(now=time.time() + 5 * DAY).passed
    ended = withdraw(place, grant.id[:8], "it was a mistake")
    assert not ended.counts() and ended.withdrawn["reason"] == "it was a mistake"
    assert permit_for(place, MODEL) is None and not made.verdict().passed
    with pytest.raises(NotFoundError):
        withdraw(place, grant.id)
    said = ["verdict", "refusal", "waiver", "permit", "alias", "waiver withdrawn", "refusal"]
    assert [e["action"] for e in place.audit.entries()] == said
    assert place.audit.verify() == 7


@pytest.mark.parametrize(("change", "said"), [({"reason": "because"}, "reason"), ({"metric": "memorized"}, "metric"),
                                              ({"until": datetime.date.today() - datetime.timedelta(days=1)}, "until"),
                                              ({"until": datetime.date.today() + datetime.timedelta(days=400)}, "until"),
                                              ({"until": "soon"}, "until")])
def test_what_is_wrong_with_a_waiver_is_told(place, change, said):  # noqa: F811
    failing(place)
    with pytest.raises(SpecError, match=said):
        waive(place, "m", **{"metric": "memorised", "reason": REASON, "until": SOON, **change})
    assert granted(place) == []


def test_nothing_is_waived_that_is_met_or_that_nobody_measured(place):  # noqa: F811
    with pytest.raises(PolicyError, match="can't stand in"):
        waive(place, "m", "memorised", reason=REASON, until=SOON)
    failing(place)
    with pytest.raises(PolicyError, match="needs no waiver"):
        waive(place, "m", "bits_per_byte", reason=REASON, until=SOON)


def test_a_log_that_was_changed_vouches_for_no_waiver(place):  # noqa: F811
    failing(place)
    waive(place, "m", "memorised", reason=REASON, until=SOON)
    assert standing(place, MODEL).passed
    log = place.audit.path
    log.write_bytes(log.read_bytes().replace(SOON.isoformat().encode(), b"2999-01-01"))
    assert granted(place) == [] and not standing(place, MODEL).passed


def test_an_explanation_names_the_bound_that_decided_and_what_would_turn_it(place):  # noqa: F811
    verdict = failing(place).verdict()
    said = {j.rule.metric: explain(j, Policy()) for j in verdict.judgements}
    assert "upper end" in said["memorised"]["decided"] and "more samples" not in said["memorised"]["change"]
    assert "beyond the bound" in said["memorised"]["change"]  # 0.08 itself is above 0.05
    assert "xz's 3" in said["bits_per_byte"]["decided"] and "to spare" in said["bits_per_byte"]["decided"]
    wide = [Evidence(**{**e.__dict__, "value": 0.02, "low": 0.0, "high": 0.08, "unit": "share of passages"}) for e in good()]
    told = {j.rule.metric: explain(j, Policy()) for j in write(place, wide).verdict().judgements}
    assert "about 400 samples in place of 100" in told["memorised"]["change"] and "8 %" in told["memorised"]["decided"]
    assert amount(0.5, "share") == "50 %"


def test_two_assessments_side_by_side_say_what_moved_beyond_its_interval(place):  # noqa: F811
    before, now = write(place, good()), failing(place)
    rows = {r["metric"]: r for r in compare(before, now)}
    assert rows["memorised"]["moved"] == "up" and rows["memorised"]["stood"] == "pass" and rows["memorised"]["stands"] == "fail"
    assert rows["bits_per_byte"]["moved"] == "within the intervals"
    other = write(place, [Evidence(**{**e.__dict__, "variant": "another"}) for e in good()][:1])
    assert {r["metric"]: r["moved"] for r in compare(other, now)}["bits_per_byte"] == "measured another way"
    assert {r["metric"]: r["moved"] for r in compare(other, now)}["memorised"] == "not comparable"
