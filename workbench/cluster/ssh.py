"""A cluster of machines that are reached over SSH: what ``distributed.SSHCluster`` starts, in any number."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from distributed.deploy import ssh
from distributed.deploy.spec import SpecCluster

from ..settings import SSHCluster
from ..workspace import Workspace
from .nanny import PRELOADS
from .security import security


class Hosts(SpecCluster):
    """Workers shared out over machines: a new one goes where the fewest are."""

    def __init__(self, hosts: tuple[str, ...], options: dict[str, Any], **more: Any):
        self.hosts, self.options = hosts, options
        super().__init__(**more)

    def new_worker_spec(self) -> dict[str, dict[str, Any]]:
        """The next worker's name and options."""
        there = Counter(s["options"]["address"] for s in self.worker_spec.values())
        host = min(self.hosts, key=lambda h: there[h])
        number = next(n for n in range(len(self.worker_spec) + 1) if f"{host}-{n}" not in self.worker_spec)
        name = f"{host}-{number}"
        kwargs = self.options["kwargs"] | {"name": name}
        return {name: {"cls": ssh.Worker, "options": self.options | {"address": host, "kwargs": kwargs}}}


def connect_options(workspace: Workspace, settings: SSHCluster) -> dict[str, Any]:
    """Arguments of ``asyncssh.connect``; files are meant from the workspace."""

    def file(name: str) -> str:
        return str(workspace.root / Path(name).expanduser())

    named = {"port": settings.port, "username": settings.user, "client_keys": [file(settings.key)] if settings.key else None,
             "known_hosts": file(settings.known_hosts) if settings.known_hosts else None}
    return {"connect_timeout": 20, "keepalive_interval": 10} | {k: v for k, v in named.items() if v is not None} | settings.connect


def made(workspace: Workspace, settings: SSHCluster) -> Hosts:
    """The scheduler on the first machine, the workers on the others."""
    tls = security(workspace)
    connect, root = connect_options(workspace, settings), shlex.quote(str(workspace.root))
    # Before the interpreter begins: where the user's own modules are is read only then.
    python = f"env WORKBENCH_ROOT={root} PYTHONPATH={root} {shlex.quote(settings.python or sys.executable)}"
    scheduler = {"protocol": "tls", "port": settings.scheduler_port, "dashboard": False, "preload": ["workbench.cluster.tied"],
                 "idle_timeout": f"{settings.idle_minutes * 60:.0f}s"} | settings.scheduler
    worker = {"nthreads": settings.threads, "dashboard": False, "protocol": "tls", **PRELOADS} | settings.worker
    return Hosts(
        settings.hosts[1:] or settings.hosts,
        {"connect_options": connect, "kwargs": worker, "worker_class": "distributed.Nanny", "remote_python": python},
        scheduler={"cls": ssh.Scheduler, "options": {"address": settings.hosts[0], "connect_options": connect, "kwargs": scheduler,
                                             "remote_python": python}},
        asynchronous=True, security=tls, name="workbench", silence_logs=False, scheduler_sync_interval="30s")
