"""Diffusion's own parts: what is drawn for a position, the schedule, held-out noise; clips on the real cluster."""

from __future__ import annotations

import pytest
import torch

from workbench import pictures, runs
from workbench.errors import SourceError
from workbench.model import Model
from workbench.train.objectives.diffusion import UNLABELLED, Diffusion
from workbench.train.plan import planned
from workbench.train.reading.pixels import make, refuse
from workbench.train.spec import TrainSpec

SMALL = {"kind": "diffusion", "width": 8, "noise_steps": 20, "sample_steps": 3}
CLIPS = {"word": "data", "name": "moving", "sources": [{"kind": "moving-digits", "count": 80, "frames": 4, "size": 12}],
         "split": {"validation": 0.2}}


@pytest.fixture(scope="module")
def told(pictured):
    """A plan as ranks get it."""
    plan = planned(TrainSpec(data="dots", objective=SMALL, batch={"sequences": 4}), 24)
    return plan.to_dict() | make(pictured.workspace, pictured.dataset).told()


def test_what_is_read_depends_on_positions_alone_and_covers_all_steps_of_noise(told):
    reading = Diffusion(told).reading
    some, more = reading.batch([5, 30]), reading.batch([30])
    assert all(torch.equal(a[1], b[0]) for a, b in zip(some, more, strict=True))
    pictures_, noise, steps, labels = reading.batch(range(400))
    assert set(steps.tolist()) == set(range(20)) and torch.bincount(steps).tolist() == pytest.approx([20] * 20, abs=2)
    assert abs(float(noise.mean())) < 0.02 and float(noise.std()) == pytest.approx(1, abs=0.02)
    assert float((labels == 2).float().mean()) == pytest.approx(UNLABELLED, abs=0.03)
    assert pictures_.min() == -1 and pictures_.max() == 1


def test_noise_that_is_told_rightly_leads_back_to_the_picture(told):
    model = Diffusion(told).model
    steps = torch.arange(20)
    kept = model.kept(steps)
    assert (kept[1:] < kept[:-1]).all() and kept[0] > 0.97 and kept[-1] < 0.01
    picture = torch.full((20, 1, 8, 8), 0.5)
    # A network that knows the picture tells its noise: the way back ends on it, whatever it began with.
    model.forward = lambda x, step, label=None: (x - model.kept(step).sqrt().view(-1, 1, 1, 1) * 0.5) / (
        1 - model.kept(step)).sqrt().view(-1, 1, 1, 1)
    assert torch.allclose(model.generate(20, seed=1, steps=7), picture, atol=1e-3)


def test_before_it_learns_it_tells_no_noise_and_ranks_share_the_measure(told):
    alone, shares = Diffusion(told), [Diffusion(told, rank, 2) for rank in range(2)]
    for share in shares:
        share.together = lambda table: table
    table = alone.scores()
    assert torch.allclose(table, sum(s.scores() for s in shares)) and table.shape == (8, 2)
    assert alone.measure(table)[0] == pytest.approx(1, abs=0.15) and torch.equal(alone.scores(4), table[::2])


def test_shapes_that_can_not_be_learned_are_told(pictured):
    spec = TrainSpec(data="dots", objective=SMALL)
    for size, count, words in ((7, 32, "received '7 × 7 pixels'; expected even sides from 4 to 256 pixels"),
                               (300, 12, "received '300 × 300 pixels'")):
        with pytest.raises(SourceError, match=words):
            make(pictured.workspace, pictured.make(f"odd-{size}", [size] * count))
    with pytest.raises(SourceError, match="several shapes"):
        make(pictured.workspace, pictured.make("ragged", [8] * 10 + [10] * 10))
    with pytest.raises(SourceError, match="too few images to train on; received '4 in the train split'; expected 8 or more"):
        refuse(spec, pictured.workspace, pictured.make("few", [8] * 6))


def test_clips_are_learned_as_clips_and_move(live):
    runs.submit(CLIPS, live, place="here").wait()
    spec = {"word": "train", "data": "moving", "objective": {**SMALL, "labels": False}, "epochs": 3, "batch": {"sequences": 4},
            "hardware": {"threads": 1}, "every": {"sample": 100}}
    run = runs.run(spec, live)
    assert run.result["metrics"]["noise_error"] < 0.8 and run.result["metrics"]["frames"] == 4
    last = run.events(kinds=("sample",))[-1]
    assert last.data["media"] == "image/apng"
    shown = pictures.pixels_of((run.directory / last.data["file"]).read_bytes())
    assert len(shown) == 4 and (shown[0] != shown[-1]).any()
    model = Model.open("moving-diffusion", live)
    assert model.makes == "clip" and model.load().generate(1).shape == (1, 1, 4, 12, 12)
    with pytest.raises(SourceError, match=r"can't teach a model of objective gan; received 'a dataset of clips'; expected images"):
        runs.submit({**spec, "objective": {"kind": "gan"}}, live)
