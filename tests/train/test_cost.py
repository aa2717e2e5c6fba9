"""What a training costs: told before, counted while it runs, and a budget that ends it where it can go on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import runs
from workbench.errors import SpecError
from workbench.settings import Settings
from workbench.train.cost import Meter, Rates
from workbench.train.spec import Budget, TrainSpec


@given(st.floats(0, 1e6), st.floats(0, 64), st.integers(0, 8), st.floats(0, 2), st.floats(0, 5))
def test_cost_adds_up_over_time_and_devices(seconds, cores, gpus, kwh, hour):
    rates = Rates.of(Settings(prices={"kwh": kwh, "core": hour}, watts={"core": 12}))
    whole = rates.of_time(seconds, cores, gpus)
    parts = [rates.of_time(seconds / 2, cores, gpus), rates.of_time(seconds / 2, cores, 0), rates.of_time(seconds / 2, 0, gpus)]
    for name in ("kwh", "money"):
        assert whole[name] == pytest.approx(sum(p[name] for p in parts))
    assert whole["kwh"] == pytest.approx(seconds / 3600 * (cores * 12 + gpus * 300) / 1000)


def test_nothing_has_a_price_until_the_settings_say_one(live, small):
    assert Rates.of(Settings()).of_time(3600, 2)["money"] is None
    with pytest.raises(SpecError, match=r"budget.money: received 2, and nothing has a price; expected prices in workbench.toml"):
        runs.submit(small(budget={"money": 2}), live)


def test_a_meter_goes_on_counting_where_a_killed_driver_stopped_and_a_budget_counts_from_its_last_grant(tmp_path):
    rates = Rates.of(Settings(prices={"core": 3600}))
    meter = Meter(tmp_path, rates, Budget(money=5))
    meter.spent["money"] = 5.5
    assert meter.over() == "the budget of 5 EUR is spent"
    meter.keep()
    again = Meter(tmp_path, rates, Budget(money=5))
    assert again.over() and again.spent == meter.spent
    again.keep(ended=True)
    granted = Meter(tmp_path, rates, Budget(money=5))
    assert granted.over() is None and granted.spent["money"] == 5.5
    granted.spent["money"] = 10.4
    assert granted.over() is None
    granted.spent["money"] = 10.5
    assert granted.over()


def test_a_spent_budget_ends_a_run_at_a_checkpoint_and_resuming_grants_it_again(live, small):
    run = runs.submit(small(name="thrifty", tokens=160 * 512, budget={"kwh": 1e-9}), live)
    ends = []
    while run.wait(120, check=False).state == "stopped":
        marks = {e.name: e for e in run.events(kinds=("mark",))}
        assert marks["budget"].data["why"] == "the budget of 1e-09 kWh is spent"
        ends.append(marks["budget"].step)
        assert run.rest["step"] == ends[-1] and len(ends) < 40
        run.resume()
    assert run.state == "done", run.failure
    assert ends and ends == sorted(ends) and ends[-1] < 160
    assert [step for step, _ in run.curve("loss")] == list(range(1, 161))
    assert run.result["metrics"]["kwh"] > len(ends) * 1e-9
    estimate = next(e for e in run.events(kinds=("mark",)) if e.name == "estimate").data
    cores = 2 * max(1, estimate["cores"] // 2)
    assert estimate["kwh"] == pytest.approx(estimate["seconds"] * cores * 10 / 3.6e6) and estimate["money"] is None


def test_a_budget_that_says_nothing_is_no_budget():
    spec = TrainSpec(data="notes", budget={})
    assert spec.budget == Budget() and spec.budget.hours is None
