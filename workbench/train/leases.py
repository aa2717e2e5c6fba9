"""Which run holds which Dask worker: leases kept by a scheduler plugin, so that they end with their holder.

A lock that its holder releases is held for ever once the holder is killed. The scheduler notices the end of a client
or of a worker at once: whatever it held is free again in the same moment.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from distributed import Scheduler, SchedulerPlugin


@dataclass(frozen=True)
class Lease:
    """Who holds a worker: an attempt of a run, through a client; ``topic`` is where it hears of the worker's end."""

    run: str
    attempt: int
    client: str
    topic: str


class Leases(SchedulerPlugin):
    """All leases of a scheduler, by worker address."""

    name = "workbench-leases"
    idempotent = True

    def __init__(self) -> None:
        self.held: dict[str, Lease] = {}
        self.wanted: dict[str, tuple[int, float]] = {}
        """run -> workers that it waits for, and when it last said so; a cluster that grows reads it"""

    @classmethod
    def of(cls, scheduler: Scheduler) -> Leases:
        """The scheduler's own table of leases; made on first use."""
        plugin = scheduler.plugins.get(cls.name)
        if plugin is None:
            plugin = cls()
            scheduler.add_plugin(plugin, name=cls.name)
        return plugin

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:
        """A worker left: tell who holds it."""
        lease = self.held.pop(worker, None)
        if lease:
            scheduler.log_event(lease.topic, {"kind": "lost", "worker": worker})

    def remove_client(self, scheduler: Scheduler, client: str) -> None:  # noqa: ARG002 - the hook's signature
        """A client left: what it held is free."""
        self.held = {w: lease for w, lease in self.held.items() if lease.client != client}


def claim(count: int, lease: dict[str, Any], *, dask_scheduler: Scheduler) -> dict[str, Any]:
    """Claim workers, all or none; runs on the scheduler, where nothing comes between.

    A newer attempt of a run takes over what an older one of it held. Once this has returned, the client hears the topic:
    its own subscription goes another way and may come later.

    Returns
    -------
    dict
        ``workers`` (the claimed addresses with their hosts; empty where too few are free), ``present`` (workers
        there are), ``holders`` (runs that hold some).
    """
    leases, wanted = Leases.of(dask_scheduler), Lease(**lease)
    dask_scheduler.subscribe_topic(wanted.topic, wanted.client)
    held = leases.held = {w: h for w, h in leases.held.items() if w in dask_scheduler.workers
                          and h.client in dask_scheduler.clients and (h.run != wanted.run or h.attempt > wanted.attempt)}
    workers = {a: w.host for a, w in dask_scheduler.workers.items() if w.status.name == "running"}
    free = sorted((host, address) for address, host in workers.items() if address not in held)
    chosen = free[:count] if len(free) >= count else []
    held.update({address: wanted for _, address in chosen})
    leases.wanted.pop(wanted.run, None)
    if not chosen:
        leases.wanted[wanted.run] = (count, time.monotonic())
    return {"workers": [[address, host] for host, address in chosen], "present": len(workers),
            "holders": sorted({h.run for h in held.values()} - {wanted.run})}


def release(run: str, attempt: int, topic: str, *, dask_scheduler: Scheduler) -> None:
    """Give back what an attempt of a run holds; its topic's history is forgotten."""
    leases = Leases.of(dask_scheduler)
    leases.held = {w: h for w, h in leases.held.items() if (h.run, h.attempt) != (run, attempt)}
    dask_scheduler._broker.truncate(topic)
