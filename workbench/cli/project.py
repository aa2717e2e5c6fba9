"""A project of one's own: its directory made, its notebooks opened."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import examples
from .screen import say, tell

if TYPE_CHECKING:
    from ..workspace import Workspace

SETTINGS = """\
# Settings of this workspace; every line may be left out. All state lives in .workbench beside this file.

# tracking_uri = "postgresql://…"      # MLflow's store; else a file in .workbench
# policy = "policy.yaml"               # what a model must meet before others reach it

[cluster]
workers = 2                            # worker processes of the local cluster
# address = "tls://host:8786"          # a Dask scheduler that runs already

[secrets]
# webhook = "MY_WEBHOOK_TOKEN"         # name of a secret = environment variable that holds it
"""
README = """\
# {name}

    workbench data ~/notes/*.md --name notes    # text into a dataset version
    workbench train --data notes                # a language model, notes-lm
    workbench assess notes-lm                   # measured and judged
    workbench serve notes-lm                    # an endpoint that speaks OpenAI's protocol

`workbench open` shows the notebooks: the same six words, step by step. `workbench pipeline notebooks/pipeline.yaml` runs
them all. What is made lies in `.workbench`; `workbench down` ends what runs.
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
        (place / "notebooks").mkdir(exist_ok=True)
        for file in sorted(notebooks().iterdir()):
            if file.suffix in (".ipynb", ".yaml"):
                shutil.copyfile(file, place / "notebooks" / file.name)
    say(f"{place} is ready: settings in workbench.toml, six notebooks in notebooks")
    say(f"next: cd {directory}, then: workbench data FILES --name NAME")


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


def open_(what: Annotated[str | None, typer.Argument(metavar="WHAT", help="A pipeline's run (its report) or an endpoint; "
                                                                           "none: JupyterLab on the notebooks.")] = None,
          browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open it in a browser, or only say where it is.")] = True,
          port: Annotated[int, typer.Option("--port", help="Port for JupyterLab; where it is taken, the next.")] = 8888) -> None:
    """Open JupyterLab, a pipeline's report, or an endpoint."""
    from ..workspace import Workspace

    workspace = Workspace.find()
    if what is not None:
        _open_thing(workspace, what, browser)
        return
    from .. import processes

    folder = workspace.root / "notebooks"
    arguments = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={workspace.root}", f"--ServerApp.port={port}",
                 "--ServerApp.ip=127.0.0.1", f"--LabApp.default_url=/lab{'/tree/notebooks' if folder.is_dir() else ''}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--allow-root")  # in a container everybody is root
    if not browser:
        arguments.append("--no-browser")
    tell(f"JupyterLab on {workspace.root}; Ctrl-C ends it, what runs in the background goes on")
    # The same process from here on, recorded so that `workbench down` ends it with its kernels.
    me = processes.current()
    processes.record(workspace, processes.Process("jupyterlab", me.pid, me.created))
    os.chdir(workspace.root)
    os.execve(sys.executable, arguments, {**os.environ, "WORKBENCH_ROOT": str(workspace.root)})


def _open_thing(workspace: Workspace, what: str, browser: bool) -> None:
    import webbrowser

    from ..errors import WorkbenchError
    from .records import find_thing

    kind, thing = find_thing(workspace, what, kinds=("run", "endpoint"))
    if kind == "endpoint":
        from .closing import close_endpoint

        close_endpoint(workspace, {"endpoint": thing.document["name"]})
        return
    report = (thing.result or {}).get("report") or "report.html"
    path = workspace.root / report if (thing.result or {}).get("report") else thing.directory / report
    if not path.exists():
        raise WorkbenchError("has no report", where=thing.id, hint=f"See it: workbench show {thing.id}")
    say(path)
    if browser:
        webbrowser.open(path.as_uri())


def add_to(app: typer.Typer) -> None:
    """Put the commands into the application."""
    app.command(epilog=examples("workbench new bot && cd bot"))(new)
    app.command("open", epilog=examples("workbench open", "workbench open pipeline-0412"))(open_)
