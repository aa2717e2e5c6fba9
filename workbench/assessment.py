"""An assessment: the evidence about one model, its verdict and where both are kept."""

from __future__ import annotations

import contextlib
import datetime
import json
import time
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .errors import NotFoundError, PolicyError, Problem, SpecError
from .policy import Evidence, Permit, Policy, Verdict, Waiver, judge, permit
from .registry import PROTECTED, Registry
from .spec import problems, read_mapping
from .storage import digest_json, staging, write_atomic
from .waivers import Grant, in_force, record
from .workspace import Workspace

LONGEST = 366
"""Days that a waiver may last."""


@dataclass(frozen=True)
class Assessment:
    """Evidence as it was measured; the verdict is computed anew from the policy each time it is asked."""

    path: Path
    workspace: Workspace | None = field(default=None, compare=False, repr=False)
    """where waivers are looked up; none: only those of its own policy count"""

    @classmethod
    def open(cls, reference: str, workspace: Workspace | None = None) -> Assessment:
        """The assessment that a reference means."""
        workspace = Workspace.find(workspace)
        return cls(Registry(workspace).resolve("assessment", reference).path, workspace)

    @cached_property
    def document(self) -> dict:
        """The file as it stands: model, dataset, policy, evidence."""
        return json.loads((self.path / "assessment.json").read_text("utf-8"))

    @property
    def name(self) -> str:
        return self.document["name"]

    @property
    def digest(self) -> str:
        return self.document["digest"]

    @property
    def model(self) -> str:
        """Digest of the model."""
        return self.document["model"]["digest"]

    @property
    def evidence(self) -> list[Evidence]:
        return [Evidence(**{**e, "examples": tuple(e["examples"])}) for e in self.document["evidence"]]

    @property
    def policy(self) -> Policy:
        return Policy.model_validate(self.document["policy"])

    def verdict(self, *, now: float | None = None) -> Verdict:
        """The verdict under the policy that it was made for, with the waivers granted since, today."""
        policy = self.policy if self.workspace is None else _with_waivers(self.workspace, self.policy, self.model, now)
        return judge(policy, self.evidence, model=self.model, dataset=self.document["taught"], now=now or time.time())

    @property
    def card(self) -> str:
        """The model card, Markdown."""
        return (self.path / "card.md").read_text("utf-8")

    def _repr_html_(self) -> str:
        from .display import assessment_html

        return assessment_html(self)

    def __str__(self) -> str:
        model = self.document["model"]
        return f"assessment of {model['name']}@{model['digest'][:12]}: {self.verdict().words}"


def write_assessment(workspace: Workspace, name: str, *, model: dict[str, str], dataset: dict[str, str], taught: str | None,
                     policy: Policy, evidence: list[Evidence], card: str, run: str | None = None) -> Assessment:
    """Commit an assessment atomically, register it and write the verdict to the audit log.

    The digest leaves out when and by which run it was measured: the same evidence gives the same digest anywhere.
    Measured again to the same numbers, the assessment becomes as young as the new measurement.

    Parameters
    ----------
    model, dataset : ``{"name": …, "digest": …}`` of what was assessed and on what.
    taught : digest of the dataset that taught the model; None where it does not say.
    """
    rows = [asdict(e) for e in evidence]
    body = {"format": 1, "name": name, "model": model, "dataset": dataset, "taught": taught,
            "policy": policy.model_dump(mode="json"), "policy_digest": policy.digest(),
            "evidence": [{k: v for k, v in row.items() if k != "at"} for row in rows]}
    digest = digest_json(body)
    document = json.dumps({**body, "digest": digest, "run": run, "evidence": rows}, indent=1)
    final = workspace.path("assessments", name, digest)
    with staging(final.parent) as place:
        (place / "assessment.json").write_text(document, "utf-8")
        (place / "card.md").write_text(card, "utf-8")
        place.commit(final)
    if (final / "assessment.json").read_text("utf-8") != document:
        write_atomic(final / "card.md", card)
        write_atomic(final / "assessment.json", document)
    verdict = Assessment(final, workspace).verdict()
    Registry(workspace).register("assessment", name, digest, final, run=run,
                                 meta={"model": model["digest"], "passed": verdict.passed, "words": verdict.words})
    workspace.audit.append("verdict", model=model["digest"], assessment=digest, policy=verdict.policy, passed=verdict.passed,
                           words=verdict.words)
    return Assessment(final, workspace)


def workspace_policy(workspace: Workspace) -> Policy:
    """The policy that the workspace's settings name, or the built-in one.

    Raises
    ------
    SpecError
        With every fault of the file at once.
    """
    path = workspace.settings.policy
    if path is None:
        return Policy()
    mapping, source = read_mapping(workspace.root / path, path)
    try:
        return Policy.model_validate(mapping)
    except ValidationError as error:
        raise SpecError(problems(Policy, error), source=source) from None


def standing(workspace: Workspace, model_digest: str, policy: Policy | None = None, *, now: float | None = None) -> Verdict:
    """What the policy says of a model today, over all evidence that the workspace holds; its ``words`` say it in a line."""
    policy = _with_waivers(workspace, policy or workspace_policy(workspace), model_digest, now)
    return judge(policy, _evidence(workspace, model_digest), model=model_digest, dataset=_taught(workspace, model_digest),
                 now=now or time.time())


def permit_for(workspace: Workspace, model_digest: str, *, now: float | None = None) -> Permit | None:
    """A permit for public doors, or None; what was decided and why goes to the audit log."""
    verdict = standing(workspace, model_digest, now=now)
    waived = {j.rule.metric: j.why for j in verdict.judgements if j.status == "waived"}
    entry = workspace.audit.append("permit" if verdict.passed else "refusal", model=model_digest, policy=verdict.policy,
                                   words=verdict.words, waived=waived)
    return permit(verdict, entry["hash"])


def waive(workspace: Workspace, model: str, metric: str, *, reason: str, until: datetime.date | str, asked_by: str = "") -> Grant:
    """Grant a waiver from one rule to one model version: an act in the audit log, which counts at every door from then on.

    Parameters
    ----------
    model : reference of the model version.
    until : last day on which it counts.

    Raises
    ------
    SpecError
        With everything that is wrong with it: no such rule, too short a reason, an end that is past or too far away.
    PolicyError
        Where nothing is to be waived: the rule is met, or nobody measured what it asks for.
    """
    version = Registry(workspace).resolve("model", model)
    faults: list[Problem] = []
    try:
        waiver = Waiver(metric=metric, model=version.digest, reason=reason.strip(), until=until, asked_by=asked_by.strip())
    except ValidationError as error:
        faults = problems(Waiver, error)
    else:
        today = datetime.date.today()
        if not today <= waiver.until <= today + datetime.timedelta(days=LONGEST):
            faults.append(Problem("until", f"received {waiver.until}; expected a day from today to {LONGEST} days from now"))
    verdict = standing(workspace, version.digest)
    judgement = next((j for j in verdict.judgements if j.rule.metric == metric), None)
    if judgement is None:
        faults.append(Problem("metric", f"received {metric!r}; expected one that the policy has a rule for: "
                              f"{', '.join(j.rule.metric for j in verdict.judgements)}"))
    if faults:
        raise SpecError(faults, source="waiver")
    if judgement.status == "missing":
        raise PolicyError(f"{metric} has no evidence, and a waiver can't stand in for it", where=version.reference,
                          hint=f"Measure it: workbench assess {version.name}")
    if judgement.status == "pass":
        raise PolicyError(f"{metric} needs no waiver: the rule is met", where=version.reference)
    return record(workspace, waiver)


def doors(verdict: Verdict) -> list[dict[str, Any]]:
    """What a verdict opens and what it keeps shut: ``{"door", "open", "why"}``."""
    shut = [j.rule.metric for j in verdict.judgements if j.status not in ("pass", "waived")]
    waived = [j.rule.metric for j in verdict.judgements if j.status == "waived"]
    why = f"shut by {', '.join(shut)}" if shut else f"opened by the waiver of {', '.join(waived)}" if waived else "every rule is met"
    found = [{"door": f"the alias {alias}", "open": not shut, "why": why} for alias in sorted(PROTECTED)]
    found.append({"door": "an endpoint that others can reach (any host but loopback)", "open": not shut, "why": why})
    found.append({"door": "an endpoint on this machine (loopback)", "open": True, "why": "it says so in a warning" if shut else "always"})
    return found


def compare(before: Assessment, now: Assessment) -> list[dict[str, Any]]:
    """Each measure of two assessments side by side: ``metric``, ``before`` and ``now`` (evidence, status), and what ``moved``.

    It moved only where the 95 % intervals do not touch and it was measured in the same way.
    """
    sides = [{j.rule.metric: (j.evidence, j.status) for j in a.verdict().judgements} for a in (before, now)]
    for side, assessment in zip(sides, (before, now), strict=True):
        for found in assessment.evidence:
            if side.get(found.metric, (None, None))[0] is None:
                side[found.metric] = (found, side.get(found.metric, (None, "no rule"))[1])
    rows = []
    for metric in dict.fromkeys([*sides[1], *sides[0]]):
        (was, stood), (found, stands) = (side.get(metric, (None, "not measured")) for side in sides)
        moved = "not comparable"
        if was and found and was.variant == found.variant:
            moved = "up" if found.low > was.high else "down" if found.high < was.low else "within the intervals"
        elif was and found:
            moved = "measured another way"
        rows.append({"metric": metric, "before": was, "now": found, "stood": stood, "stands": stands, "moved": moved})
    return rows


def _with_waivers(workspace: Workspace, policy: Policy, model: str, now: float | None) -> Policy:
    return policy.model_copy(update={"waivers": (*policy.waivers, *in_force(workspace, model, now))})


def _evidence(workspace: Workspace, model_digest: str) -> list[Evidence]:
    found = []
    for version in Registry(workspace).versions("assessment"):
        if version.meta.get("model") == model_digest:
            # An assessment that was deleted or damaged is no evidence; the others still are.
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                found += Assessment(version.path).evidence
    return found


def _taught(workspace: Workspace, model_digest: str) -> str | None:
    try:
        return (Registry(workspace).by_digest("model", model_digest).meta.get("dataset") or {}).get("digest")
    except NotFoundError:
        return None
