"""Two network namespaces joined by a cable stand for two machines: each has a Dask worker, the first the scheduler too."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from workbench import runs
from workbench.events import Event, Events
from workbench.journal import ENDED
from workbench.workspace import Workspace

ASKS = """
import json, sys
from workbench import runs
from workbench.workspace import Workspace
run = runs.submit(json.loads(sys.argv[2]), Workspace(sys.argv[1]), again=True)
print(run.id, flush=True)
run.wait(check=False)
"""
"""What the process of a user does on the first machine: it asks, and waits."""


def possible() -> bool:
    """True where this process may make namespaces (Linux, root)."""
    if not (shutil.which("ip") and sys.platform == "linux" and os.getuid() == 0):
        return False
    made = subprocess.run(["ip", "netns", "add", f"wb-{os.getpid()}"], capture_output=True).returncode == 0
    return made and subprocess.run(["ip", "netns", "del", f"wb-{os.getpid()}"], capture_output=True).returncode == 0


READY = "import sys; from distributed import Client; Client(sys.argv[1], timeout=60).wait_for_workers(2, timeout=90)"


class Hosts:
    """The two machines, and what is done to them. A workspace on a file system that both see."""

    def __init__(self, folder: Path):
        self.workspace = Workspace(folder).open()
        self.names = tuple(f"wb{n}-{os.getpid()}" for n in "ab")
        self.cables = tuple(f"wb{n}{os.getpid()}" for n in "ab")
        self.addresses = ("10.77.0.1", "10.77.0.2")
        self.address = f"tcp://{self.addresses[0]}:8786"
        (folder / "workbench.toml").write_text(f'[cluster]\nkind = "address"\naddress = "{self.address}"\n')

    def up(self) -> None:
        """Make the machines, lay the cable, start Dask on them."""
        for name in self.names:
            _ip("netns", "add", name)
        _ip("link", "add", self.cables[0], "netns", self.names[0], "type", "veth", "peer", "name", self.cables[1], "netns", self.names[1])
        for name, cable, address in zip(self.names, self.cables, self.addresses, strict=True):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", cable)
            for link in ("lo", cable):
                _ip("-n", name, "link", "set", link, "up")
        self.start(0, "scheduler", "--host", self.addresses[0], "--port", "8786", "--no-dashboard")
        for number in range(2):
            self.worker(number)

    def worker(self, number: int) -> None:
        """Keep a worker on a machine, as docs/clusters.md says: one that lost its scheduler ends, and is started anew."""
        scratch = self.workspace.path("tmp", f"host-{number}")
        self.start(number, "worker", self.address, "--host", self.addresses[number], "--nthreads", "1", "--no-dashboard",
                   "--local-directory", str(scratch), "--preload", "workbench.cluster.nanny",
                   "--preload-nanny", "workbench.cluster.nanny", again=True)

    def start(self, number: int, *arguments: str, again: bool = False) -> None:
        """A process of Dask's on a machine; ``again``: whenever it has ended."""
        log = self.workspace.path("logs", f"host-{number}-{arguments[0]}.log")
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "dask", *arguments]
        if again:
            command = ["sh", "-c", 'while "$@"; sleep 1; do :; done', "sh", *command]
        with log.open("ab") as out:
            subprocess.Popen(["ip", "netns", "exec", self.names[number], *command], stdout=out, stderr=out, env=self.environment)

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"WORKBENCH_ROOT": str(self.workspace.root), "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s"}

    def ready(self) -> None:
        """Wait until each machine has a worker: one that lost its scheduler is started anew in its own time."""
        subprocess.run(["ip", "netns", "exec", self.names[0], sys.executable, "-c", READY, self.address], check=True, env=self.environment)

    def submit(self, spec: dict) -> runs.Run:
        """A run that somebody on the first machine asks for and waits for."""
        command = [sys.executable, "-c", ASKS, str(self.workspace.root), json.dumps(spec)]
        asking = subprocess.Popen(["ip", "netns", "exec", self.names[0], *command], stdout=subprocess.PIPE, text=True, env=self.environment)
        return runs.Run(self.workspace, asking.stdout.readline().strip())

    def events(self, run: runs.Run, after: int = 0) -> Iterator[Event]:
        """Events of a run as they come. Those who look from here can't reach the cluster, so they start no driver."""
        return Events(self.workspace).follow(run.id, after=after, until=lambda: run.entry.state in ENDED)

    def of(self, number: int) -> list[psutil.Process]:
        """What runs on a machine."""
        pids = subprocess.run(["ip", "netns", "pids", self.names[number]], capture_output=True, text=True).stdout.split()
        found = []
        for pid in map(int, pids):
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(pid))
        return found

    def cut(self, up: bool = False) -> None:
        """Pull the cable, or plug it in again: no machine is told."""
        _ip("-n", self.names[1], "link", "set", self.cables[1], "up" if up else "down")

    def slow(self, rate: str) -> None:
        """A cable that carries so much a second each way."""
        for name, cable in zip(self.names, self.cables, strict=True):
            _tc(name, "replace", "dev", cable, "root", "tbf", "rate", rate, "burst", "32k", "latency", "400ms")

    def fast(self) -> None:
        """The cable as it was."""
        for name, cable in zip(self.names, self.cables, strict=True):
            _tc(name, "del", "dev", cable, "root")

    def kill(self, number: int) -> None:
        """A machine's end: everything on it dies in the same moment, and its cable is dead, so nobody is told."""
        if number == 1:
            self.cut()
        for process in self.of(number):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def down(self) -> None:
        """End all of it."""
        for number in (1, 0):
            while left := self.of(number):
                for process in left:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
                psutil.wait_procs(left, timeout=10)
        for name in self.names:
            _ip("netns", "del", name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _tc(name: str, *arguments: str) -> None:
    subprocess.run(["ip", "netns", "exec", name, "tc", "qdisc", *arguments], check=True, capture_output=True)


def until(true, seconds: float, what: str) -> None:
    """Wait for something to be so."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.05)
