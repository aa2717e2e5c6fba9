"""Training over two Dask workers: what it makes, that it equals torchrun's bit for bit, what it refuses."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM

from workbench import cluster, runs
from workbench.dataset import Dataset
from workbench.errors import NotFoundError, RunFailedError, SourceError, SpecError
from workbench.events import Event
from workbench.model import load_weights
from workbench.tracking import EXPERIMENT, connect
from workbench.train.plan import planned
from workbench.train.ranks.host import RankHost
from workbench.train.reading.tokens import cached
from workbench.train.spec import TrainSpec
from workbench.train.state import checkpoints, saving, shards


def marks(run: runs.Run, name: str) -> list[dict]:
    """Data of the marks of a name, in order."""
    return [e.data | ({"step": e.step} if e.step is not None else {}) for e in run.events(kinds=["mark"]) if e.name == name]


def until(run: runs.Run, condition: Callable[[Event], object]) -> None:
    """Wait for an event."""
    assert any(condition(e) for e in run.follow()), f"{run} ended without it: {run.failure}"


def test_it_ends_with_a_registered_version_that_transformers_reads(undisturbed, live):
    model = undisturbed.output
    assert model.name == "small" and undisturbed.result["digest"] == model.digest
    manifest = model.manifest
    assert manifest["run"] == undisturbed.id and manifest["dataset"]["digest"] == Dataset.open("docs", live).digest
    assert manifest["metrics"]["tokens"] == 150 * 512 and manifest["metrics"]["steps"] == 150
    loaded = AutoModelForCausalLM.from_pretrained(model.path)
    stored = sum(t.numel() for t in load_weights(model.path / "model.safetensors").values())
    assert loaded.num_parameters() == manifest["parameters"] == stored
    assert loaded.generation_config.eos_token_id == 0
    assert model.tokenizer().decode(model.tokenizer()("It's *text*, ünïcode too").input_ids) == "It's *text*, ünïcode too"
    assert "Not assessed yet" in model.card and undisturbed.id in model.card


def test_it_learns_and_says_so_while_it_runs(undisturbed):
    loss = dict(undisturbed.curve("loss"))
    assert sorted(loss) == list(range(1, 151)) and loss[150] < loss[1] - 1
    assert [s for s, _ in undisturbed.curve("bits_per_byte")] == [0, 60, 120, 150]
    for name in ("learning_rate", "gradient_norm", "tokens_per_second"):
        assert len(undisturbed.curve(name)) == 150
    assert [(e.step, e.data["prompt"]) for e in undisturbed.events(kinds=["sample"])] == [(0, "Return the"), (150, "Return the")]
    last = undisturbed.events(kinds=["progress"])[-1].data
    assert (last["done"], last["total"], last["unit"], last["label"]) == (150, 150, "steps", "training")
    said = marks(undisturbed, "estimate")[0]
    assert said["seconds"] > 0 and said["steps"] == 150
    assert 0.4 < said["memory"] / undisturbed.result["metrics"]["memory"] < 2.5 and "short" not in said
    took = statistics.median(512 / rate for _, rate in undisturbed.curve("tokens_per_second"))
    assert 0.2 < said["step_seconds"] / took < 5  # of the same step, whatever else the machine does
    first = next(e for e in undisturbed.events(kinds=["mark"]) if e.name == "first-step")
    assert next(e for e in undisturbed.events(kinds=["mark"]) if e.name == "estimate").seq < first.seq


def test_held_out_bits_are_those_of_the_registered_files(undisturbed, live):
    """Measured again from the files alone, by other code: the whole validation split in windows that overlap by one."""
    model, tokenizer = undisturbed.output.load(), undisturbed.output.tokenizer()
    texts = list(Dataset.open("docs", live).texts("validation"))
    ids = torch.tensor([0] + [i for t in texts for i in [*tokenizer(t).input_ids, 0]])
    nats = 0.0
    for start in range(0, len(ids) - 1, 64):
        window = ids[start:start + 65][None]
        with torch.no_grad():
            logp = model(window[:, :-1]).logits.double().log_softmax(-1)
        nats -= logp.gather(-1, window[:, 1:, None]).sum().item()
    bits = nats / torch.log(torch.tensor(2.0)).item() / sum(len(t.encode()) for t in texts)
    assert undisturbed.output.manifest["metrics"]["bits_per_byte"] == pytest.approx(bits, rel=1e-5)


def test_mlflow_holds_the_same_curves_and_the_samples(undisturbed, live):
    client = connect(live)
    (record,) = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id], f"tags.`workbench.run` = '{undisturbed.id}'")
    for name in ("loss", "bits_per_byte", "learning_rate"):
        assert [(m.step, m.value) for m in client.get_metric_history(record.info.run_id, name)] == undisturbed.curve(name)
    assert record.info.status == "FINISHED" and record.data.params["model.size"] == "100K"
    assert record.data.tags["model"] == undisturbed.output.reference
    assert [f.path for f in client.list_artifacts(record.info.run_id, "samples")] == ["samples/000000.txt", "samples/000150.txt"]
    for rank in (0, 1):  # as the last verdict told it
        figures = undisturbed.events(kinds=["mark"])
        figures = [e for e in figures if e.name == "verdict"][-1].data["ranks"][rank]
        for name in ("cpu", "memory", "step_seconds", "wait_seconds"):
            assert client.get_metric_history(record.info.run_id, f"rank_{rank}/{name}")[-1].value == pytest.approx(figures[name])
    assert [f.path for f in client.list_artifacts(record.info.run_id, "logs")] == ["logs/rank-0.log", "logs/rank-1.log"]
    assert float(record.data.tags["estimate.seconds"]) == pytest.approx(marks(undisturbed, "estimate")[0]["seconds"], rel=1e-4)
    assert float(record.data.tags["spent.hours"]) == pytest.approx(undisturbed.result["metrics"]["hours"], abs=1e-6)
    assert record.data.tags["verdict"] == marks(undisturbed, "verdict")[-1]["words"]


def test_ranks_live_in_different_dask_workers_and_read_different_data(live, small):
    run = runs.submit(small(seed=5), live)
    until(run, lambda e: e.name == "first-step")
    ranks = marks(run, "ranks")[0]["ranks"]
    keeps = cluster.connect(live).run(lambda dask_worker: dask_worker.plugins[RankHost.name].forkserver.pid)
    # A rank is a child of the forkserver that its worker keeps.
    assert [psutil.Process(r["pid"]).ppid() for r in ranks] == [keeps[r["worker"]] for r in ranks]
    assert len({r["worker"] for r in ranks}) == 2
    run.wait(120)
    reads = {m["rank"]: set(m["windows"]) for m in marks(run, "reads")}
    assert set(reads) == {0, 1} and not reads[0] & reads[1]


def test_weights_and_losses_equal_torchruns_bit_for_bit(undisturbed, live, small, tmp_path):
    spec = TrainSpec.load(small())
    tokens = cached(live, Dataset.open("docs", live).digest, 512)
    plan = planned(spec, tokens.count("train")).to_dict() | {"tokens": str(tokens.path)}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "--standalone",
                           str(Path(__file__).with_name("under_torchrun.py")), str(tmp_path / "plan.json"), str(tmp_path)],
                          capture_output=True, text=True, timeout=240, check=False,
                          env={k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"})
    assert done.returncode == 0, done.stderr[-3000:]
    theirs, ours = load_weights(tmp_path / "model.safetensors"), load_weights(undisturbed.output.path / "model.safetensors")
    assert theirs.keys() == ours.keys() and all(torch.equal(theirs[n], ours[n]) for n in ours)
    assert json.loads((tmp_path / "losses.json").read_text())["losses"] == [v for _, v in undisturbed.curve("loss")]


def test_stop_freezes_the_ranks_at_one_step_and_the_same_spec_goes_on_from_there(live, small, undisturbed):
    run = runs.submit(small(name="stopped"), live)
    until(run, lambda e: e.step == 60)
    run.stop()
    assert run.wait(60, check=False).state == "stopped"
    frozen = marks(run, "frozen")[0]
    assert frozen["ranks"] == [frozen["step"]] * 2 and 60 <= frozen["step"] < 150
    newest, broken = checkpoints.newest(run.directory / "checkpoints")
    assert checkpoints.step_of(newest) == frozen["step"] and not broken
    assert all(t.isfinite().all() for t in shards.load(newest)["state_dict"].values())
    again = runs.run(small(name="stopped"), live)
    assert again.id != run.id and marks(again, "resumed")[0]["step"] == frozen["step"]
    assert again.result["digest"] == undisturbed.result["digest"]


def test_a_broken_checkpoint_falls_back_to_the_one_before(live, small, undisturbed):
    run = runs.submit(small(name="broken"), live)
    until(run, lambda e: e.step == 60)
    run.stop()
    run.wait(60, check=False)
    newest, before = checkpoints.listed(run.directory / "checkpoints")[:2]
    file = next(newest.glob("shard-*"))
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    again = runs.run(small(name="broken"), live)
    assert marks(again, "resumed")[0]["step"] == checkpoints.step_of(before)
    assert again.result["digest"] == undisturbed.result["digest"]


def test_a_loss_that_is_no_number_is_kept_as_a_point_and_fails_the_run_with_what_to_do(live, small):
    run = runs.submit(small(name="diverges"), live)
    until(run, lambda e: e.step == 30)
    run.stop()
    run.wait(60, check=False)
    path, _ = checkpoints.newest(run.directory / "checkpoints")
    state = shards.load(path)
    next(iter(state["state_dict"].values())).fill_(float("nan"))
    saving.save(state, path.parent, checkpoints.step_of(path))
    step = checkpoints.step_of(path) + 1
    again = runs.submit(small(name="diverges"), live)
    with pytest.raises(RunFailedError, match=rf"step {step}: the loss is no number any more; received 'nan'. Lower learning_rate"):
        again.wait(120)
    assert again.curve("loss")[-1][0] == step and again.curve("loss")[-1][1] != again.curve("loss")[-1][1]
    assert again.failure["kind"] == "RankError" and "rank" in again.failure["traceback"]


def test_little_text_gets_a_small_vocabulary_and_few_steps(live):
    from workbench.dataset import drop_schema, record_id, record_schema, write_dataset

    text = "\n".join(Dataset.open("docs", live).texts("train"))[:6000]
    records = [{"id": record_id("notes", str(n), text[n:n + 500].encode()), "text": text[n:n + 500], "image": None, "label": None,
                "source": "notes", "locator": str(n), "cluster": str(n), "split": "validation" if n == 500 else "train"}
               for n in range(0, 6000, 500)]
    import pyarrow as pa

    write_dataset(live, "notes", pa.Table.from_pylist(records, schema=record_schema()), drop_schema().empty_table(), card="",
                  manifest={"modality": "text", "spec": {}, "parents": {}, "drops": {}})
    run = runs.run({"word": "train", "data": "notes", "model": {"size": "100K"}}, live)
    assert run.output.name == "notes-lm" and len(run.output.tokenizer()) == 300
    assert run.output.manifest["metrics"]["tokens"] < 30_000
    said = " ".join(e.data["text"] for e in run.events(kinds=["log"]))
    assert "a vocabulary of 300 tokens instead of 2048" in said and "gone through 8 times" in said


def test_dry_run_measures_a_trial_step(live, small):
    from workbench.train.run import estimate

    said = estimate(TrainSpec.load(small()), live)
    assert said["steps"] == 150 and said["tokens"] == 150 * 512 and said["notes"] == []
    assert 0 < said["step_seconds"] < 5 and said["seconds"] == pytest.approx(said["step_seconds"] * 150)


@pytest.mark.parametrize(("change", "error", "words"), [
    ({"data": "docz"}, NotFoundError, 'no dataset "docz"; expected one of .*docs.*Did you mean "docs"'),
    ({"hardware": {"ranks": 3}}, SpecError, "received 3, one a worker, and the local cluster has 2; expected 2 or fewer"),
    ({"model": {"context": 8192}, "data": "tiny"}, SourceError, "too little text to train on"),
    ({"data": "unwatched"}, SourceError, "too little held-out text"),
    ({"data": "digits"}, SourceError, "holds images"),
])
def test_what_can_not_run_is_refused_before_it_starts(live, small, change, error, words):
    import pyarrow as pa

    from workbench.dataset import drop_schema, record_id, record_schema, write_dataset

    def dataset(name: str, modality: str, splits: dict[str, int]) -> None:
        rows = [{"id": record_id(name, f"{s}{n}", b""), "text": "some words " * 30, "image": None, "label": None, "source": name,
                 "locator": f"{s}{n}", "cluster": str(n), "split": s} for s, count in splits.items() for n in range(count)]
        write_dataset(live, name, pa.Table.from_pylist(rows, schema=record_schema()), drop_schema().empty_table(), card="",
                      manifest={"modality": modality, "spec": {}, "parents": {}, "drops": {}})

    dataset("tiny", "text", {"train": 3, "validation": 1})
    dataset("unwatched", "text", {"train": 3})
    dataset("digits", "image", {"train": 3, "validation": 1})
    before = len(runs.listed(live))
    with pytest.raises(error, match=words):
        runs.submit(small(**change), live)
    assert len(runs.listed(live)) == before
