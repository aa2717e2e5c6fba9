"""Shares are exact and evenly spread; the least busy replica is next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workbench.serve.balance import Turns, least_busy


@given(st.dictionaries(st.sampled_from("abcde"), st.integers(0, 9), min_size=1).filter(lambda w: sum(w.values())))
def test_each_key_gets_exactly_its_share(weights):
    turns, total = Turns(weights), sum(weights.values())
    got = [turns.next() for _ in range(3 * total)]
    assert {k: got.count(k) for k in weights} == {k: 3 * w for k, w in weights.items()}


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 9), min_size=2), st.integers(1, 100))
def test_at_no_time_is_a_share_off_by_a_whole_turn_too_many(weights, times):
    turns, total = Turns(weights), sum(weights.values())
    got = [turns.next() for _ in range(times)]
    assert all(abs(got.count(k) - times * w / total) <= len(weights) - 1 for k, w in weights.items())


def test_one_that_can_not_answer_is_passed_over_and_none_without_weight_is_chosen():
    turns = Turns({"a": 1, "b": 1, "c": 0})
    assert {turns.next({"b", "c"}) for _ in range(4)} == {"b"}
    assert {turns.next(set()) for _ in range(4)} == {"a", "b"}  # nobody answers: wait for whose turn it is
    assert Turns({"a": 0}).next() is None


@given(st.lists(st.integers(0, 5), max_size=6), st.integers(1, 5))
def test_the_least_busy_below_the_most(loads, most):
    got = least_busy([(str(n), load) for n, load in enumerate(loads)], most)
    able = [load for load in loads if load < most]
    assert got is None if not able else loads[int(got)] == min(able)
