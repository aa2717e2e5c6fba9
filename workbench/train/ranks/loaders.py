"""Processes that the work of a rank starts, loaders of data above all: they end with the rank, and none stays frozen unseen.

A loader that outlives its rank keeps the rank's pipes open, so that nobody hears of the end; a frozen one makes the rank wait for
ever, and its own watchdog, which looks for the rank, is frozen too.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing.process
import os
import signal
import threading
import time

from ...forkserver import stopped

FROZEN = 5.0
"""Seconds after which a stopped process (SIGSTOP) is killed: what waits for it hears of that at once."""
_PR_SET_PDEATHSIG = 1
LOST = ("is killed by signal", "exited unexpectedly")
"""How torch says that a loader is gone by no word of its own."""
_OWN = "exit code"
"""How torch says that a loader ended itself: then it is the work's own fault."""


def tied() -> None:
    """From now on, what this process forks from its main thread is killed by the kernel when that thread ends (Linux)."""
    main: list[bool] = []

    def before() -> None:
        main[:] = [threading.current_thread() is threading.main_thread()]

    def within() -> None:
        if main and main[0]:  # the end of any other thread would take the process along
            with contextlib.suppress(AttributeError, OSError):
                ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    os.register_at_fork(before=before, after_in_child=within)


class Frozen:
    """Kills children of this process that stay stopped; to be called now and then.

    Examples
    --------
    >>> look = Frozen(patience=0.0)
    >>> look()
    []
    """

    def __init__(self, patience: float = FROZEN):
        self.patience = patience
        self._since: dict[int, float] = {}

    def __call__(self) -> list[int]:
        """The pids that were killed."""
        now, killed = time.monotonic(), []
        # active_children() would collect those that ended, before torch has seen how they did.
        frozen = {pid for child in list(multiprocessing.process._children) if (pid := child.pid) and stopped(pid)}
        self._since = {pid: self._since.get(pid, now) for pid in frozen}
        for pid, since in self._since.items():
            if now - since >= self.patience:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                killed.append(pid)
        return killed


def lost(error: BaseException | None) -> str | None:
    """What torch says of a loader that was killed, where an error tells of one or came of one.

    Examples
    --------
    >>> lost(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "))
    'DataLoader worker (pid 7) is killed by signal: Killed.'
    >>> lost(RuntimeError("DataLoader worker (pid 7) exited unexpectedly with exit code 1. Details are lost")), lost(ValueError("no"))
    (None, None)
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        said = str(error)
        if isinstance(error, RuntimeError) and said.startswith("DataLoader worker") and any(w in said for w in LOST) and _OWN not in said:
            return " ".join(said.split())
        error = error.__cause__ or error.__context__
    return None
