"""Intervals cover what they promise to cover."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from workbench.assess.intervals import ratio_interval, share_interval


@pytest.mark.parametrize("tries", [10, 50, 200])
def test_a_share_s_interval_covers_every_true_share(tries):
    ends = np.array([share_interval(hits, tries) for hits in range(tries + 1)])
    for truth in np.linspace(0.001, 0.999, 97):
        covered = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
        assert binom.pmf(np.arange(tries + 1), tries, truth)[covered].sum() >= 0.95


@given(tries=st.integers(1, 400), data=st.data())
def test_a_share_lies_in_its_interval_and_more_hits_move_it_up(tries, data):
    hits = data.draw(st.integers(0, tries))
    low, high = share_interval(hits, tries)
    assert 0 <= low <= hits / tries <= high <= 1 and low < high
    assert (low == 0) == (hits == 0) and (high == 1) == (hits == tries)
    assert share_interval(tries - hits, tries) == pytest.approx((1 - high, 1 - low), abs=1e-9)
    if hits:
        assert share_interval(hits - 1, tries)[1] < high


def test_a_ratio_s_interval_covers_the_truth_about_as_often_as_it_says():
    random, covered = np.random.default_rng(5), 0
    for n in range(60):
        sizes = random.lognormal(5, 1, 80)
        low, high = ratio_interval(sizes * random.normal(2.0, 0.5, 80), sizes, seed=n)
        covered += low <= 2.0 <= high
    assert covered >= 48  # once in 10,000 seeds fewer, were it 92 %: so few and uneven units allow no more


def test_it_is_the_same_for_the_same_seed_and_as_wide_as_theory_for_a_mean():
    values = np.random.default_rng(0).normal(0, 1, 400)
    low, high = ratio_interval(values, np.ones(400), seed=1)
    assert (low, high) == ratio_interval(values, np.ones(400), seed=1) != ratio_interval(values, np.ones(400), seed=2)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert ratio_interval(np.full(9, 3.0), np.full(9, 2.0), seed=0) == (1.5, 1.5)
