"""Ray Train's first step, as ``first_step.py`` asks for it: ``python ray_train.py plan.json rounds said.json``.

Ray runs already (``ray.init``, a warm-up round that isn't counted) when the clock starts at ``TorchTrainer(...).fit()``; it ends as the
first optimizer step does, in rank 0.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path


def train(asked: dict) -> None:
    """What each of Ray's workers does: the same module under the same trainer."""
    import torch
    import torch.distributed as dist
    from lightning.pytorch import Callback
    from ray.train import get_context
    from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment

    from workbench.train.fit import objective, trainer
    from workbench.train.strategy import DDP_OPTIONS

    class First(Callback):
        def on_train_batch_end(self, *_: object) -> None:
            if not Path(asked["said"]).exists() and dist.get_rank() == 0:
                Path(asked["said"]).write_text(str(time.time()))

    rank, world = get_context().get_world_rank(), get_context().get_world_size()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // world))
    module = objective(asked["plan"], rank, world)
    made = trainer(module, RayDDPStrategy(process_group_backend="gloo", **DDP_OPTIONS), [First()], devices="auto",
                   plugins=[RayLightningEnvironment()])
    made.fit(module)


def main() -> None:
    """Time the rounds."""
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    plan, rounds = json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2])
    found = []
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
        for number in range(rounds + 1):
            said = Path(folder) / f"{number}"
            begin = time.time()
            TorchTrainer(train, train_loop_config={"plan": plan, "said": str(said)}, scaling_config=ScalingConfig(num_workers=2),
                         torch_config=TorchConfig(backend="gloo"), run_config=RunConfig(storage_path=folder, name=f"r{number}")).fit()
            found.append(float(said.read_text()) - begin)
        ray.shutdown()
    Path(sys.argv[3]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
