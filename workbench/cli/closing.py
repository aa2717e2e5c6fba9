"""The closing words of a pipeline or an endpoint: how to ask it, one answer and the record that taught it, the verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .screen import clean, one_line, say, tell

if TYPE_CHECKING:
    from ..endpoint import Endpoint
    from ..workspace import Workspace

PROMPTS = ("Return the", "Return True if", "Raises a", "The name of the", "If the value is")
"""Beginnings that the model is asked to continue; the answer with the longest stretch out of its training text is shown."""
TOKENS = 40


def close_pipeline(workspace: Workspace, result: dict[str, Any]) -> None:
    """What a pipeline came to: its endpoint (if it has one), the verdict, the report, what to do next."""
    made = [step.get("result") or {} for step in (result.get("steps") or {}).values()]
    serving = next((m for m in reversed(made) if "endpoint" in m), None)
    verdict = next((m for m in reversed(made) if "assessment" in m), None)
    watching = next((m for m in reversed(made) if "monitor" in m), None)
    if serving:
        close_endpoint(workspace, serving, answer=True)
    if verdict:
        say(f"Verdict   {verdict.get('words') or ('passed' if verdict.get('passed') else 'not passed')}")
    if watching and watching.get("metrics"):
        say(f"Metrics   {watching['metrics']}")
    say(f"Report    {_absolute(workspace, result.get('report'))}")
    if serving:
        say("Next      workbench open (JupyterLab on the notebooks), workbench show RUN|MODEL|DATASET, workbench down (ends everything)")


def close_endpoint(workspace: Workspace, result: dict[str, Any], *, answer: bool = False) -> None:
    """Where an endpoint answers and how to ask it; with ``answer``, one answer and the record that taught it."""
    from ..endpoint import Endpoint

    endpoint = Endpoint.open(result["endpoint"], workspace)
    name = endpoint.document["name"]
    if not endpoint.alive:
        say(f"endpoint {name}: down. Start it again: workbench serve {_model(endpoint)} --name {name}")
        return
    say()
    say(f"Endpoint  {name} answers at {endpoint.address}")
    say(f"Token     {endpoint.token_file}")
    say(f"curl      {curl_line(endpoint)}")
    say(f"Python    {python_line(endpoint)}")
    if answer:
        _answer(endpoint)


def curl_line(endpoint: Endpoint) -> str:
    """A shell line that asks the endpoint."""
    body = json.dumps({"model": _model(endpoint), "prompt": PROMPTS[0], "max_tokens": TOKENS})
    return (f"curl -s {endpoint.address}/completions -H \"Authorization: Bearer $(cat {_quoted(endpoint.token_file)})\" "
            f"-H 'Content-Type: application/json' -d '{body}'")


def python_line(endpoint: Endpoint) -> str:
    """A shell line that asks the endpoint from Python, with nothing but what the workbench itself stands on."""
    name = endpoint.document["name"]
    return (f"{_python()} -c \"from workbench import Endpoint; "
            f"print(Endpoint.open('{name}').complete('{PROMPTS[0]}', max_tokens={TOKENS}))\"")


def _answer(endpoint: Endpoint) -> None:
    """One answer and where it comes from; an endpoint that can't say is told, not hidden."""
    from ..errors import WorkbenchError

    try:
        prompt, answer, trace = telling_answer(endpoint)
    except (WorkbenchError, OSError, TimeoutError) as error:
        tell(f"the endpoint gave no answer to show: {error}")
        return
    say()
    say(f"Asked     {prompt!r}")
    say(f"Answer    {one_line(text_of(answer), 300)}")
    span = longest_span(trace)
    if not span:
        say("Taught by no stretch of it stands in the training text")
        return
    record = span["records"][0]
    say(f"Longest   {one_line(span['text'], 200)!r}: {len(span['text'])} characters that stand so in the training text, "
        f"{_times(span.get('occurrences', 1))}")
    say(f"Taught by {one_line(record.get('source', ''), 80)}, {one_line(record.get('locator', ''), 80)} (record {record.get('id', '')})")
    around = text_around(endpoint.workspace, trace, record)
    if around:
        say(f"          {around}")


def telling_answer(endpoint: Endpoint) -> tuple[str, Any, dict[str, Any]]:
    """Among a few prompts, the answer with the longest stretch out of the training text: prompt, answer, trace."""
    best = None
    for prompt in PROMPTS:
        answer = endpoint.complete(prompt, max_tokens=TOKENS, temperature=0)
        trace = endpoint.trace(answer["id"])
        span = longest_span(trace)
        length = len(span["text"]) if span else 0
        if best is None or length > best[0]:
            best = (length, prompt, answer, trace)
    return best[1:]


def text_of(answer: Any) -> str:
    """The words of a completion."""
    return str(answer["choices"][0]["text"]) if isinstance(answer, dict) else str(answer)


def longest_span(trace: dict[str, Any]) -> dict[str, Any] | None:
    """The longest stretch of an answer that stands in the training text and names a record."""
    spans = [s for s in trace.get("spans") or [] if s.get("records")]
    return max(spans, key=lambda s: len(s["text"])) if spans else None


def text_around(workspace: Workspace, trace: dict[str, Any], record: dict[str, Any], width: int = 90) -> str:
    """The record's own words around the stretch, the stretch between » and «."""
    from ..dataset import Dataset
    from ..errors import WorkbenchError

    taught = trace.get("dataset") or {}
    try:
        text = Dataset.open(f"{taught['name']}@{taught['digest']}", workspace).record(record["id"])["text"]
    except (WorkbenchError, KeyError, OSError):
        return ""
    start, end = record["start"], record["end"]
    before, after = text[max(0, start - width):start], text[end:end + width]
    return clean(" ".join(f"…{before}»{text[start:end]}«{after}…".split()))


def _model(endpoint: Endpoint) -> str:
    models = endpoint.document.get("models") or [{}]
    return models[0].get("name", "")


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count:,} times")


def _quoted(path: object) -> str:
    import shlex

    return shlex.quote(str(path))


def _python() -> str:
    """How this Python is called from the directory at hand."""
    import sys

    executable = Path(sys.executable)
    if executable.is_relative_to(Path.cwd()):
        return f"./{executable.relative_to(Path.cwd())}"
    return _quoted(executable)


def _absolute(workspace: Workspace, path: Any) -> str:
    return str(workspace.root / str(path)) if path else "–"
