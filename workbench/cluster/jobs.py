"""A cluster of jobs of a batch system: the scheduler here, the workers wherever the system puts them."""

from __future__ import annotations

import shlex
import sys
from typing import Any

from ..settings import QueueCluster
from ..workspace import Workspace
from .security import security

CLASSES = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster", "lsf": "LSFCluster"}
LOGS = ".workbench/logs/jobs"
"""Of the jobs' output, from the workspace's root: there this process and the jobs work, so that no path needs quoting."""
NANNY = "workbench.cluster.nanny"
PAYS = {"slurm": "account", "pbs": "account", "sge": "project", "lsf": "project"}
"""What each system calls who pays."""


def arguments(workspace: Workspace, settings: QueueCluster) -> dict[str, Any]:
    """Arguments of dask_jobqueue's class."""
    root = str(workspace.root)
    directives = list(settings.directives)
    if settings.kind == "slurm":
        # To the first process alone, and before the end: so there is time to write a checkpoint.
        directives.insert(0, f"--signal=B:TERM@{settings.notice_seconds}")
    walltime = settings.walltime
    if walltime and settings.kind == "lsf" and walltime.count(":") == 2:
        walltime = walltime.rpartition(":")[0]  # it knows no seconds
    named = {"queue": settings.queue, PAYS[settings.kind]: settings.account, "walltime": walltime, "interface": settings.interface}
    return {
        **{k: v for k, v in named.items() if v is not None},
        "cores": settings.job_cores, "memory": settings.memory, "processes": settings.processes,
        # The worker takes the shell's place, or the shell would get the signals meant for it.
        "python": f"exec {shlex.quote(settings.python or sys.executable)}",
        "job_name": "workbench", "log_directory": LOGS, "job_extra_directives": directives,
        "job_script_prologue": [*settings.prologue, f"cd {shlex.quote(root)}", f"export WORKBENCH_ROOT={shlex.quote(root)}"],
        "worker_extra_args": ["--no-dashboard", "--preload", NANNY, "--preload-nanny", NANNY],
        "scheduler_options": {"port": 0, "dashboard": False, "dashboard_address": None,
                              "idle_timeout": f"{settings.idle_minutes * 60:.0f}s"},
        **settings.options}


def made(workspace: Workspace, settings: QueueCluster):
    """The scheduler in this process, no job yet."""
    import dask_jobqueue

    return getattr(dask_jobqueue, CLASSES[settings.kind])(
        asynchronous=True, security=security(workspace, relative=True), silence_logs=False, **arguments(workspace, settings))
