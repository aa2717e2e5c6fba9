"""A cluster over SSH against a server of this test's own: two loopback addresses stand for two machines."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from workbench import cluster, processes
from workbench.errors import ClusterError
from workbench.workspace import Workspace

SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
pytestmark = [pytest.mark.skipif(not SSHD, reason="no sshd: install openssh-server")]
pytest.importorskip("asyncssh")


@dataclass
class Server:
    """An SSH server of this user alone."""

    folder: Path
    port: int

    def settings(self, **more: object) -> str:
        """[cluster] for it, as TOML."""
        import json

        said = {"kind": "ssh", "hosts": ["127.0.0.1", "127.0.0.1", "127.0.0.2"], "port": self.port, "user": getpass.getuser(),
                "key": str(self.folder / "user"), "known_hosts": str(self.folder / "known"), **more}
        return "[cluster]\n" + "\n".join(f"{k} = {json.dumps(v)}" for k, v in said.items())


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("sshd")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        made = Server(folder, probe.getsockname()[1])
    for name in ("host", "user", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    kind, key = (folder / "host.pub").read_text().split()[:2]
    (folder / "known").write_text("".join(f"[127.0.0.{n}]:{made.port} {kind} {key}\n" for n in (1, 2)))
    (folder / "config").write_text(
        f"Port {made.port}\nListenAddress 127.0.0.1\nListenAddress 127.0.0.2\nHostKey {folder}/host\n"
        f"AuthorizedKeysFile {folder}/user.pub\nPidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where a server of root's hides its helpers
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "config"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.2", made.port), 1):
            break
        assert process.poll() is None, "sshd did not start"
        time.sleep(0.05)
    yield made
    process.terminate()
    process.wait(10)


@pytest.fixture(scope="module")
def live(server, tmp_path_factory) -> Iterator[Workspace]:
    workspace = Workspace(tmp_path_factory.mktemp("ssh")).open()
    (workspace.root / "workbench.toml").write_text(server.settings())
    (workspace.root / "own_module.py").write_text("def answer(n):\n    return n + 40\n")
    cluster.up(workspace)
    deadline = time.monotonic() + 60
    while len(cluster.status(workspace).workers) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    yield workspace
    cluster.down(workspace)


def of(workspace: Workspace) -> list[psutil.Process]:
    """Every process, ours or started by the SSH server, that works for a workspace's cluster."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("WORKBENCH_ROOT") == str(workspace.root) or cluster.running(workspace) in process.cmdline():
                found.append(process)
    return found


def test_is_encrypted_has_a_worker_on_each_machine_and_says_so(live):
    status = cluster.status(live)
    assert status.address.startswith("tls://") and not status.local
    assert [a.split("://")[0] for a in status.workers] == ["tls", "tls"]
    assert status.words == f"ssh, {status.address}, 2 of 2 workers on {len({w['host'] for w in status.workers.values()})} host" + (
        "s" * (len({w["host"] for w in status.workers.values()}) != 1))
    names = [w["name"] for w in cluster.connect(live).scheduler_info(n_workers=-1)["workers"].values()]
    assert sorted(names) == ["127.0.0.1-0", "127.0.0.2-0"]


def test_workers_were_started_by_the_server_and_see_the_workspace_and_its_modules(live):
    client = cluster.connect(live)
    for root in client.run(lambda: os.environ["WORKBENCH_ROOT"]).values():
        assert root == str(live.root)
    assert all("SSH_CONNECTION" in e for e in client.run(lambda: dict(os.environ)).values())

    def ask() -> int:
        import own_module

        return own_module.answer(2)

    assert client.submit(ask).result(30) == 42
    assert all("MALLOC_TRIM_THRESHOLD_" not in e and e["OMP_NUM_THREADS"] == "1" for e in client.run(lambda: dict(os.environ)).values())


def test_a_lost_worker_is_started_again(live):
    client = cluster.connect(live)
    pids = client.run(os.getpid)
    address, pid = next(iter(pids.items()))
    os.kill(psutil.Process(pid).ppid(), signal.SIGKILL)  # its nanny: SSH's channel ends too
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        workers = cluster.status(live).workers
        if len(workers) == 2 and address not in workers:
            break
        time.sleep(0.2)
    assert len(cluster.status(live).workers) == 2


def test_the_machines_are_left_empty_when_the_process_that_keeps_the_cluster_is_killed(server, tmp_path):
    workspace = Workspace(tmp_path).open()
    (tmp_path / "workbench.toml").write_text(server.settings(hosts=["127.0.0.1"], workers=1))
    cluster.up(workspace)
    assert cluster.connect(workspace).submit(sum, [1, 2]).result(60) == 3
    left = of(workspace)
    assert len(left) >= 3
    os.kill(processes.find(workspace, cluster.PROCESS).pid, signal.SIGKILL)
    _, living = psutil.wait_procs(left, timeout=40)
    assert living == []
    assert cluster.running(workspace) is None
    cluster.down(workspace)


def test_it_grows_for_work_and_shrinks_and_down_ends_all_of_it(server, tmp_path):
    workspace = Workspace(tmp_path).open()
    (tmp_path / "workbench.toml").write_text(server.settings(hosts=["127.0.0.1"], minimum=0, maximum=1, shrink_seconds=2))
    cluster.up(workspace)
    assert cluster.status(workspace).workers == {}
    assert cluster.connect(workspace).submit(sum, [1, 2]).result(60) == 3  # it grew for that
    deadline = time.monotonic() + 60
    while cluster.status(workspace).workers:  # and shrinks again
        assert time.monotonic() < deadline
        time.sleep(0.1)
    left = of(workspace)
    assert left and cluster.down(workspace)
    _, living = psutil.wait_procs(left, timeout=20)
    assert living == [] and processes.listed(workspace) == []


def test_a_machine_that_is_not_known_and_a_key_that_is_not_accepted_are_told(server, tmp_path):
    for part, words in (({"known_hosts": str(server.folder / "empty")}, "not trusted"), ({"key": str(server.folder / "stranger")},
                                                                                           "Permission denied")):
        folder = tmp_path / next(iter(part))
        folder.mkdir()
        (server.folder / "empty").touch()
        (folder / "workbench.toml").write_text(server.settings(**part))
        with pytest.raises(ClusterError, match=f"the ssh cluster did not start.*{words}"):
            cluster.up(Workspace(folder).open())
