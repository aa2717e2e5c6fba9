"""A Dask client for what the settings ask: a detached local cluster with TLS, or an address."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import processes
from .errors import ClusterError
from .storage import write_atomic
from .workspace import Workspace

if TYPE_CHECKING:
    from distributed import Client
    from distributed.security import Security

PROCESS = "cluster"
"""Name under which the local cluster's process is recorded; scheduler and nannies live in it."""
START_SECONDS = 60
CONNECT_SECONDS = 8

_clients: dict[tuple[int, Path, str], Client] = {}


@dataclass(frozen=True)
class Status:
    """Where the cluster is and who works in it."""

    address: str
    local: bool
    workers: dict[str, dict]
    """address of a worker -> host, threads, memory limit in bytes, pid"""


def connect(workspace: Workspace, *, start: bool = True) -> Client:
    """The process's client of the workspace's cluster; a local cluster is started if need be.

    Raises
    ------
    ClusterError
        When the address does not answer, or no cluster runs and ``start`` is false.
    """
    address, security = _address(workspace, start=start)
    key = (os.getpid(), workspace.root, address)
    client = _clients.get(key)
    if client is not None and client.status == "running":
        return client
    _clients[key] = client = _client(address, security)
    return client


def _client(address: str, security: Security | None) -> Client:
    from distributed import Client

    try:
        return Client(address, security=security, timeout=CONNECT_SECONDS, set_as_default=False, name="workbench")
    except (OSError, TimeoutError) as error:
        raise ClusterError("no Dask scheduler answers", where=address, received=str(error).splitlines()[0] if str(error) else None,
                           hint="Check [cluster] in workbench.toml, or remove it for a local cluster") from error


def _address(workspace: Workspace, *, start: bool) -> tuple[str, Security | None]:
    settings = workspace.settings.cluster
    if settings.address:
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
    return address, _security(workspace)


def running(workspace: Workspace) -> str | None:
    """Address of the local cluster if its process lives and is ready, else None; asks nothing over the network."""
    process = processes.find(workspace, PROCESS)
    if process is None:
        return None
    try:
        ready = json.loads(workspace.path("cluster", "ready.json").read_text())
    except (FileNotFoundError, ValueError):
        return None
    return ready["address"] if ready["pid"] == process.pid else None


def up(workspace: Workspace) -> str:
    """Start the local cluster unless it runs; returns its address once its workers are in."""
    with processes.lock(workspace, PROCESS, patience=START_SECONDS + 10):
        address = running(workspace)
        if address:
            return address
        process = processes.find(workspace, PROCESS) or processes.start(
            workspace, PROCESS, "workbench.cluster", environment={"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "20"})
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            address = running(workspace)
            if address:
                return address
            if not process.alive:
                break
            time.sleep(0.05)
        log = workspace.path("logs", f"{PROCESS}.log")
        tail = log.read_text("utf-8", "replace").splitlines()[-1:] if log.exists() else []
        process.end()
        raise ClusterError("the local cluster did not start", where=log, received=" ".join(tail) or None,
                           hint="The log says why; workbench doctor checks the machine")


def down(workspace: Workspace) -> bool:
    """End the local cluster; true if one ran."""
    process = processes.find(workspace, PROCESS)
    for key in [k for k in _clients if k[1] == workspace.root]:
        with contextlib.suppress(Exception):  # the scheduler may be gone: closing is all that is wanted
            _clients.pop(key).close(timeout=1)
    if process is None:
        return False
    process.end()
    processes.forget(workspace, PROCESS)
    return True


def status(workspace: Workspace) -> Status | None:
    """The cluster as it stands, or None where none runs."""
    if not workspace.settings.cluster.address and running(workspace) is None:
        return None
    client = connect(workspace, start=False)
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return Status(client.scheduler.address, not workspace.settings.cluster.address,
                  {a: {"host": w["host"], "threads": w["nthreads"], "memory": w["memory_limit"]} for a, w in workers.items()})


# --- the local cluster's own process ---------------------------------------------------------------------------------


def _security(workspace: Workspace) -> Security:
    from distributed.security import Security

    folder = workspace.path("cluster", "tls")
    if not (folder / "node.pem").exists():
        with processes.lock(workspace, "cluster-tls"):
            if not (folder / "node.pem").exists():
                _make_authority(folder)
    ca, node = str(folder / "ca.pem"), str(folder / "node.pem")
    return Security(tls_ca_file=ca, require_encryption=True, **{
        f"tls_{role}_{part}": node for role in ("client", "scheduler", "worker") for part in ("cert", "key")})


def _make_authority(folder: Path) -> None:
    """A private authority and one certificate signed by it; the authority's key is thrown away."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.datetime.now(datetime.UTC)
    begin, end = now - datetime.timedelta(days=1), now + datetime.timedelta(days=3650)
    authority_key, node_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = (x509.CertificateBuilder().subject_name(name("workbench authority")).issuer_name(name("workbench authority"))
                 .public_key(authority_key.public_key()).serial_number(x509.random_serial_number())
                 .not_valid_before(begin).not_valid_after(end)
                 .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(authority_key, hashes.SHA256()))
    node = (x509.CertificateBuilder().subject_name(name("workbench node")).issuer_name(authority.subject)
            .public_key(node_key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(begin).not_valid_after(end)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False).sign(authority_key, hashes.SHA256()))
    pem = serialization.Encoding.PEM
    key = node_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_atomic(folder / "ca.pem", authority.public_bytes(pem))
    write_atomic(folder / "node.pem", key + node.public_bytes(pem), mode=0o600)


async def _serve(workspace: Workspace) -> None:
    import dask
    from distributed import Nanny, Scheduler

    settings = workspace.settings.cluster
    security = _security(workspace)
    # A driver lives as long as its run: its worker's death must not use up the task's chances.
    dask.config.set({"distributed.scheduler.allowed-failures": 100, "distributed.comm.timeouts.connect": "10s",
                     # The whole of it, without MALLOC_TRIM_THRESHOLD_: any value of that, even -1, makes glibc give each
                     # larger tensor back to the system at once, and the page faults cost as much as the work.
                     "distributed.nanny.pre-spawn-environ": {f"{n}_NUM_THREADS": 1 for n in ("OMP", "MKL", "OPENBLAS")},
                     # An idle cluster must cost nothing: the statistical profiler alone takes a tenth of a core.
                     "distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "500ms",
                     "distributed.admin.system-monitor.interval": "5s"})
    ready = workspace.path("cluster", "ready.json")
    ready.unlink(missing_ok=True)
    scratch = workspace.path("cluster", "scratch")
    scratch.mkdir(parents=True, exist_ok=True)
    async with Scheduler(host="127.0.0.1", protocol="tls", port=0, security=security, dashboard=False, dashboard_address=None,
                         idle_timeout=f"{settings.idle_minutes * 60:.0f}s") as scheduler:
        nannies = [Nanny(scheduler.address, nthreads=settings.threads, name=f"worker-{n}", security=security, host="127.0.0.1",
                         dashboard=False, local_directory=str(scratch), env={"WORKBENCH_ROOT": str(workspace.root)})
                   for n in range(settings.workers)]
        finish = asyncio.Event()
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sign, finish.set)
        try:
            await asyncio.gather(*nannies)
            write_atomic(ready, json.dumps({"address": scheduler.address, "pid": os.getpid()}))
            idle = asyncio.ensure_future(scheduler.finished())
            await asyncio.wait([idle, asyncio.ensure_future(finish.wait())], return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.unlink(missing_ok=True)
            await asyncio.wait_for(asyncio.gather(*(n.close(timeout=2) for n in nannies), return_exceptions=True), 10)


if __name__ == "__main__":
    asyncio.run(_serve(Workspace.find()))
    sys.stdout.flush()
    os._exit(0)  # Dask's threads must not keep a closed cluster alive
