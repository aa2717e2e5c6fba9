"""Checkpoints are whole or not there, are read without running code, and a broken one is passed over; a rule says which stay."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys

import lightning.pytorch as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from workbench.errors import StorageError
from workbench.storage import canonical_json
from workbench.train.state import checkpoints, saving, shards
from workbench.train.state.keeper import Keeper

STATE = {"state_dict": {"w": torch.arange(600.0).reshape(20, 30), "half": torch.arange(2000).to(torch.bfloat16), "n": torch.tensor(3)},
         "global_step": 7, "loops": {"a": [1, 2.5, "x", None, (1, 2)], 3: True},
         "optimizer_states": [{"state": {"w": {"step": torch.tensor(7.0), "mean": torch.ones(20, 30)}},
                               "param_groups": [{"params": ["w"]}]}]}


def test_what_is_saved_is_loaded_and_anybody_can_read_the_tensors(tmp_path):
    path = saving.save(STATE, tmp_path, 7, own={"drawn": 5})
    loaded, said = shards.load(path), checkpoints.verify(path)
    assert loaded["loops"] == STATE["loops"] and loaded["global_step"] == 7 and shards.rest(path, said, 0) == {"drawn": 5}
    assert loaded["optimizer_states"][0]["param_groups"] == [{"params": ["w"]}]
    for name, tensor in STATE["state_dict"].items():
        assert torch.equal(loaded["state_dict"][name], tensor) and loaded["state_dict"][name].dtype == tensor.dtype
    assert torch.equal(loaded["optimizer_states"][0]["state"]["w"]["mean"], torch.ones(20, 30))
    assert torch.equal(load_file(path / "shard-0-of-1.safetensors")["state_dict.half"], STATE["state_dict"]["half"])
    assert sorted(p.name for p in path.iterdir()) == ["manifest.json", "shard-0-of-1.safetensors"]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two checkpoints, and each file of the second as it was."""
    folder = tmp_path_factory.mktemp("two")
    for step in (1, 2):
        saving.save(STATE, folder, step)
    return folder, {p: p.read_bytes() for p in checkpoints.path_of(folder, 2).iterdir()}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_one_changed_missing_or_added_byte_is_found(two, data):
    folder, files = two
    path = data.draw(st.sampled_from(sorted(files)))
    whole = bytearray(files[path])
    place = data.draw(st.integers(0, len(whole) - 1))
    what = data.draw(st.sampled_from(["change", "cut", "add"]))
    if what == "change":
        whole[place] ^= data.draw(st.integers(1, 255))
    elif what == "cut":
        del whole[place:]
    else:
        whole += b"\n"
    try:
        path.write_bytes(whole)
        with pytest.raises(StorageError, match="is not the checkpoint that was written"):
            checkpoints.verify(path.parent)
        assert checkpoints.newest(folder) == (checkpoints.path_of(folder, 1), [path.parent])
        assert [r["whole"] for r in checkpoints.table(folder)] == [False, True]
    finally:
        path.write_bytes(files[path])
    assert checkpoints.newest(folder) == (path.parent, [])


def test_reading_verifies_too_and_a_lost_file_is_found(tmp_path):
    path = saving.save(STATE, tmp_path, 1)
    file = path / "shard-0-of-1.safetensors"
    raw = bytearray(file.read_bytes())
    raw[checkpoints.manifest(path)["tensors"]["state_dict.w"]["chunks"][0]["at"][0] + 5] ^= 1
    file.write_bytes(raw)
    with pytest.raises(StorageError, match="is not the checkpoint that was written"):
        shards.load(path)
    file.unlink()
    assert checkpoints.newest(tmp_path) == (None, [path])


def test_another_versions_checkpoint_is_passed_over(tmp_path):
    before = saving.save(STATE, tmp_path, 1)
    later = saving.save(STATE, tmp_path, 2)
    said = json.loads((later / "manifest.json").read_text()) | {"version": 3}
    del said["digest"]
    (later / "manifest.json").write_bytes(checkpoints.sealed(said))
    old = tmp_path / "step-000000003.ckpt"
    old.write_bytes(b"workbench checkpoint 1 sha256")
    for path in (later, old):
        with pytest.raises(checkpoints.OtherVersionError, match="version"):
            checkpoints.verify(path)
    assert checkpoints.newest(tmp_path) == (before, [old, later])
    assert [checkpoints.fault_of(p) for p in (old, later, tmp_path / "step-000000009")] == ["is of another version"] * 2 + ["is broken"]


def test_a_pickle_that_would_run_code_does_not(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    with pytest.raises(StorageError, match="holds what can't be kept"):
        saving.save(STATE | {"callbacks": {"theirs": Trap()}}, tmp_path, 1)
    assert not (tmp_path / "sprung").exists() and checkpoints.listed(tmp_path) == []
    import pickle

    import numpy as np

    path = saving.save(STATE, tmp_path, 2)  # a forged one, digests and all
    said, raw = json.loads((path / "manifest.json").read_text()), pickle.dumps(Trap(), 2)
    file = path / said["files"][0]["name"]
    body = bytearray(file.read_bytes())
    begin, end = said["common"]["at"]
    assert len(raw) < end - begin
    body[begin:end] = raw + bytes(end - begin - len(raw))
    said["common"]["sha256"] = __import__("hashlib").sha256(body[begin:end]).hexdigest()
    del said["digest"]
    file.write_bytes(np.asarray(body))
    (path / "manifest.json").write_bytes(checkpoints.sealed(said))
    assert canonical_json(checkpoints.verify(path)) == canonical_json(said)
    with pytest.raises((pickle.UnpicklingError, RuntimeError)):
        shards.load(path)
    assert not (tmp_path / "sprung").exists()


def test_the_rule_says_which_stay(tmp_path):
    measures = {10: 3.0, 20: 1.0, 30: float("nan"), 40: 2.0, 50: None, 60: 2.5}
    for step, value in measures.items():
        saving.save(STATE, tmp_path, step, measure=value, keep={"last": 2, "best": 1, "every": 30})
    assert [r["step"] for r in checkpoints.table(tmp_path)] == [60, 50, 30, 20]
    assert [r["measure"] for r in checkpoints.table(tmp_path)] == [2.5, None, None, 1.0]
    checkpoints.measured(checkpoints.path_of(tmp_path, 30), 1.0)  # known only afterwards; of equals the later is kept
    assert checkpoints.verify(checkpoints.path_of(tmp_path, 30))["measure"] == 1.0
    assert checkpoints.prune(tmp_path, last=0, best=2) == [30, 20] and checkpoints.prune(tmp_path, last=0, best=1) == [30]
    copied = checkpoints.copy(checkpoints.path_of(tmp_path, 30), tmp_path / "other")
    checkpoints.remove(checkpoints.path_of(tmp_path, 30))
    assert checkpoints.listed(tmp_path) == [] and torch.equal(shards.load(copied)["state_dict"]["w"], STATE["state_dict"]["w"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other"]


KILLED = """
import sys, torch
from pathlib import Path
from workbench.train.state import saving
state, saver = {"w": torch.zeros(3_000_000)}, saving.Saver(Path(sys.argv[1]), keep={"last": 2})
for step in range(1, 1000):
    saver.save(state | {"step": step}, step)
    saver.staged()
    print(step, flush=True)
"""


def test_killed_while_saving_leaves_the_one_before(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if int(line) == 4:
            process.kill()
            break
    process.wait()
    path, broken = checkpoints.newest(tmp_path)
    assert not broken and checkpoints.step_of(path) >= 3 and shards.load(path)["step"] == checkpoints.step_of(path)
    checkpoints.tidy(tmp_path)
    assert all(p.name.startswith("step-") for p in tmp_path.iterdir())


def test_a_disk_that_takes_nothing_is_told_and_the_next_try_succeeds(tmp_path):
    told = []
    blocked = tmp_path / "folder"
    blocked.write_text("a file where a directory should be")
    saver = saving.Saver(blocked, said=lambda step, failure: told.append((step, failure and failure.what)))
    saver.save(STATE, 1)
    with pytest.raises(StorageError):
        saver.wait()
    blocked.unlink()
    saver.save(STATE, 2)
    saver.wait()
    saver.close()
    assert [s for s, _ in told] == [1, 2] and told[0][1] and told[1][1] is None
    assert [checkpoints.step_of(p) for p in checkpoints.listed(blocked)] == [2] and len(list(blocked.iterdir())) == 1


class Line(pl.LightningModule):
    """Learns, slowly."""

    def __init__(self):
        super().__init__()
        self.layer, self.seen = torch.nn.Linear(300, 100), []

    def training_step(self, batch, index):
        self.seen.append(("forward", index))
        return self.layer(batch).square().mean()

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.1)

    def train_dataloader(self):
        return torch.utils.data.DataLoader([torch.ones(4, 300)] * 12, batch_size=None)


class Told:
    """Takes the place of the pipe to the driver, and remembers."""

    def __init__(self):
        self.messages = []

    def send(self, kind, **data):
        self.messages.append((kind, data.get("step"), data.get("text")))

    def busy(self, what):
        return contextlib.nullcontext(what)


class At(pl.Callback):
    """Does something behind a step, and waits until what was handed over before is written."""

    def __init__(self, keeper, acts):
        self.keeper, self.acts = keeper, acts

    def on_train_batch_end(self, trainer, *_):
        self.keeper.saver._idle.wait()
        self.acts.get(trainer.global_step, lambda _: None)(trainer)


def trained(folder, acts, steps=12):
    told = Told()
    keeper = Keeper(told, folder, every=2, keep={"last": 2})
    pl.Trainer(max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
               enable_model_summary=False, callbacks=[At(keeper, acts), keeper]).fit(Line())
    return told.messages


def remounted(disk, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


@pytest.mark.parametrize(("spoil", "mend", "words"), [
    (lambda disk: (disk / "fill").write_bytes(bytes(1500 << 10)), lambda disk: (disk / "fill").unlink(), "the disk is full"),
    (lambda disk: remounted(disk, "ro"), lambda disk: remounted(disk, "rw"), "can't be written")], ids=["full", "read-only"])
def test_training_goes_on_over_a_disk_that_takes_nothing_says_so_once_and_tries_again(tmp_path, spoil, mend, words):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2048k", "tmpfs", str(disk)]).returncode:
        pytest.skip("tmpfs can't be mounted here")
    try:
        told = trained(disk / "checkpoints", {3: lambda _: spoil(disk), 9: lambda _: mend(disk)})
        assert [(kind, step) for kind, step, _ in told] == [
            ("checkpoint", 2), ("warning", None), ("checkpoint", 10), ("checkpoint", 12)]
        assert "no checkpoint since step 2" in told[1][2] and words in told[1][2]
        assert [(r["step"], r["whole"]) for r in checkpoints.table(disk / "checkpoints")] == [(12, True), (10, True)]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_only_the_step_itself_waits_for_the_copy(tmp_path, monkeypatch):
    line, staged = Line(), saving.Saver.staged
    monkeypatch.setattr(saving.Saver, "staged", lambda saver: (line.seen.append(("wait", None)), staged(saver)))
    pl.Trainer(max_steps=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
               enable_model_summary=False, callbacks=[Keeper(Told(), tmp_path, every=1)]).fit(line)
    assert line.seen == [("forward", 0), ("wait", None), ("forward", 1), ("wait", None), ("forward", 2), ("wait", None)]


def test_a_stop_that_could_write_nothing_is_an_error(tmp_path):
    folder = tmp_path / "checkpoints"

    def stop(trainer):
        shutil.rmtree(folder)
        folder.write_text("a file where a directory should be")
        trainer.should_stop = True

    with pytest.raises(StorageError, match="no checkpoint since step 4: "):
        trained(folder, {5: stop})


def test_what_changes_after_the_copy_is_not_in_the_checkpoint(tmp_path):
    weight, other = torch.ones(2_000_000), torch.ones(1000)
    saver = saving.Saver(tmp_path)
    saver.save({"state_dict": {"w": weight, "buffer": other}}, 1, steady=frozenset({weight.data_ptr()}))
    other.fill_(5)  # not steady: was copied at once
    saver.staged()
    weight.fill_(5)
    saver.wait()
    saver.close()
    loaded = shards.load(checkpoints.path_of(tmp_path, 1))["state_dict"]
    assert torch.equal(loaded["w"], torch.ones(2_000_000)) and torch.equal(loaded["buffer"], torch.ones(1000))
