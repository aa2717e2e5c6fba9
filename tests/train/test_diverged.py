"""A loss that is no number: an error, a step that changes nothing, or back to the last checkpoint and on without that step."""

from __future__ import annotations

import pytest

from workbench import runs
from workbench.errors import RunFailedError
from workbench.model import Model, load_weights

NET = '''
import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, TensorDataset


class Breaks(pl.LightningModule):
    """Its loss is no number at a step, on one rank alone."""

    def __init__(self, at=()):
        super().__init__()
        self.at, self.net = at, torch.nn.Linear(3, 1)

    def training_step(self, batch, index):
        x, y = batch
        loss = torch.nn.functional.mse_loss(self.net(x), y)
        return loss * float("nan") if self.global_step + 1 in self.at and self.global_rank == 1 else loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.05)

    def train_dataloader(self):
        made = torch.Generator().manual_seed(0)
        x = torch.randn(80, 3, generator=made)
        return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=4)
'''


@pytest.fixture(scope="module")
def breaks(live):
    (live.root / "breaks.py").write_text(NET)
    return lambda name, **changes: {"word": "train", "name": name, "epochs": 3, "every": {"checkpoint": 5},
                                    "objective": {"kind": "module", "module": "breaks:Breaks", "options": {"at": [12]}}, **changes}


def test_each_rule_does_what_it_says(live, breaks):
    with pytest.raises(RunFailedError, match="the loss is no number any more"):
        runs.run(breaks("stops"), live)
    skips, rolls = runs.run(breaks("skips", diverged="skip"), live), runs.run(breaks("rolls", diverged="rollback"), live)
    # Both leave out step 12, and nothing else: the same weights to the bit.
    skipped, rolled = (load_weights(r.output.path / "model.safetensors") for r in (skips, rolls))
    assert all((skipped[k] == rolled[k]).all() for k in skipped)
    told = [[(e.name, e.step) for e in r.events(kinds=("mark",)) if e.name in ("skipped", "rollback", "resumed")] for r in (skips, rolls)]
    assert told[0] == [("skipped", 12)]
    assert told[1] == [("rollback", 12), ("resumed", 10), ("skipped", 12)]
    for run in (skips, rolls):
        assert [s for s, loss in run.curve("loss") if loss == loss] == [s for s in range(1, 31) if s != 12]
        assert run.curve("loss")[-1][1] < run.curve("loss")[0][1]
    assert Model.open("rolls", live).digest == rolls.result["digest"]
