"""A project of one's own: its directory made, with settings and notebooks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from .options import examples
from .screen import say

SETTINGS = """\
# Settings of this workspace; every line may be left out. All state lives in .workbench beside this file.

# tracking_uri = "postgresql://…"      # MLflow's store; else a file in .workbench
# policy = "policy.yaml"               # what a model must meet before others reach it

[cluster]
workers = 2                            # worker processes of the local cluster
# address = "tls://host:8786"          # a Dask scheduler that runs already
# kind = "ssh"                         # or slurm, kubernetes, aws, …: docs/clusters.md

[secrets]
# webhook = "MY_WEBHOOK_TOKEN"         # name of a secret = environment variable that holds it
"""
README = """\
# {name}

    workbench open                              # Home, in JupyterLab: start here

    workbench data ~/notes/*.md --name notes    # text into a dataset version
    workbench train --data notes                # a language model, notes-lm
    workbench assess notes-lm                   # measured and judged
    workbench serve notes-lm                    # an endpoint that speaks OpenAI's protocol

Home shows what needs you, what runs and what comes next; the notebooks say the same six words, step by step, and the
tutorials among them one thing each, in minutes.
`workbench pipeline notebooks/pipeline.yaml` runs them all, `workbench dashboard` shows them as pages without code.
What is made lies in `.workbench`; `workbench down` ends what runs.
"""


def new(directory: Annotated[str, typer.Argument(metavar="DIRECTORY", help="Made; its name is the project's.")]) -> None:
    """Make a directory for a project of your own."""
    from ..errors import SpecError
    from ..storage import storage_errors

    place = Path(directory).expanduser()
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise SpecError.one("directory", f"{place} exists and is not empty; expected a new one", source="workbench new")
    with storage_errors(place):
        place.mkdir(parents=True, exist_ok=True)
        (place / "workbench.toml").write_text(SETTINGS, "utf-8")
        (place / "README.md").write_text(README.format(name=place.resolve().name), "utf-8")
        (place / ".gitignore").write_text(".workbench/\n.ipynb_checkpoints/\n", "utf-8")
        for file in sorted(f for folder in (notebooks(), notebooks() / "tutorials") for f in folder.iterdir()):
            if file.suffix in (".ipynb", ".yaml"):
                copy = place / "notebooks" / file.relative_to(notebooks())
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
    say(f"{place} is ready: settings in workbench.toml, Home, six notebooks and three tutorials in notebooks")
    say(f"next: cd {directory}, then: workbench open, or: workbench data FILES --name NAME")


def save(folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Where to write, seen from the workspace; made if need be.")],
         runs: Annotated[list[str] | None, typer.Argument(metavar="RUNS", help="Runs to write down, by their ids; none: those of the "
                                                                                "latest work, from dataset to endpoint.")] = None,
         name: Annotated[str | None, typer.Option("--name", help="Name of the pipeline; none: the folder's.")] = None) -> None:
    """Write runs down as a pipeline and its notebooks."""
    from ..chain import read_chain
    from ..pipeline.saved import save as write
    from ..runs import attach
    from ..workspace import Workspace

    workspace = Workspace.find()
    path = write([attach(r, workspace) for r in runs or read_chain(workspace).runs], folder, name=name, workspace=workspace)
    say(path)
    say(f"next: workbench pipeline {workspace.relative(path)}")


def notebooks() -> Path:
    """Where the package keeps its notebooks: inside itself when installed, beside itself in a clone.

    Raises
    ------
    NotFoundError
        When neither is there.
    """
    import workbench

    from ..errors import NotFoundError

    package = Path(workbench.__file__).parent
    for place in (package / "notebooks", package.parent / "notebooks"):
        if (place / "1-data.ipynb").exists():
            return place
    raise NotFoundError("the notebooks are missing", where=package, hint="Install genai-workbench again")


def add_to(app: typer.Typer) -> None:
    """Put the commands into the application."""
    app.command(epilog=examples("workbench new bot && cd bot"))(new)
    app.command(epilog=examples("workbench save nightly", "workbench save nightly data-0412 train-0412 --name nightly"))(save)
