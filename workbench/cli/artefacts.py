"""What was made: datasets, models and their aliases, endpoints; and the record of what was decided about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import waivers
from .options import Detach, DryRun, Json, examples
from .screen import one_line, print_json, print_table, say, tell

if TYPE_CHECKING:
    from ..registry import Version
    from ..workspace import Workspace

SHORT = ("digest", "model", "policy")
"""Details of a decision that are digests."""
models_app = typer.Typer(name="models", rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
endpoints_app = typer.Typer(name="endpoints", rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


def datasets(as_json: Json = False) -> None:
    """List dataset versions, the newest first."""
    from ..drawing import ago, size
    from ..workspace import Workspace

    found = _versions(Workspace.find(), "dataset")
    if as_json:
        print_json([_told(v, aliases) for v, aliases in found])
        return
    rows = []
    for version, aliases in found:
        splits = version.meta.get("splits") or {}
        rows.append([version.name, f"v{version.number}", version.digest[:12], sum(s["records"] for s in splits.values()),
                     size(sum(s["bytes"] for s in splits.values())), ago(version.created), ", ".join(aliases)])
    print_table(["dataset", "version", "digest", "records", "text", "made", "aliases"], rows,
                "No datasets yet. Make one: workbench data FILES --name NAME")


@models_app.callback(invoke_without_command=True)
def models(context: typer.Context, as_json: Json = False) -> None:
    """List model versions; alias names one."""
    if context.invoked_subcommand is not None:
        return
    from ..drawing import ago
    from ..workspace import Workspace

    workspace = Workspace.find()
    found, verdicts = _versions(workspace, "model"), _verdicts(workspace)
    if as_json:
        print_json([{**_told(v, aliases), "assessed": verdicts.get(v.digest)} for v, aliases in found])
        return
    rows = []
    for version, aliases in found:
        passed = verdicts.get(version.digest)
        taught = version.meta.get("dataset") or {}
        rows.append([version.name, f"v{version.number}", version.digest[:12], version.meta.get("parameters"),
                     f"{taught.get('name', '?')}@{str(taught.get('digest', ''))[:12]}", ago(version.created),
                     "not yet" if passed is None else "passed" if passed else "failed", ", ".join(aliases)])
    print_table(["model", "version", "digest", "parameters", "taught by", "made", "assessed", "aliases"], rows,
                "No models yet. Make one: workbench train --data NAME")


@models_app.command("alias", epilog=examples("workbench models alias notes-lm@v2 production"))
def alias(model: Annotated[str, typer.Argument(metavar="MODEL", help="Which version, e.g. notes-lm or notes-lm@v2.")],
          alias: Annotated[str, typer.Argument(metavar="ALIAS", help="The name to give; production needs a passing assessment.")],
          as_json: Json = False) -> None:
    """Point an alias at a model version."""
    from ..assessment import permit_for
    from ..registry import PROTECTED, Registry
    from ..workspace import Workspace

    workspace = Workspace.find()
    registry = Registry(workspace)
    version = registry.resolve("model", model)
    permit = permit_for(workspace, version.digest) if alias in PROTECTED else None
    registry.set_alias("model", f"{version.name}@{version.digest}", alias, permit=permit)
    if as_json:
        print_json({"model": version.name, "version": version.number, "digest": version.digest, "alias": alias})
    else:
        say(f"{version.name}@{alias} is now v{version.number} ({version.digest[:12]})")


@endpoints_app.callback(invoke_without_command=True)
def endpoints(context: typer.Context, as_json: Json = False) -> None:
    """List endpoints; back returns one to what it was, feedback lists what was said of answers."""
    if context.invoked_subcommand is not None:
        return
    from ..drawing import ago
    from ..endpoint import Endpoint
    from ..workspace import Workspace

    found = Endpoint.listed(Workspace.find())
    if as_json:
        print_json([{"endpoint": e.document["name"], "alive": e.alive, "address": e.address if e.alive else None,
                     "token_file": str(e.token_file), "models": e.document.get("models") or []} for e in found])
        return
    rows = []
    for endpoint in found:
        document = endpoint.document
        shares = ", ".join(f"{m['name']}@{m['digest'][:12]} ({m.get('weight', 0):g})" for m in document.get("models") or [])
        rows.append([document["name"], "up" if endpoint.alive else "down", endpoint.address if endpoint.alive else "–", shares,
                     ago(document["started"]) if document.get("started") else "–"])
    print_table(["endpoint", "state", "address", "models", "since"], rows, "No endpoints yet. Make one: workbench serve MODEL")


@endpoints_app.command("back", epilog=examples("workbench endpoints back notes"))
def back(name: Annotated[str, typer.Argument(metavar="ENDPOINT", help="Its name.")], detach: Detach = False, as_json: Json = False,
         dry_run: DryRun = False) -> None:
    """Give an endpoint the versions and the traffic that it had before."""
    from ..endpoint import Endpoint
    from ..errors import NotFoundError
    from ..serve.deployments import previous
    from ..workspace import Workspace
    from .launch import launch

    endpoint = Endpoint.open(name, Workspace.find())
    before = previous(endpoint.workspace, name)
    if before is None:
        raise NotFoundError(f"endpoint {name} has no earlier state to go back to", hint=f"See its runs: workbench runs {name}")
    if not as_json:
        tell(f"back to {before.words}, as {before.run} had it")
    launch(before.spec, again=False, detach=detach, as_json=as_json, dry_run=dry_run)


@endpoints_app.command("feedback", epilog=examples("workbench endpoints feedback", "workbench endpoints feedback notes --json"))
def feedback(name: Annotated[str | None, typer.Argument(metavar="[ENDPOINT]", help="Only of this one.")] = None,
             as_json: Json = False) -> None:
    """List what was said of answers, the newest first."""
    from ..drawing import ago
    from ..serve.feedback import Feedback, listed
    from ..workspace import Workspace

    workspace = Workspace.find()
    found = [r for r in listed(workspace) if name in (None, r["endpoint"])]
    if as_json:
        print_json(found)
        return
    rows = [[r["endpoint"], r["mark"], one_line(r["prompt"] or "", 40), one_line(r["answer"], 60), one_line(r["note"], 60), ago(r["at"])]
            for r in found]
    print_table(["endpoint", "mark", "asked", "answered", "note", "when"], rows,
                "Nothing was said of an answer yet: do it in the playground.")
    for endpoint in dict.fromkeys(r["endpoint"] for r in found):
        say(f"read it as data: workbench data {Feedback(workspace, endpoint).path}")


def audit(limit: Annotated[int, typer.Option("--limit", min=1, help="How many lines, the newest last.")] = 20,
          as_json: Json = False) -> None:
    """List and verify the record of decisions."""
    import time

    from ..workspace import Workspace

    log = Workspace.find().audit
    count = log.verify()
    entries = log.entries()[-limit:]
    if as_json:
        print_json({"verified": count, "entries": entries})
        return
    rows = [[str(e["seq"]), time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(e["at"])), e["who"], e["action"],
             ", ".join(f"{k} {str(v)[:12] if k in SHORT else v}" for k, v in e["details"].items())] for e in entries]
    print_table(["line", "when", "who", "what", "about"], rows, "Nothing was decided yet.")
    if count:
        say(f"{count} lines, each bound to the one before: none was changed or lost")


def add_to(app: typer.Typer) -> None:
    """Put the commands into the application."""
    app.command()(datasets)
    waivers.add_to(models_app)
    app.add_typer(models_app, epilog=examples("workbench models", "workbench models alias notes-lm@v2 production"))
    app.add_typer(endpoints_app, epilog=examples("workbench endpoints", "workbench endpoints back notes"))
    app.command()(audit)


def _versions(workspace: Workspace, kind: Any) -> list[tuple[Version, list[str]]]:
    from ..registry import Registry

    registry = Registry(workspace)
    named = {name: registry.aliases(kind, name) for name in registry.names(kind)}
    return [(v, [a for a, digest in named[v.name].items() if digest == v.digest]) for v in registry.versions(kind)]


def _verdicts(workspace: Workspace) -> dict[str, bool]:
    """Digest of a model -> whether it meets the workspace's policy today; models that were never assessed are left out."""
    from ..assessment import standing
    from ..registry import Registry

    assessed = {v.meta.get("model") for v in Registry(workspace).versions("assessment")}
    return {digest: standing(workspace, digest).passed for digest in assessed if digest}


def _told(version: Version, aliases: list[str]) -> dict[str, Any]:
    return {"name": version.name, "version": version.number, "digest": version.digest, "path": str(version.path), "run": version.run,
            "created": version.created, "aliases": aliases, **version.meta}
