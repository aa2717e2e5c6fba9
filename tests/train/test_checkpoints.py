"""Checkpoints are whole or not there, are read without running code, and a broken one is passed over."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import StorageError
from workbench.train import checkpoints

STATE = {"state_dict": {"w": torch.arange(6.0).reshape(2, 3)}, "global_step": 7, "loops": {"a": [1, 2.5, "x", None]}}


def test_what_is_saved_is_loaded_and_the_last_ones_are_kept(tmp_path):
    for step in range(1, 6):
        checkpoints.save(STATE | {"global_step": step}, checkpoints.path_of(tmp_path, step))
    assert [checkpoints.step_of(p) for p in checkpoints.listed(tmp_path)] == [5, 4]
    path, broken = checkpoints.newest(tmp_path)
    loaded = checkpoints.load(path)
    assert not broken and loaded["global_step"] == 5 and loaded["loops"] == STATE["loops"]
    assert torch.equal(loaded["state_dict"]["w"], STATE["state_dict"]["w"])


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_one_changed_or_missing_byte_is_found(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("checkpoints")
    for step in (1, 2):
        checkpoints.save(STATE, checkpoints.path_of(folder, step))
    path = checkpoints.path_of(folder, 2)
    whole = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        whole[place] ^= data.draw(st.integers(1, 255))
    else:
        del whole[place:]
    path.write_bytes(whole)
    with pytest.raises(StorageError, match="is not the checkpoint that was written"):
        checkpoints.load(path)
    assert checkpoints.newest(folder) == (checkpoints.path_of(folder, 1), [path])


def test_a_pickle_that_would_run_code_does_not(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    body = io.BytesIO()
    torch.save({"state_dict": Trap()}, body)
    path = checkpoints.path_of(tmp_path, 1)
    checkpoints.save(STATE, path)
    import hashlib

    path.write_bytes(b"workbench checkpoint 1 sha256 " + hashlib.sha256(body.getvalue()).hexdigest().encode() + b"\n" + body.getvalue())
    with pytest.raises(pickle.UnpicklingError):
        checkpoints.load(path)
    assert not (tmp_path / "sprung").exists()


def test_killed_while_saving_leaves_the_one_before(tmp_path):
    code = ("import sys, os, threading, time, torch; from pathlib import Path; from workbench.train import checkpoints\n"
            "state = {'w': torch.zeros(3_000_000)}; folder = Path(sys.argv[1])\n"
            "for step in range(1, 1000):\n"
            "    checkpoints.save(state, checkpoints.path_of(folder, step)); print(step, flush=True)\n")
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if int(line) == 3:
            process.kill()
            break
    process.wait()
    path, broken = checkpoints.newest(tmp_path)
    assert not broken and checkpoints.step_of(path) >= 3 and checkpoints.load(path)["w"].shape == (3_000_000,)
