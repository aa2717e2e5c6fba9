"""LightningModules that know nothing of the workbench: trained unchanged, stopped, killed, resumed; and those that can't be."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pydoc_data.topics import topics

import psutil
import pytest
import torch
from torch.utils.data import DistributedSampler
from typer.testing import CliRunner

from workbench import runs
from workbench.cli.app import app
from workbench.errors import NotFoundError, RunFailedError, SourceError, SpecError
from workbench.model import Model, load_weights
from workbench.train.reading import sight
from workbench.train.spec import TrainSpec
from workbench.train.state import checkpoints

BORING = "lightning.pytorch.demos.boring_classes"
NETS = '''
import pathlib
import threading
import time
import lightning.pytorch as pl
import torch
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader, TensorDataset


def pairs(count):
    made = torch.Generator().manual_seed(1)
    x = torch.randn(count, 5, generator=made)
    return TensorDataset(x, x @ torch.arange(5.0).unsqueeze(1) + 1)


class Pairs(pl.LightningDataModule):
    def __init__(self, count=102, size=4, dataset=None):
        super().__init__()
        self.count, self.size = (count if dataset is None else len(list(dataset.texts("train")))), size

    def train_dataloader(self):
        return DataLoader(pairs(self.count), batch_size=self.size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(pairs(20), batch_size=5)


class Line(pl.LightningModule):
    """With drop-out, a schedule an epoch, and logs of its own.

    Where it is told of a file, steps behind the twentieth are slow until that is there.
    """

    def __init__(self, rate=0.01, gate=None, most=0.3):
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.Dropout(0.1), torch.nn.BatchNorm1d(16), torch.nn.Linear(16, 1))

    def training_step(self, batch, index):
        enough = time.monotonic() + self.hparams.most
        while self.hparams.gate and self.global_step > 20 and not pathlib.Path(self.hparams.gate).exists() and time.monotonic() < enough:
            time.sleep(0.01)
        x, y = batch
        loss = torch.nn.functional.mse_loss(self.net(x), y)
        self.log("seen", float(x.sum()), reduce_fx="sum")
        return loss

    def validation_step(self, batch, index):
        x, y = batch
        self.log("val_loss", torch.nn.functional.mse_loss(self.net(x), y))

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.rate)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]


class Two(Line):
    """Two optimizers, stepped by hand."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.other = torch.nn.Linear(5, 1)

    def training_step(self, batch, index):
        x, y = batch
        for optimizer, net in zip(self.optimizers(), (self.net, self.other)):
            loss = torch.nn.functional.mse_loss(net(x), y)
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            self.log(f"loss_{'ab'[net is self.other]}", loss)

    def configure_optimizers(self):
        return [torch.optim.SGD(self.net.parameters(), lr=0.01), torch.optim.SGD(self.other.parameters(), lr=0.02)]


class Raises(Line):
    def __init__(self):
        super().__init__()
        raise RuntimeError("this net was never meant to be")


class OnOne(Line):
    def training_step(self, batch, index):
        if self.global_rank == 1 and index == 3:
            raise ValueError("rank 1 has had enough")
        return super().training_step(batch, index)


class Refused(Line):
    def training_step(self, batch, index):
        if self.global_rank == 1 and index == 3:
            raise ConnectionRefusedError("the feature store takes no connections")
        return super().training_step(batch, index)


class Untaught(pl.LightningModule):
    def configure_optimizers(self):
        return None


class Hangs(Line):
    def training_step(self, batch, index):
        if self.global_rank == 1 and index == 3:
            threading.Event().wait()
        return super().training_step(batch, index)


class HangsAtOnce(Line):
    def __init__(self):
        super().__init__()
        threading.Event().wait()


class LongChecks(Line):
    """Each validation takes longer than anybody waits for a step, and gets on all the while."""

    def validation_step(self, batch, index):
        time.sleep(2)
        super().validation_step(batch, index)


class Cut(pl.LightningModule):
    """Cuts itself over the mesh, where there is one."""

    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(5, 17), torch.nn.Tanh(), torch.nn.Linear(17, 1))

    def configure_model(self):
        if self.device_mesh is not None:
            fully_shard(self.net[0], mesh=self.device_mesh["data_parallel"])
            fully_shard(self.net, mesh=self.device_mesh["data_parallel"])

    def training_step(self, batch, index):
        x, y = batch
        return torch.nn.functional.mse_loss(self.net(x), y)

    def validation_step(self, batch, index):
        self.log("val_loss", self.training_step(batch, index), sync_dist=True)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.02)


class Ragged(pl.LightningDataModule):
    def train_dataloader(self):
        return DataLoader([torch.zeros(n) for n in range(1, 40)], batch_size=4)


class Hungry(Line):
    def training_step(self, batch, index):
        return torch.ones(1 << 55).sum()


class Odd(Line):
    def on_save_checkpoint(self, checkpoint):
        checkpoint["odd"] = lambda: 1
'''


@pytest.fixture(scope="module")
def nets(live):
    """The module "nets" in the workspace."""
    (live.root / "nets.py").write_text(NETS)
    return live


def spec(module: str, data: str | None = "nets:Pairs", *, ranks: int = 2, every: int = 5, name: str = "line", **more) -> dict:
    objective = {"kind": "module", "module": module, "data_module": data, **{k: more.pop(k) for k in ("options", "data_options", "steps")
                                                                             if k in more}}
    return {"word": "train", "name": name, "objective": objective, "hardware": {"ranks": ranks}, "every": {"checkpoint": every}, **more}


def ended(run: runs.Run) -> runs.Run:
    """The run, when it has come to whatever end."""
    with contextlib.suppress(RunFailedError):
        run.wait()
    return run


@pytest.fixture(scope="module")
def whole(nets):
    """Three epochs of the line, undisturbed; its two best checkpoints stay."""
    return runs.run(spec("nets:Line", epochs=3, keep={"best": 2}), nets)


def test_a_stock_example_of_lightnings_own_runs_unchanged(nets):
    done = runs.run(spec(f"{BORING}:BoringModel", f"{BORING}:BoringDataModule", epochs=2, name="boring"), nets)
    assert done.state == "done" and done.result["metrics"]["steps"] == 64 and done.result["parameters"] == 66
    losses = dict(done.curve("loss"))
    assert sorted(losses) == list(range(1, 65)) and losses[64] < losses[1] / 3
    assert dict(done.curve("learning_rate"))[1] == pytest.approx(0.1) and dict(done.curve("learning_rate"))[64] == pytest.approx(0.01)
    assert done.result["metrics"]["val_loss"] is None  # it logs none
    said = next(e.data for e in done.events(kinds=["mark"]) if e.name == "estimate")
    assert said["of"] == "steps" and said["steps"] == 64 and said["seconds"] == pytest.approx(64 * said["step_seconds"])
    assert any("will take about" in e.data["text"] and "by its first steps" in e.data["text"] for e in done.events(kinds=["log"]))


def test_lightnings_own_example_of_a_transformer_learns_unchanged(nets):
    text = nets.root / "data" / "wikitext-2.txt"  # where the example looks before it downloads anything
    text.parent.mkdir()
    text.write_text(" ".join(" ".join(topics.values()).split()[:1400]))
    done = runs.run(spec("lightning.pytorch.demos.transformer:LightningTransformer", None, epochs=1, name="words",
                         options={"vocab_size": 700}), nets)
    losses = [v for _, v in done.curve("loss")]
    assert len(losses) == done.result["metrics"]["steps"] >= 15 and sum(losses[-5:]) < sum(losses[:5]) - 1
    model = Model.open("words", nets)
    assert load_weights(model.path / "model.safetensors")["model.decoder.weight"].shape[0] == 700 and model.makes == "module"
    for asked in ({"word": "assess", "model": "words"}, {"word": "serve", "name": "words", "models": [{"model": "words"}]}):
        with pytest.raises(SourceError, match="is a LightningModule, and (probes measure text|an endpoint answers in text)"):
            runs.submit(asked, nets)


def test_what_it_logs_are_points_and_its_validation_loss_is_the_measure(whole):
    assert [s for s, _ in whole.curve("loss")] == list(range(1, 40))
    assert len(whole.curve("seen")) == 39
    held_out = dict(whole.curve("val_loss"))
    assert whole.result["metrics"]["val_loss"] == held_out[39] < held_out[26] < held_out[13]
    rows = checkpoints.table(whole.directory / "checkpoints")  # written where Lightning measures, though the rhythm is five steps
    assert [(r["step"], r["measure"], r["whole"]) for r in rows] == [(s, held_out[s], True) for s in (39, 26)]
    assert [round(v, 6) for v in dict(whole.curve("learning_rate")).values()][::13] == [0.01, 0.005, 0.0025]
    assert all(norm > 0 for _, norm in whole.curve("gradient_norm"))


def test_the_registered_version_says_what_it_is_and_holds_no_code(whole, nets):
    model = Model.open("line", nets)
    assert json.loads((model.path / "config.json").read_text())["module"] == "nets:Line"
    assert load_weights(model.path / "model.safetensors")["net.0.weight"].shape == (16, 5)
    model.verify()
    with pytest.raises(NotFoundError, match="LightningModule"):
        model.load()
    assert "nets:Line" in model.card


@pytest.fixture
def here(nets, monkeypatch):
    """The workspace, for what runs its module in this process."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):  # Lightning leaves them behind
        monkeypatch.setenv(name, "0")
    yield nets
    sys.modules.pop("nets", None)


def test_what_each_rank_takes_first_is_seen_by_its_parts(whole, here):
    seen = sight.first_batch(TrainSpec.load(spec("nets:Line", epochs=3)), here)
    assert (seen["steps"], seen["ranks"], seen["dataset"], [b["ranks"] for b in seen["batches"]]) == (39, 2, None, [[0], [1]])
    from nets import pairs

    x, y = pairs(102).tensors
    for rank, batch in enumerate(seen["batches"]):
        taken = list(DistributedSampler(x, num_replicas=2, rank=rank, seed=0))[:4]
        for part, tensor in zip(batch["parts"], (x[taken], y[taken]), strict=True):
            assert part["shape"] == list(tensor.shape) and (part["type"], part["odd"]) == ("float32", 0)
            assert (part["low"], part["high"]) == (tensor.min().item(), tensor.max().item())
    assert [p["part"] for p in seen["batches"][0]["parts"]] == ["batch[0]", "batch[1]"]
    assert 20 * seen["batches"][0]["parts"][0]["mean"] == pytest.approx(whole.curve("seen")[0][1], rel=1e-5)  # as rank 0 logged it
    cut = sight.first_batch(TrainSpec.load(spec("nets:Cut") | {"hardware": {"ranks": 2, "strategy": "fsdp"}}), here)
    assert cut["batches"] == seen["batches"]


@pytest.mark.parametrize(("module", "more", "words"), [
    ("nets:Raises", {}, r"nets.py:\d+: no first batch: RuntimeError: this net was never meant to be"),
    ("nets:Line", {"data": "nets:Ragged"}, "nets:Ragged: no first batch: .*stack expects.*a collate_fn that pads, or batch_size=1"),
    ("nets:Line", {"data_options": {"count": 1}}, "nets:Pairs: holds less than a step takes"),
    ("nets:Line", {"options": {"raet": 1}}, 'did you mean "rate"'), ("nets:Pairs", {}, "is no LightningModule")])
def test_a_module_without_a_first_batch_says_why_in_the_users_own_words(here, module, more, words):
    rest = {k: v for k, v in more.items() if k != "data"}
    with pytest.raises((SourceError, SpecError), match=words):
        sight.first_batch(TrainSpec.load(spec(module, more.get("data", "nets:Pairs"), **rest)), here)


def test_killed_it_goes_on_at_the_next_batch_bit_by_bit(whole, nets, tmp_path):
    gate = tmp_path / "gate"  # the kill comes in time, whatever this machine is busy with
    run = runs.submit(spec("nets:Line", epochs=3, options={"gate": str(gate)}, name="killed"), nets)
    for event in run.follow():
        if event.kind == "mark" and event.name == "checkpoint" and event.step == 20:  # within the second epoch
            ranks = next(e.data["ranks"] for e in reversed(run.events(kinds=["mark"])) if e.name == "ranks")
            os.kill(ranks[1]["pid"], signal.SIGKILL)
            gate.touch()
            break
    run.wait()
    assert run.state == "done" and any(e.name == "restart" for e in run.events(kinds=["mark"]))
    assert dict(run.curve("loss")) == dict(whole.curve("loss"))
    same = [load_weights(Model.open(name, nets).path / "model.safetensors") for name in ("line", "killed")]
    assert all(torch.equal(same[0][k], same[1][k]) for k in same[0])


def test_stopped_it_is_resumed_to_the_same_weights(whole, nets, tmp_path):
    gate = tmp_path / "gate"
    run = runs.submit(spec("nets:Line", epochs=3, options={"gate": str(gate)}, name="halted"), nets)
    next(e for e in run.follow() if e.kind == "progress" and e.data.get("unit") == "steps" and e.data["done"] >= 8)
    run.stop()
    assert ended(run).state == "stopped"
    gate.touch()
    assert checkpoints.listed(nets.path("runs", run.id, "checkpoints"))
    again = run.resume()
    again.wait()
    same = [load_weights(Model.open(name, nets).path / "model.safetensors") for name in ("line", "halted")]
    assert again.state == "done" and all(torch.equal(same[0][k], same[1][k]) for k in same[0])


def test_a_step_that_takes_too_long_is_not_waited_for_by_who_stops_now(whole, nets, tmp_path, monkeypatch):
    gate = tmp_path / "gate"
    run = runs.submit(spec("nets:Line", epochs=3, options={"gate": str(gate), "most": 600}, name="cut"), nets)
    next(e for e in run.follow() if e.kind == "mark" and e.name == "checkpoint" and e.step == 20)
    ranks = [psutil.Process(r["pid"]) for e in run.events(kinds=["mark"]) if e.name == "ranks" for r in e.data["ranks"]]
    run.stop()
    assert "since the checkpoint of step 20" in run.at_stake and run.state == "stopping"
    monkeypatch.chdir(nets.root)
    assert "stopped" in CliRunner().invoke(app, ["stop", run.id, "--now"]).output
    assert run.state == "stopped" and run.at_stake is None and run.rest["step"] == 20 and not psutil.wait_procs(ranks, timeout=30)[1]
    gate.touch()
    run.resume().wait()
    same = [load_weights(Model.open(name, nets).path / "model.safetensors") for name in ("line", "cut")]
    assert run.state == "done" and all(torch.equal(same[0][k], same[1][k]) for k in same[0])


def test_two_optimizers_stepped_by_hand(nets):
    done = runs.run(spec("nets:Two", epochs=2, name="two"), nets)
    assert done.state == "done" and len(done.curve("loss_a")) == len(done.curve("loss_b")) == 26
    assert done.curve("loss") == [] and dict(done.curve("val_loss"))


def test_a_dataset_of_the_workbench_is_given_to_whom_takes_one_and_steps_may_end_it(nets):
    done = runs.run(spec("nets:Line", data="nets:Pairs", steps=7, name="given", ranks=1) | {"data": "docs"}, nets)
    assert done.state == "done" and done.result["metrics"]["steps"] == 7 and len(done.curve("loss")) == 7
    assert done.output.manifest["dataset"]["name"] == "docs"


def test_its_own_measure_is_taken_before_the_first_step_and_behind_the_last(whole, nets):
    metrics, held_out = whole.result["metrics"], dict(whole.curve("val_loss"))
    assert sorted(held_out) == [0, 13, 26, 39] and metrics["val_loss_before"] == held_out[0] > 2 * metrics["val_loss"]
    gain = metrics["gain"]
    assert gain["difference"] == pytest.approx(held_out[39] - held_out[0]) and gain["low"] is None  # one figure has no interval
    assert f"Before the first step it was {held_out[0]:.4g}" in whole.output.card
    ends = runs.run(spec("nets:Line", steps=7, name="within"), nets)  # an epoch has 13
    assert sorted(dict(ends.curve("val_loss"))) == [0, 7] and ends.result["metrics"]["gain"]["difference"] < 0


def test_a_module_that_cuts_itself_learns_the_same_in_parts(nets):
    parts, whole = (runs.run(spec("nets:Cut", epochs=1, name=name) | {"hardware": {"ranks": 2, "strategy": strategy}}, nets)
                    for name, strategy in (("parts", "fsdp"), ("undivided", "auto")))
    assert dict(parts.curve("loss")) == pytest.approx(dict(whole.curve("loss")), rel=1e-5) and len(whole.curve("loss")) == 13
    assert dict(parts.curve("gradient_norm")) == pytest.approx(dict(whole.curve("gradient_norm")), rel=1e-4)
    assert dict(parts.curve("val_loss")) == pytest.approx(dict(whole.curve("val_loss")), rel=1e-5)
    same = [load_weights(run.output.path / "model.safetensors") for run in (parts, whole)]
    assert all(torch.allclose(same[0][k], same[1][k], atol=1e-5) for k in same[1]) and same[0]["net.0.weight"].shape == (17, 5)
    refused = ended(runs.submit(spec("nets:Line", name="bad") | {"hardware": {"ranks": 2, "strategy": "fsdp"}}, nets))
    assert refused.state == "failed" and "does not say how it is cut over ranks" in refused.failure["what"]


@pytest.mark.parametrize("module", ["nets:Hangs", "nets:HangsAtOnce"])
def test_a_module_that_hangs_fails_with_where_each_rank_stands(nets, module):
    run = ended(runs.submit(spec(module, name="hangs") | {"hardware": {"ranks": 2, "hang_seconds": 5}}, nets))
    assert run.state == "failed"
    told = "\n".join(map(str, run.failure.values()))
    assert "no step for 5 s" in told and "rank 0" in told and "hardware.hang_seconds" in told
    assert "threading.Event().wait()" in told and "nets.py" in told  # the line at which rank 1 stands


def test_a_validation_that_gets_on_is_not_taken_for_hung(nets):
    run = ended(runs.submit(spec("nets:LongChecks", name="slow", epochs=1) | {"hardware": {"ranks": 2, "hang_seconds": 3.5}}, nets))
    assert run.state == "done", run.failure


@pytest.mark.parametrize(("changes", "error", "words"), [
    ({"module": "nets:Lien"}, NotFoundError, 'Did you mean "Line"'), ({"module": "nest:Line"}, SourceError, "no such module"),
    ({"module": "nets:Line", "learning_rate": 0.1}, SpecError, "configure_optimizers"),
    ({"module": "nets:Line", "epochs": 1.5}, SpecError, "whole epochs"),
    ({"module": "nets:Line", "batch": {"sequences": 8}}, SpecError, "dataloader")])
def test_what_can_be_seen_without_running_it_is_refused_at_once(nets, changes, error, words):
    with pytest.raises(error) as caught:
        runs.submit(spec(**changes), nets)
    assert words in str(caught.value)


@pytest.mark.parametrize(("module", "more", "words"), [
    ("nets:Raises", {}, ("RuntimeError: this net was never meant to be", "nets.py")),
    ("nets:OnOne", {}, ("rank 1 has had enough", "in rank 1", "nets.py")),
    ("nets:Refused", {}, ("the feature store takes no connections", "in rank 1", "nets.py")),
    ("nets:Untaught", {}, ("has no training_step",)), ("nets:Pairs", {}, ("is no LightningModule",)),
    ("nets:Line", {"options": {"raet": 1}}, ('did you mean "rate"',)),
    ("nets:Line", {"data_options": {"count": 1}}, ("holds less than a step takes", "nets:Pairs")),
    ("nets:Line", {"data": "nets:Ragged"}, ("stack expects each tensor to be equal size", "collate_fn that pads, or batch_size=1")),
    ("nets:Hungry", {}, ("can't allocate memory", "Make the dataloader's batches smaller and raise batch.accumulate")),
    ("nets:Odd", {"epochs": 1}, ("can't be kept in a checkpoint",))])
def test_what_fails_in_a_rank_is_told_with_the_users_own_words(nets, module, more, words):
    rest = {k: v for k, v in more.items() if k != "data"}
    run = ended(runs.submit(spec(module, more.get("data", "nets:Pairs"), name="bad", **rest), nets))
    assert run.state == "failed"
    told = "\n".join(map(str, run.failure.values()))
    assert all(w in told for w in words), told
