"""Runs that exist: listed, shown whole, followed again, told something, stopped, resumed; and anything by its name."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Detach, Json, examples
from .screen import print_facts, print_json, print_table, say
from .screen import tell as tell_person

if TYPE_CHECKING:
    from ..runs import Run
    from ..workspace import Workspace


def runs(word: Annotated[str | None, typer.Argument(metavar="WORD", help="Only runs of this word.")] = None,
         active: Annotated[bool, typer.Option("--active", help="Only runs that have not ended.")] = False,
         limit: Annotated[int, typer.Option("--limit", min=1, help="How many, the newest first.")] = 20, as_json: Json = False) -> None:
    """List runs, the newest first."""
    from ..drawing import ago, duration
    from ..errors import NotFoundError
    from ..journal import ENDED, Journal
    from ..spec import WORDS
    from ..workspace import Workspace

    if word is not None and word not in WORDS:
        raise NotFoundError.of("word", word, WORDS)
    entries = Journal(Workspace.find()).entries(word=word, states=("queued", "running", "stopping") if active else None, limit=limit)
    if as_json:
        print_json([{"run": e.id, "word": e.word, "name": e.name, "state": e.state, "submitted": e.submitted, "started": e.started,
                     "ended": e.ended, "result": e.result, "failure": (e.failure or {}).get("what")} for e in entries])
        return
    rows = [[e.id, e.name, e.state, ago(e.submitted), duration((e.ended or e.beat or e.started) - e.started) if e.started else "–",
             (e.failure or {}).get("what", "") if e.state not in ENDED or e.state == "failed" else ""] for e in entries]
    print_table(["run", "name", "state", "asked for", "took", "why"], rows, "No runs yet. Begin: workbench data FILES --name NAME")


def show(what: Annotated[str, typer.Argument(metavar="WHAT", help="A run (its id or the beginning of it), dataset, model, "
                                                                     "assessment or endpoint.")],
         as_json: Json = False) -> None:
    """Show one thing whole, with its spec, error or card."""
    from ..workspace import Workspace

    workspace = Workspace.find()
    kind, thing = find_thing(workspace, what)
    if kind == "run":
        _show_run(thing, as_json)
    elif as_json:
        print_json({"kind": kind, **(thing.manifest if kind in ("dataset", "model") else thing.document)})
    elif kind == "endpoint":
        from .closing import close_endpoint

        close_endpoint(workspace, {"endpoint": thing.document["name"]})
    else:
        say(thing)
        say()
        say(thing.card.rstrip())


def attach(run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or its beginning.")], as_json: Json = False) -> None:
    """Follow a run again, from any terminal."""
    from ..journal import ENDED
    from ..runs import attach as attach_run
    from .launch import finish

    run = attach_run(run_id)
    finish(run, found=None, ended=run.state in ENDED, as_json=as_json)


def stop(what: Annotated[list[str], typer.Argument(metavar="WHAT...", help="Runs by id, endpoints or monitors by name.")],
         now: Annotated[bool, typer.Option("--now", help="End the ranks of a training wherever they are: what was made since its last "
                                                         "checkpoint is lost. All else stops as without.")] = False,
         as_json: Json = False) -> None:
    """Stop runs, endpoints and monitors: a training behind its next step, at a checkpoint, from which it can be resumed."""
    from ..workspace import Workspace

    workspace = Workspace.find()
    found = [find_thing(workspace, w, kinds=("run", "endpoint", "monitor")) for w in what]  # all are there, or nothing is stopped
    said = []
    for kind, thing in found:
        if kind == "run":
            thing.stop(now=now)
            with contextlib.suppress(TimeoutError):
                thing.wait(30, check=False)
            if thing.state == "stopping" and not now and (cost := thing.at_stake):
                tell_person(f"{thing.id} is in a long step still. At once, losing {cost}: workbench stop {thing.id} --now")
            said.append({"kind": kind, "name": thing.id, "state": thing.state})
        elif kind == "endpoint":
            name = thing.document["name"]
            thing.stop()
            said.append({"kind": kind, "name": name, "state": "down"})
        else:
            _end_monitor(workspace, thing)
            said.append({"kind": kind, "name": thing, "state": "ended"})
    if as_json:
        print_json(said)
    else:
        for line in said:
            say(f"{line['kind']} {line['name']}: {line['state']}")


def resume(run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or its beginning.")], detach: Detach = False,
           as_json: Json = False) -> None:
    """Go on with a run that was stopped or failed, from where it kept its work."""
    from ..runs import attach as attach_run
    from .launch import finish, told
    from .screen import tell

    run = attach_run(run_id)
    rest = run.rest
    run.resume()
    if not as_json:
        tell(f"{run.id} goes on {rest['words']}" if rest else f"{run.id} is {run.state}")
    if detach and as_json:
        print_json(told(run))
    elif not detach:
        finish(run, as_json=as_json)


def tell(run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or its beginning.")],
         what: Annotated[list[str], typer.Argument(metavar="WORD...", help="pause, on (after a pause), stacks, profile, "
                                                                              "learning_rate=NUMBER.")], as_json: Json = False) -> None:
    """Say something to a training at work: wait, go on, another learning rate, show where its ranks stand."""
    import time

    from ..journal import ENDED
    from ..runs import attach as attach_run

    run = attach_run(run_id)
    word, values = _word(what)
    after = run.tell(word, **values)
    deadline = time.monotonic() + _ANSWER_SECONDS
    answer = None
    while answer is None and time.monotonic() < deadline:
        answer = next((e for e in run.events(after, kinds=("mark",)) if e.name == _ANSWERS[word]), None)
        if answer is None and run.state in ENDED:
            break
        time.sleep(0.1)
    if as_json:
        print_json({"run": run.id, "word": word, "answer": answer and {"name": answer.name, "step": answer.step, **answer.data}})
    elif answer is None:
        say(f"{run.id} has not answered yet: it is {run.state}. Its events will show it")
    elif word == "stacks":
        for rank in answer.data["ranks"]:
            say(f"rank {rank['rank']} at step {rank['step']:,}" + (f", {rank['doing']}" if rank["doing"] else ""))
            for thread in rank["threads"]:
                say(f"  {thread['thread']}: {thread['at']}")
                say(thread["stack"].rstrip())
    else:
        say(f"{run.id}: {_SAID[word].format(run=run.id, step=answer.step, **answer.data, **answer.data.get('values', {}))}")


_ANSWERS = {"pause": "paused", "on": "continued", "stacks": "stacks", "profile": "profiling", "set": "changed"}
_SAID = {"pause": "waits after step {step:,}; it goes on by: workbench tell {run} on", "on": "goes on",
         "profile": "profiles {steps} steps from step {step:,}", "set": "a learning rate of {learning_rate:g} from step {step:,}"}
_ANSWER_SECONDS = 15.0
"""Seconds that a command waits for what comes of a word: a step can be long."""


def _word(what: list[str]) -> tuple[str, dict[str, str]]:
    """A word and its values from a command line.

    Examples
    --------
    >>> _word(["learning_rate=1e-3"]), _word(["profile", "steps=5"])
    (('set', {'learning_rate': '1e-3'}), ('profile', {'steps': '5'}))
    """
    pairs = dict(part.partition("=")[::2] for part in what if "=" in part)
    words = [part for part in what if "=" not in part] or ["set"]
    if len(words) > 1:
        raise typer.BadParameter(f"received {len(words)} words; expected one, with values as name=value")
    return words[0], pairs


def add_to(app: typer.Typer) -> None:
    """Put the commands into the application."""
    app.command()(runs)
    app.command(epilog=examples("workbench show train-0412", "workbench show notes-lm@v2"))(show)
    app.command()(attach)
    app.command(epilog=examples("workbench stop train-0412-101500-3f9a1c", "workbench stop notes-lm"))(stop)
    app.command(epilog=examples("workbench tell train-0412 pause", "workbench tell train-0412 on", "workbench tell train-0412 stacks",
                                "workbench tell train-0412 learning_rate=1e-3"))(tell)
    app.command(epilog=examples("workbench resume train-0412-101500-3f9a1c", "workbench resume train-0412 --detach"))(resume)


def find_thing(workspace: Workspace, what: str,
               kinds: tuple[str, ...] = ("run", "endpoint", "dataset", "model", "assessment")) -> tuple[str, Any]:
    """The one thing of a name, among kinds in this order; names that exist are offered where none fits."""
    from ..errors import NotFoundError, near
    from ..journal import Journal
    from ..registry import Registry

    registry = Registry(workspace)
    known = {kind: [e.id for e in Journal(workspace).entries(limit=200)] if kind == "run" else endpoint_names(workspace)
             if kind == "endpoint" else monitor_names(workspace) if kind == "monitor" else registry.names(kind) for kind in kinds}
    for kind, names in known.items():
        if (what.partition("@")[0] if kind in ("dataset", "model", "assessment") else what) in names:
            return kind, what if kind == "monitor" else _open(workspace, kind, what)
    if any(run_id.startswith(what) for run_id in known.get("run", ())):  # the beginning of an id will do, where it is no name
        return "run", _open(workspace, "run", what)
    close = near(what, [n for names in known.values() for n in names])
    listed = ", ".join(f"{len(names)} {kind}{'s' * (len(names) != 1)}" for kind, names in known.items())
    raise NotFoundError(f'nothing here is called "{what}"', allowed=f"a name among {listed}",
                        hint=f'Did you mean "{close}"?' if close else "List them: workbench runs, datasets, models, endpoints")


def _open(workspace: Workspace, kind: str, what: str) -> Any:
    if kind == "run":
        from ..runs import attach as attach_run

        return attach_run(what, workspace)
    if kind == "endpoint":
        from ..endpoint import Endpoint

        return Endpoint.open(what, workspace)
    if kind == "dataset":
        from ..dataset import Dataset

        return Dataset.open(what, workspace)
    if kind == "model":
        from ..model import Model

        return Model.open(what, workspace)
    from ..assessment import Assessment

    return Assessment.open(what, workspace)


def endpoint_names(workspace: Workspace) -> list[str]:
    """Endpoints that the workspace remembers."""
    from ..endpoint import Endpoint

    return [e.document["name"] for e in Endpoint.listed(workspace)]


def monitor_names(workspace: Workspace) -> list[str]:
    """Monitors at work."""
    from .. import processes

    return [p.name.partition("/")[2] for p in processes.listed(workspace) if p.name.startswith("monitor/")]


def _end_monitor(workspace: Workspace, name: str) -> None:
    from .. import processes

    process = processes.find(workspace, f"monitor/{name}")
    if process:
        process.end()
        processes.forget(workspace, process.name)


def _show_run(run: Run, as_json: bool) -> None:
    from ..drawing import ago, duration
    from .follow import progress_words
    from .launch import told

    if as_json:
        print_json(told(run))
        return
    entry = run.entry
    facts = {"run": run.id, "word": entry.word, "name": entry.name, "state": entry.state, "asked for": ago(entry.submitted),
             "attempts": entry.attempt}
    if entry.started:
        facts["took"] = duration((entry.ended or entry.beat or entry.started) - entry.started)
    if run.progress and entry.state in ("running", "stopping"):
        facts["progress"] = progress_words(run.progress)
    print_facts(facts)
    if entry.result:
        say("\nresult")
        print_facts({f"  {k}": v if isinstance(v, str | int | float) else str(v) for k, v in entry.result.items() if k != "steps"})
    if entry.failure:
        say(f"\n{entry.failure.get('what', 'failed')}")
        say(f"at {entry.failure.get('where', '–')}, on {entry.failure.get('host', '–')}")
        if entry.failure.get("traceback"):
            say(entry.failure["traceback"].rstrip())
    say("\nspec")
    say(run.spec.to_yaml().rstrip())
