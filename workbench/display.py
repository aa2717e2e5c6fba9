"""How datasets, models, assessments, endpoints and runs draw themselves; HTML that needs no script and no network."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from . import exhibits
from .coordinates import best_of, coordinates_svg, trial_rows
from .drawing import (
    COLOURS,
    STYLE,
    Drawing,
    Markup,
    ago,
    curve_svg,
    curves,
    duration,
    escape,
    facts_html,
    fold,
    frame,
    head,
    number,
    pill,
    share,
    size,
    table,
    table_html,
    table_text,
    when,
)

if TYPE_CHECKING:
    from .assessment import Assessment
    from .dataset import Dataset
    from .endpoint import Endpoint
    from .model import Model
    from .monitor.watch import Watch
    from .runs import Run
    from .workspace import Workspace

__all__ = ["COLOURS", "STYLE", "Drawing", "Markup", "ago", "assessment_html", "curve_svg", "curves", "dataset_html", "duration",
           "endpoint_html", "escape", "facts_html", "frame", "model_html", "number", "run_html", "share", "size", "table",
           "table_html", "table_text", "watch_html", "when"]


FIRST = {"chat": 3, "preference": 2, "abc": 2, "midi": 1, "image": 12, "clip": 8}
"""form -> records that are shown of a dataset"""


def dataset_html(dataset: Dataset) -> str:
    """Splits, what was dropped and why, its first records where they are more than text, where it came from, and the card."""
    manifest = dataset.manifest
    splits = manifest["splits"]
    total, weight = sum(s["records"] for s in splits.values()), sum(s["bytes"] for s in splits.values())
    parts = [head("dataset", dataset.reference, f"{total:,} records, {size(weight)}")]
    rows = [[n, s["records"], f"{100 * s['records'] / max(total, 1):.1f} %", size(s["bytes"])] for n, s in splits.items()]
    content = "text" if dataset.modality == "text" else "content"
    parts += [Markup('<div class="wb-grid">'), table_html(["split", "records", "share", content], rows, "Splits")]
    if (dropped := drop_counts(manifest)):
        read = total + sum(c for _, _, c in dropped)
        rows = [[s, r, share(c, read)] for s, r, c in dropped]
        parts.append(table_html(["step", "reason", "records"], rows, "Dropped, and kept aside"))
    parts.append(Markup("</div>"))
    if dataset.form in FIRST:
        shown = [exhibits.record_html(dataset.form, r, manifest.get("labels") or ()) for r in dataset.first(FIRST[dataset.form])]
        parts.append(Markup(f"<div><b>First records</b><div>{''.join(shown)}</div></div>"))
    parts.append(_made(manifest))
    if (dataset.path / "card.md").exists():
        parts.append(fold("Data card", f"<pre>{escape(dataset.card)}</pre>"))
    return frame(*parts)


def drop_counts(manifest: dict[str, Any]) -> list[tuple[str, str, int]]:
    """(step, reason, records) of everything that was dropped, in the order of the steps."""
    drops = manifest.get("drops") or {}
    if isinstance(drops, dict):
        return [(step, reason, int(count)) for step, reasons in drops.items() for reason, count in reasons.items()]
    return [(d["step"], d["reason"], int(d["records"])) for d in drops]


def model_html(model: Model) -> str:
    """Size, the data that taught it, its measures, its files and the card."""
    manifest = model.manifest
    taught = manifest.get("dataset") or {}
    facts = {"parameters": manifest.get("parameters"), "taught by": _reference(taught)}
    facts |= {_words(k): v for k, v in (manifest.get("metrics") or {}).items() if isinstance(v, int | float)}
    weights = model.path / "model.safetensors"
    if weights.exists():
        facts["weights"] = f"model.safetensors, {size(weights.stat().st_size)}"
    parts = [head("model", model.reference, f"{manifest.get('parameters', 0):,} parameters"), facts_html(facts), _made(manifest)]
    if model.samples:
        parts.insert(2, exhibits.picture_html(model.samples, "made by it"))
    if (model.path / "card.md").exists():
        parts.append(fold("Model card", f"<pre>{escape(model.card)}</pre>"))
    return frame(*parts)


def assessment_html(assessment: Assessment) -> str:
    """The verdict, each measure with its interval against its bound, and examples."""
    document, verdict = assessment.document, assessment.verdict()
    parts = [head("assessment of", _reference(document["model"]), pill("pass" if verdict.passed else "fail")),
             Markup(f"<p><b>{escape(verdict.words[:1].upper() + verdict.words[1:])}.</b></p>")]
    rows = []
    for judgement in verdict.judgements:
        rule, found = judgement.rule, judgement.evidence
        beside = ", ".join(f"{k} {number(v)}" for k, v in (found.beside or {}).items()) if found else ""
        rows.append([rule.theme, _words(rule.metric), f"{found.value:.4g} {found.unit}".strip() if found else None,
                     f"{found.low:.4g} to {found.high:.4g}" if found else None,
                     _interval(found.low, found.high, found.value, judgement.at_most, rule.at_least) if found else None,
                     rule.bounds, found.sample if found else None, beside, pill(judgement.status)])
    headers = ["theme", "measure", "value", "95 % interval", "against the bound", "bound", "sample", "beside", ""]
    parts.append(table_html(headers, rows))
    judged = {j.rule.metric for j in verdict.judgements}
    for evidence in assessment.evidence:
        if evidence.metric not in judged:
            said = f"{_words(evidence.metric)}: {number(evidence.value)} (no rule asks for it)"
            parts.append(Markup(f'<p class="wb-note">{escape(said)}</p>'))
        shown = [e for e in evidence.examples if isinstance(e, dict)][:8]
        if shown:
            names = list(dict.fromkeys(k for e in shown for k in e))
            body = table_html(names, [[_cell(e.get(n)) for n in names] for e in shown])
            parts.append(fold(f"{_words(evidence.metric)}: examples ({evidence.variant})", body))
    parts.append(facts_html({"data": _reference(document["dataset"]), "policy": document["policy_digest"][:12]}))
    return frame(*parts)


def endpoint_html(endpoint: Endpoint) -> str:
    """Where it answers, which models take which share, its replicas, and how to ask it."""
    document, alive = endpoint.document, endpoint.alive
    models = document.get("models") or []
    total = sum(m.get("weight", 0) for m in models) or 1
    rows = [[_reference(m), f"{100 * m.get('weight', 0) / total:.0f} %"] for m in models]
    parts = [head("endpoint", document["name"], pill("up" if alive else "down")),
             facts_html({"address": endpoint.address, "token in": str(endpoint.token_file),
                         "since": when(document["started"]) if document.get("started") else "–"}),
             Markup('<div class="wb-grid">'), table_html(["model", "traffic"], rows, "Traffic")]
    if (replicas := document.get("replicas")):
        rows = [[f"pid {r.get('pid')}", str(r.get("digest", ""))[:12], str(r.get("state", ""))] for r in replicas]
        parts.append(table_html(["replica", "model", "state"], rows, "Replicas"))
    parts += [Markup("</div>"), fold("Ask it", "".join(f"<pre>{escape(line)}</pre>" for line in endpoint.client_code().values()))]
    return frame(*parts)


def watch_html(watch: Watch) -> str:
    """Whether it watches and where its metrics are; every rule; alerts that go on, then those that ended."""
    alerts = watch.alerts(limit=50)
    facts = {"metrics": watch.metrics_url or "–"}
    if watch.alive:
        facts["since"] = when(watch.document["started"])
    parts = [head("monitor", watch.name, pill("up" if watch.alive else "down"), _alarm(sum(a.firing for a in alerts))), facts_html(facts)]
    if alerts:
        rows = [[pill("firing" if a.firing else "ended"), a.rule, ", ".join(f"{k} {v}" for k, v in a.labels.items()), a.summary,
                 None if a.value is None else float(a.value), when(a.began), duration((a.ended or time.time()) - a.began)]
                for a in sorted(alerts, key=lambda a: not a.firing)]
        parts.append(table_html(["", "rule", "of", "what it means", "value", "began", "lasted"], rows, "Alerts"))
    rows = [[r.name, r.metric, _condition(r), f"{r.lasts:g} s", r.summary] for r in watch.rules]
    parts.append(fold(f"{len(rows)} rules", table_html(["rule", "metric", "when", "for", "what it means"], rows)))
    return frame(*parts)


def _alarm(firing: int) -> str:
    return f"{firing} alert{'s' * (firing != 1)} firing" if firing else "nothing is wrong"


def _condition(rule: Any) -> str:
    bounds = (("above", getattr(rule, "above", None)), ("below", getattr(rule, "below", None)))
    return " or ".join(f"{word} {number(float(b))}" for word, b in bounds if b is not None) or "no value"


def trace_drawing(trace: dict[str, Any], workspace: Workspace) -> Drawing:
    """An answer with the stretches marked that stand word for word in the training text, and the records where they stand."""
    answer, found = trace["answer"]["text"], stretches(trace)
    apart: list[dict[str, Any]] = []
    for span in found:  # the longest first: where two overlap, it is the one that is marked
        if all(span["end"] <= s["start"] or span["start"] >= s["end"] for s in apart):
            apart.append(span)
    marked, place = "", 0
    for span in sorted(apart, key=lambda s: s["start"]):
        marked += escape(answer[place:span["start"]]) + _MARK + escape(answer[span["start"]:span["end"]]) + "</mark>"
        place = span["end"]
    marked += escape(answer[place:])
    asked = trace["answer"]["asked"].get("prompt") or ""
    rows, lines = [], [f"asked     {asked!r}", f"answered  {answer!r}"]
    for span in found[:3]:
        record = span["records"][0]
        before, stretch, after = words_around(trace, record, workspace)
        where = f"{record['source']}, {record['locator']}"
        rows.append([len(span["text"]), span["occurrences"], where,
                     Markup(f"{escape(before)}{_MARK}{escape(stretch)}</mark>{escape(after)}")])
        lines.append(f"taught by {where}: {before}»{stretch}«{after}")
    parts = [head("answer", trace["id"], _reference(trace.get("model") or {})), Markup(f'<p style="white-space:pre-wrap"><span '
             f'class="wb-note">{escape(asked)}</span>{marked}</p>')]
    parts.append(table_html(["characters", "times", "taught by", "the record's words"], rows) if rows else
                 Markup('<p class="wb-note">No stretch of it stands in the training text.</p>'))
    return Drawing(frame(*parts), "\n".join(lines))


_MARK = '<mark style="background:#E69F0066;color:inherit">'


def stretches(trace: dict[str, Any]) -> list[dict[str, Any]]:
    """The spans of a trace that name a record, the longest first."""
    return sorted((s for s in trace.get("spans") or [] if s.get("records")), key=lambda s: -len(s["text"]))


def words_around(trace: dict[str, Any], record: dict[str, Any], workspace: Workspace, width: int = 120) -> tuple[str, str, str]:
    """A record's own words: before a stretch, the stretch, after it; empty where the record is gone."""
    from .dataset import Dataset
    from .errors import WorkbenchError

    taught = trace.get("dataset") or {}
    try:
        text = Dataset.open(f"{taught['name']}@{taught['digest']}", workspace).record(record["id"])["text"]
    except (WorkbenchError, KeyError, OSError):
        return "", "", ""
    start, end = record["start"], record["end"]
    return ("…" * (start > width) + text[max(0, start - width):start], text[start:end],
            text[end:end + width] + "…" * (end + width < len(text)))


def run_html(run: Run) -> str:
    """State, what was asked, how far it is, its curves, what came of it or why it failed."""
    entry = run.entry
    parts = [head(f"{entry.word} run", entry.id, pill(entry.state), _time_of(entry))]
    if entry.state in ("queued", "running", "stopping") and (progress := run.progress):
        parts.append(_progress(progress))
    if entry.result:
        parts.append(facts_html({_words(k): _fact(k, v) for k, v in entry.result.items() if v is not None and not isinstance(v, dict)}))
    if entry.failure:
        parts.append(Markup(f"<p><b>{escape(str(entry.failure.get('what', 'failed')).splitlines()[0])}</b></p>"))
        parts.append(Markup(f"<pre>{escape(entry.failure.get('traceback') or entry.failure.get('what', ''))}</pre>"))
    parts.append(trials_html(run))
    drawn = [curve_svg({n: points}, "step", _words(n), 300, 150) for n in _curve_names(run) if len(points := run.curve(n)) > 1]
    if drawn:
        parts.append(Markup('<div class="wb-grid">' + "".join(drawn) + "</div>"))
    parts.append(samples_html(run))
    parts.append(fold("Spec", table_html(["field", "value"], [[k, v] for k, v in flat(_changed(run))])))
    return frame(*parts)


def trials_html(run: Run) -> Markup:
    """Trials of a sweep as parallel coordinates and as a table, the best first; nothing where it is none."""
    marks = run.events(kinds=("mark",)) if run.entry.spec.get("sweep") else []
    rows = trial_rows([{"value": e.value, **e.data} for e in marks if e.name == "trial"])
    if not rows:
        return Markup("")
    measure = (run.result or {}).get("measure") or "value"
    best, paths = best_of(rows), list(dict.fromkeys(p for r in rows for p in r["values"]))
    order = sorted(rows, key=lambda r: (r["trial"] != best, r["state"] != "complete", r["value"] is None, r["value"] or 0.0))
    told = [[r["trial"], *(_cell(r["values"].get(p)) for p in paths), _cell(r["value"]),
             r["state"] + ", the best" * (r["trial"] == best), r["run"] or "–"] for r in order]
    return Markup(coordinates_svg(rows, measure) + table_html(["trial", *paths, measure, "state", "run"], told, "Trials"))


SHOWN = 4
"""Samples of a run that are drawn: the first and the last."""
MOST_BYTES = 1 << 20
"""Of a sample's file that is drawn."""


def samples_html(run: Run, most: int = SHOWN) -> Markup:
    """Pictures, clips and sounds that a run's model made, from its beginning to its end, as far as there are some."""
    made = [e for e in run.events(kinds=("sample",)) if e.data.get("file")]
    parts = []
    for event in made[:1] + made[1:][-(most - 1):]:
        try:
            content = (run.directory / event.data["file"]).read_bytes()
        except OSError:  # swept, or of a run whose directory is gone
            continue
        if len(content) <= MOST_BYTES:
            parts.append(exhibits.sample_html(event.data["media"], content, f"step {event.step:,}", str(event.data.get("text") or "")))
    return Markup(f'<div class="wb-grid">{"".join(parts)}</div>') if parts else Markup("")


def flat(value: Any, path: str = "") -> list[tuple[str, str]]:
    """Dotted paths and values of nested mappings and lists.

    Examples
    --------
    >>> flat({"model": {"size": "1M"}, "seed": 0})
    [('model.size', '1M'), ('seed', '0')]
    """
    if isinstance(value, dict) and value:
        return [row for k, v in value.items() for row in flat(v, f"{path}.{k}" if path else str(k))]
    if isinstance(value, list | tuple) and value and any(isinstance(v, dict | list | tuple) for v in value):
        return [row for n, v in enumerate(value) for row in flat(v, f"{path}.{n}")]
    return [(path, _cell(value))]


def _fact(name: str, value: Any) -> str:
    """A part of a run's result in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and not any(isinstance(v, dict | list) for v in value):
        return ", ".join(str(_cell(v)) for v in value) or "none"
    if isinstance(value, list):
        return f"{len(value):,}"
    return str(value) if name == "port" else _cell(value)


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, str | bool):
        return "–" if value is None else str(value)
    if isinstance(value, int | float):
        return number(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _reference(part: dict[str, Any]) -> str:
    """``name@digest12`` of ``{"name", "digest"}``."""
    return f"{part.get('name', '?')}@{str(part.get('digest', ''))[:12]}" if part else "–"


def _made(manifest: dict[str, Any]) -> Markup:
    facts = {"digest": manifest["digest"], "made": when(manifest["created"]) if manifest.get("created") else "–",
             "run": manifest.get("run") or "–"}
    return fold("Made", facts_html(facts))


def _time_of(entry: Any) -> str:
    if entry.started is None:
        return f"asked for {when(entry.submitted)}"
    if entry.ended is None:
        return f"at work for {duration(time.time() - entry.started)}"
    return f"took {duration(entry.ended - entry.started)}, ended {when(entry.ended)}"


def _changed(run: Run) -> dict[str, Any]:
    from .errors import SpecError

    try:
        return run.spec.changed()
    except SpecError:  # a run of an older workbench is still shown
        return run.entry.spec


_MEASURES = ("bits_per_byte", "answer_loss", "preference_loss", "noise_error", "distance", "val_loss")


def _curve_names(run: Run) -> list[str]:
    from .events import Events

    names = Events(run.workspace).names(run.id)
    measured = sorted(n for n in names if n in _MEASURES)
    first = ["loss", *measured, "learning_rate", *(n for n in names if n.endswith("_per_second")), "gradient_norm"]
    return [n for n in first if n in names] + [n for n in names if n not in first]


def _progress(progress: dict[str, Any]) -> Markup:
    done, total = progress.get("done") or 0, progress.get("total")
    words = share(round(done), round(total)) if total else number(done)
    words = f"{progress.get('label') or ''} {words} {progress.get('unit', '')}".strip()
    if progress.get("rate"):
        words += f", {number(float(progress['rate']))} a second"
    if progress.get("left") is not None:
        words += f", {duration(progress['left'])} left"
    bar = f'<progress value="{done}" max="{total}" style="width:20em"></progress> ' if total else ""
    return Markup(f"<p>{bar}{escape(words)}</p>")


def _interval(low: float, high: float, value: float, at_most: float | None, at_least: float | None) -> Markup:
    """The interval as a bar, with the bound as an upright line: right of it is too much, left of it too little."""
    bounds = [b for b in (at_most, at_least) if b is not None]
    begin, end = min(0.0, low, *bounds), max(high, *bounds) * 1.1 or 1.0
    place = [4 + 132 * (x - begin) / (end - begin) for x in (low, high, value, *bounds)]
    lines = "".join(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="1" y2="17" stroke="currentColor"/>' for x in place[3:])
    holds = (at_most is None or high <= at_most) and (at_least is None or low >= at_least)
    colour, said = (COLOURS[2], "within") if holds else (COLOURS[1], "beyond")
    return Markup(f'<svg viewBox="0 0 140 18" width="140" height="18" role="img" aria-label="{said} the bound">'
                  f'<line x1="4" x2="136" y1="9" y2="9" stroke="currentColor" stroke-opacity=".2"/>'
                  f'<line x1="{place[0]:.1f}" x2="{max(place[1], place[0] + 1):.1f}" y1="9" y2="9" stroke="{colour}" '
                  f'stroke-width="6"/><circle cx="{place[2]:.1f}" cy="9" r="4" fill="{colour}"/>{lines}</svg>')
