"""Lightning's private hooks are what we take them to be; run for each release of it that is allowed."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
import torch.distributed as dist
from lightning.fabric.utilities import distributed as lightning_distributed
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, SingleDeviceXLAStrategy, Strategy

from workbench.train import guest, strategy
from workbench.train.objectives.own import Own
from workbench.train.state import checkpoints, saving
from workbench.train.state.states import ShardedStates, dumped
from workbench.train.strategy import RankDDP, RankEnvironment, RankMesh, quiet


class Line(pl.LightningModule):
    """Fits one number to 3."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = []

    def training_step(self, batch, _):
        self.seen.append(batch.item())
        return (self.weight - 3).square().sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self):
        first = self.trainer.global_step

        class Endless:
            def __iter__(self):
                n = first
                while True:
                    yield torch.tensor([float(n)])
                    n += 1

        return Endless()


@pytest.fixture
def group(monkeypatch):
    """A process group of one, made before Lightning begins, as a rank makes it."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1",
                        "GLOO_SOCKET_IFNAME": "lo"}.items():
        monkeypatch.setenv(name, value)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def trainer(steps: int, *callbacks: pl.Callback, how: Strategy | None = None) -> pl.Trainer:
    return pl.Trainer(max_steps=steps, max_epochs=-1, strategy=how or RankDDP(), accelerator="cpu", devices=1, logger=False,
                      enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, callbacks=list(callbacks))


def test_the_hooks_that_we_override_and_stand_on_are_there():
    for name in ("root_device", "num_processes", "distributed_sampler_kwargs"):
        assert isinstance(inspect.getattr_static(DDPStrategy, name), property)
    assert list(inspect.signature(DDPStrategy.set_world_ranks).parameters) == ["self"]
    assert list(inspect.signature(DDPStrategy._configure_launcher).parameters) == ["self"]
    assert "is_initialized" in inspect.getsource(lightning_distributed._init_dist_connection)
    assert not inspect.isabstract(RankEnvironment)


@pytest.mark.parametrize("module", [strategy, guest])
def test_each_strategy_reads_and_writes_checkpoints_of_ours(module, monkeypatch):
    made = [c for c in vars(module).values() if inspect.isclass(c) and issubclass(c, Strategy) and c.__module__ == module.__name__]
    assert len(made) == 4 and all(issubclass(c, ShardedStates) for c in made)
    name = next(c.__name__ for c in made if issubclass(c, SingleDeviceXLAStrategy))  # which can't be made here: it wants torch_xla
    monkeypatch.setattr(module, name, lambda *_: name)
    plan = {"accelerator": "tpu", "cuts": False}
    own = SimpleNamespace(plan=plan, world=1)
    assert (strategy.strategy(plan, 1) if module is strategy else guest.strategy(own, None)) == name


class Shuffled(Line):
    """Reads its samples in another order each epoch."""

    def training_step(self, batch, _):
        self.seen += batch.tolist()
        return (self.weight - 3).square().sum()

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.arange(10.0), batch_size=3, shuffle=True)


@pytest.mark.parametrize("made", [guest.GuestAlone, guest.GuestDDP])
def test_a_rank_alone_reads_a_users_data_in_the_order_of_several(group, monkeypatch, made):
    monkeypatch.setenv("PL_GLOBAL_SEED", "4")  # set as the module is built, and put back
    plan = {"objective": {"module": f"{__name__}:Shuffled", "options": {}, "data_module": None, "data_options": {}}, "seed": 4, "ranks": 1,
            "accumulate": 1, "accelerator": "cpu", "own": {"root": str(Path(__file__).parent), "dataset": None, "clip": None}}
    own = Own(plan)
    guest.Trainer(max_epochs=2, strategy=made(own, SimpleNamespace(go_on=lambda: None)), accelerator="cpu", devices=1, logger=False,
                  enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False).fit(own.module)
    wanted = torch.utils.data.DistributedSampler(range(10), 1, 0, shuffle=True, seed=4)
    first = list(wanted)
    wanted.set_epoch(1)
    assert own.module.seen == [*map(float, first), *map(float, wanted)] and first != list(wanted)


class Cut(Line):
    """Keeps the mesh that it was given."""

    def configure_model(self):
        self.mesh = self.device_mesh


def test_the_hooks_of_the_mesh_are_there():
    for name in ("root_device", "num_processes", "distributed_sampler_kwargs", "device_mesh", "lightning_restore_optimizer"):
        assert isinstance(inspect.getattr_static(ModelParallelStrategy, name), property)
    for name in ("_configure_launcher", "set_world_ranks"):
        assert list(inspect.signature(getattr(ModelParallelStrategy, name)).parameters) == ["self"]
    assert {"data_parallel_size", "tensor_parallel_size"} <= inspect.signature(ModelParallelStrategy).parameters.keys()


def test_a_mesh_stands_in_the_group_that_is_there_without_a_launcher(group):
    made, module, before = trainer(3, how=RankMesh()), Cut(), dist.group.WORLD
    assert made.strategy.launcher is None
    made.fit(module)
    assert dist.group.WORLD is before and made.global_step == 3 and module.seen == [0, 1, 2]
    assert module.mesh.mesh_dim_names == ("data_parallel", "tensor_parallel") and module.mesh.shape == (1, 1)
    assert made.strategy.distributed_sampler_kwargs == {"num_replicas": 1, "rank": 0}


def test_nothing_is_sent_at_each_batch_of_signals_that_the_gang_knows_of(group, monkeypatch):
    sent = []
    monkeypatch.setattr(dist, "broadcast", lambda tensor, src: sent.append(src))
    made = trainer(1)
    loop = made.fit_loop.epoch_loop
    loop._broadcast_sigterm_tensor()
    assert sent == [0]  # what Lightning sends at each batch of several ranks: its loop asks for it by this name
    assert "self._broadcast_sigterm_tensor()" in inspect.getsource(type(loop))
    quiet(made)
    loop._broadcast_sigterm_tensor()
    assert sent == [0]


def test_no_launcher_no_new_process_group_and_the_fit_happens_here(group):
    made = trainer(4)
    assert made.strategy.launcher is None and made.world_size == 1 and made.is_global_zero
    before = dist.group.WORLD
    module = Line()
    made.fit(module)
    assert dist.group.WORLD is before and made.global_step == 4 and module.seen == [0, 1, 2, 3]


def test_a_checkpoint_goes_through_our_files_and_the_data_go_on_behind_it(group, tmp_path):
    whole = Line()
    trainer(6).fit(whole)

    class Save(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, index):
            if trainer.global_step == 2:
                saving.save(dumped(trainer), tmp_path, 2)
                trainer.should_stop = True

    stopped = trainer(6, Save())
    stopped.fit(Line())
    assert stopped.global_step == 2  # `should_stop` is heeded at once
    again, going_on = Line(), trainer(6)
    going_on.fit(again, ckpt_path=str(checkpoints.path_of(tmp_path, 2)), weights_only=True)
    assert again.seen == [2, 3, 4, 5] and going_on.global_step == 6 and torch.equal(again.weight, whole.weight)
    done, nothing_left = Line(), trainer(2)
    nothing_left.fit(done, ckpt_path=str(checkpoints.path_of(tmp_path, 2)), weights_only=True)
    assert done.seen == [] and nothing_left.global_step == 2
