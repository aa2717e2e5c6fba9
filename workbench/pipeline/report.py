"""The report of a pipeline: one HTML file that stands alone, without script or network."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

from ..assessment import Assessment
from ..display import assessment_html
from ..drawing import STATES, STYLE, Markup, duration, escape, facts_html, fold, pill, table_html
from ..errors import WorkbenchError
from ..monitor.hardware import describe
from ..workspace import Workspace
from .graph import GOOD
from .lineage import Lineage, lineage_svg, trace
from .notebook import Notebook, plain, source
from .sanitiser import sanitise, shows
from .spec import PipelineSpec

if TYPE_CHECKING:
    from .run import Outcome

PACKAGES = ("genai-workbench", "torch", "transformers", "tokenizers", "lightning", "dask", "distributed", "mlflow", "numpy",
            "pyarrow", "scikit-learn", "pydantic", "papermill", "starlette", "uvicorn", "prometheus_client")
"""Packages whose versions bear on what a pipeline yields."""
MOST_LINES = 300
"""Lines of one output that are shown; the notebook beside has them all."""

# No script, no address, nothing but pictures that stand in the file: a browser is told so too.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_PAGE = """
:root{color-scheme:light dark;--back:#fbfbfa;--card:#fff;--ink:#1d2125;--soft:#5d6670;--line:#dfe2e6;--link:#0a5c99;--wash:#f2f4f6;
--bad:#b3400a;--bad-back:#fdf1ea}
@media (prefers-color-scheme:dark){:root{--back:#14171a;--card:#1c2024;--ink:#e5e8eb;--soft:#9da7b1;--line:#343a41;--link:#6fb7ee;
--wash:#23282d;--bad:#f09a68;--bad-back:#2c1f18}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:66rem;margin:0 auto;padding:2.2rem 1.5rem 4rem}
h1{font-size:1.9rem;line-height:1.2;margin:0;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.6rem 0 .8rem}h3{font-size:1.12rem;margin:0}h4{font-size:.95rem;margin:1.3rem 0 .3rem}
a{color:var(--link);text-decoration:none}a:hover{text-decoration:underline}
.kind{color:var(--soft);margin:0 0 .2rem}.line{display:flex;flex-wrap:wrap;align-items:baseline;gap:.35rem .7rem}
.soft{color:var(--soft);font-size:.9rem;margin:.35rem 0 .8rem}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:1.1rem 1.3rem;margin:0 0 1rem}
.card>:last-child{margin-bottom:0}.card>details>summary,.scroll>details>summary{font-size:13px;opacity:.8;cursor:pointer}.scroll{overflow-x:auto}
.state{font-size:.95rem;padding:.1rem .8rem;border-radius:1em;border:1px solid;white-space:nowrap}
.over table{width:100%}.over td,.over th{padding:.45em 1.2em .45em 0;vertical-align:middle}.over tr:last-child td{border-bottom:0}
.wb.over td:nth-child(-n+3){white-space:nowrap}.over td{min-width:0}
.bar{display:inline-block;height:.55em;border-radius:2px;min-width:2px;vertical-align:middle}
.out{margin:.5rem 0;overflow-x:auto}.out img{max-width:100%;height:auto;background:#fff;border-radius:6px}
.out table:not(.wb table){border-collapse:collapse;font-size:.85rem;margin:.5rem 0}
.out table:not(.wb table) :is(th,td){border-bottom:1px solid var(--line);padding:.25em .9em .25em 0;text-align:left;vertical-align:top}
pre{font:12.5px/1.5 ui-monospace,Menlo,Consolas,monospace;white-space:pre-wrap;overflow-wrap:anywhere;margin:.4rem 0;max-height:32em;
overflow:auto}
.out>pre,.error pre{background:var(--wash);border-radius:6px;padding:.6rem .8rem}
.error{border-left:3px solid var(--bad);background:var(--bad-back);border-radius:0 6px 6px 0;padding:.8rem 1rem;margin:.9rem 0}
.error pre{max-height:none}.error b{color:var(--bad);overflow-wrap:anywhere}
.verdict{border-left:4px solid}.verdict p{margin:.2rem 0}
.two{display:grid;align-items:start;grid-template-columns:repeat(auto-fit,minmax(19rem,1fr));gap:0 2.5rem}
main .wb{max-width:none}.wb dl{margin:.2em 0}
.wb.over table{margin:0;font-size:13px}.line h3,.line h1{margin-right:.2rem}footer{color:var(--soft);font-size:.85rem;margin-top:2.5rem}
@media print{:root{--back:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#bbb;--link:#000;--wash:#f6f6f6;--bad:#8a2f05;--bad-back:#fff;
color-scheme:light}
body{font-size:10.5pt}main{max-width:none;padding:0}.card{border-radius:0;padding:.6rem .8rem}pre,.wb pre{max-height:none;overflow:visible}
h2,h3,h4{break-after:avoid}tr,img,svg,figure,.verdict{break-inside:avoid}details::details-content{content-visibility:visible;
block-size:auto}}
""".strip().replace("\n", "")


def report_html(spec: PipelineSpec, workspace: Workspace, run_id: str, outcomes: Sequence[Outcome], *, begun: float, ended: float) -> str:
    """The report as one page: state, steps, verdict, lineage, what each notebook shows, versions and hardware.

    Parameters
    ----------
    outcomes : every step as it ended, in the order of their needs.
    begun, ended : seconds since the epoch.
    """
    made = [p for o in outcomes if o.state in GOOD for p in o.products]
    parts = [_head(spec, run_id, outcomes, begun, ended), _overview(outcomes), _verdicts(workspace, made),
             _lineage(trace(workspace, made)), Markup("<h2>What each step shows</h2>"), *(_step(o, workspace) for o in outcomes),
             _surroundings(), _foot(run_id)]
    title = f"{spec.name}: {_state(outcomes)[0]}"
    return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="referrer" content="no-referrer">'
            f"<title>{escape(title)}</title><style>{STYLE}{_PAGE}</style></head>\n<body><main>\n" + "\n".join(parts)
            + "\n</main></body></html>\n")


def _state(outcomes: Sequence[Outcome]) -> tuple[str, str]:
    """The state of all, and what it stands on, in words."""
    states = [o.state for o in outcomes]
    counted = {"done": "made", "cached": "found unchanged", "failed": "failed", "skipped": "skipped", "waiting": "not begun",
               "running": "at work"}
    said = ", ".join(f"{states.count(s)} {words}" for s, words in counted.items() if s in states)
    overall = "failed" if "failed" in states else "done" if all(s in GOOD for s in states) else "stopped"
    return overall, f"{len(states)} steps: {said}"


def _head(spec: PipelineSpec, run_id: str, outcomes: Sequence[Outcome], begun: float, ended: float) -> Markup:
    state, counted = _state(outcomes)
    when = f"{time.strftime('%-d %B %Y, %H:%M:%S', time.localtime(begun))} to {time.strftime('%H:%M:%S %Z', time.localtime(ended))}"
    return Markup(f'<header><p class="kind">Report of the pipeline</p><div class="line"><h1>{escape(spec.name)}</h1>'
                  f'<span class="state" style="border-color:{STATES[state]}"><span style="color:{STATES[state]}">●</span> {state} in '
                  f'{escape(duration(ended - begun))}</span></div><p class="soft">{escape(counted)} · {escape(when)} · run '
                  f"{escape(run_id)}</p></header>")


def _overview(outcomes: Sequence[Outcome]) -> Markup:
    """The steps as a table, each with a bar for its time."""
    longest = max((o.seconds or 0 for o in outcomes), default=0) or 1
    rows = []
    for outcome in outcomes:
        bar = Markup("")
        if outcome.seconds is not None:
            dim = ";opacity:.45" if outcome.state == "cached" else ""
            bar = Markup(f'<span class="bar" style="width:{7 * outcome.seconds / longest:.2f}em;'
                         f'background:{STATES.get(outcome.state, "#888888")}{dim}"></span>')
        rows.append([Markup(f'<a href="#step-{outcome.step.number}">{outcome.step.number} {escape(outcome.step.name)}</a>'),
                     pill(outcome.state), duration(outcome.seconds) if outcome.seconds is not None else None, bar, _first(outcome.why)])
    return Markup(f'<div class="card scroll over wb">{table_html(["step", "state", "took", "", "why"], rows)}</div>')


def _first(text: str, most: int = 160) -> str:
    line = text.strip().partition("\n")[0]
    return line if len(line) <= most else f"{line[:most - 1]}…"


def _verdicts(workspace: Workspace, made: Sequence[dict[str, Any]]) -> Markup:
    parts = []
    for product in made:
        if product["kind"] != "assessment":
            continue
        try:
            found = Assessment.open(f"{product['name']}@{product['digest']}", workspace)
            verdict, drawn = found.verdict(), assessment_html(found)
        except (WorkbenchError, OSError, ValueError) as error:
            parts.append(f'<div class="card">The assessment {escape(product["name"])} can\'t be read: {escape(error)}</div>')
            continue
        colour, model = STATES["pass" if verdict.passed else "fail"], found.document["model"]
        parts.append(f'<div class="card verdict" style="border-left-color:{colour}"><p><b>{escape(model["name"])}</b> '
                     f'<span class="soft">{escape(model["digest"][:12])}</span> {escape(verdict.words)}.</p>'
                     f'<div class="scroll">{fold("Every rule, with its evidence", drawn)}</div></div>')
    return Markup("<h2>Verdict</h2>" + "".join(parts)) if parts else Markup("")


def _lineage(lineage: Lineage) -> Markup:
    if not lineage.nodes:
        return Markup("")
    rows = [[k, n, Markup(f"<code>{escape(d)}</code>") if d else None, o] for k, n, d, o in lineage.rows()]
    return Markup(f'<h2>From sources to endpoint</h2><div class="card wb"><div class="scroll">{lineage_svg(lineage)}</div>'
                  + fold("As a table, with whole digests", table_html(["kind", "name", "digest", "made from"], rows)) + "</div>")


def _step(outcome: Outcome, workspace: Workspace) -> Markup:
    """One step: how it went, its error whole, and what its notebook shows."""
    step = outcome.step
    kept = outcome.state != "skipped" and outcome.notebook.exists()
    facts = [workspace.relative(outcome.notebook)] * kept + [f"run {r}" for r in outcome.runs]
    title = f'<div class="line"><h3>{step.number} · {escape(step.notebook.title)}</h3><span class="wb">{pill(outcome.state)}</span></div>'
    said = escape(_first(outcome.why, 500)) + f"<br>{escape(' · '.join(facts))}" * bool(facts)
    parts = [f'<section class="card" id="step-{step.number}">{title}<p class="soft">{said}</p>']
    if outcome.error:
        parts.append(_error(outcome.error))
    if kept:
        parts += _shown(outcome.notebook, failed=outcome.error is not None)
    if step.spec is not None:
        parts.append(fold("Its spec", f"<pre>{escape(step.spec.to_yaml())}</pre>"))
    return Markup("".join([*parts, "</section>"]))


def _error(error: dict[str, Any]) -> str:
    cell = f"<pre>{escape(error['source'])}</pre>" if error.get("source") else ""
    whole = f"<pre>{escape(error['traceback'])}</pre>" if error.get("traceback") else ""
    return f'<div class="error"><b>{escape(error["what"])}</b>{cell}{whole}</div>'


def _shown(path: Any, *, failed: bool) -> Iterator[str]:
    """Headings and outputs of an executed notebook; a heading over nothing is left out."""
    try:
        notebook = Notebook(path)
        cells = notebook.cells
    except WorkbenchError as error:
        yield f'<p class="soft">{escape(error)}</p>'
        return
    heading, title_seen = "", False
    for cell in cells:
        if cell.get("cell_type") == "markdown":
            for found in re.findall(r"^#{1,6} +(.+?) *#*$", source(cell), re.MULTILINE):
                if not title_seen and found.strip() == notebook.title:
                    title_seen = True
                else:
                    heading = f"<h4>{escape(re.sub(r'[*`]', '', found))}</h4>"
            continue
        outputs = list(_outputs(cell.get("outputs") or [], failed=failed))
        if outputs:
            yield heading
            heading = ""
            yield from outputs


def _outputs(outputs: Sequence[dict[str, Any]], *, failed: bool) -> Iterator[str]:
    """What a cell put out, harmless; streams that follow one another are one text."""
    streams: list[str] = []
    for output in [*outputs, {}]:
        kind = output.get("output_type")
        if kind == "stream":
            streams.append(_text(output.get("text")))
            continue
        if streams:
            yield _pre("".join(streams))
            streams = []
        if kind in ("display_data", "execute_result"):
            yield _bundle(output.get("data") or {})
        elif kind == "error" and not failed:  # the error that failed the step stands above, whole
            yield _pre("\n".join(output.get("traceback") or [f"{output.get('ename')}: {output.get('evalue')}"]))


def _bundle(data: dict[str, Any]) -> str:
    """The richest form of one output that can be shown without script."""
    if "text/html" in data and shows(html := sanitise(_text(data["text/html"]))):
        return f'<div class="out">{html}</div>'
    if "image/svg+xml" in data:
        return _svg(_text(data["image/svg+xml"]))
    for kind in ("image/png", "image/jpeg", "image/gif", "image/webp"):
        if kind in data and re.fullmatch(r"[A-Za-z0-9+/=\s]+", picture := _text(data[kind])):
            said = escape(_first(_text(data.get("text/plain")), 120))
            return f'<div class="out"><img alt="{said}" src="data:{kind};base64,{"".join(picture.split())}"></div>'
    if "text/markdown" in data:
        return _pre(_text(data["text/markdown"]))
    if "application/vnd.jupyter.widget-view+json" in data or "application/javascript" in data:
        return ""  # needs a script: its text says nothing but a class's name
    return _pre(_text(data.get("text/plain")))


def _svg(text: str) -> str:
    """A drawing that takes the page's colours stands in it; any other is a picture, which can neither run nor load anything."""
    if "currentColor" in text:
        return f'<div class="out">{sanitise(text)}</div>'
    return f'<div class="out"><img alt="drawing" src="data:image/svg+xml;base64,{base64.b64encode(text.encode()).decode()}"></div>'


def _pre(text: str) -> str:
    lines = plain(text).rstrip().split("\n")
    # A carriage return goes back to the line's start, as progress bars do.
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in lines]
    left = len(lines) - MOST_LINES
    if left > 0:
        lines = [*lines[:MOST_LINES], f"… and {left:,} more lines in the notebook"]
    shown = "\n".join(lines)
    return f'<div class="out"><pre>{escape(shown)}</pre></div>' if shown.strip() else ""


def _text(value: Any) -> str:
    return "".join(value) if isinstance(value, list) else "" if value is None else str(value)


def versions() -> dict[str, str]:
    """Python's and the packages' versions, as this process finds them."""
    import platform

    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _surroundings() -> Markup:
    return Markup(f'<h2>Versions and hardware</h2><div class="card wb two">{facts_html(versions())}{facts_html(describe())}</div>')


def _foot(run_id: str) -> Markup:
    return Markup(f"<footer>Written by the workbench at the end of run {escape(run_id)}. This file needs no script and no network."
                  "</footer>")
