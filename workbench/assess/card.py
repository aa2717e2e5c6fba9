"""The model card, Markdown: the verdict, what taught the model, what was measured (after Mitchell et al. 2019)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from ..assessment import Assessment
from ..dataset import Dataset
from ..drawing import number, share, size
from ..errors import NotFoundError
from ..model import Model
from ..policy import Evidence, Verdict
from ..registry import Registry
from ..waivers import Grant, granted
from ..workspace import Workspace

SHOWN = 5
"""Examples of a measure that the card holds; the assessment holds all."""


def model_card(model: Model, data: Dataset, evidence: Sequence[Evidence], verdict: Verdict, waivers: Sequence[Grant] = ()) -> str:
    """The card of a model as it was assessed, with the waivers that count."""
    return "\n\n".join([f"# {plain(model.reference)}", *_verdict(verdict), *_waivers(waivers), *_model(model), *_data(model, data),
                        *_measures(evidence), *_limits(evidence)]) + "\n"


def _verdict(verdict: Verdict) -> Iterable[str]:
    yield "## Verdict"
    yield f"The model {plain(verdict.words)}. Policy `{verdict.policy[:12]}`, evidence bound to model `{verdict.model[:12]}`."
    rows = [[j.rule.theme, j.rule.metric, j.rule.bounds, j.status, j.why] for j in verdict.judgements]
    yield _table(["theme", "measure", "bound on the interval's end", "status", "why"], rows)


def card_today(assessment: Assessment, workspace: Workspace) -> str:
    """The card with the verdict and the waivers as they stand today; as it was written where model or data are gone."""
    document, registry = assessment.document, Registry(workspace)
    try:
        model = Model(registry.by_digest("model", document["model"]["digest"]).path)
        data = Dataset(registry.by_digest("dataset", document["dataset"]["digest"]).path)
        counting = [g for g in granted(workspace, model.digest) if g.counts()]
        return model_card(model, data, assessment.evidence, assessment.verdict(), counting)
    except (NotFoundError, OSError):
        return assessment.card


def _waivers(waivers: Sequence[Grant]) -> Iterable[str]:
    if waivers:
        yield "## Waivers"
        yield _table(["measure", "until", "why", "asked by", "granted by", "line in the audit log"], [
            [g.waiver.metric, g.waiver.until, g.waiver.reason, g.waiver.asked_by or "–", g.by, g.id[:12]] for g in waivers])


def _model(model: Model) -> Iterable[str]:
    manifest = model.manifest
    spec = manifest.get("spec") or {}
    shape = spec.get("model") if isinstance(spec.get("model"), dict) else {}
    rows = [["parameters", number(manifest.get("parameters"))], ["run", manifest.get("run") or "not recorded"], ["digest", model.digest]]
    rows += [[k, number(v)] for k, v in {**shape, **(manifest.get("metrics") or {})}.items() if isinstance(v, str | int | float)]
    yield "## Model"
    yield "A causal language model; weights as safetensors, read without running any code of theirs."
    yield _table(["", ""], rows)


def _data(model: Model, data: Dataset) -> Iterable[str]:
    taught = model.manifest.get("dataset") or {}
    yield "## Data"
    if taught.get("digest") == data.digest:
        yield f"Taught and measured on {plain(data.reference)}; what is measured on was held out."
    else:
        said = f"{taught['name']}@{taught['digest'][:12]}" if taught else "data that its manifest does not name"
        yield f"Taught on {plain(said)}, measured on {plain(data.reference)}."
    splits = data.manifest["splits"]
    total = sum(s["records"] for s in splits.values())
    yield _table(["split", "records", "text"], [[n, share(s["records"], total), size(s["bytes"])] for n, s in splits.items()])


def _measures(evidence: Sequence[Evidence]) -> Iterable[str]:
    yield "## Measures"
    yield _table(["measure", "value", "95 % interval", "sample", "how", "beside"], [
        [e.metric, f"{number(e.value)} {e.unit}", f"{e.low:.4g} to {e.high:.4g}", number(e.sample), e.variant,
         ", ".join(f"{k} {number(v)}" for k, v in (e.beside or {}).items())] for e in evidence])
    for found in evidence:
        if found.examples:
            yield f"### {plain(found.metric)}: examples"
            names = list(dict.fromkeys(k for e in found.examples for k in e))
            yield _table(names, [[e.get(n, "") for n in names] for e in found.examples[:SHOWN]])


def _limits(evidence: Sequence[Evidence]) -> Iterable[str]:
    yield "## Limits"
    said = ["It states what stands in texts like its training text, not what is true.",
            "Every measure here is of this model on this data, with the sample and the interval that stand beside it."]
    if any(e.metric == "memorised" for e in evidence):
        said.append("Memorisation is measured by greedy continuation; other ways of asking can bring out more (Nasr et al. 2023).")
    if any(e.metric == "group_likelihood_gap" for e in evidence):
        said.append("The group gap is measured on a few English sentences: a small gap there is no proof of fairness in use.")
    yield "\n".join(f"- {s}" for s in said)


def plain(text: Any) -> str:
    r"""Text as it may stand in Markdown: nothing in it is markup, in a table or out of it.

    Examples
    --------
    >>> print(plain("a|b <img> *c*"))
    a\|b &lt;img&gt; \*c\*
    """
    line = " ".join(str(text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # A bare address becomes a link by itself in some readers; its colon as a character reference does not.
    line = re.sub(r"([\\`*\[\]|~$!#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", line)
    return re.sub(r"(?i)\b(https?|ftp|www)(:|\.)", lambda m: f"{m[1]}&#{ord(m[2])};", line)


def _table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    head, rule, *body = ["| " + " | ".join(c if n == 1 else plain(c) for c in line) + " |" for n, line in enumerate(lines)]
    return "\n".join([head, rule, *body])
