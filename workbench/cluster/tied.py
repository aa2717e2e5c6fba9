"""Loaded by a scheduler on another machine: it ends with the connection of whoever keeps the cluster."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Scheduler


async def dask_setup(scheduler: Scheduler) -> None:
    """Close the scheduler, and with it its workers, once standard input is closed."""
    await asyncio.get_running_loop().connect_read_pipe(lambda: _Ends(scheduler), sys.stdin)


class _Ends(asyncio.Protocol):
    def __init__(self, scheduler: Scheduler):
        self.scheduler = scheduler

    def connection_lost(self, _: Exception | None) -> None:
        self.closing = asyncio.ensure_future(self.scheduler.close(reason="whoever kept the cluster is gone"))
