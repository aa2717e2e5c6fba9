"""A run goes on with the workers that are left and takes up those that come; a step takes the same samples all along."""

from __future__ import annotations

import os
import signal

import pytest

from workbench import cluster, runs
from workbench.errors import SpecError
from workbench.train.gang import Gang
from workbench.train.spec import TrainSpec


def test_a_run_shrinks_with_its_workers_and_grows_again(live, small):
    steps = 600
    spec = small(name="elastic", tokens=steps * 512, hardware={"ranks": 2, "min_ranks": 1, "threads": 1}, seed=11,
                 every={"checkpoint": 100, "evaluate": 300, "sample": 600})
    run = runs.submit(spec, live)
    assert any(e.kind == "point" and e.step is not None and e.step >= 60 for e in run.follow()), run.failure
    worker = next(e for e in run.events(kinds=("mark",)) if e.name == "ranks").data["ranks"][1]["worker"]
    pid = cluster.connect(live).run(os.getpid, workers=[worker])[worker]
    os.kill(pid, signal.SIGKILL)  # its nanny brings it back a little later
    run.wait(280)
    sizes = [len(e.data["ranks"]) for e in run.events(kinds=("mark",)) if e.name == "ranks"]
    assert sizes[0] == 2 and 1 in sizes and sizes[-1] == 2, sizes
    assert any(e.name == "growth" for e in run.events(kinds=("mark",)))
    assert [s for s, _ in run.curve("loss")] == list(range(1, steps + 1))


def test_with_one_rank_a_step_takes_the_samples_of_two(live, small, undisturbed, tmp_path):
    with Gang(cluster.connect(live), 1, run="another", attempt=1, logs=tmp_path) as another:
        another.claim()
        run = runs.run(small(name="alone", hardware={"ranks": 2, "min_ranks": 1, "threads": 1}), live)
    assert [len(e.data["ranks"]) for e in run.events(kinds=("mark",)) if e.name == "ranks"] == [1]
    assert [s for s, _ in run.curve("loss")] == [s for s, _ in undisturbed.curve("loss")]
    for (_, one), (_, two) in zip(run.curve("loss")[:50], undisturbed.curve("loss")[:50], strict=True):
        assert one == pytest.approx(two, abs=1e-3)  # summed in another order
    assert run.result["metrics"]["bits_per_byte"] == pytest.approx(undisturbed.result["metrics"]["bits_per_byte"], rel=0.01)


def test_fewest_ranks_and_most_are_in_order():
    with pytest.raises(SpecError, match="received min_ranks 3, ranks 2, max_ranks 2; expected min_ranks ≤ ranks ≤ max_ranks"):
        TrainSpec.check({"data": "docs", "hardware": {"ranks": 2, "min_ranks": 3}})
