"""The optimizer: orthogonal updates for matrices, torch's own AdamW for the rest."""

from __future__ import annotations

import pytest
import torch

from workbench.train.muon import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 8, 24), (2, 24, 8)])
def test_singular_values_come_near_one_and_directions_stay(shape):
    matrices = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    turned = orthogonalise(matrices)
    values = torch.linalg.svdvals(turned)
    assert turned.shape == matrices.shape and values.min() > 0.3 and values.max() < 1.3
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    assert ((u @ v) * turned).sum() / turned.norm() / (u @ v).norm() > 0.97


def test_one_at_a_time_or_as_a_batch_is_the_same():
    matrices = torch.randn(4, 8, 12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(orthogonalise(matrices), torch.stack([orthogonalise(m[None])[0] for m in matrices]))


def test_the_rest_moves_as_torchs_adamw_moves_it():
    ours, theirs = (torch.nn.Parameter(torch.linspace(-1, 1, 12)) for _ in range(2))
    mine = Muon([], [ours], lr=1e-2)
    adam = torch.optim.AdamW([theirs], lr=1e-2, betas=(0.9, 0.95), weight_decay=0.0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        ours.grad = torch.randn(12, generator=generator)
        theirs.grad = ours.grad.clone()
        mine.step()
        adam.step()
    torch.testing.assert_close(ours, theirs)


def test_a_matrix_shrinks_by_its_weight_decay_alone_when_nothing_pulls():
    weight = torch.nn.Parameter(torch.ones(4, 4))
    muon = Muon([weight], [], lr=0.1, weight_decay=0.5)
    weight.grad = torch.zeros(4, 4)
    muon.step()
    torch.testing.assert_close(weight.detach(), torch.full((4, 4), 0.95))


def test_its_state_is_plain_and_goes_on_exactly():
    def trained(steps: int, state: dict | None = None, weights: torch.Tensor | None = None):
        generator = torch.Generator().manual_seed(1)
        gradients = [torch.randn(6, 6, generator=generator) for _ in range(8)]
        weight = torch.nn.Parameter(torch.eye(6) if weights is None else weights)
        muon = Muon([weight], [], lr=0.05)
        if state:
            muon.load_state_dict(state)
        for gradient in gradients[4 if state else 0:steps]:
            weight.grad = gradient
            muon.step()
        return weight.detach().clone(), muon.state_dict()

    half, state = trained(4)
    assert torch.equal(trained(8, state, half)[0], trained(8)[0])
