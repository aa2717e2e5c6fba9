"""The assess panel: a scorecard by theme, what stands behind every number, why a verdict is as it is, waivers, the card."""

from __future__ import annotations

import json
import threading
import time
from typing import Any, ClassVar

import traitlets

from workbench.assess.card import card_today
from workbench.assessment import Assessment, compare, waive, workspace_policy
from workbench.errors import WorkbenchError
from workbench.events import Event
from workbench.policy import Evidence, amount
from workbench.registry import Registry
from workbench.runs import Run
from workbench.waivers import granted, withdraw

from .assess_examples import example
from .feed import aside
from .panel import Panel, slow
from .scorecard import label, said, scorecard, span, word

SOON = 7
"""Days before its end from which a waiver is spoken of."""


class AssessPanel(Panel):
    """Measures a model against the rules it must meet: quality, privacy, bias, misuse."""

    WORD: ClassVar[str] = "assess"
    TITLE: ClassVar[str] = "Ethics and quality"
    ABOUT: ClassVar[str] = ("Measures a model against the rules it must meet: quality, privacy, bias, misuse. Every number comes with its "
                            "interval, its sample and the examples behind it; the verdict decides what others may reach.")
    EXAMPLE: ClassVar[dict[str, Any]] = {"model": "python-docs-lm"}
    MAIN: ClassVar[tuple[str, ...]] = ("model", "data", "probes")
    MODULES: ClassVar[tuple[str, ...]] = ("assess",)

    probes = traitlets.List().tag(sync=True)
    """what each probe of the run shown is at: ``{"name", "label", "state", "share", "found"}``"""

    def __init__(self, *arguments: Any, **known: Any):
        self._verdict: dict[str, Any] = {}
        self._measured: dict[str, dict[str, Any]] = {}
        self._measuring = threading.Lock()
        super().__init__(*arguments, **known)

    # Live ----------------------------------------------------------------------------------------------------------------------

    def attach(self, run: Run | str) -> None:
        super().attach(run)
        with self._measuring:
            self._measured = {}
        self._verdict = {}
        self.alive({}, self.watch.run.events(kinds=("probe",)))

    def alive(self, fresh: dict[str, Any], events: list[Event]) -> None:  # noqa: ARG002 - of points nothing is needed
        with self._measuring:
            for event in events:
                if event.kind == "probe" and self._measured.get(event.name, {}).get("state") != "done":
                    found = event.data.get("found") or {}
                    unit = found.get("unit", "")
                    told = f"{amount(found['value'], unit)} {'' if unit.startswith('share') else unit}".strip() if found else ""
                    self._measured[event.name] = {"state": event.data.get("state", "running"), "share": event.value, "found": told}
            spec = self._ran or {}
            names = [p.get("probe") for p in spec.get("probes") or () if isinstance(p, dict)] or list(self._measured)
            state = self.watch.state if self.watch is not None else ""
            shown = []
            for name in names:
                known = self._measured.get(name) or {"state": "waiting", "share": 0.0, "found": ""}
                if known["state"] == "running" and state in ("failed", "stopped"):
                    known = {**known, "state": state}
                shown.append({"name": name, "label": label(name), **known})
        if shown != self.probes:
            self.probes = shown

    # Results -------------------------------------------------------------------------------------------------------------------

    def made(self, run: Run) -> dict[str, Any]:
        assessment = run.output
        if assessment is None:
            return {}
        made = scorecard(self.workspace, assessment)
        self._verdict = made
        self._attend()
        return made

    def next_step(self, run: Run) -> dict[str, Any] | None:
        model = Assessment.open(f"{run.result['assessment']}@{run.result['digest']}", self.workspace).document["model"]
        return {"label": "Put it up as an endpoint", "word": "serve",
                "spec": {"name": model["name"], "models": [{"model": f"{model['name']}@{model['digest'][:12]}"}]}}

    def needs(self) -> dict[str, Any] | None:
        made = self._verdict
        if not made or self.watch is None or self.watch.entry.state != "done":
            return None
        look = {"label": "See why", "tab": "results"}
        if not made["passed"]:
            rows = [r for theme in made["themes"] for r in theme["rows"]]
            broken = [f"{r['label']}: {r['word']}" for r in rows if r["status"] not in ("pass", "waived", "none")]
            more = f", and {len(broken) - 2} more" if len(broken) > 2 else ""
            return {"level": "warning", "text": f"{made['model']} must not be deployed. {'; '.join(broken[:2])}{more}", "action": look}
        ending = [w for w in made["waivers"] if w["counts"] and w["days"] <= SOON]
        if ending:
            first = min(ending, key=lambda w: w["days"])
            text = f"The waiver of {label(first['metric'])} ends {in_days(first['days'])}: then the rule blocks again."
            return {"level": "info", "text": text, "action": look}
        return None

    # What the page asks --------------------------------------------------------------------------------------------------------

    def act_example(self) -> None:
        """Begin with the newest model that is here."""
        names = [v.name for v in Registry(self.workspace).versions("model")]
        self.editor.replace({"model": names[0]} if names else self.EXAMPLE)

    @slow
    def ask_rules(self) -> dict[str, Any]:
        """What the policy asks, and whether the probes of the spec measure it."""
        spec = self.editor.spec
        own = spec is not None and spec.policy is not None
        policy = spec.policy if own else workspace_policy(self.workspace)
        measured = {p.probe for p in spec.probes} if spec is not None else set()
        rows = [{"theme": r.theme, "metric": r.metric, "label": label(r.metric), "bounds": r.bounds, "min_sample": r.min_sample,
                 "measured": r.metric in measured, "on": r.on} for r in policy.rules]
        source = "this spec" if own else self.workspace.settings.policy or "built in"
        return {"name": policy.name, "source": source, "digest": policy.digest()[:12], "rows": rows, "days": policy.max_age_days}

    @slow
    def ask_behind(self, metric: str, index: int = 0, whole: bool = False) -> dict[str, Any]:
        """One example behind a number, for the reader; ``whole``: the record that it comes from."""
        assessment = self._assessment()
        found = next((e for e in assessment.evidence if e.metric == metric), None)
        examples = [e for e in found.examples if isinstance(e, dict)] if found else []
        if not 0 <= index < len(examples):
            return {"total": len(examples), "segments": [], "note": "No examples were kept."}
        return {"total": len(examples), **example(self.workspace, assessment, found, examples[index], whole=whole)}

    @slow
    def ask_card(self) -> dict[str, str]:
        """The model card with today's verdict, Markdown."""
        assessment = self._assessment()
        return {"text": card_today(assessment, self.workspace), "name": f"{assessment.name}-card.md"}

    @slow
    def ask_export(self) -> dict[str, str]:
        """The assessment as it is kept, with today's verdict and the waivers: JSON."""
        assessment = self._assessment()
        verdict = assessment.verdict()
        told = {"verdict": {"passed": verdict.passed, "words": verdict.words, "at": round(time.time(), 3),
                            "rules": [{"metric": j.rule.metric, "status": j.status, "why": j.why} for j in verdict.judgements]},
                "waivers": [{"waiver": g.id, "granted_by": g.by, "at": g.at, "counts": g.counts(), "withdrawn": g.withdrawn,
                             **g.waiver.model_dump(mode="json")} for g in granted(self.workspace, assessment.model)]}
        text = json.dumps({**assessment.document, **told}, indent=1, ensure_ascii=False)
        return {"text": text, "name": f"{assessment.name}-assessment.json"}

    @slow
    def ask_compare(self, digest: str) -> list[dict[str, Any]]:
        """Each measure of an earlier assessment beside those of this one."""
        version = Registry(self.workspace).by_digest("assessment", digest)
        rows = compare(Assessment(version.path, self.workspace), self._assessment())

        def side(found: Evidence | None) -> dict[str, Any] | None:
            return {"text": said(found), "span": span(found)} if found else None

        return [{"metric": r["metric"], "label": label(r["metric"]), "before": side(r["before"]), "now": side(r["now"]),
                 "stood": word(r["stood"]), "stands": word(r["stands"]), "moved": r["moved"]} for r in rows]

    @slow
    def act_waive(self, metric: str, reason: str = "", who: str = "", until: str = "") -> str:
        """Grant a waiver: an act in the audit log."""
        document = self._assessment().document["model"]
        grant = waive(self.workspace, f"{document['name']}@{document['digest']}", metric, reason=reason, until=until, asked_by=who)
        self._again()
        return grant.id

    @slow
    def act_withdraw(self, waiver: str, reason: str = "") -> None:
        """End a waiver before its last day."""
        withdraw(self.workspace, waiver, reason)
        self._again()

    def _assessment(self) -> Assessment:
        result = self.watch.run.result if self.watch is not None else None
        if not result:
            raise WorkbenchError("nothing was assessed yet")
        return Assessment.open(f"{result['assessment']}@{result['digest']}", self.workspace)

    def _again(self) -> None:
        """What came out is looked at again: a waiver changed the verdict."""
        if self.watch is not None:
            aside(self._results, self.watch)


def in_days(days: int) -> str:
    """When, in words."""
    return "today" if days <= 0 else "tomorrow" if days == 1 else f"in {days} days"
