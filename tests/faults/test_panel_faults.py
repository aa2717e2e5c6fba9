"""A panel whose run's cluster goes away says so, and attaches again by itself when it is back."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from widgets import DataPanel
from workbench import runs


def until(condition: Callable[[], object], patience: float = 60) -> None:
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def cluster_at():
    """Starts a scheduler and a worker at a port; all end afterwards."""
    begun: list[subprocess.Popen] = []

    def start(port: int) -> list[subprocess.Popen]:
        address = f"tcp://127.0.0.1:{port}"
        parts = [["dask_scheduler", "--host", "127.0.0.1", "--port", str(port)], ["dask_worker", address, "--no-nanny", "--nthreads", "2"]]
        found = [subprocess.Popen([sys.executable, "-m", f"distributed.cli.{module}", *options, "--no-dashboard"],
                                  stderr=subprocess.DEVNULL)
                 for module, *options in parts]
        begun.extend(found)
        return found

    yield start
    for process in begun:
        process.kill()
        process.wait()


def test_the_panel_loses_sight_of_a_run_whose_cluster_is_gone_and_finds_it_when_it_is_back(workspace, cluster_at, monkeypatch, tmp_path):
    monkeypatch.setattr("workbench.driver.SILENCE", 2.0)
    monkeypatch.setattr("widgets.watch.SILENCE", 2.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (workspace.root / "workbench.toml").write_text(f'[cluster]\naddress = "tcp://127.0.0.1:{port}"\n')
    workspace = type(workspace)(workspace.root).open()
    processes = cluster_at(port)
    texts = tmp_path / "texts.jsonl"
    words = [" ".join(str(n * k) for k in range(40)) for n in range(4000)]
    texts.write_text("\n".join(json.dumps({"text": f"A record that is long enough to be kept: {w}."}) for w in words))
    panel = DataPanel({"name": "texts", "sources": [{"kind": "files", "paths": [str(texts)]}]}, workspace=workspace)
    try:
        run = panel.run(wait=False)
        until(lambda: run.state == "running")
        for process in processes:
            process.kill()
        until(lambda: panel.status["state"] == "lost", 30)
        assert "no sign of life" in panel.status["words"] and panel.attention["action"]["label"] == "Attach again"
        cluster_at(port)
        until(lambda: panel.status["state"] == "done", 90)
        assert run.entry.attempt == 2 and panel.attention.get("level") != "warning"
    finally:
        panel.close()
        runs.shut_down(workspace)
