"""The same training as a plain script under torchrun: ``torchrun --nproc-per-node 2 under_torchrun.py plan.json out``."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy

from workbench.train.fit import objective, trainer
from workbench.train.strategy import DDP_OPTIONS


class Losses(pl.Callback):
    """The mean loss of each step, and when the first was made."""

    def __init__(self):
        self.losses, self.first = [], None

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        loss = outputs["loss"].detach().clone()
        dist.all_reduce(loss)
        self.losses.append((loss / dist.get_world_size()).item())
        self.first = self.first or time.time()


def main() -> None:
    """Train; rank 0 writes losses and weights."""
    plan, out = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // world))
    module, losses = objective(plan, rank, world), Losses()
    trainer(module, DDPStrategy(process_group_backend="gloo", **DDP_OPTIONS), [losses], devices=world).fit(module)
    if rank == 0:
        module.model.save_pretrained(out)
        (out / "losses.json").write_text(json.dumps({"losses": losses.losses, "first": losses.first}))
    dist.barrier()
    dist.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # gloo's threads abort an interpreter that ends before them, now and then


if __name__ == "__main__":
    main()
