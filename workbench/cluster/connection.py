"""The way to a workspace's cluster: its client, its start and its end, from any process."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .. import processes
from ..errors import ClusterError
from ..workspace import Workspace
from .kinds import require
from .security import security

if TYPE_CHECKING:
    from distributed import Client
    from distributed.security import Security

PROCESS = "cluster"
"""Name under which the process that keeps the cluster is recorded."""
CONNECT_SECONDS = 8

_clients: dict[tuple[int, Path, str], Client] = {}


@dataclass(frozen=True)
class Status:
    """Where the cluster is and who works in it."""

    address: str
    local: bool
    workers: dict[str, dict]
    """address of a worker -> host, threads, memory limit in bytes"""
    kind: str = "local"
    wanted: str = ""
    """how many workers are asked for, in words"""

    @property
    def words(self) -> str:
        """Which cluster, where, how many workers.

        Examples
        --------
        >>> Status("tls://10.0.0.1:8786", False, {"tls://10.0.0.2:1": {"host": "10.0.0.2"}}, "ssh", "2").words
        'ssh, tls://10.0.0.1:8786, 1 of 2 workers on 1 host'
        """
        hosts = len({w["host"] for w in self.workers.values()})
        many = f"{len(self.workers)} of {self.wanted} workers" if self.wanted else f"{len(self.workers)} workers"
        return f"{self.kind}, {self.address}, {many}" + (f" on {hosts} host{'s' * (hosts != 1)}" if hosts and not self.local else "")


def connect(workspace: Workspace, *, start: bool = True) -> Client:
    """The process's client of the workspace's cluster, which is started if need be.

    Raises
    ------
    ClusterError
        When the address does not answer, or no cluster runs and ``start`` is false.
    """
    address, tls = _address(workspace, start=start)
    key = (os.getpid(), workspace.root, address)
    client = _clients.get(key)
    if client is not None and client.status == "running":
        return client
    _clients[key] = client = _client(address, tls)
    return client


def _client(address: str, tls: Security | None) -> Client:
    from distributed import Client

    try:
        return Client(address, security=tls, timeout=CONNECT_SECONDS, set_as_default=False, name="workbench")
    except (OSError, TimeoutError) as error:
        raise ClusterError("no Dask scheduler answers", where=address, received=str(error).splitlines()[0] if str(error) else None,
                           hint="Check [cluster] in workbench.toml, or remove it for a local cluster") from error


def _address(workspace: Workspace, *, start: bool) -> tuple[str, Security | None]:
    settings = workspace.settings.cluster
    if settings.kind == "address":
        from distributed.security import Security

        if not settings.tls_ca:
            return settings.address, None
        cert = str(workspace.root / settings.tls_cert) if settings.tls_cert else None
        return settings.address, Security(tls_ca_file=str(workspace.root / settings.tls_ca), tls_client_cert=cert,
                                          tls_client_key=cert, require_encryption=True)
    address = running(workspace)
    if address is None:
        if not start:
            raise ClusterError("no cluster runs", where=workspace.root, hint="Start it: workbench up")
        address = up(workspace)
    return address, security(workspace) if address.startswith("tls://") else None


def running(workspace: Workspace) -> str | None:
    """Address of the cluster if the process that keeps it lives and is ready, else None; asks nothing over the network.

    A scheduler that others started is taken to run.
    """
    if workspace.settings.cluster.kind == "address":
        return workspace.settings.cluster.address
    process = processes.find(workspace, PROCESS)
    if process is None:
        return None
    ready = _ready(workspace)
    return ready["address"] if ready.get("pid") == process.pid else None


def _ready(workspace: Workspace) -> dict:
    try:
        return json.loads(workspace.path("cluster", "ready.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}


def up(workspace: Workspace) -> str:
    """Start the cluster unless it runs; returns its address once its scheduler is there, and a local one's workers.

    Raises
    ------
    ClusterError
        When it does not start, the address does not answer, a library is missing, or a worker does not see the workspace.
    """
    settings = workspace.settings.cluster
    if settings.kind == "address":
        _check_sight(connect(workspace), workspace)
        return settings.address
    require(settings.kind)
    with processes.lock(workspace, PROCESS, patience=settings.STARTED_IN + 10):
        address = running(workspace)
        if not address:
            address = _start(workspace)
    if settings.kind != "local":
        _check_sight(connect(workspace), workspace)
    return address


def _start(workspace: Workspace) -> str:
    settings = workspace.settings.cluster
    log = workspace.path("logs", f"{PROCESS}.log")
    before = log.stat().st_size if log.exists() else 0
    process = processes.find(workspace, PROCESS) or processes.start(
        workspace, PROCESS, "workbench.cluster", environment={"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "20"})
    deadline = time.monotonic() + settings.STARTED_IN
    while time.monotonic() < deadline:
        address = running(workspace)
        if address:
            return address
        if not process.alive:
            break
        time.sleep(0.05)
    tail = log.read_bytes()[before:].decode("utf-8", "replace").splitlines()[-1:] if log.exists() else []
    process.end(patience=settings.ENDED_IN)
    raise ClusterError(f"the {settings.kind} cluster did not start", where=log, received=" ".join(tail) or None,
                       hint="The log says why; workbench doctor checks the machine")


def _check_sight(client: Client, workspace: Workspace) -> None:
    """Refuse workers that do not see the workspace: they would fail in the middle of a run."""
    if unseeing := blind(client, workspace):
        raise ClusterError("workers do not see the workspace", where=", ".join(sorted(unseeing)), received=next(iter(unseeing.values())),
                           allowed=f"{workspace.root} on every machine, and the workbench installed there",
                           hint="Put the workspace on a shared file system; docs/clusters.md says how")


def blind(client: Client, workspace: Workspace) -> dict[str, str]:
    """Hosts whose workers do not see the workspace as this process does, with the reason."""
    mark = os.urandom(8).hex()
    path = workspace.path("cluster", "sight")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(mark)
    answers = client.run(_seen, str(path), on_error="return")
    return {a.rpartition("://")[2].rpartition(":")[0]: str(found) for a, found in answers.items() if found != mark}


def _seen(path: str) -> str:
    """What a worker reads there."""
    try:
        return Path(path).read_text()
    except OSError as error:
        return str(error)


def down(workspace: Workspace) -> bool:
    """End the cluster; true if one of ours ran."""
    process = processes.find(workspace, PROCESS)
    for key in [k for k in _clients if k[1] == workspace.root]:
        with contextlib.suppress(Exception):  # the scheduler may be gone: closing is all that is wanted
            _clients.pop(key).close(timeout=1)
    if process is None:
        return False
    # Settings may have changed, and may be broken now: what runs was started by those that it noted itself.
    process.end(patience=_ready(workspace).get("ended_in", 15))
    processes.forget(workspace, PROCESS)
    return True


def status(workspace: Workspace) -> Status | None:
    """The cluster as it stands, or None where none runs."""
    if running(workspace) is None:
        return None
    settings = workspace.settings.cluster
    client = connect(workspace, start=False)
    workers = client.scheduler_info(n_workers=-1)["workers"]
    kind = settings.kind if settings.kind == "address" else _ready(workspace).get("kind", settings.kind)
    wanted = "" if kind == "address" else f"{settings.minimum or 0} to {settings.maximum}" if settings.grows else str(settings.workers)
    return Status(client.scheduler.address, kind == "local",
                  {a: {"host": w["host"], "threads": w["nthreads"], "memory": w["memory_limit"]} for a, w in workers.items()}, kind, wanted)
