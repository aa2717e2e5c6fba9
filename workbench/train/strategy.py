"""Lightning's plug-in points: where it learns of ranks that exist already, and how it saves and loads their state."""

from __future__ import annotations

import os
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO, ClusterEnvironment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, SingleDeviceStrategy, SingleDeviceXLAStrategy, Strategy

from .devices import place
from .state.states import ShardedStates

DDP_OPTIONS = {"broadcast_buffers": False, "gradient_as_bucket_view": True}
"""Options of torch's DistributedDataParallel: a Llama's buffers are constants, so nothing of them is sent each step."""


class RankEnvironment(ClusterEnvironment):
    """Says to Lightning that the processes exist already, and which of them this is (as ``rank`` set it)."""

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return os.environ["MASTER_ADDR"]

    @property
    def main_port(self) -> int:
        return int(os.environ.get("MASTER_PORT", "0"))  # never asked: the process group stands before Lightning begins

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return int(os.environ["WORLD_SIZE"])

    def set_world_size(self, size: int) -> None:
        """Not Lightning's to set."""

    def global_rank(self) -> int:
        return int(os.environ["RANK"])

    def set_global_rank(self, rank: int) -> None:
        """Not Lightning's to set."""

    def local_rank(self) -> int:
        return int(os.environ["LOCAL_RANK"])

    def node_rank(self) -> int:
        return int(os.environ["NODE_RANK"])


class Standing:
    """For a Lightning strategy, named before its class: the process group stands already, with one device a rank, whatever share of
    the ranks a host has.

    A launcher would start processes and set their threads. ``_configure_launcher`` is Lightning's private hook for it:
    left without one, ``fit`` runs here and now. A test holds each release of Lightning to that.
    """

    def _configure_launcher(self) -> None:
        self._launcher = None

    @property
    def root_device(self) -> torch.device:
        device = self.parallel_devices[0]
        if device.type == "cuda" and torch.cuda.device_count() > 1:
            return torch.device("cuda", self.local_rank % torch.cuda.device_count())
        return device

    @property
    def num_processes(self) -> int:
        return int(os.environ["WORLD_SIZE"])

    def set_world_ranks(self) -> None:
        rank_zero_only.rank = int(os.environ["RANK"])


class RankDDP(Standing, ShardedStates, DDPStrategy):
    """DDP: each rank has the whole model."""

    def __init__(self, checkpoint_io: CheckpointIO | None = None, **options: Any):
        super().__init__(cluster_environment=RankEnvironment(), checkpoint_io=checkpoint_io, **{**DDP_OPTIONS, **options})

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        return {"num_replicas": self.num_processes, "rank": int(os.environ["RANK"])}


class RankMesh(Standing, ShardedStates, ModelParallelStrategy):
    """FSDP2 over groups of ranks, each of which shares out its matrices: ``tensor`` is the size of such a group."""

    def __init__(self, tensor: int = 1):
        super().__init__(data_parallel_size=int(os.environ["WORLD_SIZE"]) // tensor, tensor_parallel_size=tensor)
        self.cluster_environment = RankEnvironment()


class RankAlone(ShardedStates, SingleDeviceStrategy):
    """One rank: nothing is sent, whatever process group stands around it."""

    def __init__(self, device: torch.device | str):
        super().__init__(device=device)


class RankXLA(ShardedStates, SingleDeviceXLAStrategy):
    """One rank on a TPU."""

    def __init__(self) -> None:
        super().__init__(device=0)


def strategy(plan: dict[str, Any], world: int) -> Strategy:
    """The strategy of a plan for so many ranks, with the accelerator that ``devices.carry`` named."""
    if plan.get("cuts") and world > 1:
        return RankMesh(plan["tensor"])
    if world > 1:
        return RankDDP()
    if plan["accelerator"] == "tpu":
        return RankXLA()
    return RankAlone(place(plan["accelerator"]))


def quiet(trainer: Any) -> None:
    """Leave out Lightning's broadcast at each batch of whether rank 0 got SIGTERM: ranks here are told by their gang what to end for.

    ``_broadcast_sigterm_tensor`` is private to Lightning; the same test holds each release to it.
    """
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None
