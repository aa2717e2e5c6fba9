"""Checkpoints of a training, as they lie on disk."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import Json, examples
from .screen import print_json, print_table


def checkpoints(run_id: Annotated[str, typer.Argument(metavar="RUN", help="A training's id, or its beginning.")],
                as_json: Json = False) -> None:
    """List the checkpoints of a training: each can be branched off from, with --start RUN@STEP."""
    from ..drawing import ago
    from ..drawing import size as in_bytes
    from ..runs import attach
    from ..train.state.checkpoints import table

    run = attach(run_id)
    rows = table(run.directory / "checkpoints")
    if as_json:
        print_json([{"run": run.id, **row} for row in rows])
        return
    print_table(["step", "held-out measure", "size", "ranks", "whole", "written"], [
        [f"{r['step']:,}", "–" if r["measure"] is None else f"{r['measure']:.4g}", in_bytes(r["bytes"]), r["ranks"] or "–",
         "yes" if r["whole"] else "no", ago(r["at"]) if r["at"] else "–"] for r in rows],
        f"{run.id} has no checkpoints. A run that is done keeps those of keep.best and keep.every")


def add_to(app: typer.Typer) -> None:
    """Put the command into the application."""
    app.command(epilog=examples("workbench checkpoints train-0412-101500-3f9a1c",
                                "workbench train --start train-0412-101500-3f9a1c@400 --learning-rate 1e-3"))(checkpoints)
