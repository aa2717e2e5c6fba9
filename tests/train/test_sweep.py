"""Sweeps: trials are runs of their own, side by side; a sweep that was stopped goes on, one that is done is not made again."""

from __future__ import annotations

import pytest

from workbench import runs
from workbench.errors import SpecError
from workbench.model import Model
from workbench.train.spec import Sweep, TrainSpec
from workbench.train.trials import Study, size

RATES = [3e-4, 1e-2]


def swept(small, **sweep) -> dict:
    return small(name="swept", tokens=40 * 256, hardware={"ranks": 1}, every={"checkpoint": 20, "evaluate": 10, "sample": 40},
                 sweep={"how": "grid", "prune": False, **sweep})


def test_a_grid_tries_every_combination_side_by_side_and_registers_the_best(live, small):
    spec = swept(small, over={"learning_rate": RATES, "seed": [0, 1]})
    run = runs.submit(spec, live)
    run.wait(280)
    rows = run.result["trials"]
    assert sorted((r["values"]["learning_rate"], r["values"]["seed"]) for r in rows) == [(a, b) for a in RATES for b in (0, 1)]
    assert {r["state"] for r in rows} == {"complete"} and run.result["best"] == min(rows, key=lambda r: r["value"])
    entries = [runs.attach(r["run"], live).entry for r in rows]
    assert any(a.started < b.ended and b.started < a.ended for a in entries for b in entries if a.id != b.id)  # side by side
    model, best = Model.open("swept", live), run.result["best"]
    assert model.manifest["sweep"]["best"] == best and model.manifest["metrics"]["bits_per_byte"] == best["value"]
    assert model.digest == runs.attach(best["run"], live).result["digest"]
    again = runs.submit(spec | {"name": "swept", "clip": 1.0}, live)
    assert again.id == run.id  # the same sweep is done


def test_a_sweep_that_is_stopped_stops_its_trials_and_goes_on_with_them(live, small):
    spec = swept(small, over={"seed": [5, 6, 7]}) | {"name": "paused", "tokens": 120 * 256}
    run = runs.submit(spec, live)
    for event in run.follow():
        if event.kind == "mark" and event.name == "trial" and event.data["run"]:
            child = runs.attach(event.data["run"], live)
            if any(e.kind == "point" and (e.step or 0) >= 20 for e in child.follow()):
                break
    run.stop()
    assert run.wait(90, check=False).state == "stopped"
    begun = {e.data["run"] for e in run.events(kinds=("mark",)) if e.name == "trial"}
    assert all(runs.attach(r, live).state in ("stopped", "done") for r in begun)
    run.resume()
    run.wait(280)
    rows = run.result["trials"]
    assert [r["values"]["seed"] for r in rows] == [5, 6, 7] and begun <= {r["run"] for r in rows}
    assert runs.attach(child.id, live).entry.attempt == 2  # the same run, not another one


def test_values_that_no_spec_takes_are_refused_before_anything_starts(live, small):
    with pytest.raises(SpecError) as refused:
        runs.submit(swept(small, over={"learning_rate": [0.01, 3], "model.size": ["11M"], "modle.size": ["1M"]}), live)
    words = str(refused.value)
    assert "sweep.over.learning_rate: received 3" in words and "sweep.over.model.size: received '11M'" in words and "modle" in words
    for over, why in (({"learning_rate": {"low": 1, "high": 1}}, "expected low < high"), ({"seed": []}, "no values to try")):
        with pytest.raises(SpecError, match=why):
            TrainSpec.check({"data": "docs", "sweep": {"over": over}})
    with pytest.raises(SpecError, match="a grid needs values"):
        TrainSpec.check({"data": "docs", "sweep": {"over": {"clip": {"low": 0.1, "high": 1}}, "how": "grid"}})


@pytest.mark.parametrize("how", ["random", "tpe"])
def test_a_study_goes_on_where_it_was_left_and_finds_what_is_good(tmp_path, how):
    sweep = Sweep(over={"learning_rate": {"low": 1e-4, "high": 0.1, "log": True}, "model.size": ["100K", "1M"]}, how=how, trials=24)

    def badness(values: dict) -> float:
        import math

        return abs(math.log10(values["learning_rate"]) + 2) + (values["model.size"] == "100K")

    seen = []
    for _ in range(3):  # left and taken up again after eight trials each
        study = Study(sweep, tmp_path, seed=1)
        for _ in range(8):
            trial, values = study.next()
            seen.append(values)
            study.tell(trial, badness(values), "complete")
    assert Study(sweep, tmp_path, seed=1).next() is None and len(seen) == size(sweep) == 24
    assert all(1e-4 <= v["learning_rate"] <= 0.1 for v in seen) and {v["model.size"] for v in seen} == {"100K", "1M"}
    assert min(map(badness, seen)) < 0.3


def test_a_trial_that_falls_behind_is_ended_early(live, small):
    spec = swept(small, over={"learning_rate": [1e-2, 1e-2, 1.01e-2, 1e-6]}, prune=True, together=1)
    run = runs.submit(spec | {"name": "raced", "tokens": 400 * 256}, live)
    run.wait(290)
    rows = run.result["trials"]
    assert rows[-1]["state"] == "pruned" and rows[0]["state"] == "complete"
    ended = runs.attach(rows[-1]["run"], live)
    assert ended.state == "stopped" and len(ended.curve("loss")) < 400
