"""Which run holds which Dask worker: leases kept by a scheduler plugin, so that they end with their holder.

A lock that its holder releases is held for ever once the holder is killed. The scheduler notices the end of a client
or of a worker at once: whatever it held is free again in the same moment. Runs that wait are served in the order in
which they first came; one that lost a worker keeps its place before those that came later.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from distributed import Scheduler, SchedulerPlugin

ASKS = 5.0
"""Seconds without asking again after which a run waits no more: it is gone without a word, or has what it wants."""
KEPT = 60.0
"""Seconds for which a run keeps its place among those that wait without holding anything or asking: its driver starts again."""
HEARD = 8.0
"""Seconds without a worker's heartbeat after which it is given to nobody: it may be behind a cut link."""
COMING = 10.0
"""Seconds for which a run goes before others though the workers that are there don't suffice for it: one may be coming back."""


@dataclass(frozen=True)
class Lease:
    """Who holds a worker: an attempt of a run, through a client; ``topic`` is where it hears of the worker's end."""

    run: str
    attempt: int
    client: str
    topic: str


@dataclass
class Place:
    """A run's place in the queue: when it first came, since when it waits, when it last asked, how many it needs."""

    came: float
    waits: float | None = None
    asked: float = 0.0
    least: int = 1


class Leases(SchedulerPlugin):
    """All leases of a scheduler, by worker address."""

    name = "workbench-leases"
    idempotent = True

    def __init__(self) -> None:
        self.held: dict[str, Lease] = {}
        self.places: dict[str, Place] = {}
        """run -> its place, from its first claim until it gives everything back"""
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

    def forget(self, run: str) -> None:
        """A run neither holds nor wants anything."""
        self.places.pop(run, None)
        self.wanted.pop(run, None)

    def ahead(self, run: str, present: int, now: float) -> list[str]:
        """Runs that wait and came before a run, in order; those that can't be served now block nobody for long."""
        holding = {lease.run for lease in self.held.values()}
        for other, place in list(self.places.items()):
            if other not in holding and now - place.asked > KEPT:
                self.forget(other)
        mine = self.places[run].came if run in self.places else now
        return [other for other, place in sorted(self.places.items(), key=lambda item: item[1].came)
                if other != run and place.came < mine and place.waits is not None and now - place.asked < ASKS
                and (place.least <= present or now - place.waits < COMING)]


def claim(minimum: int, maximum: int, lease: dict[str, Any], *, dask_scheduler: Scheduler) -> dict[str, Any]:
    """Claim as many workers as are free, up to a maximum, or none below a minimum; runs on the scheduler, where nothing comes between.

    A newer attempt of a run takes over what an older one of it held. Once this has returned, the client hears the topic:
    its own subscription goes another way and may come later.

    Returns
    -------
    dict
        ``workers`` (the claimed addresses with their hosts; empty where too few are free), ``present`` (workers
        there are), ``holders`` (runs that hold some), ``ahead`` (runs that came first and wait), ``unheard`` (workers that say
        nothing).
    """
    leases, wanted, now = Leases.of(dask_scheduler), Lease(**lease), time.monotonic()
    dask_scheduler.subscribe_topic(wanted.topic, wanted.client)
    before = {w for w, h in leases.held.items() if h.run == wanted.run}
    held = leases.held = {w: h for w, h in leases.held.items() if w in dask_scheduler.workers
                          and h.client in dask_scheduler.clients and (h.run != wanted.run or h.attempt > wanted.attempt)}
    workers = {a: w.host for a, w in dask_scheduler.workers.items() if _there(w)}
    place = leases.places.setdefault(wanted.run, Place(now))
    place.asked, place.least = now, minimum
    ahead = leases.ahead(wanted.run, len(workers), now)
    # What it held comes first, so that a gang that grows stays where it is; ranks go by host and address.
    free = sorted((address not in before, host, address) for address, host in workers.items() if address not in held)
    chosen = sorted((host, address) for _, host, address in free[:maximum]) if len(free) >= minimum and not ahead else []
    held.update({address: wanted for _, address in chosen})
    leases.wanted.pop(wanted.run, None)
    if chosen:
        place.waits = None
    else:
        place.waits = place.waits or now
        leases.wanted[wanted.run] = (maximum, now)
    return {"workers": [[address, host] for host, address in chosen], "present": len(workers), "unheard": _unheard(dask_scheduler),
            "holders": sorted({h.run for h in held.values()} - {wanted.run}), "ahead": ahead}


def _there(worker: Any) -> bool:
    return worker.status.name == "running" and time.time() - worker.last_seen < HEARD


def _unheard(scheduler: Scheduler) -> list[str]:
    return [a for a, w in scheduler.workers.items() if w.status.name == "running" and not _there(w)]


def there(*, dask_scheduler: Scheduler) -> list[str]:
    """Workers that are heard of: whoever speaks to another waits for long."""
    return [a for a, w in dask_scheduler.workers.items() if _there(w)]


def spare(run: str, more: int, *, dask_scheduler: Scheduler) -> int:
    """Workers that a run at work could take beside its own, up to so many; none while another waits.

    A cluster that follows its work hears of all of them, those that are there too: it would take away what nothing holds.
    """
    leases, now = Leases.of(dask_scheduler), time.monotonic()
    if run in leases.places:
        leases.places[run].asked = now
    if any(p.waits is not None and now - p.asked < ASKS for other, p in leases.places.items() if other != run):
        return 0
    free = sum(_there(w) and a not in leases.held for a, w in dask_scheduler.workers.items())
    leases.wanted[run] = (more, now)
    return max(0, min(more, free))


def release(run: str, attempt: int, topic: str, *, dask_scheduler: Scheduler) -> None:
    """Give back what an attempt of a run holds, and its place; its topic's history is forgotten."""
    leases = Leases.of(dask_scheduler)
    leases.held = {w: h for w, h in leases.held.items() if (h.run, h.attempt) != (run, attempt)}
    if all(h.run != run for h in leases.held.values()):
        leases.forget(run)
    dask_scheduler._broker.truncate(topic)
