"""The local cluster as a user meets it: detached, encrypted, on loopback, gone when asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from workbench import cluster, processes
from workbench.cluster.security import security
from workbench.errors import ClusterError
from workbench.workspace import Workspace


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("cluster")).open()
    cluster.up(workspace)
    yield workspace
    cluster.down(workspace)


def test_is_encrypted_and_on_loopback(live):
    status = cluster.status(live)
    assert status.local and len(status.workers) == 2
    assert all(a.startswith("tls://127.0.0.1:") for a in [status.address, *status.workers])


def test_refuses_a_client_without_its_certificate(live):
    from distributed import Client
    from distributed.security import Security

    other = Workspace(live.root / "other").open()
    stranger = security(other)
    with pytest.raises((OSError, TimeoutError)):
        Client(cluster.running(live), security=stranger, timeout=2)
    with pytest.raises((OSError, TimeoutError, ValueError)):
        Client(cluster.running(live).replace("tls://", "tcp://"), security=Security(), timeout=2)


def test_a_second_process_attaches_to_the_same_cluster(live):
    code = ("from workbench import cluster, Workspace; w = Workspace.find(); c = cluster.connect(w); "
            "print(c.scheduler.address, c.submit(sum, [1, 2]).result())")
    out = subprocess.run([sys.executable, "-c", code], env={**os.environ, "WORKBENCH_ROOT": str(live.root)}, capture_output=True,
                         text=True, timeout=60)
    assert out.stdout.split() == [cluster.running(live), "3"], out.stderr


def test_workers_keep_the_memory_they_will_need_again_and_compute_on_one_thread(live):
    for environment in cluster.connect(live).run(lambda: dict(os.environ)).values():
        assert "MALLOC_TRIM_THRESHOLD_" not in environment and environment["OMP_NUM_THREADS"] == "1"


def test_up_twice_is_one_cluster(live):
    assert cluster.up(live) == cluster.up(live) == cluster.running(live)


def test_kill_of_the_scheduler_takes_the_workers_along_and_up_starts_anew(tmp_path):
    workspace = Workspace(tmp_path).open()
    try:
        cluster.up(workspace)
        process = psutil.Process(processes.find(workspace, cluster.PROCESS).pid)
        children = process.children(recursive=True)
        assert len(children) >= 2
        os.kill(process.pid, signal.SIGKILL)
        _, left = psutil.wait_procs(children, timeout=20)
        assert left == []
        assert cluster.running(workspace) is None
        assert cluster.connect(workspace).submit(sum, [3, 4]).result() == 7
    finally:
        assert cluster.down(workspace)
    assert cluster.running(workspace) is None and processes.listed(workspace) == []


def test_no_cluster_says_how_to_start_one(tmp_path):
    with pytest.raises(ClusterError, match="no cluster runs. Start it: workbench up"):
        cluster.connect(Workspace(tmp_path).open(), start=False)


def test_an_address_that_does_not_answer(tmp_path):
    (tmp_path / "workbench.toml").write_text('[cluster]\naddress = "tcp://127.0.0.1:9"\n')
    with pytest.raises(ClusterError, match="no Dask scheduler answers"):
        cluster.connect(Workspace(tmp_path).open())
