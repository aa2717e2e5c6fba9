"""The process that keeps a cluster: starts it, sizes it, says where it is, ends it when asked or idle."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import signal
from typing import TYPE_CHECKING

from ..storage import write_atomic
from ..workspace import Workspace
from .kinds import maker
from .security import security
from .size import Demand, follow

if TYPE_CHECKING:
    from distributed.deploy.cluster import Cluster

LOOK = 5.0
"""Seconds between looks at the scheduler and at how many workers are there."""


async def hold(workspace: Workspace) -> None:
    """Keep the cluster of the settings until SIGTERM comes, its scheduler ends for idleness, or is gone."""
    settings = workspace.settings.cluster
    configure(workspace)
    ready = workspace.path("cluster", "ready.json")
    ready.unlink(missing_ok=True)
    finish = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, finish.set)
    cluster = maker(settings.kind)(workspace, settings)
    starting = asyncio.ensure_future(_started(cluster))
    over = asyncio.ensure_future(finish.wait())
    try:
        await asyncio.wait([starting, over], return_when=asyncio.FIRST_COMPLETED)
        if not finish.is_set():
            await starting
            await _size(cluster, settings)
            write_atomic(ready, json.dumps({"address": cluster.scheduler_address, "pid": os.getpid(), "kind": settings.kind,
                                            "ended_in": settings.ENDED_IN}))
            await _watch(cluster, settings, over)
    finally:
        ready.unlink(missing_ok=True)
        starting.cancel()
        with contextlib.suppress(Exception):  # what does not end by itself is killed by whoever asked
            await asyncio.wait_for(_closed(cluster), settings.ENDED_IN)


async def _started(cluster: Cluster) -> None:
    await cluster


async def _closed(cluster: Cluster) -> None:
    closing = cluster.close()
    if inspect.isawaitable(closing):
        await closing


def configure(workspace: Workspace) -> None:
    """Dask's settings in the process that keeps the cluster; kinds that start processes elsewhere hand them on."""
    import dask

    tls = security(workspace)
    local = workspace.settings.cluster.kind == "local"
    dask.config.set({
        # A driver lives as long as its run: its worker's death must not use up the task's chances.
        "distributed.scheduler.allowed-failures": 100, "distributed.comm.timeouts.connect": "10s",
        # A host whose cable is cut says nothing: after so long its worker is lost, and what it drove is driven elsewhere.
        "distributed.comm.timeouts.tcp": "12s",
        # The whole of it, without MALLOC_TRIM_THRESHOLD_: any value of that, even -1, makes glibc give each
        # larger tensor back to the system at once, and the page faults cost as much as the work.
        "distributed.nanny.pre-spawn-environ": {f"{n}_NUM_THREADS": 1 for n in ("OMP", "MKL", "OPENBLAS")},
        # An idle cluster must cost nothing: the statistical profiler alone takes a tenth of a core.
        "distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "500ms",
        "distributed.admin.system-monitor.interval": "5s",
        # A nanny on a busy machine brings its worker back after longer than the default; elsewhere what is lost is replaced.
        "distributed.deploy.lost-worker-timeout": "10m" if local else "10s",
        "distributed.comm.tls.ca-file": tls.tls_ca_file,
        **{f"distributed.comm.tls.{role}.{part}": tls.tls_worker_cert for role in ("client", "scheduler", "worker")
           for part in ("cert", "key")}})


async def _size(cluster: Cluster, settings) -> None:
    """Ask for the workers of the settings: a number, or as many as the work wants."""
    if not settings.grows:
        sized = cluster.scale(settings.workers)
        if inspect.isawaitable(sized):
            await sized
    elif hasattr(cluster, "worker_spec"):
        cluster.adapt(minimum=settings.minimum or 0, maximum=settings.maximum, interval="1s",
                      wait_count=max(1, round(settings.shrink_seconds)), Adaptive=Demand)


async def _watch(cluster: Cluster, settings, over: asyncio.Future) -> None:
    from distributed import Scheduler

    waited = [over]
    if isinstance(cluster.scheduler, Scheduler):
        waited.append(asyncio.ensure_future(cluster.scheduler.finished()))
    silent = 0
    while True:
        done, _ = await asyncio.wait(waited, timeout=LOOK, return_when=asyncio.FIRST_COMPLETED)
        if done:
            return
        try:
            there = len((await asyncio.wait_for(cluster.scheduler_comm.identity(n_workers=-1), 20))["workers"])
            silent = 0
        except (OSError, TimeoutError):
            silent += 1
            if silent == 3:
                print("the scheduler is gone: what is left of the cluster ends", flush=True)
                return
            continue
        if settings.grows and not hasattr(cluster, "worker_spec"):
            await follow(cluster, settings, there)
        elif not settings.grows and there < settings.workers:
            await _size(cluster, settings)  # starts again what was lost, and nothing else
