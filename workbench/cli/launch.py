"""From a spec to its end: foresee it, or submit, follow and tell what came out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from .screen import print_facts, print_json, say, tell, terminal

if TYPE_CHECKING:
    from ..runs import Run
    from ..spec import Spec
    from ..workspace import Workspace


def launch(spec: Spec, *, again: bool, detach: bool, as_json: bool, dry_run: bool) -> None:
    """Run a spec as the options say; leaves with the run's exit code where that is not 0."""
    from .. import runs
    from ..workspace import Workspace

    workspace = Workspace.find()
    if dry_run:
        foresee(spec, workspace, again=again, as_json=as_json)
        return
    run = runs.submit(spec, workspace, again=again)
    ended = run.entry.state == "done"
    if detach:
        if as_json:
            print_json(told(run, found=ended))
        else:
            say(f"{run.id} {'was done before' if ended else 'is at work'}; come back to it: workbench attach {run.id}")
        return
    if ended and not as_json:
        from ..display import ago

        tell(f"found: {run.id} did this {ago(run.entry.ended or run.entry.submitted)} (--again repeats it)")
    elif not as_json:
        tell(f"{run.id}{' (Ctrl-C asks what to do with it)' if terminal() else ''}")
    finish(run, found=ended, as_json=as_json)


def finish(run: Run, *, found: bool | None = False, ended: bool = False, as_json: bool = False) -> None:
    """Follow a run to its end (unless it has ended before), tell what came out, and leave with its exit code."""
    from .follow import follow

    left = "" if ended or found else follow(run, silent=as_json)
    entry = run.entry
    if as_json:
        print_json(told(run, found=found))
    elif left:
        tell(f"{run.id} goes on; come back to it: workbench attach {run.id}, stop it: workbench stop {run.id}")
    elif entry.state == "done":
        result(run)
    elif entry.state == "stopped":
        tell(f"{run.id} was stopped")
    elif entry.failure:
        _failed(run, entry.failure, whole=ended)
    code = {"leave": 0, "interrupted": 130}.get(left) if left else exit_code(run)
    if code:
        raise typer.Exit(code)


def _failed(run: Run, failure: dict[str, Any], *, whole: bool) -> None:
    """Why a run failed; what its log has told already, a failed cell's traceback, is not told twice."""
    what, _, rest = str(failure["what"]).partition("\n")
    tell(f"{run.id} failed: {what}")
    if rest and (whole or run.word != "pipeline"):
        tell(rest)
    if failure.get("hint") and (failure["hint"] not in failure["what"] or (rest and run.word == "pipeline" and not whole)):
        tell(failure["hint"])
    tell(f"See it whole: workbench show {run.id}")


def exit_code(run: Run) -> int:
    """0 done or at work, 1 failed or stopped, 2 bad spec, 3 refused by policy."""
    entry = run.entry
    if entry.state == "failed":
        return int((entry.failure or {}).get("exit_code") or 1)
    return 1 if entry.state == "stopped" else 0


def told(run: Run, *, found: bool | None = None) -> dict[str, Any]:
    """A run as JSON."""
    entry = run.entry
    return {"run": run.id, "word": entry.word, "name": entry.name, "state": entry.state,
            **({} if found is None else {"found": found}), "submitted": entry.submitted, "started": entry.started, "ended": entry.ended,
            "spec": entry.spec, "inputs": entry.inputs, "progress": run.progress, "result": entry.result, "failure": entry.failure}


def result(run: Run) -> None:
    """What a run made, and what to do next."""
    from .closing import close_endpoint, close_pipeline

    entry = run.entry
    made = entry.result or {}
    if entry.word == "pipeline":
        close_pipeline(run.workspace, made)
        return
    if "endpoint" in made:
        close_endpoint(run.workspace, made)
        return
    try:
        output = run.output
    except Exception as error:  # noqa: BLE001 - what was made is told from the record where it can't be opened any more
        output = None
        tell(f"what it made can't be opened: {error}")
    if output is not None or "monitor" not in made:
        say(output if output is not None else f"{run.id}: done")
    if "dataset" in made:
        _dropped(output)
        say(f"next: workbench train --data {made['dataset']}")
    elif "model" in made:
        _measures(output)
        if getattr(output, "makes", "text") == "text":
            say(f"next: workbench assess {made['model']}, or workbench serve {made['model']}")
        else:
            say(f'it made {output.path / "samples.png"}; next, in Python: Model.open("{made["model"]}").load().generate(8)')
    elif "assessment" in made and made.get("passed"):
        say(f"next: workbench models alias {entry.spec['model']} production, or workbench serve {entry.spec['model'].partition('@')[0]}")
    elif "monitor" in made:
        over = entry.spec.get("seconds") is not None
        say(f"watched for {entry.spec['seconds']:g} s" if over else f"watching; metrics at {made.get('metrics', '–')}")
        for alert in made.get("alerts") or []:
            say(f"alert {alert['rule']}: {alert['summary']}" + (" (it has ended)" if alert.get("ended") else ""))
        if not over:
            say(f"next: workbench stop {made['monitor']} ends it")


def _dropped(dataset: Any) -> None:
    from ..display import drop_counts

    counts = drop_counts(dataset.manifest) if dataset is not None else []
    if counts:
        say("dropped and kept aside: " + ", ".join(f"{count:,} {reason} ({step})" for step, reason, count in counts))


def _measures(model: Any) -> None:
    from ..drawing import number

    metrics = (model.manifest.get("metrics") or {}) if model is not None else {}
    shown = [f"{name.replace('_', ' ')} {number(value)}" for name, value in metrics.items()
             if isinstance(value, int | float) and not isinstance(value, bool)]
    if shown:
        say(", ".join(shown))


def foresee(spec: Spec, workspace: Workspace, *, again: bool, as_json: bool) -> None:
    """The spec as it would run, what it would read, whether it would be found, what it would take."""
    from .. import runs
    from ..display import ago

    inputs, before, estimate = runs.foresee(spec, workspace, again=again)
    if as_json:
        print_json({"spec": spec.to_dict(), "inputs": inputs, "found": before.id if before else None, "estimate": estimate})
        return
    say(spec.to_yaml().rstrip())
    say()
    few = dict(list(inputs.items())[:12])
    print_facts({f"reads {name}": digest[:12] for name, digest in few.items()})
    if len(inputs) > len(few):
        say(f"… and {len(inputs) - len(few):,} more")
    if before:
        entry = before.entry
        say(f"would be found: {before.id}, {entry.state}, asked for {ago(entry.submitted)}")
    else:
        say("would run")
    if estimate:
        print_facts({name.replace("_", " "): _quantity(name, value) for name, value in estimate.items()})


def _quantity(name: str, value: Any) -> object:
    from ..drawing import duration, size

    if isinstance(value, int | float) and not isinstance(value, bool):
        if "second" in name and "per_second" not in name:
            return duration(value)
        if name == "memory" or ("byte" in name and "per" not in name):
            return size(value)
        return value
    return "; ".join(map(str, value)) or None if isinstance(value, list) else str(value)
