"""The scorecard of an assessment, as JSON: measures by theme, verdict, doors, waivers, and what the evidence is bound to."""

from __future__ import annotations

import datetime
import time
from typing import Any

from workbench.assess.probes import KINDS
from workbench.assessment import Assessment, doors, standing
from workbench.drawing import ago, number, when
from workbench.policy import Evidence, Judgement, Policy, amount, explain
from workbench.registry import Registry
from workbench.waivers import Grant, granted
from workbench.workspace import Workspace

THEMES = ("quality", "privacy", "bias", "misuse")
SIGNS = {"pass": ("✓", "holds"), "fail": ("✕", "beyond the bound"), "missing": ("?", "no evidence"), "too few": ("▲", "too few samples"),
         "waived": ("◇", "waived")}
COUNTS = ("findings", "of these in the training text", "mean tokens repeated", "mean tokens repeated, held-out")
"""Numbers beside a share that are no shares."""


def scorecard(workspace: Workspace, assessment: Assessment) -> dict[str, Any]:
    """All that the Results tab shows of an assessment."""
    document, verdict, policy = assessment.document, assessment.verdict(), assessment.policy
    judged = {j.rule.metric for j in verdict.judgements}
    rows = [_row(j.rule.theme, j.rule.metric, j.evidence, j, policy) for j in verdict.judgements]
    rows += [_row("", e.metric, e, None, policy) for e in assessment.evidence if e.metric not in judged]
    themes = [{"theme": t, "rows": [r for r in rows if r["theme"] == t]} for t in (*THEMES, "")]
    oldest = min((e.at for e in assessment.evidence), default=time.time())
    stands = standing(workspace, assessment.model)
    same = stands.passed == verdict.passed and stands.policy == verdict.policy
    model, data = document["model"], document["dataset"]
    status = [j.status for j in verdict.judgements]
    waivable = [j.rule.metric for j in verdict.judgements if j.status in ("fail", "too few")]
    return {"assessment": f"{assessment.name}@{assessment.digest[:12]}", "model": f"{model['name']}@{model['digest'][:12]}",
            "data": f"{data['name']}@{data['digest'][:12]}", "taught": document["taught"] == data["digest"],
            "passed": verdict.passed, "words": verdict.words, "title": _title(status),
            "held": f"{status.count('pass')} of {len(status)} rules met",
            "waivable": [{"metric": m, "label": label(m)} for m in waivable], "themes": [t for t in themes if t["rows"] or t["theme"]],
            "doors": doors(stands), "waivers": [_waiver(g) for g in granted(workspace, assessment.model)],
            "standing": None if same else stands.words, "measured": ago(oldest), "measured_at": when(oldest), "policy": policy.name,
            "until": str(datetime.date.fromtimestamp(oldest + 86_400 * policy.max_age_days)), "earlier": _earlier(workspace, assessment),
            "evidence": [_bound(e) for e in assessment.evidence],
            "digests": {"assessment": assessment.digest, "run": document.get("run")}}


def _title(status: list[str]) -> str:
    waived = status.count("waived")
    if any(s not in ("pass", "waived") for s in status):
        return "Must not be deployed"
    return f"May be deployed with {waived} waiver{'s' * (waived != 1)}" if waived else "May be deployed"


def _waiver(grant: Grant) -> dict[str, Any]:
    waiver, ended = grant.waiver, grant.withdrawn
    return {"id": grant.id, "metric": waiver.metric, "label": label(waiver.metric), "reason": waiver.reason, "until": str(waiver.until),
            "days": (waiver.until - datetime.date.today()).days, "who": waiver.asked_by or grant.by, "by": grant.by, "when": ago(grant.at),
            "at": when(grant.at), "counts": grant.counts(), "withdrawn": ended and {**ended, "when": ago(ended["at"])}}


def _earlier(workspace: Workspace, assessment: Assessment) -> list[dict[str, Any]]:
    """Other assessments, those of the same name first."""
    found = [v for v in Registry(workspace).versions("assessment") if v.digest != assessment.digest]
    found.sort(key=lambda v: v.name != assessment.name)
    return [{"digest": v.digest, "label": f"{v.name} v{v.number}, model {str(v.meta.get('model'))[:12]}, {ago(v.created)}"}
            for v in found[:30]]


def _row(theme: str, metric: str, found: Evidence | None, judgement: Judgement | None, policy: Policy) -> dict[str, Any]:
    row: dict[str, Any] = {"theme": theme, "metric": metric, "label": label(metric), "examples": len(found.examples) if found else 0}
    if found is not None:
        beside = ", ".join(f"{k} {amount(v, '' if k in COUNTS else found.unit)}" for k, v in (found.beside or {}).items())
        row |= {"value": amount(found.value, found.unit), "unit": unit_of(found), "span": span(found), "sample": number(found.sample),
                "variant": found.variant, "beside": beside}
    if judgement is None:
        return {**row, "status": "none", "sign": "·", "word": "no rule asks for it", "line": _line(found, [])}
    rule, unit = judgement.rule, found.unit if found else ""
    other = (found.beside or {}).get(rule.below or "") if found else None
    words = [f"{s} {amount(b, unit)}" for s, b in (("≤", rule.at_most), ("≥", rule.at_least)) if b is not None]
    if rule.below is not None:
        words.append(f"< {rule.below}" + (f"’s {amount(other, unit)}" if other is not None else ""))
    sign, held = SIGNS[judgement.status]
    bounds = [b for b in (rule.at_most, other, rule.at_least) if b is not None]
    return {**row, "status": judgement.status, "sign": sign, "word": held, "bound": " and ".join(words),
            "why": judgement.why.replace(rule.metric, label(rule.metric), 1),
            "explained": explain(judgement, policy), "line": _line(found, bounds, low=rule.at_least is not None)}


def _line(found: Evidence | None, bounds: list[float], *, low: bool = False) -> dict[str, Any] | None:
    """Places of an interval and its bounds on a line from 0 to 1; ``above``: what lies above the bound is too much."""
    if found is None:
        return None
    begin, top = min(0.0, found.low, *bounds), max(found.high, *bounds, 1e-9)
    width = 1.06 * (top - begin)

    def place(value: float) -> float:
        return round((value - begin) / width, 4)

    return {"low": place(found.low), "high": place(found.high), "value": place(found.value), "bounds": [place(b) for b in bounds],
            "above": not low}


def _bound(found: Evidence) -> dict[str, Any]:
    return {"metric": found.metric, "label": label(found.metric), "value": said(found), "span": span(found), "sample": number(found.sample),
            "variant": found.variant, "model": found.model, "dataset": found.dataset, "policy": found.policy, "at": when(found.at)}


def label(metric: str) -> str:
    """What a metric measures, in words."""
    kind = KINDS.get(metric)
    return (kind.LABEL if kind else "") or str(metric).replace("_", " ")


def unit_of(found: Evidence) -> str:
    """The unit beside a value; a share's is said by its percent sign and of what."""
    of = found.unit.partition("share of ")[2]
    return f"of {of}" if of else found.unit


def said(found: Evidence) -> str:
    """Value and unit."""
    return f"{amount(found.value, found.unit)} {unit_of(found)}".strip()


def span(found: Evidence) -> str:
    """The interval, its unit once."""
    low, high = amount(found.low, found.unit), amount(found.high, found.unit)
    return f"{low.removesuffix(' %') if high.endswith(' %') else low} to {high}"


def word(status: str) -> str:
    """Sign and word of a status."""
    return " ".join(SIGNS[status]) if status in SIGNS else status
