"""From a kill to the next step: of a rank, of a Dask worker, of a whole machine (a network namespace); medians of one run.

    python tests/benchmarks/recovery.py [rounds]

The clock starts as the signal is sent and ends as the first optimizer step of the ranks that were started again does, by the time that
rank 0 gives with it. Copies in memory are on, so that no step is made twice; one row is without them. The machine needs root; what it
reads is the second of two namespaces joined by a cable, which is pulled in the same moment.
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "faults"))
from two_hosts import Hosts, possible

from workbench import cluster, runs
from workbench.workspace import Workspace

DOCS = {"word": "data", "name": "docs", "sources": [{"kind": "python-docs", "max_megabytes": 0.3}]}
SPEC = {"word": "train", "data": "docs", "name": "killed", "model": {"size": "100K", "vocabulary": 512, "context": 64},
        "tokens": 6000 * 512, "batch": {"sequences": 4}, "prompts": [], "hardware": {"ranks": 2, "threads": 1},
        "every": {"checkpoint": 50, "evaluate": 10_000, "sample": 10_000, "copies": 1}}
PLAIN = SPEC | {"every": {"checkpoint": 50, "evaluate": 10_000, "sample": 10_000}}
FEWER = SPEC | {"hardware": {"ranks": 2, "min_ranks": 1, "threads": 1}}


def step(run: runs.Run, least: int) -> None:
    """Wait for a step."""
    while not any(s >= least for s, _ in run.curve("loss")):
        assert run.state not in ("failed", "stopped", "done"), run.failure
        time.sleep(0.05)


def ranks(run: runs.Run) -> list[dict]:
    """The ranks started last."""
    return [e for e in run.events(kinds=["mark"]) if e.name == "ranks"][-1].data["ranks"]


def again(run: runs.Run, kill: Callable[[], None]) -> tuple[float, int]:
    """Seconds from a kill to the next step, and how many steps were made twice."""
    begin = time.time()
    kill()
    while True:
        started = next((e for e in run.events(kinds=["mark"]) if e.name == "ranks" and e.at > begin), None)
        if started:
            losses = [e for e in run.events(kinds=["point"]) if e.name == "loss"]
            # What was said and not confirmed is said again, with the time at which it was made.
            after = [e for e in losses if e.seq > started.seq and e.at > started.at]
            if after:
                reached = max(e.step for e in losses if e.at < started.at)
                return after[0].at - begin, max(0, reached - after[0].step + 1)
        assert run.state not in ("failed", "stopped", "done"), run.failure
        time.sleep(0.02)


def driving(run: runs.Run, workspace: Workspace) -> str:
    """Address of the worker that drives a run."""
    return next(a for a, keys in cluster.connect(workspace).processing().items() if any(f"drive-{run.id}-" in str(k) for k in keys))


def on_one(rounds: int) -> None:
    """What needs one machine."""
    with tempfile.TemporaryDirectory(prefix="recovery-") as folder:
        workspace = Workspace(folder).open()
        try:
            runs.submit(DOCS, workspace, place="here").wait()
            found: dict[str, list[tuple[float, int]]] = {"a rank": [], "a rank, no copies,": [], "a Dask worker": [],
                                                          "the driver's worker": []}
            for _ in range(rounds):
                for what, rows in found.items():
                    run = runs.submit(PLAIN if "no copies" in what else SPEC, workspace, again=True)
                    step(run, 100)
                    address = driving(run, workspace)
                    pids = cluster.connect(workspace).run(os.getpid)
                    victim = {"the driver's worker": pids[address], "a Dask worker": next(p for a, p in pids.items() if a != address)}.get(
                        what, ranks(run)[1]["pid"])
                    rows.append(again(run, lambda pid=victim: os.kill(pid, signal.SIGKILL)))
                    run.stop()
                    run.wait(60, check=False)
        finally:
            runs.shut_down(workspace)
    for what, limit in (("a rank", 0.5), ("a rank, no copies,", 0.5), ("a Dask worker", 3), ("the driver's worker", 3)):
        told(what, found[what], limit)


def on_two(rounds: int) -> None:
    """A machine's end."""
    with tempfile.TemporaryDirectory(prefix="recovery-") as folder:
        hosts = Hosts(Path(folder))
        try:
            hosts.up()
            runs.submit(DOCS, hosts.workspace, place="here").wait()
            rows = []
            for _ in range(rounds):
                run = hosts.submit(FEWER)
                step(run, 100)
                while len(ranks(run)) < 2:  # the worker of the second machine may have come late
                    time.sleep(0.1)
                step(run, max(s for s, _ in run.curve("loss")) + 50)
                rows.append(again(run, lambda: hosts.kill(1)))
                run.stop()
                while run.state == "stopping":
                    time.sleep(0.1)
                hosts.cut(up=True)
                hosts.worker(1)
        finally:
            hosts.down()
    told("a machine", rows, 15)


def told(what: str, rows: list[tuple[float, int]], limit: float) -> None:
    """A row of the table."""
    times = " ".join(f"{seconds:.2f}" for seconds, _ in rows)
    print(f"| {what} killed → training again | {statistics.median(s for s, _ in rows):.2f} s ({times}); steps made twice: "
          f"{max(n for _, n in rows)} | {limit} s |", flush=True)


def main() -> None:
    """Print the rows."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print("| figure | here | must reach |\n|---|---|---|")
    on_one(rounds)
    if possible():
        on_two(rounds)


if __name__ == "__main__":
    main()
