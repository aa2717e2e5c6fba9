"""The doors: Home under a cell, JupyterLab on the notebooks, the same pages as dashboards by Voila."""

from __future__ import annotations

import importlib
import importlib.util
import ipaddress
import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import examples
from .screen import say, tell

if TYPE_CHECKING:
    from ..workspace import Workspace

HOME = "workbench.ipynb"
"""The notebook that shows Home."""
PANELS = "widgets"
"""The package that draws, imported by name where somebody wants to see something: the engine does not know it."""
UNNEEDED = ("jupyter_app_launcher", "jupyterlab_pygments", "@jupyterhub/jupyter-server-proxy")
"""JupyterLab's extensions that a dashboard need not load."""
FILL_DELAY = 4
"""Seconds after a visit before the next kernel is made ready."""


def open(what: str | None = None, *, workspace: Workspace | str | os.PathLike | None = None) -> None:
    """Show Home under the cell; or a panel, by its word or by a run's id.

    Outside Jupyter it does what ``workbench open`` does.

    Parameters
    ----------
    what : ``data``, ``train``, ``assess``, ``serve``, ``monitor``, ``pipeline``, or the id (or its beginning) of a run; none: Home.

    Raises
    ------
    NotFoundError
        Where no run has such an id.

    Examples
    --------
    >>> open("train")  # doctest: +SKIP
    """
    if _in_a_notebook():
        from IPython.display import display

        display(shown(what, workspace))
        return
    from ..workspace import Workspace

    subprocess.run([sys.executable, "-m", "workbench.cli", "open", *([what] if what else [])], check=False,
                   cwd=Workspace.find(workspace).root)


def shown(what: str | None = None, workspace: Workspace | str | os.PathLike | None = None) -> Any:
    """Home or the panel that ``open`` shows."""
    from ..spec import WORDS

    panels = importlib.import_module(PANELS)
    if what is None:
        return panels.Home(workspace)
    if what in WORDS:
        return panels.panel_class(what)(workspace=workspace)
    from ..errors import NotFoundError
    from ..runs import attach

    try:
        run = attach(what, workspace)
    except NotFoundError:
        raise NotFoundError.of("word or run", what, [*WORDS]) from None
    return panels.panel_class(run.word)(run=run, workspace=workspace)


def _in_a_notebook() -> bool:
    """True in a kernel, which can show things."""
    shell = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    return getattr(shell, "kernel", None) is not None


def open_(what: Annotated[str | None, typer.Argument(metavar="WHAT", help="A pipeline's run (its report) or an endpoint; "
                                                                           "none: JupyterLab on Home.")] = None,
          browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open it in a browser, or only say where it is.")] = True,
          port: Annotated[int, typer.Option("--port", help="Port for JupyterLab; where it is taken, the next.")] = 8888) -> None:
    """Open JupyterLab on Home, a pipeline's report, or an endpoint."""
    from ..workspace import Workspace

    workspace = Workspace.find()
    if what is not None:
        _open_thing(workspace, what, browser)
        return
    page = home_notebook(workspace)
    arguments = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={workspace.root}", f"--ServerApp.port={port}",
                 "--ServerApp.ip=127.0.0.1", f"--LabApp.default_url=/lab/tree/{page.relative_to(workspace.root).as_posix()}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--allow-root")  # in a container everybody is root
    if not browser:
        arguments.append("--no-browser")
    tell(f"JupyterLab on {workspace.root}; Ctrl-C ends it, what runs in the background goes on")
    _become(workspace, "jupyterlab", arguments)


def dashboard(notebook: Annotated[Path | None, typer.Argument(metavar="NOTEBOOK", help="A notebook or a folder; none: Home.")] = None,
              host: Annotated[str, typer.Option("--host", help="Address to listen on; others reach anything but loopback.")] = "127.0.0.1",
              port: Annotated[int, typer.Option("--port", help="Port; where it is taken, the next.")] = 8866,
              read_only: Annotated[bool, typer.Option("--read-only", help="Visitors look and change nothing.")] = False,
              token: Annotated[bool, typer.Option("--token/--no-token", help="Ask visitors for the token; only on loopback can it be left "
                                                                             "out.")] = True,
              preheat: Annotated[int, typer.Option("--preheat", min=0, max=16, help="Kernels kept ready for each page; 0: none.")] = 1,
              browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open it in a browser, or only say where it is.")] = True
              ) -> None:
    """Show Home, or any notebook, as a page without code (Voila)."""
    from ..errors import NotFoundError
    from ..workspace import Workspace

    workspace = Workspace.find()
    page = home_notebook(workspace) if notebook is None else notebook.expanduser().resolve()
    if not page.exists():
        raise NotFoundError("is not there; expected a notebook or a folder of notebooks", where=page)
    found = free_port(host, port)
    settings = dashboard_settings(workspace, host, found, token=token, preheat=preheat, browser=browser)
    where = "127.0.0.1" if is_loopback(host) else socket.gethostname()
    say(f"http://{where}:{found}/" + (f"?token={settings['Voila']['token']}" if token else ""))
    tell("visitors look and change nothing" if read_only else "whoever has the token can start and stop runs" if token else
         "whoever reaches this machine can start and stop runs")
    folder = _write_settings(workspace, settings)
    _become(workspace, "voila", [sys.executable, "-m", "voila", str(page), f"--Voila.config_file_paths=['{folder}']"],
            # A preheated kernel is not told who serves it; panels must know, since there nothing runs by itself.
            {"SERVER_SOFTWARE": "voila/workbench", "JUPYTER_PATH": _templates(),
             "WORKBENCH_READ_ONLY": "1" if read_only else os.environ.get("WORKBENCH_READ_ONLY", "")})


def dashboard_settings(workspace: Workspace, host: str, port: int, *, token: bool = True, preheat: int = 1,
                       browser: bool = False) -> dict[str, dict[str, Any]]:
    """Voila's settings, as its ``voila.json`` has them.

    Raises
    ------
    PolicyError
        Where others could reach it and no token is asked for.
    """
    from ..errors import PolicyError

    if not token and not is_loopback(host):
        raise PolicyError("a dashboard that others can reach needs a token", where=f"--host {host}",
                          hint="Leave out --no-token, or listen on 127.0.0.1")
    secret = workspace.token(workspace.path("dashboard", "token")) if token else ""
    return {"Voila": {"ip": host, "port": port, "port_retries": 0, "token": secret, "open_browser": browser},
            "VoilaConfiguration": {"preheat_kernel": preheat > 0, "default_pool_size": preheat, "show_tracebacks": False,
                                   "file_allowlist": [], "template": "workbench", "extension_denylist": list(UNNEEDED)},
            # While a page loads, the next kernel must not take its processor.
            "VoilaKernelManager": {"fill_delay": FILL_DELAY},
            "MappingKernelManager": {"cull_idle_timeout": 3600, "cull_interval": 300}}


def is_loopback(host: str) -> bool:
    """True if only this machine reaches an address.

    Examples
    --------
    >>> is_loopback("localhost"), is_loopback("::1"), is_loopback("0.0.0.0"), is_loopback("")
    (True, True, False, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def free_port(host: str, wanted: int) -> int:
    """The wanted port, or the next that is free."""
    from ..errors import WorkbenchError

    for port in range(wanted, wanted + 50):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port if wanted else probe.getsockname()[1]
    raise WorkbenchError("no port is free", where=host, received=f"{wanted} to {wanted + 49}", hint="Name another: --port")


def home_notebook(workspace: Workspace) -> Path:
    """The notebook that shows Home, in the workspace; put there where it is not."""
    from .project import notebooks

    folder = workspace.root / "notebooks"
    for place in (folder / HOME, workspace.root / HOME):
        if place.exists():
            return place
    place = (folder if folder.is_dir() else workspace.root) / HOME
    shutil.copyfile(notebooks() / HOME, place)
    tell(f"{place} was put there: it shows Home")
    return place


def _templates() -> str:
    """Where Voila finds its template of ours, beside whatever else is searched."""
    found = importlib.util.find_spec(PANELS)
    return os.pathsep.join([*(found.submodule_search_locations or () if found else ()), *filter(None, [os.environ.get("JUPYTER_PATH")])])


def _write_settings(workspace: Workspace, settings: dict[str, Any]) -> Path:
    from ..storage import write_atomic

    path = workspace.path("dashboard", "voila.json")
    write_atomic(path, json.dumps(settings, indent=1), mode=0o600)  # the token is in it, and in no list of processes
    return path.parent


def _become(workspace: Workspace, name: str, arguments: list[str], environment: dict[str, str] | None = None) -> None:
    """The same process from here on, recorded so that ``workbench down`` ends it with its kernels."""
    from .. import processes

    processes.record(workspace, replace(processes.current(), name=name))
    os.chdir(workspace.root)
    sys.stdout.flush()
    os.execve(sys.executable, arguments, {**os.environ, "WORKBENCH_ROOT": str(workspace.root), **(environment or {})})


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
    app.command("open", epilog=examples("workbench open", "workbench open pipeline-0412"))(open_)
    app.command(epilog=examples("workbench dashboard", "workbench dashboard notebooks/2-train.ipynb --read-only",
                                "workbench dashboard --host 0.0.0.0"))(dashboard)
