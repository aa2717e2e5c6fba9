"""The background: the cluster and what stays alive, started and ended."""

from __future__ import annotations

import typer

from .options import Json
from .screen import print_json, say


def up(as_json: Json = False) -> None:
    """Start the cluster; go on with runs that were cut off."""
    from .. import cluster, runs
    from ..workspace import Workspace

    workspace = Workspace.find()
    address = cluster.up(workspace)
    again = [run.id for run in runs.recover(workspace)]
    if as_json:
        print_json({"cluster": address, "recovered": again})
        return
    found = cluster.status(workspace)
    say(f"cluster: {found.words if found else address}")
    for run_id in again:
        say(f"goes on: {run_id}")


def down(as_json: Json = False) -> None:
    """End everything that runs; what was made stays."""
    from .. import runs
    from ..workspace import Workspace

    ended = runs.shut_down(Workspace.find())
    if as_json:
        print_json({"ended": ended})
    else:
        say("ended: " + ", ".join(ended) if ended else "nothing was running")


def add_to(app: typer.Typer) -> None:
    """Put the commands into the application."""
    for command in (up, down):
        app.command()(command)
