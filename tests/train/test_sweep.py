"""Sweeps: trials are runs of their own, side by side; a sweep that was stopped goes on, one that is done is not made again."""

from __future__ import annotations

import os
import signal
from operator import itemgetter

import pytest

from workbench import cluster, runs
from workbench.errors import SpecError
from workbench.model import Model
from workbench.tracking import EXPERIMENT, connect
from workbench.train.cost import spent
from workbench.train.spec import Sweep, TrainSpec
from workbench.train.trials import Study, size

RATES = [3e-4, 1e-2]


def swept(small, **sweep) -> dict:
    return small(name="swept", tokens=40 * 256, hardware={"ranks": 1}, every={"checkpoint": 20, "evaluate": 10, "sample": 40},
                 sweep={"how": "grid", "prune": False, **sweep})


def test_a_grid_tries_every_combination_side_by_side_and_registers_the_best(live, small):
    spec = swept(small, over={"learning_rate": RATES, "seed": [0, 1]})
    _, _, foreseen = runs.foresee(spec, live)
    assert foreseen["trials"] == 4 and foreseen["together"] == 2 and foreseen["tokens"] == 4 * 40 * 256
    assert foreseen["seconds"] == pytest.approx(2 * 40 * foreseen["step_seconds"]) and "4 trials, 2 side by side" in foreseen["notes"][-1]
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
    client = connect(live)
    records = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id], f"tags.`workbench.sweep` = '{run.id}'")
    assert {r.data.tags["workbench.run"] for r in records} == {run.id, *(r["run"] for r in rows)}
    whole = next(r for r in records if r.data.tags["workbench.run"] == run.id)
    assert whole.data.tags["model"] == model.reference and [f.path for f in client.list_artifacts(whole.info.run_id)] == ["trials.json"]
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
        runs.submit(swept(small, over={"learning_rate": [0.01, 3], "model.size": ["11M"], "modle.size": ["1M"], "budget.kwh": [1]}), live)
    words = str(refused.value)
    assert "sweep.over.budget.kwh: is the whole sweep's" in words
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

    (tmp_path / "undisturbed").mkdir()
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
    undisturbed = Study(sweep, tmp_path / "undisturbed", seed=1)
    for values in seen:  # the same ones, and so none twice
        trial, same = undisturbed.next()
        assert same == values
        undisturbed.tell(trial, badness(values), "complete")
    assert len({v["learning_rate"] for v in seen}) == 24


def test_a_trial_that_falls_behind_is_ended_early(live, small):
    spec = swept(small, over={"learning_rate": [1e-2, 1e-2, 1.01e-2, 1e-6]}, prune=True, together=1)
    run = runs.submit(spec | {"name": "raced", "tokens": 400 * 256, "budget": {"kwh": 1e-9}}, live)
    ends = []
    while run.wait(290, check=False).state == "stopped":  # the budget is the sweep's: a trial's end spends it, and nothing fails by it
        ends = [e.data for e in run.events(kinds=("mark",)) if e.name == "budget"]
        trials = [runs.attach(r, live) for r in {e.data["run"] for e in run.events(kinds=("mark",)) if e.name == "trial"}]
        assert ends[-1]["why"] == "the budget of 1e-09 kWh is spent" and len(ends) < 10
        assert ends[-1]["spent"]["kwh"] == pytest.approx(sum(spent(t.directory)["kwh"] for t in trials))
        assert all(t.state in ("stopped", "done") and t.spec.budget is None for t in trials)
        run.resume()
    assert ends and run.result["spent"]["kwh"] >= round(ends[-1]["spent"]["kwh"], 6)
    rows = run.result["trials"]
    assert rows[-1]["state"] == "pruned" and rows[0]["state"] == "complete"
    ended = runs.attach(rows[-1]["run"], live)
    assert ended.state == "stopped" and len(ended.curve("loss")) < 400


def test_a_sweep_whose_drivers_worker_is_killed_tries_what_it_would_have_tried(live, small, tmp_path):
    over = {"learning_rate": {"low": 1e-3, "high": 2e-2, "log": True}, "clip": [0.5, 1.0]}
    run = runs.submit(swept(small, over=over, how="tpe", trials=4, together=1) | {"name": "shot", "tokens": 20 * 256}, live)
    next(e for e in run.follow() if e.kind == "mark" and e.name == "trial" and e.data["trial"] == 1)  # it is at work, or just done
    client = cluster.connect(live)
    address = next(w for w, keys in client.processing().items() if any(str(k).startswith(f"drive-{run.id}-") for k in keys))
    os.kill(client.run(os.getpid, workers=[address])[address], signal.SIGKILL)
    run.wait(290)
    rows = run.result["trials"]
    assert run.entry.attempt > 1 and [r["state"] for r in rows] == ["complete"] * 4
    assert run.result["best"] == min(rows, key=itemgetter("value"))
    assert len({r["run"] for r in rows}) == 4
    undisturbed = Study(run.spec.sweep, tmp_path, run.spec.seed)
    for row in rows:
        trial, values = undisturbed.next()
        assert values == row["values"]
        undisturbed.tell(trial, row["value"], "complete")
