"""How a spec meets its data: whole steps, few epochs, a clear refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import SourceError, SpecError
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


def test_a_module_that_brings_too_little_is_named_by_where_its_data_are_from():
    own = {"kind": "module", "module": "nets:Net"}
    for objective, data, where in ((own, None, "nets:Net"), ({**own, "data_module": "nets:Data"}, None, "nets:Data"), (own, "x", "x")):
        with pytest.raises(SourceError, match=f"^{where}: holds less than a step takes; received '1 batches"):
            planned(TrainSpec(data=data, objective=objective), 1)


def test_a_faulty_objective_is_the_only_fault_that_is_told():
    for objective in ({"kind": "module", "module": "nets:Net", "options": 3}, {"kind": "module"}, {"kind": "sft", "base": 3}):
        with pytest.raises(SpecError) as caught:
            TrainSpec.load({"word": "train", "objective": objective})
        assert [p.path.partition(".")[0] for p in caught.value.problems] == ["objective"]
    with pytest.raises(SpecError, match="data: "):
        TrainSpec.load({"word": "train"})


def test_too_little_text_for_a_batch_says_how_much_there_is_and_what_would_do():
    with pytest.raises(SourceError, match=r"notes: is too little text to train on; received '400 tokens'; expected 513 or more for a "
                                          r"context of 256. Add text, or set model.context=99"):
        planned(TrainSpec(data="notes", model={"context": 256}), 400)
    assert planned(TrainSpec(data="notes", model={"context": 99}), 400).steps > 0
