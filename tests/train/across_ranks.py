"""Ranks that train, leave a checkpoint and go on in another number: what ``test_checkpoints_ranks`` runs in a process of its own.

    python across_ranks.py FOLDER

Each line of its output is a JSON object: what a rank found after it had read the checkpoint of the ranks before.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sys
from multiprocessing import get_context
from pathlib import Path

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.fsdp import fully_shard

from workbench.train.state import checkpoints, shards
from workbench.train.state.keeper import Keeper
from workbench.train.state.neighbour import Copies, meet
from workbench.train.state.states import ShardedStates
from workbench.train.strategy import RankDDP, RankEnvironment


class Sharded(ShardedStates, ModelParallelStrategy):
    """FSDP2 over ranks that exist already."""

    def _configure_launcher(self) -> None:
        self._launcher = None


class Net(pl.LightningModule):
    """A small net that drops at random: it goes on bit by bit only where the random numbers do too."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.net = torch.nn.Sequential(torch.nn.Linear(41, 67), torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(67), torch.nn.Linear(67, 53))

    def configure_model(self) -> None:
        if isinstance(self.trainer.strategy, Sharded):
            fully_shard(self.net, mesh=self.device_mesh["data_parallel"])

    def training_step(self, batch, index):
        return self.net(batch).square().mean()

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2)]

    def train_dataloader(self):
        first = self.trainer.global_step if self.trainer else 0
        rows = [torch.randn(8, 41, generator=torch.Generator().manual_seed(n)) for n in range(first, first + 20)]
        return torch.utils.data.DataLoader(rows, batch_size=None)


class Driver:
    """Takes the place of the control pipe: nobody listens here."""

    def send(self, kind, **data) -> None:
        pass

    def busy(self, what):
        return contextlib.nullcontext(what)

    def exchange(self, value):
        found = [None] * dist.get_world_size()
        dist.all_gather_object(found, value)
        return found


class Look(pl.Callback):
    """Compares what was loaded with what is in the checkpoint."""

    def __init__(self, path: Path | None, told):
        self.path, self.told = path, told

    def on_train_start(self, trainer, module) -> None:
        if self.path is None:
            return
        held, whole = shards.load(self.path), lambda t: t.full_tensor() if hasattr(t, "full_tensor") else t
        same = [torch.equal(whole(v), held["state_dict"][k]) for k, v in module.state_dict().items()]
        (optimizer,), (kept,) = trainer.optimizers, held["optimizer_states"]
        names = {id(p): n for n, p in module.named_parameters()}
        count = 0
        for parameter, state in optimizer.state.items():
            for key, value in state.items():
                same.append(torch.equal(whole(value), kept["state"][names[id(parameter)]][key]))
                count += 1
        rates = [g["lr"] for g in optimizer.param_groups] == [g["lr"] for g in kept["param_groups"]]
        self.told({"rank": trainer.global_rank, "world": trainer.world_size, "step": trainer.global_step, "same": all(same), "count": count,
                   "rates": rates, "loops": trainer.fit_loop.epoch_loop.batch_progress.total.completed})


def rank(number: int, world: int, folder: str, steps: int, kind: str, seed: int, port: int, hosts: tuple[str, ...] = ()) -> None:
    """Train from the newest checkpoint in a folder to a step, and leave one there; or from and with copies, each rank on a host."""
    os.environ.update(RANK=str(number), WORLD_SIZE=str(world), LOCAL_RANK=str(number), NODE_RANK="0", MASTER_ADDR="127.0.0.1")
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port, world, is_master=number == 0)
    dist.init_process_group("gloo", store=store, rank=number, world_size=world)
    torch.manual_seed(seed + number)
    path, _ = checkpoints.newest(Path(folder))
    copies = Copies(Path(folder) / hosts[number], number, world) if hosts else None
    if copies:
        path = meet(Driver(), copies, 0, strict=True)
    strategy = RankDDP() if kind == "ddp" else Sharded(data_parallel_size=world, tensor_parallel_size=1, process_group_backend="gloo")
    if kind != "ddp":
        strategy.cluster_environment = RankEnvironment()
    look = Look(path, lambda found: os.write(1, json.dumps({**found, "kind": kind, "hosts": hosts}).encode() + b"\n"))
    trainer = pl.Trainer(max_steps=steps, max_epochs=-1, strategy=strategy, accelerator="cpu", devices=1 if kind == "ddp" else world,
                         logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                         use_distributed_sampler=False, callbacks=[
                             look, Keeper(Driver(), Path(folder) / "disk" if hosts else Path(folder), every=1000, keep={"last": 9},
                                          copies=copies)])
    module = Net()
    trainer.fit(module, ckpt_path=str(path) if path else None, weights_only=True)
    if copies:
        torch.save({k: v.to_local() if hasattr(v, "to_local") else v for k, v in module.state_dict().items()},
                   f"{folder}/end-{number}-{steps}-{seed}.pt")
        copies.passed()
    dist.barrier()
    dist.destroy_process_group()


def together(world: int, folder: str, steps: int, kind: str = "ddp", seed: int = 0, hosts: tuple[str, ...] = ()) -> None:
    """As many processes as ranks, forked from this one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = [get_context("fork").Process(target=rank, args=(n, world, folder, steps, kind, seed, port, hosts)) for n in range(world)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        if child.exitcode:
            sys.exit(f"{kind} on {world}: a rank ended with {child.exitcode}")


def main() -> None:
    """All numbers of ranks, one after the other."""
    folder = sys.argv[1]
    for world, kind in ((2, "ddp"), (1, "ddp"), (3, "ddp"), (2, "fsdp"), (1, "ddp")):
        reached = checkpoints.listed(Path(folder))
        together(world, folder, (checkpoints.step_of(reached[0]) if reached else 0) + 2, kind)
    for name, stops in (("whole", (4,)), ("halves", (2, 4))):
        os.mkdir(f"{folder}/{name}")
        for seed, steps in enumerate(stops):
            together(2, f"{folder}/{name}", steps, seed=seed * 5 if steps == stops[0] else 77)
    os.mkdir(f"{folder}/hosts")
    together(2, f"{folder}/hosts", 8, "fsdp", 0, ("u", "v"))
    together(2, f"{folder}/hosts", 5, "fsdp", 0, ("a", "b"))
    shutil.rmtree(f"{folder}/hosts/a")
    together(2, f"{folder}/hosts", 8, "fsdp", 77, ("c", "b"))
    parts = [[torch.load(f"{folder}/hosts/end-{n}-8-{seed}.pt") for seed in (0, 77)] for n in (0, 1)]
    print(json.dumps({"host": all(torch.equal(one[k], other[k]) for one, other in parts for k in one)}))
    ends = [shards.load(checkpoints.path_of(Path(folder) / name, 4))["state_dict"] for name in ("whole", "halves")]
    print(json.dumps({"bitwise": all(torch.equal(ends[0][k], ends[1][k]) for k in ends[0])}))


if __name__ == "__main__":
    main()
