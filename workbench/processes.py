"""Processes that outlive whoever started them: cluster, endpoints, monitors; each recorded by name."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from .storage import storage_errors, write_atomic
from .workspace import Workspace

if TYPE_CHECKING:
    import psutil

STEP = "WORKBENCH_STEP"
"""Environment variable that says for which step of a pipeline a process works; what is started to stay does not bear it."""


@dataclass(frozen=True)
class Process:
    """A background process; ``began`` tells it from a later one with the same pid.

    ``created`` (seconds since the epoch) does where ``began`` is not known: the system counts from its start, so setting the clock moves
    the creation of everything that runs.
    """

    name: str
    pid: int
    created: float
    began: str = ""

    @property
    def alive(self) -> bool:
        import psutil

        with contextlib.suppress(psutil.Error):
            process, now = psutil.Process(self.pid), _began(self.pid)
            same = now == self.began if now and self.began else abs(process.create_time() - self.created) < 0.05
            return same and process.status() != psutil.STATUS_ZOMBIE
        return False

    def end(self, *, patience: float = 5.0) -> None:
        """Ask it and its descendants to end (SIGTERM), then kill what is left after ``patience`` seconds."""
        _end([self], patience)


def _end(those: list[Process], patience: float) -> None:
    """End processes side by side. Their descendants are listed before any is asked: of one that has ended they can't be found."""
    import psutil

    trees = []
    for process in those:
        with contextlib.suppress(psutil.Error):
            if process.alive:
                top = psutil.Process(process.pid)
                trees.append((top, [*top.children(recursive=True), top]))
    for top, _ in trees:
        with contextlib.suppress(psutil.Error):
            top.terminate()
    deadline = time.monotonic() + patience
    for top, tree in trees:
        left = _wait([top], max(0.0, deadline - time.monotonic()))
        left = _wait(tree, 0.0 if left else 0.5)
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        _wait(left, 2.0)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(top.pid, os.WNOHANG)


def _wait(those: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those of the processes that still live after so many seconds; a zombie has ended, whether or not its parent cares."""
    deadline = time.monotonic() + seconds
    while left := [p for p in those if _lives(p)]:
        if time.monotonic() >= deadline:
            break
        time.sleep(0.02)
    return left


def _lives(process: psutil.Process) -> bool:
    import psutil

    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def current() -> Process:
    """This process."""
    return _of(str(os.getpid()), os.getpid())


def _of(name: str, pid: int) -> Process:
    import psutil

    return Process(name, pid, psutil.Process(pid).create_time(), _began(pid))


def _began(pid: int) -> str:
    """When a process began, on no clock that anybody sets: which start of the system, and ticks since (Linux; empty elsewhere)."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as boot, open(f"/proc/{pid}/stat", "rb") as stat:
            return f"{boot.read().strip()}/{stat.read().rpartition(b') ')[2].split()[19].decode()}"
    except (OSError, IndexError):
        return ""


def start(workspace: Workspace, name: str, module: str, *arguments: str, environment: dict[str, str] | None = None) -> Process:
    """Start ``python -m module arguments…`` in a session of its own, detached from this process.

    Its output goes to ``.workbench/logs/<name>.log``; it is recorded under ``name`` (which may hold ``/``).
    """
    log = workspace.path("logs", f"{_file(name)}.log")
    with storage_errors(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as output:
            child = subprocess.Popen([sys.executable, "-m", module, *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                     cwd=workspace.root, start_new_session=True,
                                     env={**{k: v for k, v in os.environ.items() if k != STEP},
                                          "WORKBENCH_ROOT": str(workspace.root), **(environment or {})})
    process = _of(name, child.pid)
    record(workspace, process)
    child.returncode = 0  # it is not ours to wait for: silence Popen's warning when collected
    return process


def record(workspace: Workspace, process: Process) -> None:
    """Note a background process so that ``workbench down`` finds it."""
    write_atomic(workspace.path("processes", f"{_file(process.name)}.json"), json.dumps(asdict(process)))


def find(workspace: Workspace, name: str) -> Process | None:
    """The living process of a name, or None."""
    try:
        process = Process(**json.loads(workspace.path("processes", f"{_file(name)}.json").read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return process if process.alive else None


def recorded(workspace: Workspace, name: str) -> bool:
    """True where a process of a name was noted and nobody ended it since, alive or not."""
    return workspace.path("processes", f"{_file(name)}.json").exists()


def forget(workspace: Workspace, name: str) -> None:
    """Remove the record of a process."""
    workspace.path("processes", f"{_file(name)}.json").unlink(missing_ok=True)


def listed(workspace: Workspace) -> list[Process]:
    """All living background processes of the workspace."""
    folder = workspace.path("processes")
    names = [json.loads(p.read_text())["name"] for p in sorted(folder.glob("*.json"))] if folder.is_dir() else []
    return [p for p in (find(workspace, n) for n in names) if p]


def end_all(workspace: Workspace) -> list[Process]:
    """End every background process of the workspace; returns what was ended."""
    living = listed(workspace)
    _end(living, 5.0)
    for process in living:
        forget(workspace, process.name)
    return living


@contextlib.contextmanager
def lock(workspace: Workspace, name: str, *, patience: float = 60.0) -> Iterator[None]:
    """A lock between processes that ends with its holder (flock)."""
    path = workspace.path("locks", f"{_file(name)}.lock")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w") as file:
            deadline = time.monotonic() + patience
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"{path} is held by another process for more than {patience:g} s") from None
                    time.sleep(0.05)
            yield


def _file(name: str) -> str:
    return name.replace("/", "--")
