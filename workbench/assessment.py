"""An assessment: the evidence about one model, its verdict and where both are kept."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError

from .errors import NotFoundError, SpecError
from .policy import Evidence, Permit, Policy, Verdict, judge, permit
from .registry import Registry
from .spec import problems, read_mapping
from .storage import digest_json, staging, write_atomic
from .workspace import Workspace


@dataclass(frozen=True)
class Assessment:
    """Evidence as it was measured; the verdict is computed anew from the policy each time it is asked."""

    path: Path

    @classmethod
    def open(cls, reference: str, workspace: Workspace | None = None) -> Assessment:
        """The assessment that a reference means."""
        return cls(Registry(Workspace.find(workspace)).resolve("assessment", reference).path)

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
        """The verdict under the policy that it was made for, today."""
        return judge(self.policy, self.evidence, model=self.model, dataset=self.document["taught"], now=now or time.time())

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
    verdict = Assessment(final).verdict()
    Registry(workspace).register("assessment", name, digest, final, run=run,
                                 meta={"model": model["digest"], "passed": verdict.passed, "words": verdict.words})
    workspace.audit.append("verdict", model=model["digest"], assessment=digest, policy=verdict.policy, passed=verdict.passed,
                           words=verdict.words)
    return Assessment(final)


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
    return judge(policy or workspace_policy(workspace), _evidence(workspace, model_digest), model=model_digest,
                 dataset=_taught(workspace, model_digest), now=now or time.time())


def permit_for(workspace: Workspace, model_digest: str, *, now: float | None = None) -> Permit | None:
    """A permit for public doors, or None; what was decided and why goes to the audit log."""
    verdict = standing(workspace, model_digest, now=now)
    waived = {j.rule.metric: j.why for j in verdict.judgements if j.status == "waived"}
    entry = workspace.audit.append("permit" if verdict.passed else "refusal", model=model_digest, policy=verdict.policy,
                                   words=verdict.words, waived=waived)
    return permit(verdict, entry["hash"])


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
