"""A run of assess through its doors: evidence, verdict, card, records; and what it refuses."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from conftest import write_network, write_taught, write_texts

from workbench import processes, runs
from workbench.assessment import Assessment, permit_for, standing
from workbench.dataset import Dataset
from workbench.errors import NotFoundError, RunFailedError, SourceError, SpecError
from workbench.model import Model
from workbench.registry import Registry
from workbench.tracking import connect

SPEC = {"word": "assess", "model": "docs-lm"}
QUICK = [{"probe": "group_likelihood_gap"}]


@pytest.fixture(scope="module")
def live(copy_of_taught, tmp_path_factory):
    workspace = copy_of_taught(tmp_path_factory.mktemp("live") / "w")
    yield workspace
    runs.shut_down(workspace)
    assert processes.listed(workspace) == []


@pytest.fixture(scope="module")
def run(live) -> runs.Run:
    return runs.run(SPEC, live)


def test_it_ends_with_evidence_a_verdict_and_a_card(live, run):
    model, data = Model.open("docs-lm", live), Dataset.open("docs", live)
    made = run.output
    assert isinstance(made, Assessment) and made == Assessment.open("docs-lm", live)
    assert run.result == {"assessment": "docs-lm", "digest": made.digest, "passed": True, "words": "may be deployed: 4 rules met"}
    assert [e.metric for e in made.evidence] == ["bits_per_byte", "memorised", "pii_generated", "group_likelihood_gap"]
    assert {(e.model, e.dataset, e.policy) for e in made.evidence} == {(model.digest, data.digest, made.policy.digest())}
    assert made.document["model"] == {"name": "docs-lm", "digest": model.digest} and made.document["run"] == run.id
    assert "The model may be deployed" in made.card and data.reference in made.card and all(e.metric in made.card for e in made.evidence)
    assert standing(live, model.digest).passed and permit_for(live, model.digest).digest == model.digest


def test_it_says_how_far_it_is_and_what_it_found(run):
    logs = [e.data["text"] for e in run.events(kinds=["log"])]
    for metric in ("bits_per_byte", "memorised", "pii_generated", "group_likelihood_gap"):
        assert sum(line.startswith(metric) for line in logs) == 1
        assert run.curve(metric)[0][1] == next(e.value for e in run.output.evidence if e.metric == metric)
    assert logs[-1].endswith("may be deployed: 4 rules met")
    done = [e.data["done"] for e in run.events(kinds=["progress"])]
    assert done[0] == 0 and done[-1] == 4 and done == sorted(done)
    [mark] = [e for e in run.events(kinds=["mark"]) if e.name == "verdict"]
    assert mark.data["passed"] is True


def test_mlflow_holds_the_measures_the_verdict_and_the_card(live, run):
    client = connect(live)
    experiment = client.get_experiment_by_name("workbench").experiment_id
    [record] = client.search_runs([experiment], f"tags.`workbench.run` = '{run.id}'")
    assert record.info.status == "FINISHED" and record.data.tags["workbench.passed"] == "True"
    for e in run.output.evidence:
        assert [record.data.metrics[e.metric + end] for end in ("", ".low", ".high")] == [e.value, e.low, e.high]
    card = Path(client.download_artifacts(record.info.run_id, "card.md"))
    assert card.read_text("utf-8") == run.output.card


def test_here_and_on_the_cluster_it_gives_the_same_digest(live, run):
    here = runs.submit(SPEC, live, again=True, place="here")
    assert here.state == "done" and here.result == run.result and here.id != run.id
    assert runs.submit(SPEC, live).id in (run.id, here.id)


def test_it_is_measured_anew_for_another_seed_model_or_policy(live, run):
    first = runs.submit({**SPEC, "probes": QUICK}, live, place="here")
    for change in ({"seed": 1}, {"policy": {"rules": [{"metric": "group_likelihood_gap", "at_most": 0.001}]}}):
        other = runs.submit({**SPEC, "probes": QUICK, **change}, live, place="here")
        assert other.id != first.id and other.result["digest"] != first.result["digest"]
    assert other.result["passed"] is False and "upper end is above 0.001" in other.result["words"]
    missing = [j.rule.metric for j in first.output.verdict().judgements if j.status == "missing"]
    assert missing == ["bits_per_byte", "memorised", "pii_generated"] and first.result["passed"] is False


def test_on_other_data_it_warns_and_counts_for_nothing(live):
    write_texts(live, "other", ["another text about quite other things " * 20] * 30, [f"held out {n} " * 200 for n in range(30)])
    run = runs.submit({**SPEC, "data": "other", "name": "elsewhere"}, live, place="here")
    assert run.state == "done" and run.result["passed"] is False and run.result["words"].count("other data than taught") == 4
    assert any(e.name == "warning" and "is not what taught" in e.data["text"] for e in run.events(kinds=["log"]))


def test_text_from_models_and_data_is_text_in_the_card_and_the_drawing(live):
    evil = ['<script>alert(1)</script> | [x](http://evil.example) `code` <img src=x onerror=alert(1)> ' + "word " * 70] * 40
    data = write_texts(live, "evil", evil[:30], evil[30:])
    write_taught(live, "evil-lm", data, steps=12)
    run = runs.submit({"word": "assess", "model": "evil-lm", "probes": [{"probe": "bits_per_byte"}]}, live, place="here")
    assert run.state == "done", run.failure
    for shown in (run.output.card, run.output._repr_html_()):
        assert "alert(1)" in shown and "<script" not in shown and "<img" not in shown
    assert "http://" not in run.output.card and "](" not in run.output.card.replace("\\](", "")
    for line in run.output.card.splitlines():
        if line.startswith("| ") and "alert" in line:
            assert line.replace("\\|", "").count("|") == 5


@pytest.mark.parametrize(("change", "error", "said"), [
    ({"model": "dosc-lm"}, NotFoundError, 'Did you mean "docs-lm"'), ({"data": "dcos"}, NotFoundError, 'Did you mean "docs"'),
    ({"model": "docs-lm@v9"}, NotFoundError, "v1"), ({"data": "pictures"}, SourceError, "holds images"),
    ({"data": "tiny"}, SourceError, "held-out split is too small"), ({"model": "orphan"}, NotFoundError, "--data NAME"),
    ({"probes": [{"probe": "memorised", "prompt_tokens": 90}]}, SpecError, "122 together; expected 96 or fewer"),
    ({"probes": [{"probe": "memorized"}]}, SpecError, 'did you mean "memorised"'), ({"probes": []}, SpecError, "probes"),
    ({"policy": {"rules": [{"metric": "memorised", "at_mots": 1}]}}, SpecError, 'did you mean "at_most"')])
def test_what_can_t_be_assessed_is_refused_before_anything_starts(live, change, error, said):
    write_texts(live, "pictures", ["x"] * 20, ["y"] * 20, modality="image")
    write_texts(live, "tiny", ["a text " * 500] * 3, ["one"])
    model = Model.open("docs-lm", live)
    write_network(live, "orphan", None, model.load(), model.tokenizer())
    before = len(runs.listed(live))
    with pytest.raises(error, match=said):
        runs.submit({**SPEC, **change}, live)
    assert len(runs.listed(live)) == before


def test_weights_that_are_no_numbers_end_the_run_with_words(live):
    import torch

    network = Model.open("docs-lm", live).load()
    with torch.no_grad():
        network.model.norm.weight.fill_(float("nan"))
    model = write_network(live, "nan-lm", Dataset.open("docs", live), network, Model.open("docs-lm", live).tokenizer())
    run = runs.submit({"word": "assess", "model": "nan-lm"}, live, place="here")
    assert run.state == "failed" and "not finite" in run.failure["what"]
    assert not standing(live, model.digest).passed and "assessment" not in {v.kind for v in Registry(live).versions("assessment", "nan-lm")}


def test_a_stop_is_heard_while_a_probe_is_at_work(live):
    spec = {**SPEC, "probes": [{"probe": "pii_generated", "generations": 100_000}], "name": "stopped"}
    run = runs.submit(spec, live)
    deadline = time.monotonic() + 120
    while not run.events(kinds=["progress"]):
        assert time.monotonic() < deadline and run.state in ("queued", "running"), run.failure
        time.sleep(0.02)
    run.stop()
    run.wait(60, check=False)
    assert run.state == "stopped" and "stopped" not in Registry(live).names("assessment")
    with pytest.raises(RunFailedError, match="was stopped"):
        run.wait()
    # The worker is free again at once: the task itself has ended.
    assert runs.submit({**SPEC, "probes": QUICK, "seed": 7}, live).wait(60).state == "done"


def test_a_probe_s_evidence_is_kept_beside_the_run_and_not_measured_twice(live, run):
    from workbench.assess.run import measure

    kept = sorted(run.directory.glob("probe-*.json"))
    assert [json.loads(p.read_text())["metric"] for p in kept] == [e.metric for e in run.output.evidence]
    item = {"root": str(live.root), "run": run.id, "number": 0}
    assert measure(item) == json.loads(kept[0].read_text())
