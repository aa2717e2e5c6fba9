"""Drawing a token: greedy, the nucleus, exact shares, and the same number for the same seed and place."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.serve.sampling import Sampling, draw, uniform

LOGITS = torch.log(torch.tensor([[0.1, 0.5, 0.15, 0.25]]))


def shares(how, times=4000):
    tokens = draw(LOGITS.expand(times, -1), [Sampling(s, **how) for s in range(times)], [3] * times)
    return [tokens.count(t) / times for t in range(4)]


def test_temperature_zero_is_the_most_likely():
    assert shares({"temperature": 0.0}, 50) == [0, 1, 0, 0]


def test_a_temperature_near_zero_is_too_and_does_not_overflow():
    assert shares({"temperature": 1e-6}, 50) == [0, 1, 0, 0]


@pytest.mark.parametrize(("how", "want"), [
    ({}, [0.1, 0.5, 0.15, 0.25]),
    ({"top_p": 0.5}, [0, 1, 0, 0]),
    ({"top_p": 0.6}, [0, 2 / 3, 0, 1 / 3]),
    ({"top_p": 0.8}, [0, 5 / 9, 1.5 / 9, 2.5 / 9]),
    ({"temperature": 0.5}, [x * x / 0.345 for x in (0.1, 0.5, 0.15, 0.25)]),
])
def test_shares_are_those_of_the_nucleus(how, want):
    # 4,000 draws: five standard deviations of a share are at most 0.04.
    assert shares(how) == pytest.approx(want, abs=0.04)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**63 - 1), st.sampled_from([0.0, 0.3, 1.0, 2.0]), st.sampled_from([0.1, 0.9, 1.0]),
                          st.integers(0, 500)), min_size=1, max_size=6), st.integers(0, 1000))
def test_a_row_is_drawn_alike_alone_and_among_others(rows, seed):
    logits = torch.randn(len(rows), 50, generator=torch.Generator().manual_seed(seed))
    how = [Sampling(s, t, p) for s, t, p, _ in rows]
    places = [r[3] for r in rows]
    together = draw(logits, how, places)
    assert together == [draw(logits[n:n + 1], [how[n]], [places[n]])[0] for n in range(len(rows))]


def test_numbers_are_uniform_and_differ_by_seed_and_place():
    numbers = [uniform(s, p) for s in range(100) for p in range(100)]
    assert len(set(numbers)) == 10_000 and all(0 <= n < 1 for n in numbers)
    assert sum(numbers) / 10_000 == pytest.approx(0.5, abs=0.015)
