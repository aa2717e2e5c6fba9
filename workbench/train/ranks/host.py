"""What a Dask worker keeps for ranks: a warm forkserver, the ranks forked from it, a pipe to each.

The forkserver's imports take seconds, a new worker less than one: a worker that was killed leaves its forkserver to the next that its
nanny starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from pathlib import Path
from typing import Any

from distributed import Worker, WorkerPlugin

from ...cluster.nanny import NANNY_VARIABLE
from ...forkserver import Child, Forkserver
from ...workspace import Workspace

ORPHANED = 90.0
"""Seconds without a word from the driver after which a rank is ended: nobody waits for it any more."""
PRELOAD = ("workbench.train.fit", "workbench.train.objectives.pretrain", "workbench.train.reading.tokens", "workbench.train.ranks.rank",
           "pyarrow.parquet", "transformers.models.llama.modeling_llama", "transformers.generation.utils")
"""What ranks need, imported once a worker; a list of names: this file knows none of them."""
QUIET = 2.0
"""Seconds without a word from a rank after which its host says that it is there itself, and how the rank's process fares."""


class RankHost(WorkerPlugin):
    """Keeps a forkserver on each worker and the ranks that were forked from it."""

    name = "workbench-ranks"
    idempotent = True

    def setup(self, worker: Worker) -> None:
        """Start the forkserver; its imports go on in the background."""
        self.worker = worker
        self.ranks: dict[tuple[str, int], Child] = {}
        self.heard: dict[str, float] = {}
        self.topics: dict[str, str] = {}
        self.newest: dict[str, int] = {}
        self.lock = threading.Lock()
        root = os.environ.get("WORKBENCH_ROOT")
        logs = Workspace(root).path("logs") if root else Path(worker.local_directory)
        # Dask's nanny trims memory after each free (twice the CPU a step) and sets one thread for all.
        self.forkserver = Forkserver(PRELOAD, log=logs / "forkserver.log", environment={
            "MALLOC_TRIM_THRESHOLD_": None, "OMP_NUM_THREADS": None, "MKL_NUM_THREADS": None, "OPENBLAS_NUM_THREADS": None,
            "TRANSFORMERS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"},
            name=os.environ.get(NANNY_VARIABLE) if worker.nanny else None, keeper=os.getppid())

    def teardown(self, worker: Worker) -> None:  # noqa: ARG002 - the hook's signature
        """End the forkserver and its ranks."""
        self.forkserver.close()

    @classmethod
    def of(cls, worker: Worker) -> RankHost:
        """The worker's host; a worker that bears none yet gets one."""
        found = worker.plugins.get(cls.name)
        if found is None or not found.forkserver.alive:
            if found is None:
                found = worker.plugins[cls.name] = cls()
            found.setup(worker)
        return found

    def start(self, plan: dict[str, Any]) -> dict[int, int]:
        """Fork this worker's ranks of a plan; returns rank -> pid."""
        pids = {}
        for rank in plan["ranks"]:
            if rank["worker"] != self.worker.address:
                continue
            argument = {k: v for k, v in rank.items() if k not in ("worker", "log")} | {
                k: plan[k] for k in ("world", "main", "threads", "target", "argument")}
            with self.lock:
                if self.newest.get(plan["run"], 0) > plan["attempt"]:
                    raise RuntimeError(f"attempt {plan['attempt']} of {plan['run']} was superseded")
                self.newest[plan["run"]] = plan["attempt"]
                for (token, _), left in self.ranks.items():  # nobody could reach this worker to end them
                    if token != plan["token"] and token.startswith(f"{plan['run']}/{plan['attempt']}/"):
                        left.kill()
                self.heard[plan["token"]] = time.monotonic()
                self.topics[plan["token"]] = plan["topic"]
                python = plan["argument"].get("python")
                if python:  # a rank in another environment: its Python takes the forked process over
                    child = self.forkserver.fork("workbench.train.ranks.rank:elsewhere", {"python": python}, log=Path(rank["log"]))
                    child.connection.send(argument | {"folder": os.getcwd()})
                else:
                    child = self.forkserver.fork("workbench.train.ranks.rank:main", argument, log=Path(rank["log"]))
                self.ranks[plan["token"], rank["rank"]] = child
            threading.Thread(target=self._listen, args=(plan["topic"], plan["token"], rank["rank"], child, rank["log"]),
                             name=f"rank-{rank['rank']}", daemon=True).start()
            pids[rank["rank"]] = child.pid
        return pids

    def tell(self, token: str, message: list, ranks: list[int] | None = None) -> None:
        """Send a message to this worker's ranks of a gang."""
        self.heard[token] = time.monotonic()
        with self.lock:
            for child in [c for (t, r), c in self.ranks.items() if t == token and (ranks is None or r in ranks)]:
                with contextlib.suppress(OSError, ValueError):
                    child.connection.send(message)

    async def leave(self, grace: float) -> None:
        """The worker is about to end: tell the gangs that have ranks here, and wait while they write a checkpoint."""
        with self.lock:
            here = [(self.topics[token], token, rank) for token, rank in self.ranks]
        for topic, token, rank in here:
            self.worker.log_event(topic, {"kind": "notice", "token": token, "rank": rank})
        deadline = time.monotonic() + grace
        while any((token, rank) in self.ranks for _, token, rank in here) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)

    def end(self, token: str) -> None:
        """Kill this worker's ranks of a gang."""
        for child in [c for (t, _), c in list(self.ranks.items()) if t == token]:
            child.kill()

    def supersede(self, run: str, attempt: int) -> int:
        """Kill what older attempts of a run left here; returns how many."""
        with self.lock:
            self.newest[run] = max(attempt, self.newest.get(run, 0))
            old = [c for (t, _), c in self.ranks.items() if t.rpartition("/")[0] in {f"{run}/{n}" for n in range(attempt)}]
        for child in old:
            child.kill()
        for child in old:
            child.wait(5)
        return len(old)

    def _listen(self, topic: str, token: str, rank: int, child: Child, log: str) -> None:
        def say(message: dict[str, Any]) -> None:
            self.worker.log_event(topic, {**message, "token": token, "rank": rank})

        try:
            while True:
                if child.connection.poll(QUIET):
                    say(child.connection.recv())
                    continue
                say({"kind": "here", "status": _status(child.pid)})
                if time.monotonic() - self.heard.get(token, 0) > ORPHANED:
                    child.kill()
        except (EOFError, OSError):
            pass
        child.wait(10)
        child.kill()
        with self.lock:
            self.ranks.pop((token, rank), None)
            child.connection.close()
            if not any(t == token for t, _ in self.ranks):
                self.heard.pop(token, None)
                self.topics.pop(token, None)
        say({"kind": "ended", "status": child.poll(), "tail": _tail(log)})


def _status(pid: int) -> str:
    """Whether a process runs, sleeps or was stopped, in psutil's words."""
    import psutil

    try:
        return psutil.Process(pid).status()
    except psutil.Error:
        return "gone"


def _tail(log: str, most: int = 2000) -> str:
    try:
        with open(log, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - most))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


# --- run out of band on workers (``Client.run``) -----------------------------------------------------------------------


async def start(plan: dict[str, Any], dask_worker: Worker) -> dict[int, int]:
    """Fork a worker's ranks; waits for the forkserver off the event loop."""
    host = RankHost.of(dask_worker)
    return await asyncio.to_thread(host.start, plan)


async def tell(token: str, message: list, ranks: list[int] | None, dask_worker: Worker) -> None:
    """Send a message to a worker's ranks."""
    host = dask_worker.plugins.get(RankHost.name)
    if host:
        host.tell(token, message, ranks)


async def end(token: str, dask_worker: Worker) -> None:
    """Kill a worker's ranks of a gang."""
    host = dask_worker.plugins.get(RankHost.name)
    if host:
        host.end(token)


async def supersede(run: str, attempt: int, dask_worker: Worker) -> int:
    """Kill what older attempts of a run left on a worker."""
    host = dask_worker.plugins.get(RankHost.name)
    return await asyncio.to_thread(host.supersede, run, attempt) if host else 0
