"""What bounds a training: the verdict follows where the time goes, and a real run tells one."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import runs
from workbench.errors import RunFailedError
from workbench.train.verdict import LastMinute, judged

SLOW = '''
import time
import lightning.pytorch as pl
import torch
from lightning.pytorch.demos.boring_classes import BoringModel
from torch.utils.data import DataLoader


class Rows(torch.utils.data.Dataset):
    def __init__(self, seconds):
        self.seconds = seconds

    def __len__(self):
        return 4000

    def __getitem__(self, index):
        time.sleep(self.seconds)
        return torch.ones(32)


class Data(pl.LightningDataModule):
    def __init__(self, seconds=0.0):
        super().__init__()
        self.seconds = seconds

    def train_dataloader(self):
        return DataLoader(Rows(self.seconds), batch_size=2)


class Net(BoringModel):
    def __init__(self, seconds=0.0):
        super().__init__()
        self.seconds = seconds

    def training_step(self, batch, index):
        if self.global_rank == 1:
            time.sleep(self.seconds)
        return super().training_step(batch, index)

    val_dataloader = None
'''


def rank(number: int = 0, *, wait: float = 0.0, blocked: float = 0.0, memory: float = 0.1, computing: float | None = None) -> dict:
    computing = 1 - wait - blocked if computing is None else computing
    return {"rank": number, "step_seconds": 1.0, "wait_seconds": wait, "blocked_seconds": blocked, "forward_seconds": computing / 3,
            "backward_seconds": computing * 2 / 3 + blocked, "cpu": 1.0, "memory": memory * 1e9, "memory_limit": 1e9}


def test_each_bound_is_told_with_its_share_and_what_would_help():
    assert judged([rank()])["words"] == "compute-bound: 100 % of a step is computing"
    data = judged([rank(0, wait=0.4), rank(1, wait=0.3)])
    assert (data["bound"], data["words"]) == ("data", "data-bound: 40 % of a step is waiting for data") and "Add loaders" in data["do"]
    link = judged([rank(0, blocked=0.5), rank(1, blocked=0.5)])
    assert link["words"] == "communication-bound: 50 % of a step is waiting for the other ranks" and "batch.accumulate" in link["do"]
    slow = judged([rank(0, blocked=0.6, computing=0.4), rank(1, blocked=0.02, computing=0.98), rank(2, blocked=0.6, computing=0.4)])
    assert "waiting for rank 1, which computes 2.4 times as long" in slow["words"]
    idle = judged([rank(0, computing=0.4)])
    assert idle["bound"] == "measures" and idle["words"].startswith("60 % of the time goes to what comes between steps")
    full = judged([rank(0, wait=0.5, memory=0.95)])
    assert full["bound"] == "memory" and full["words"] == "memory-bound: 95 % of the memory is taken"


@given(st.lists(st.tuples(st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0, 1)), min_size=1, max_size=8))
def test_the_verdict_is_of_the_kind_that_its_own_figures_say(shares):
    found = judged([rank(n, wait=w, blocked=b, memory=m) for n, (w, b, m) in enumerate(shares)])
    assert len(found["ranks"]) == len(shares)
    if found["bound"] == "computing":
        assert found["wait"] < 0.25 and found["blocked"] < 0.25 and found["full"] < 0.92
    elif found["bound"] == "data":
        assert found["wait"] >= max(0.1, found["blocked"])


def test_only_the_last_minute_counts_and_nothing_is_said_before_a_step():
    minute = LastMinute()
    minute.add(0.0, [{"rank": 0, "step_seconds": None}])
    assert minute.verdict() is None
    minute.add(1.0, [rank(wait=0.5)])
    assert minute.verdict()["bound"] == "data"
    minute.add(90.0, [rank()])
    assert minute.verdict()["bound"] == "computing"


@pytest.mark.parametrize(("ranks", "options", "bound", "words", "do"), [
    (1, {"data_options": {"seconds": 0.1}}, "data", "of a step is waiting for data", "Add loaders"),
    (2, {"options": {"seconds": 0.2}}, "exchange", "waiting for rank 1, which computes", "Give it as many cores as the others")])
def test_a_real_run_tells_what_it_waits_for(live, ranks, options, bound, words, do):
    (live.root / "slow.py").write_text(SLOW)
    run = runs.submit({"word": "train", "name": "slow", "epochs": 1, "hardware": {"ranks": ranks},
                       "objective": {"kind": "module", "module": "slow:Net", "data_module": "slow:Data", **options}}, live)
    found = next((e.data for e in run.follow() if e.kind == "mark" and e.name == "verdict" and e.data["bound"] == bound), None)
    assert found, run.failure
    run.stop()
    with contextlib.suppress(RunFailedError):
        run.wait()
    assert words in found["words"] and do in found["do"]
