"""A cluster of processes on this machine, on loopback."""

from __future__ import annotations

from ..settings import LocalCluster
from ..workspace import Workspace
from .nanny import PRELOADS
from .security import security


def made(workspace: Workspace, settings: LocalCluster):
    """The scheduler in this process, a nanny for each worker."""
    from distributed import Nanny, Scheduler, SpecCluster

    tls = security(workspace)
    scratch = workspace.path("cluster", "scratch")
    scratch.mkdir(parents=True, exist_ok=True)
    worker = {"cls": Nanny, "options": {
        "nthreads": settings.threads, "security": tls, "host": "127.0.0.1", "dashboard": False, "local_directory": str(scratch), **PRELOADS,
        "env": {"WORKBENCH_ROOT": str(workspace.root)}}}
    first = settings.minimum or 0 if settings.grows else settings.workers
    return SpecCluster(
        {f"worker-{n}": worker for n in range(first)},
        {"cls": Scheduler, "options": {"host": "127.0.0.1", "protocol": "tls", "port": 0, "security": tls, "dashboard": False,
                                       "dashboard_address": None, "idle_timeout": f"{settings.idle_minutes * 60:.0f}s"}},
        worker, asynchronous=True, security=tls, name="workbench", silence_logs=False, scheduler_sync_interval="30s")
