"""The GAN's own parts: its loss in one step, its distance, its memory of gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.train.objectives.gan import BETAS, Gan, distance
from workbench.train.plan import planned
from workbench.train.reading.pixels import make
from workbench.train.spec import TrainSpec


@pytest.fixture(scope="module")
def told(pictured):
    """A plan as ranks get it."""
    plan = planned(TrainSpec(data="dots", objective={"kind": "gan", "width": 8, "latent": 4}, batch={"sequences": 4}), 24)
    return plan.to_dict() | make(pictured.workspace, pictured.dataset).told()


def test_each_network_learns_from_its_own_part_of_the_loss(told):
    module = Gan(told)
    images, latents = module.batches.at(0)[1]
    net, logistic = module.model, torch.nn.functional.softplus
    module.loss((images, latents)).backward()
    both = {n: p.grad.clone() for n, p in net.named_parameters()}
    net.zero_grad()
    fake = net.generator(latents)
    (logistic(-net.discriminator(images)).mean() + logistic(net.discriminator(fake.detach())).mean()).backward()
    assert all(p.grad is None for p in net.generator.parameters())
    assert all(torch.allclose(p.grad, both[f"discriminator.{n}"]) for n, p in net.discriminator.named_parameters())
    logistic(-net.discriminator(fake)).mean().backward()
    assert all(torch.allclose(p.grad, both[f"generator.{n}"], atol=1e-7) for n, p in net.generator.named_parameters())
    assert min(float(g.abs().max()) for g in both.values()) > 0


def test_it_remembers_gradients_for_a_shorter_time(told):
    groups = Gan(told).configure_optimizers()["optimizer"].param_groups
    assert [g["betas"] for g in groups] == [BETAS] * 2 and groups[1]["weight_decay"] == 0


def test_what_is_read_depends_on_positions_alone(told):
    some, more = (Gan(told).reading.batch(p) for p in ([5, 30], [30]))
    assert all(torch.equal(a[1], b[0]) for a, b in zip(some, more, strict=True))
    assert not torch.equal(some[1][0], some[1][1])


def test_the_distance_of_the_same_kind_of_images_is_none_and_grows_with_how_they_differ():
    def images(count: int, mean: float, seed: int) -> torch.Tensor:
        return torch.from_numpy(np.random.default_rng(seed).normal(mean, 0.5, (count, 1, 8, 8)).astype(np.float32))

    same = [distance(images(40, 0, seed), images(160, 0, seed + 100)) for seed in range(40)]
    assert abs(np.mean(same)) < 3 * np.std(same) / 40**0.5 + 1e-4  # without bias: as often below as above
    assert max(same) < distance(images(40, 0, 0), images(160, 0.3, 1)) < distance(images(40, 0, 0), images(160, 0.6, 1))


def test_parts_of_the_measure_are_the_same_however_they_are_shared_out(told):
    alone, shares = Gan(told), [Gan(told, rank, 2) for rank in range(2)]
    for share in shares:
        share.together = lambda table: table
    assert torch.allclose(alone.scores(), sum(s.scores() for s in shares)) and alone.scores()[:, 1].sum() == 8
