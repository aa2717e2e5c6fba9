"""The closing words of a pipeline or an endpoint: how to ask it, one answer and the record that taught it, the verdict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .screen import one_line, say, tell

if TYPE_CHECKING:
    from ..endpoint import Answer, Endpoint
    from ..workspace import Workspace

PROMPTS = ("Return the", "Return True if", "Args:\n    name (")
"""Beginnings that the model is asked to continue, beside some out of its held-out text."""
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
    name = endpoint.name
    if not endpoint.alive:
        models = " ".join(m["name"] for m in endpoint.document.get("models") or [])
        say(f"endpoint {name} is down. Start it again: workbench serve {models} --name {name}")
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
    return endpoint.client_code(PROMPTS[0])["curl"]


def python_line(endpoint: Endpoint) -> str:
    """A shell line that asks the endpoint from Python: by OpenAI's client where it is installed, else by our own."""
    import importlib.util
    import shlex

    if importlib.util.find_spec("openai"):
        code = endpoint.client_code(PROMPTS[0])["python"]
    else:
        code = (f"from workbench import Endpoint; "
                f"print(Endpoint.open({endpoint.name!r}, {str(endpoint.workspace.root)!r}).complete({PROMPTS[0]!r}, max_tokens={TOKENS}))")
    # The code quotes with ': between " it stays readable, unless a path holds what a shell reads there.
    return f'{_python()} -c "{code}"' if not set('"$`\\!') & set(code) else f"{_python()} -c {shlex.quote(code)}"


def _answer(endpoint: Endpoint) -> None:
    """One answer and where it comes from; an endpoint that can't say is told, not hidden."""
    from ..display import stretches, words_around
    from ..errors import WorkbenchError

    try:
        prompt, answer, trace = telling_answer(endpoint)
    except (WorkbenchError, OSError, TimeoutError) as error:
        tell(f"the endpoint gave no answer to show: {error}")
        return
    say()
    say(f"Asked     {prompt!r}")
    say(f"Answer    {one_line(answer.text, 300)!r}")
    found = stretches(trace)
    if not found:
        say("Taught by no stretch of it stands in the training text")
        return
    span, record = found[0], found[0]["records"][0]
    say(f"Stretch   {one_line(span['text'], 200)!r}: {len(span['text'])} characters that stand so in the training text, "
        f"{_times(span['occurrences'])}")
    say(f"Taught by {one_line(record['source'], 80)}, {one_line(record['locator'], 80)} (record {record['id']}):")
    before, stretch, after = words_around(trace, record, endpoint.workspace)
    if stretch:
        say(f"          {one_line(f'{before}»{stretch}«{after}', 500)}")


def telling_answer(endpoint: Endpoint) -> tuple[str, Answer, dict[str, Any]]:
    """Among a few prompts, the answer with the longest stretch out of the training text: prompt, answer, trace."""
    from concurrent.futures import ThreadPoolExecutor

    from ..display import stretches

    def ask(prompt: str, options: dict[str, Any]) -> tuple[int, str, Answer, dict[str, Any]]:
        answer = endpoint.complete(prompt, max_tokens=TOKENS, **options)
        trace = endpoint.trace(answer)
        return max((len(s["text"].strip()) for s in stretches(trace)), default=0), prompt, answer, trace

    asked = [(prompt, options) for prompt in (*PROMPTS, *_held_out(endpoint))
             for options in ({"temperature": 0}, {"temperature": 0.5, "seed": 1})]
    with ThreadPoolExecutor(6) as pool:
        return max(pool.map(ask, *zip(*asked, strict=True)), key=lambda found: found[0])[1:]


def _held_out(endpoint: Endpoint, count: int = 4, characters: int = 40) -> list[str]:
    """Beginnings of records that the model was not taught, so that what it knows is not handed to it."""
    from ..dataset import Dataset
    from ..errors import WorkbenchError
    from ..model import Model

    try:
        model = endpoint.document["models"][0]
        taught = Model.open(f"{model['name']}@{model['digest']}", endpoint.workspace).manifest["dataset"]
        texts = Dataset.open(f"{taught['name']}@{taught['digest']}", endpoint.workspace).table("test", ["text"])["text"].to_pylist()
    except (WorkbenchError, KeyError, IndexError, OSError):
        return []
    return [" ".join(text[:characters].split()[:-1]) for text in texts[::max(1, len(texts) // count)] if len(text) > characters][:count]


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count:,} times")


def _python() -> str:
    """How this Python is called from the directory at hand."""
    import shlex
    import sys

    executable, here = Path(sys.executable), Path.cwd()
    return f"./{executable.relative_to(here)}" if executable.is_relative_to(here) else shlex.quote(str(executable))


def _absolute(workspace: Workspace, path: Any) -> str:
    return str(workspace.root / str(path)) if path else "–"
