"""MLflow's record, offline on SQLite: complete, in batches, never in the way of the work."""

from __future__ import annotations

import math
import time

import pytest

from workbench.tracking import EXPERIMENT, Tracker, connect
from workbench.workspace import Workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("record")).open()


def recorded(workspace: Workspace, run_id: str):
    client = connect(workspace)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    found = client.search_runs([experiment.experiment_id], f"tags.`workbench.run` = '{run_id}'")
    return client, found


def history(client, run, name: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]


def test_points_texts_parameters_and_tags_are_there_when_it_is_closed(workspace):
    points = [(name, step, step / 3, 1e9 + step) for step in range(1, 1201) for name in ("loss", "learning_rate")]
    with Tracker(workspace, "train-1", "docs-lm", params={"model.size": "1M", "seed": 0}, tags={"dataset": "docs@abc"}) as tracker:
        begin = time.process_time()
        tracker.log(points)
        tracker.text("samples/000100.txt", "Return the|list")
        tracker.end({"model": "docs-lm@123"})
        assert time.process_time() - begin < 1  # queued: neither the import nor the database is waited for
    client, (run,) = recorded(workspace, "train-1")
    assert history(client, run, "loss") == [(s, s / 3) for s in range(1, 1201)]
    assert run.data.params == {"model.size": "1M", "seed": "0"} and run.info.status == "FINISHED"
    assert (run.info.run_name, run.data.tags["dataset"], run.data.tags["model"]) == ("docs-lm", "docs@abc", "docs-lm@123")
    assert [f.path for f in client.list_artifacts(run.info.run_id, "samples")] == ["samples/000100.txt"]
    assert list(workspace.path("artifacts").rglob("000100.txt")) and not (workspace.root / "mlruns").exists()


def test_opened_again_it_goes_on_and_records_no_point_twice(workspace):
    with Tracker(workspace, "train-2", "docs-lm") as tracker:
        tracker.log([("loss", s, float(s), 1e9) for s in range(1, 6)])
    with Tracker(workspace, "train-2", "docs-lm") as tracker:
        tracker.log([("loss", s, float(s), 2e9) for s in range(4, 9)])
        tracker.log([("bits_per_byte", 8, 2.5, 2e9)])
    client, (run,) = recorded(workspace, "train-2")
    assert history(client, run, "loss") == [(s, float(s)) for s in range(1, 9)] and history(client, run, "bits_per_byte") == [(8, 2.5)]


def test_a_failure_says_so_and_nan_is_kept(workspace):
    with pytest.raises(ValueError, match="broken"), Tracker(workspace, "train-3", "docs-lm") as tracker:
        tracker.log([("loss", 1, math.nan, 1e9)])
        raise ValueError("broken")
    client, (run,) = recorded(workspace, "train-3")
    assert run.info.status == "FAILED" and math.isnan(history(client, run, "loss")[0][1])


def test_a_record_that_can_not_be_written_never_ends_the_work(tmp_path, capsys):
    (tmp_path / "workbench.toml").write_text('tracking_uri = "nosuch://record"\n')
    with Tracker(Workspace(tmp_path).open(), "train-4", "docs-lm") as tracker:
        tracker.log([("loss", 1, 1.0, 1e9)])
    assert "not recorded in MLflow" in capsys.readouterr().err
