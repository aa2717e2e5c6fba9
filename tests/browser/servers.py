"""Real JupyterLab and Voila servers over a folder of notebooks, and a real Chromium that looks at them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
TOKEN = "browser-test"


def write_notebook(path: Path, *cells: str) -> Path:
    """A notebook of code cells."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextlib.contextmanager
def started(arguments: list[str], url: str, *, cwd: Path, log: Path, patience: float = 90) -> Iterator[str]:
    """A server process in a group of its own, awaited until it answers; it ends with all its kernels."""
    environment = {k: v for k, v in os.environ.items() if k not in ("WORKBENCH_ROOT", "WORKBENCH_STEP")}
    # Every server keeps its own settings and runtime files: nothing of the person's who runs the tests.
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "JUPYTERLAB_SETTINGS_DIR",
                 "JUPYTERLAB_WORKSPACES_DIR"):
        environment[name] = str(log.parent / "jupyter" / name.lower())
    with open(log, "ab") as output:
        process = subprocess.Popen([sys.executable, "-m", *arguments], cwd=cwd, env=environment, stdout=output, stderr=output,
                                   start_new_session=True)
    try:
        deadline = time.monotonic() + patience
        while True:
            try:
                with urllib.request.urlopen(url, timeout=5):
                    break
            except urllib.error.HTTPError:  # it answers, if only to refuse
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"no answer from {url}:\n{log.read_text()[-4000:]}") from None
                time.sleep(0.1)
        yield url
    finally:
        import psutil

        tree = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        for left in tree:
            with contextlib.suppress(psutil.Error):
                left.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def lab_server(root: Path, logs: Path) -> Iterator[str]:
    """JupyterLab over a folder; gives its address (``http://127.0.0.1:port``)."""
    notices = logs / "jupyter" / "jupyterlab_settings_dir" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    notices.parent.mkdir(parents=True, exist_ok=True)
    notices.write_text('{"fetchNews": "false", "checkForUpdates": false}')  # nothing pops up over a panel, nothing asks the network
    port = free_port()
    arguments = ["jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0",
                 f"--IdentityProvider.token={TOKEN}", "--ServerApp.allow_root=True", f"--ServerApp.root_dir={root}",
                 "--LabApp.expose_app_in_browser=True",
                 "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.news_url=None"]
    with started(arguments, f"http://127.0.0.1:{port}/api", cwd=root, log=logs / "lab.log"):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def voila_server(notebook: Path, logs: Path, *arguments: str) -> Iterator[str]:
    """Voila over one notebook; gives its address with the token."""
    logs.mkdir(parents=True, exist_ok=True)
    port = free_port()
    address = f"http://127.0.0.1:{port}/?token={TOKEN}"
    options = [str(notebook), "--no-browser", f"--port={port}", "--Voila.ip=127.0.0.1", f"--token={TOKEN}", *arguments]
    with started(["voila", *options], f"http://127.0.0.1:{port}/voila/static/main.js", cwd=notebook.parent, log=logs / "voila.log"):
        yield address


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield chromium
        finally:
            chromium.close()


class Lab:
    """One page that shows a notebook in JupyterLab."""

    def __init__(self, page: Any, address: str):
        self.page, self.address = page, address
        self.said: list[str] = []
        page.on("console", lambda m: self.said.append(f"{m.type}: {m.text}"))
        page.on("pageerror", lambda e: self.said.append(f"error: {e}"))

    def open(self, path: str, *, dark: bool = False) -> Lab:
        """Open a notebook by itself and wait for its kernel."""
        self.page.goto(f"{self.address}/doc/tree/{path}?token={TOKEN}")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        self.page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'",
                                    timeout=60_000)
        if dark:
            self.theme("JupyterLab Dark")
        return self

    def theme(self, name: str) -> None:
        self.page.evaluate("n => jupyterapp.commands.execute('apputils:change-theme', {theme: n})", name)
        self.page.wait_for_function("n => document.body.dataset.jpThemeName === n", arg=name)

    def run(self, *, wait: bool = True) -> None:
        """Run all cells; without ``wait``, return while they run."""
        if wait:
            self.page.evaluate("async () => { await jupyterapp.commands.execute('notebook:run-all-cells'); }")
        else:
            self.page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells'); }")

    def save(self) -> None:
        self.page.evaluate("async () => { await jupyterapp.commands.execute('docmanager:save'); }")

    def restart(self) -> None:
        self.page.evaluate("async () => { await jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart(); }")

    def idle(self) -> bool:
        return self.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.session.kernel.status") == "idle"

    def outputs(self) -> str:
        """Text of all outputs."""
        return "\n".join(self.page.locator(".jp-OutputArea-output").all_inner_texts())


def stop_kernels(address: str) -> None:
    """End all kernels of a server, so that none outlives a test."""
    request = urllib.request.Request(f"{address}/api/sessions?token={TOKEN}")
    for session in json.load(urllib.request.urlopen(request)):
        ending = urllib.request.Request(f"{address}/api/sessions/{session['id']}?token={TOKEN}", method="DELETE")
        with contextlib.suppress(OSError):
            urllib.request.urlopen(ending)
