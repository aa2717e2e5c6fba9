"""The trial is of the step that is trained, and memory that will not do is said before it is missed."""

from __future__ import annotations

import cut_ranks
import pytest
import torch

from workbench.errors import ClusterError
from workbench.train import devices, estimate, fit
from workbench.train.parallel import blocks


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A stream of words to learn from."""
    return cut_ranks.texts(tmp_path_factory.mktemp("words"))


@pytest.fixture
def module(words, tmp_path):
    """Makes the module of a plan for the hardware that is asked for."""
    return lambda **hardware: fit.objective(devices.carry(cut_ranks.plan("way", {"ranks": 1, **hardware}, words, tmp_path)))


@pytest.mark.parametrize(("hardware", "computed", "kept", "passes"), [
    ({}, torch.float32, torch.float32, 2), ({"precision": "bf16-mixed"}, torch.bfloat16, torch.float32, 2),
    ({"precision": "bf16-true"}, torch.bfloat16, torch.bfloat16, 2), ({"recompute": True}, torch.float32, torch.float32, 4)])
def test_the_trial_computes_as_the_steps_do(module, hardware, computed, kept, passes):
    made, seen = module(**hardware), []
    weights = {k: v.to(kept) for k, v in made.state_dict().items()}
    made.model.model.layers[0].self_attn.q_proj.register_forward_hook(lambda _module, _given, out: seen.append(out.dtype))
    found = estimate.trial(made)
    assert seen == [computed] * passes  # forward, twice; where it is computed once more in the backward pass, twice that
    assert all(torch.equal(v, weights[k]) for k, v in made.state_dict().items()) and next(made.parameters()).grad is None
    assert found["step_seconds"] > 0 and found["fixed"] > 0 and 0 < found["memory"] < found["limit"]


def test_a_trial_leaves_a_model_to_be_cut_whole(module):
    made = module(ranks=2, strategy="fsdp", recompute=True)
    estimate.trial(made)
    assert not made.is_prepared and not made.is_configured and blocks(made.model)


def test_what_can_not_fit_whatever_the_batch_is_refused(module):
    made = module()
    weights = 4 * sum(p.numel() for p in made.parameters())
    assert estimate.state(made) == 3 * weights  # with gradients and Muon's momentum
    estimate.refuse(3 * weights, 3 * weights, "rank 0, cpu")
    with pytest.raises(ClusterError) as caught:
        estimate.refuse(13 * 10**9, 8 * 10**9, "rank 0, gpu")
    assert str(caught.value) == (
        "rank 0, gpu: weights, gradients and the optimizer's state do not fit, whatever the batch; received '13.0 GB'; expected 8.0 GB or "
        "less. Set hardware.strategy=fsdp over more ranks, hardware.precision=bf16-true or a smaller model")


def test_memory_that_will_not_do_is_said_with_the_batch_that_would_fit():
    ranks = [{"step_seconds": 1.0, "memory": m * 10**9, "fixed": 2 * 10**9, "limit": 8 * 10**9, "threads": 1, "gpu": 0} for m in (7, 10)]
    plan = {"steps": 3, "trained": 9, "sequences": 16}
    assert estimate.whole(ranks, plan)["short"] == (
        "a rank takes about 10.0 GB, and there are 8.0 GB for it: batch.sequences=12 would fit in place of 16")
    assert "short" not in estimate.whole(ranks[:1], plan)
    assert "not even batch.sequences=1 would fit; hardware.recompute=true" in estimate.whole(ranks, plan | {"sequences": 1})["short"]
    assert "smaller batches take less" in estimate.whole([{k: v for k, v in r.items() if k != "fixed"} for r in ranks], plan)["short"]
