"""Loaded by each worker's nanny and by the worker: a lean environment, and a last word before a worker ends.

A batch system, a spot market and a shrinking cluster all end a worker by SIGTERM or by Dask's own word. Both reach the
nanny, which asks the worker's plugins to take their leave while everything still works: training writes a checkpoint.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import secrets
import signal
from typing import Any

from distributed import Nanny, Worker
from distributed.core import Status
from distributed.protocol.pickle import dumps

GRACE = 25.0
"""Seconds that plugins may take for their leave: less than what batch systems give (Slurm's KillWait is 30)."""
GRACE_VARIABLE = "WORKBENCH_GRACE"
NANNY_VARIABLE = "WORKBENCH_NANNY"
"""Environment variable of a worker: secret, and the same for all that a nanny starts one after the other."""
PRELOADS = {"preload": [__name__], "preload_nanny": [__name__]}
"""Arguments of a nanny that loads this file."""


async def dask_setup(server: Nanny | Worker) -> None:
    """Before a nanny starts its worker: tensors are given back to the system at once by what Dask sets, at twice the CPU; and a name
    by which a worker finds what one that was killed left running.

    In the worker: batch systems send SIGTERM to every process of a job at once, and the nanny must have a worker to ask.
    """
    if isinstance(server, Nanny):
        for environment in (server.pre_spawn_env, server.env):
            environment.pop("MALLOC_TRIM_THRESHOLD_", None)
        server.env[NANNY_VARIABLE] = secrets.token_hex(16)
    elif server.nanny:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


async def dask_teardown(server: Nanny | Worker) -> None:
    """A nanny that ends lets its worker take leave first."""
    address = server.worker_address if isinstance(server, Nanny) else None
    if address is None or server.process is None or not server.process.is_alive():  # Dask would look for one that is gone all the while
        return
    grace = float(os.environ.get(GRACE_VARIABLE, GRACE))
    with contextlib.suppress(OSError, TimeoutError, RuntimeError):  # it may be gone already
        async with server.rpc(address) as worker:
            await asyncio.wait_for(worker.run(function=dumps(leave), kwargs=dumps({"grace": grace}), wait=True), grace + 1)


async def leave(dask_worker: Worker, grace: float) -> None:
    """Take no more work, and let each plugin that has a ``leave`` finish what it must."""
    leaving: list[Any] = [p.leave(grace) for p in dask_worker.plugins.values() if hasattr(p, "leave")]
    if leaving:
        dask_worker.status = Status.closing_gracefully  # the scheduler hears of it
    await asyncio.gather(*(one for one in leaving if inspect.isawaitable(one)))
