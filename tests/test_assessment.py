"""Assessments as kept: their digest, their age, and the one way to a permit."""

from __future__ import annotations

import datetime
import json
import shutil
import time

import pytest

from workbench.assessment import Assessment, permit_for, standing, workspace_policy, write_assessment
from workbench.errors import PolicyError, SpecError
from workbench.policy import Evidence, Permit, Policy
from workbench.registry import Registry
from workbench.workspace import Workspace

MODEL, DATA = "ab" * 32, "cd" * 32
DAY = 86_400


@pytest.fixture
def place(tmp_path) -> Workspace:
    workspace = Workspace(tmp_path / "w").open()
    Registry(workspace).register("model", "m", MODEL, workspace.path("models", "m"), meta={"dataset": {"name": "d", "digest": DATA}})
    return workspace


def good(under: Policy | None = None, **changes) -> list[Evidence]:
    under = under or Policy()
    return [Evidence(**{"metric": r.metric, "value": 0.0, "low": 0.0, "high": 0.01, "sample": 100, "variant": r.variant or "v",
                        "model": MODEL, "dataset": DATA, "policy": under.digest(), "at": time.time(), "beside": {"xz": 3.0},
                        "examples": ({"text": "<b>"},), **changes}) for r in under.rules]


def write(workspace: Workspace, evidence: list[Evidence], *, dataset: str = DATA, policy: Policy | None = None,
          run: str = "r") -> Assessment:
    return write_assessment(workspace, "m", model={"name": "m", "digest": MODEL}, dataset={"name": "d", "digest": dataset}, taught=DATA,
                            policy=policy or Policy(), evidence=evidence, card="# m\n", run=run)


def actions(workspace: Workspace) -> list[str]:
    return [e["action"] for e in workspace.audit.entries()]


def test_it_comes_back_as_it_was_measured(place):
    evidence = good()
    made = write(place, evidence)
    found = Assessment.open("m", place)
    assert found == made and found.evidence == evidence and found.policy == Policy() and found.card == "# m\n"
    assert found.verdict().passed and str(found) == f"assessment of m@{MODEL[:12]}: may be deployed: 4 rules met"
    assert "&lt;b&gt;" in found._repr_html_() and "<b></td>" not in found._repr_html_()
    assert Registry(place).resolve("assessment", "m").meta["passed"] is True
    [entry] = place.audit.entries()
    assert (entry["action"], entry["details"]["model"], entry["details"]["passed"]) == ("verdict", MODEL, True)


def test_the_digest_says_what_was_found_not_when_or_by_which_run(place):
    old = write(place, good(at=time.time() - 80 * DAY), run="one")
    young = write(place, good(), run="two")
    other = write(place, good(high=0.02))
    assert old.digest == young.digest != other.digest
    # Measured again, it is as young as the new measurement, and only the newest numbers count.
    assert standing(place, MODEL, now=time.time() + 50 * DAY).passed
    assert not standing(place, MODEL, now=time.time() + 91 * DAY).passed
    assert json.loads((young.path / "assessment.json").read_text())["run"] == "two"


def test_the_verdict_is_that_of_the_day_it_is_asked_for(place):
    made = write(place, good())
    assert made.verdict(now=time.time() + 89 * DAY).passed
    assert "too old" in made.verdict(now=time.time() + 91 * DAY).words


def test_a_permit_is_given_on_evidence_and_recorded(place):
    assert permit_for(place, MODEL) is None
    write(place, good())
    permit = permit_for(place, MODEL)
    assert permit.digest == MODEL and permit.policy == Policy().digest()
    assert actions(place) == ["refusal", "verdict", "permit"]
    refusal, _, granted = place.audit.entries()
    assert "no evidence" in refusal["details"]["words"] and granted["hash"] == permit.proof
    assert Registry(place).set_alias("model", "m", "production", permit=permit).digest == MODEL
    assert Registry(place).resolve("model", "m@production").digest == MODEL and actions(place)[-1] == "alias"
    assert place.audit.verify() == 4


@pytest.mark.parametrize("changes", [{"model": "ef" * 32}, {"dataset": "ef" * 32}, {"policy": "ef" * 32}, {"at": 0.0}, {"high": 0.9},
                                     {"sample": 5}, {"variant": "easier"}, {"beside": None}])
def test_evidence_of_anything_else_or_too_weak_gives_no_permit(place, changes):
    write(place, good(**changes))
    assert permit_for(place, MODEL) is None
    with pytest.raises(PolicyError):
        Registry(place).set_alias("model", "m", "production", permit=permit_for(place, MODEL))


def test_an_assessment_on_other_data_than_taught_the_model_does_not_count(place):
    made = write(place, good(dataset="ef" * 32), dataset="ef" * 32)
    assert "other data" in made.verdict().words and permit_for(place, MODEL) is None


def test_a_lenient_policy_of_ones_own_opens_no_door(place):
    lenient = Policy.model_validate({"rules": [{"metric": "memorised", "at_most": 1.0, "on": "any"}]})
    assert write(place, good(lenient), policy=lenient).verdict().passed
    assert not standing(place, MODEL).passed and permit_for(place, MODEL) is None


@pytest.mark.parametrize("forge", [
    lambda p: None, lambda p: True, lambda p: Permit(MODEL, p.policy, "0" * 64), lambda p: Permit(MODEL, p.policy, ""),
    lambda p: Permit("ef" * 32, p.policy, p.proof)])
def test_a_permit_made_up_opens_nothing(place, forge):
    write(place, good())
    permit = permit_for(place, MODEL)
    with pytest.raises(PolicyError):
        Registry(place).set_alias("model", f"m@{MODEL[:8]}", "production", permit=forge(permit))


def test_a_permit_of_another_model_or_a_refusal_s_line_opens_nothing(place, monkeypatch):
    Registry(place).register("model", "bad", "ef" * 32, place.path("x"), meta={"dataset": {"digest": DATA}})
    assert permit_for(place, "ef" * 32) is None
    write(place, good())
    permit = permit_for(place, MODEL)
    refusal = place.audit.entries()[0]["hash"]
    for forged in (permit, Permit("ef" * 32, permit.policy, permit.proof), Permit("ef" * 32, permit.policy, refusal)):
        with pytest.raises(PolicyError):
            Registry(place).set_alias("model", "bad", "production", permit=forged)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 2 * 3600)
    with pytest.raises(PolicyError):
        Registry(place).set_alias("model", "m", "production", permit=permit)


def test_a_waiver_in_the_workspace_s_policy_opens_the_door_and_is_recorded(place):
    (place.root / "workbench.toml").write_text('policy = "policy.yaml"\n')
    until = (datetime.date.today() + datetime.timedelta(days=3)).isoformat()
    (place.root / "policy.yaml").write_text("rules: [{metric: memorised, at_most: 0.05}]\nwaivers:\n- {metric: memorised, model: "
                                            f"'{MODEL[:12]}', reason: invented data only, until: '{until}'}}\n")
    workspace = Workspace(place.root)
    policy = workspace_policy(workspace)
    write(workspace, good(policy, high=0.5), policy=policy)
    permit = permit_for(workspace, MODEL)
    assert "invented data only" in workspace.audit.find(permit.proof)["details"]["waived"]["memorised"]
    assert permit_for(workspace, MODEL, now=time.time() + 5 * DAY) is None


def test_a_faulty_policy_file_is_told_with_all_its_faults(place):
    (place.root / "workbench.toml").write_text('policy = "policy.yaml"\n')
    (place.root / "policy.yaml").write_text("rules: [{metric: memorised}, {metrik: bits_per_byte, at_most: 3}]\n")
    with pytest.raises(SpecError) as caught:
        workspace_policy(Workspace(place.root))
    assert {p.path for p in caught.value.problems} == {"rules.0", "rules.1.metric", "rules.1.metrik"}
    assert "policy.yaml" in str(caught.value) and 'did you mean "metric"' in str(caught.value)


@pytest.mark.parametrize("damage", ["removed", "cut", "foreign"])
def test_a_damaged_assessment_is_no_evidence_and_hides_no_other(place, damage):
    write(place, good())
    bad = write(place, good(high=0.5))
    assert not standing(place, MODEL).passed
    if damage == "removed":
        shutil.rmtree(bad.path)
    else:
        (bad.path / "assessment.json").write_text("{" if damage == "cut" else '{"evidence": [{"metric": 1}]}')
    assert standing(place, MODEL).passed


def test_a_model_that_nobody_registered_has_no_standing(place):
    assert not standing(place, "ef" * 32).passed and permit_for(place, "ef" * 32) is None
