"""Notebooks: their code and outputs as data, and their execution; the only file that knows papermill.

Run as ``python -m workbench.pipeline.notebook JOB`` it executes one notebook in a process of its own, which together
with the kernel and all that the cells started bears the mark of its step, so that nothing of it can be left behind.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import WorkbenchError
from ..events import Events
from ..processes import STEP
from ..storage import digest_json, write_atomic
from ..workspace import Workspace

OTHER = ("injected-parameters", "papermill-error-cell-tag")
"""Tags of the cells that papermill puts in."""
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07")


def plain(text: str) -> str:
    """Text without the codes that colour it in a terminal."""
    return _ANSI.sub("", text)


@dataclass(frozen=True)
class Notebook:
    """A notebook file, read as JSON.

    Raises
    ------
    WorkbenchError
        When the file is not there or is no notebook.
    """

    path: Path

    @cached_property
    def document(self) -> dict[str, Any]:
        try:
            document = json.loads(self.path.read_text("utf-8"))
        except FileNotFoundError:
            raise WorkbenchError("is not there; expected a notebook", where=self.path) from None
        except (ValueError, OSError) as error:
            raise WorkbenchError(f"is no notebook: {error}", where=self.path) from None
        if not isinstance(document, dict) or not isinstance(document.get("cells"), list):
            raise WorkbenchError("is no notebook of format 4: it has no list of cells", where=self.path)
        return document

    @property
    def cells(self) -> list[dict[str, Any]]:
        """The cells that its author wrote: with papermill's own left out."""
        return [c for c in self.document["cells"] if not set(_tags(c)) & set(OTHER)]

    @property
    def code(self) -> list[str]:
        """Sources of the code cells, in order."""
        return [source(c) for c in self.cells if c.get("cell_type") == "code"]

    @property
    def kernel(self) -> str:
        """Name of the kernel that it asks for."""
        return self.document.get("metadata", {}).get("kernelspec", {}).get("name") or "python3"

    @property
    def title(self) -> str:
        """Its first heading, or its file's name."""
        for cell in self.cells:
            if cell.get("cell_type") == "markdown" and (found := re.search(r"^#+ +(.+)$", source(cell), re.MULTILINE)):
                return found[1].strip()
        return self.path.name

    def parts(self) -> dict[str, str]:
        """What a change of which makes the notebook another one: code cells and kernel, each with its digest."""
        return {"kernel": self.kernel, **{f"code cell {n}": digest_json(c)[:16] for n, c in enumerate(self.code, 1)}}

    def parameter(self, name: str) -> Any:
        """The literal that the ``parameters`` cell gives to a name, or None."""
        cell = next((c for c in self.cells if "parameters" in _tags(c)), None)
        try:
            body = ast.parse(source(cell)).body if cell else []
        except SyntaxError as error:
            raise WorkbenchError(f"its parameters cell is no Python: {error.msg}", where=self.path) from None
        for statement in body:
            if isinstance(statement, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in statement.targets):
                with contextlib.suppress(ValueError):  # an expression: only the kernel knows its value
                    return ast.literal_eval(statement.value)
        return None


def source(cell: dict[str, Any]) -> str:
    """The text of a cell."""
    text = cell.get("source", "")
    return text if isinstance(text, str) else "".join(text)


def _tags(cell: dict[str, Any]) -> list[str]:
    return cell.get("metadata", {}).get("tags", [])


class Execution:
    """A notebook at work in a process of its own.

    Parameters
    ----------
    notebook : path of the notebook; it is only read.
    output : path that the executed notebook gets, whole, when it has ended or failed.
    parameters : JSON values put below the ``parameters`` cell.
    mark : ``<run id>/<step>``: borne by every process of this execution, and the scope in which ``runs.submit`` notes runs.
    """

    def __init__(self, workspace: Workspace, notebook: Path, output: Path, parameters: dict[str, Any], mark: str):
        self.mark, self.output = mark, output
        self.part = output.with_name(f".{output.stem}.part.ipynb")
        self.failed = output.with_name(f".{output.stem}.failed.json")
        self.log = output.with_suffix(".log")
        end(mark)  # what an attempt before this one may have left
        for path in (self.part, self.failed, output):
            path.unlink(missing_ok=True)
        job = output.with_name(f".{output.stem}.job.json")
        write_atomic(job, json.dumps({"notebook": str(notebook), "output": str(output), "part": str(self.part), "mark": mark,
                                      "failed": str(self.failed), "parameters": parameters, "parent": os.getpid()}))
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workbench.pipeline.notebook", str(job)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=notebook.parent, start_new_session=True,
                env={**os.environ, "WORKBENCH_ROOT": str(workspace.root), STEP: mark, "PYDEVD_DISABLE_FILE_VALIDATION": "1"})

    def poll(self) -> int | None:
        """The exit status, or None while it is at work."""
        return self.process.poll()

    def end(self) -> None:
        """End it with its kernel and everything that its cells started; what was executed so far is kept."""
        end(self.mark)
        self.process.wait()
        self._keep()

    def failure(self) -> dict[str, Any] | None:
        """What went wrong, once it has ended: ``what``, ``traceback``, and the cell if it was one; None if nothing did."""
        status = self.process.returncode
        if status == 0 and self.output.exists():
            return None
        end(self.mark)
        self._keep()
        if self.failed.exists():
            return json.loads(self.failed.read_text("utf-8"))
        killed = f"was killed ({signal.Signals(-status).name})" if status and status < 0 else f"ended with status {status}"
        return {"what": f"the process that executes the notebook {killed}", "traceback": plain(self.log.read_text("utf-8", "replace"))}

    def _keep(self) -> None:
        """Take the half executed notebook where it is whole as a file."""
        if self.part.exists() and not self.output.exists():
            with contextlib.suppress(WorkbenchError):  # cut off while it was written: it says nothing
                _ = Notebook(self.part).document
                os.replace(self.part, self.output)
        self.part.unlink(missing_ok=True)


def end(mark: str, *, spare: int | None = None, patience: float = 5.0) -> int:
    """Kill every process that bears the mark of a step, until none is left; returns how many there were."""
    import psutil

    killed: set[int] = set()
    deadline = time.monotonic() + patience
    while found := [p for p in _bearing(mark) if p.pid != spare]:
        for process in found:
            killed.add(process.pid)
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(found, timeout=0.5)
        if time.monotonic() > deadline:
            raise WorkbenchError(f"{len(found)} processes can't be ended", where=mark, received=[p.pid for p in found])
    return len(killed)


def _bearing(mark: str) -> list[Any]:
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(STEP) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


# --- the process that executes ---------------------------------------------------------------------------------------


def _main(job_file: str) -> int:
    job = json.loads(Path(job_file).read_text("utf-8"))
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: _leave(job["mark"]))
    threading.Thread(target=_watch, args=(job["parent"], job["mark"]), daemon=True).start()
    try:
        _execute(job)
    except Exception as error:  # noqa: BLE001 - told to the driver as the step's failure
        _finish(job)
        write_atomic(job["failed"], json.dumps(_told(job, error)))
        return 1
    _finish(job)
    return 0


def _execute(job: dict[str, Any]) -> None:
    # jsonschema builds the grammar of IRIs (1.5 s) where this is importable; notebooks hold none.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    import nbformat
    import papermill
    from traitlets.config import Config

    workspace, notebook = Workspace.find(), Notebook(Path(job["notebook"]))
    events = Events(workspace)
    scope, _, step = job["mark"].partition("/")
    document = nbformat.from_dict(notebook.document)
    document.metadata.setdefault("kernelspec", {"name": notebook.kernel, "display_name": notebook.kernel, "language": "python"})
    total = len(document.cells) + bool(job["parameters"])

    def tell(cell: Any, cell_index: int) -> None:  # noqa: ARG001 - papermill calls it by these names
        events.append(scope, "mark", name="cell", of=total, node=step, cell=cell_index + 1)

    # Sockets in a directory of our own: no race for TCP ports, and nobody else can speak to the kernel.
    place = tempfile.mkdtemp(prefix="wb-")
    config = Config()
    config.KernelManager.transport = "ipc"
    config.KernelManager.connection_file = f"{place}/kernel.json"
    try:
        # A path is a format string to papermill: braces in it are doubled, and the notebook is handed over read.
        papermill.execute_notebook(document, job["part"].replace("{", "{{").replace("}", "}}"), job["parameters"] or None,
                                   kernel_name=notebook.kernel, progress_bar=False, on_cell_execute=tell, config=config)
    finally:
        end(job["mark"], spare=os.getpid())
        shutil.rmtree(place, ignore_errors=True)


def _finish(job: dict[str, Any]) -> None:
    """The executed notebook appears under its name only now, whole."""
    with contextlib.suppress(FileNotFoundError):  # it never began
        os.replace(job["part"], job["output"])


def _told(job: dict[str, Any], error: Exception) -> dict[str, Any]:
    """A failure in words: of a cell, with its traceback whole."""
    name = Path(job["notebook"]).name
    if type(error).__name__ == "PapermillExecutionError":
        executed = Notebook(Path(job["output"]))
        failing = next(n for n, c in enumerate(executed.cells)
                       if any(o.get("output_type") == "error" for o in c.get("outputs", [])))
        order = sum(c.get("cell_type") == "code" for c in executed.cells[:failing + 1])
        return {"what": f"{name}, code cell {order}: {error.ename}: {plain(str(error.evalue))}", "cell": order, "source": error.source,
                "kind": error.ename, "traceback": plain("\n".join(error.traceback))}
    if type(error).__name__ == "DeadKernelError":
        return {"what": f"{name}: the kernel died: it was killed, or the machine was out of memory", "kind": "DeadKernelError",
                "traceback": plain("".join(traceback.format_exception(error)))}
    return {"what": f"{name}: {type(error).__name__}: {plain(str(error))}", "kind": type(error).__name__,
            "traceback": plain("".join(traceback.format_exception(error)))}


def _watch(parent: int, mark: str) -> None:
    """Leave when the driver is gone. (A death signal would come when the thread that started us ends, which says nothing.)"""
    while os.getppid() == parent:
        time.sleep(0.2)
    _leave(mark)


def _leave(mark: str) -> None:
    end(mark, spare=os.getpid())
    os._exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
