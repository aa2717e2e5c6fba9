"""Step-indexed data, the schedule, the model's loss: properties that exact resuming stands on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.train.objective import schedule
from workbench.train.reading.order import Share
from workbench.train.reading.windows import Windows

shapes = st.tuples(st.integers(1, 40), st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**31))


def windows(tokens: int, context: int, seed: int) -> Windows:
    return Windows(np.arange(tokens, dtype=np.uint32), context=context, seed=seed)


@settings(max_examples=60, deadline=None)
@given(shapes, st.integers(0, 500))
def test_in_an_epoch_each_window_is_read_once_by_one_rank(shape, more):
    context, sequences, world, seed = shape
    read = windows(2 * context + 1 + more, context, seed)
    steps = -(-2 * read.count // (sequences * world))
    starts = [s for step in range(steps) for rank in range(world)
              for s in read.named(Share(sequences, world, rank, world).batch(step)[1])]
    for epoch in range(2):
        seen = starts[epoch * read.count:(epoch + 1) * read.count]
        assert len(set(seen)) == read.count and len({s % context for s in seen}) == 1
        assert max(seen) + context + 1 <= 2 * context + 1 + more


@settings(max_examples=30, deadline=None)
@given(shapes, st.integers(0, 200))
def test_a_batch_depends_on_its_positions_alone(shape, number):
    context, sequences, world, seed = shape
    used, fresh = (windows(5 * context + 7, context, seed) for _ in range(2))
    share = Share(sequences, world, world - 1, world)
    for earlier in (3, 50, 1):
        used.batch(share.batch(earlier)[1])
    batch = fresh.batch(share.batch(number)[1])
    assert batch.shape == (sequences, context + 1) and batch.dtype == torch.int64
    assert torch.equal(used.batch(share.batch(number)[1]), batch)
    assert (batch[:, 1:] - batch[:, :-1] == 1).all()  # consecutive tokens of the stream


def test_another_seed_reads_in_another_order():
    first, second = (windows(5000, 16, seed).named(range(4)) for seed in (0, 1))
    assert first != second


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 6), st.integers(1, 8), st.integers(1, 9), st.integers(1, 6), st.integers(0, 20))
def test_any_number_of_ranks_takes_the_same_samples_in_a_step_and_means_the_same(sequences, chunks, world, split, step):
    split = min(split, sequences)
    shares = [Share(sequences, chunks, rank, world, split) for rank in range(world)]
    assert len({s.accumulate for s in shares}) == 1
    batches = [s.batch(n) for s in shares for n in range(step * s.accumulate, (step + 1) * s.accumulate)]
    assert {b[0] for b in batches} == {step}
    assert sorted(p for _, positions, weight in batches if weight for p in positions) == list(shares[0].whole(step))
    # As Lightning and DDP take the mean over batches and ranks, each sample counts one part of the step's samples.
    mean = {p: weight / len(positions) / len(batches) for _, positions, weight in batches if weight for p in positions}
    assert all(abs(m - 1 / (sequences * chunks)) < 1e-12 for m in mean.values())


@pytest.mark.parametrize(("steps", "warmup"), [(1, 20), (10, 20), (300, 20), (300, 0)])
def test_the_schedule_rises_then_falls_and_never_leaves_its_bounds(steps, warmup):
    rates = [schedule(s, steps, warmup) for s in range(steps)]
    top = rates.index(max(rates))
    assert all(0 < r <= 1 for r in rates)
    assert rates[:top + 1] == sorted(rates[:top + 1]) and rates[top:] == sorted(rates[top:], reverse=True)
    assert max(rates) == pytest.approx(1) and schedule(steps, steps, warmup) == pytest.approx(0, abs=1e-9)
