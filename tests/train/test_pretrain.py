"""Step-indexed data, the schedule, the model's loss: properties that exact resuming stands on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.train.objectives.pretrain import Windows, schedule

shapes = st.tuples(st.integers(1, 40), st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**31))


def windows(tokens: int, context: int, sequences: int, world: int, seed: int) -> list[Windows]:
    stream = np.arange(tokens, dtype=np.uint32)
    return [Windows(stream, context=context, sequences=sequences, seed=seed, rank=r, world=world) for r in range(world)]


@settings(max_examples=60, deadline=None)
@given(shapes, st.integers(0, 500))
def test_in_an_epoch_each_window_is_read_once_by_one_rank(shape, more):
    context, sequences, world, seed = shape
    ranks = windows(2 * context + 1 + more, context, sequences, world, seed)
    per_epoch = ranks[0].windows
    batches = -(-2 * per_epoch // (sequences * world))
    starts = [s for n in range(batches) for rank in ranks for s in rank.starts(n)]
    for epoch in range(2):
        seen = starts[epoch * per_epoch:(epoch + 1) * per_epoch]
        assert len(set(seen)) == per_epoch and len({s % context for s in seen}) == 1
        assert max(seen) + context + 1 <= 2 * context + 1 + more


@settings(max_examples=30, deadline=None)
@given(shapes, st.integers(0, 200))
def test_a_batch_depends_on_its_number_alone(shape, number):
    context, sequences, world, seed = shape
    used, fresh = (windows(5 * context + 7, context, sequences, world, seed)[-1] for _ in range(2))
    for earlier in (3, 50, 1):
        used.batch(earlier)
    batch = fresh.batch(number)
    assert batch.shape == (sequences, context + 1) and batch.dtype == torch.int64
    assert torch.equal(used.batch(number), batch)
    assert (batch[:, 1:] - batch[:, :-1] == 1).all()  # consecutive tokens of the stream


def test_another_seed_reads_in_another_order():
    first, second = (windows(5000, 16, 4, 1, seed)[0].starts(0) for seed in (0, 1))
    assert first != second


@pytest.mark.parametrize(("steps", "warmup"), [(1, 20), (10, 20), (300, 20), (300, 0)])
def test_the_schedule_rises_then_falls_and_never_leaves_its_bounds(steps, warmup):
    rates = [schedule(s, steps, warmup) for s in range(steps)]
    top = rates.index(max(rates))
    assert all(0 < r <= 1 for r in rates)
    assert rates[:top + 1] == sorted(rates[:top + 1]) and rates[top:] == sorted(rates[top:], reverse=True)
    assert max(rates) == pytest.approx(1) and schedule(steps, steps, warmup) == pytest.approx(0, abs=1e-9)
