"""How a spec meets its data: whole steps, few epochs, a clear refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import SourceError
from workbench.train.plan import MOST_EPOCHS, planned
from workbench.train.spec import TrainSpec


@given(st.integers(513, 3_000_000), st.integers(1, 3_000_000))
def test_tokens_are_rounded_up_to_whole_steps_and_epochs_are_few(available, wanted):
    spec = TrainSpec(data="x", tokens=wanted, model={"context": 256})
    plan = planned(spec, available)
    a_step = 2 * 256 * plan.sequences
    assert plan.trained == plan.steps * a_step and plan.steps >= 1
    goal = min(wanted, MOST_EPOCHS * available)
    assert goal <= plan.trained < goal + a_step
    assert (plan.said == ()) == (goal == wanted)


def test_too_little_text_for_a_batch_says_how_much_there_is_and_what_would_do():
    with pytest.raises(SourceError, match=r"notes: is too little text to train on; received '400 tokens'; expected 513 or more for a "
                                          r"context of 256. Add text, or set model.context=99"):
        planned(TrainSpec(data="notes", model={"context": 256}), 400)
    assert planned(TrainSpec(data="notes", model={"context": 99}), 400).steps > 0
