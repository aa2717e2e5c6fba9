"""Exceptions from the policy: granted, listed and withdrawn, each an act in the audit log."""

from __future__ import annotations

import datetime
from typing import Annotated

import typer

from .options import Json, examples
from .screen import print_json, print_table, say


def waive(model: Annotated[str, typer.Argument(metavar="MODEL", help="Which version, e.g. notes-lm or notes-lm@v2.")],
          measure: Annotated[str, typer.Argument(metavar="MEASURE", help="Whose rule is waived, e.g. memorised.")],
          reason: Annotated[str, typer.Option("--reason", help="Why; it stays in the record.")],
          until: Annotated[str, typer.Option("--until", metavar="DAY", help="Last day on which it counts, e.g. 2027-01-31.")],
          asked_by: Annotated[str, typer.Option("--asked-by", metavar="WHO", help="Who asks for it.")] = "", as_json: Json = False) -> None:
    """Waive a rule that was measured and failed, for one model version, with a reason and an end."""
    from ..assessment import standing, waive
    from ..workspace import Workspace

    workspace = Workspace.find()
    grant = waive(workspace, model, measure, reason=reason, until=until, asked_by=asked_by)
    words = standing(workspace, grant.waiver.model).words
    if as_json:
        print_json({"waiver": grant.id, **grant.waiver.model_dump(mode="json"), "verdict": words})
    else:
        say(f"waiver {grant.id[:12]}: {measure} until {grant.waiver.until}. The model {words}")


def waivers(as_json: Json = False) -> None:
    """List waivers, the newest first; those that were withdrawn or ended too."""
    from ..drawing import ago
    from ..waivers import granted
    from ..workspace import Workspace

    found = granted(Workspace.find())
    if as_json:
        print_json([{"waiver": g.id, **g.waiver.model_dump(mode="json"), "granted_by": g.by, "at": g.at, "counts": g.counts(),
                     "withdrawn": g.withdrawn} for g in found])
        return
    today = datetime.date.today()
    rows = [[g.id[:12], g.waiver.metric, g.waiver.model[:12], str(g.waiver.until), "withdrawn" if g.withdrawn else
             "ended" if g.waiver.until < today else "counts", g.waiver.asked_by or g.by, ago(g.at), g.waiver.reason] for g in found]
    print_table(["waiver", "measure", "model", "until", "state", "asked by", "granted", "why"], rows, "No waivers were granted.")


def withdraw(waiver: Annotated[str, typer.Argument(metavar="WAIVER", help="Its id, or the beginning of it.")],
             reason: Annotated[str, typer.Option("--reason", help="Why; it stays in the record.")] = "", as_json: Json = False) -> None:
    """End a waiver before its last day."""
    from ..assessment import standing
    from ..waivers import withdraw
    from ..workspace import Workspace

    workspace = Workspace.find()
    grant = withdraw(workspace, waiver, reason)
    words = standing(workspace, grant.waiver.model).words
    if as_json:
        print_json({"waiver": grant.id, "withdrawn": grant.withdrawn, "verdict": words})
    else:
        say(f"waiver {grant.id[:12]} is withdrawn. The model {words}")


def add_to(app: typer.Typer) -> None:
    """Put the commands beside the others over models."""
    lines = ('workbench models waive notes-lm memorised --reason "a demo on invented data" --until 2027-01-31',)
    app.command("waive", epilog=examples(*lines))(waive)
    app.command("waivers")(waivers)
    app.command("withdraw", epilog=examples("workbench models withdraw 3f9a0c12"))(withdraw)
