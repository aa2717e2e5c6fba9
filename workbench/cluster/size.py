"""How many workers a cluster needs: what Dask's tasks want, and what training holds and waits for beside them."""

from __future__ import annotations

import inspect
import time
from typing import TYPE_CHECKING, Any

from distributed import Scheduler
from distributed.deploy.adaptive import Adaptive
from distributed.protocol.pickle import dumps

if TYPE_CHECKING:
    from distributed.deploy.cluster import Cluster

LEASES = "workbench-leases"
"""Name of the scheduler plugin that knows which workers are held: ``held`` and ``wanted`` are read, nothing else."""


def claims(dask_scheduler: Scheduler) -> dict[str, Any]:
    """Workers that are held, and how many more are waited for; runs on the scheduler.

    Ranks are processes beside Dask's tasks: to Dask a worker that trains looks idle, and would be taken away.
    """
    plugin = dask_scheduler.plugins.get(LEASES)
    now = time.monotonic()
    held = [w for w in getattr(plugin, "held", {}) if w in dask_scheduler.workers]
    wanted = [count for count, at in getattr(plugin, "wanted", {}).values() if now - at < 5]
    return {"held": held, "wanted": max(wanted, default=0), "tasks": dask_scheduler.adaptive_target()}


async def _claims(comm: Any) -> dict[str, Any]:
    answer = await comm.run_function(function=dumps(claims), wait=True)
    if answer["status"] != "OK":
        raise RuntimeError(f"the scheduler could not say what is held: {answer}")
    return answer["result"]


class Demand(Adaptive):
    """Dask's own sizing that leaves workers which train alone, and starts those that training waits for."""

    async def target(self) -> int:
        """Workers that are needed now."""
        found = await _claims(self.scheduler)
        return max(await super().target(), len(found["held"]) + found["wanted"])

    async def workers_to_close(self, target: int) -> list[str]:
        """Workers that are not needed; never one that is held."""
        held = set((await _claims(self.scheduler))["held"])
        named = {w["name"]: a for a, w in (await self.scheduler.identity(n_workers=-1))["workers"].items()}
        return [w for w in await super().workers_to_close(target) if named.get(w, w) not in held]


async def follow(cluster: Cluster, settings: Any, there: int) -> None:
    """Size a cluster that has no sizing of Dask's own: grows at once, shrinks when nothing is held."""
    found = await _claims(cluster.scheduler_comm)
    wanted = max(found["tasks"], len(found["held"]) + found["wanted"], settings.minimum or 0)
    wanted = min(wanted, settings.maximum)
    if wanted > there or (wanted < there and not found["held"]):
        sized = cluster.scale(wanted)
        if inspect.isawaitable(sized):
            await sized
