"""The train panel on what trainings tell: the verdict, words to a run at work, sweeps, models of images; over real runs."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from test_panel import Page, until

from widgets import TrainPanel
from workbench import runs
from workbench.workspace import Workspace

SMALL = {"data": "docs", "model": {"size": "100K", "vocabulary": 512, "context": 64}, "prompts": ["Return the"],
         "hardware": {"ranks": 1, "threads": 1}, "every": {"checkpoint": 20, "evaluate": 20, "sample": 100}}


@pytest.fixture(scope="module")
def live(copy_of_taught, tmp_path_factory) -> Iterator[Workspace]:
    made = copy_of_taught(tmp_path_factory.mktemp("train-depth") / "live")
    yield made
    runs.shut_down(made)


@pytest.fixture
def panel(live):
    made = []

    def make(spec=None, **known) -> TrainPanel:
        made.append(TrainPanel(spec, workspace=live, **known))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_run_at_work_is_judged_and_hears_what_the_page_says(panel):
    train = panel({**SMALL, "name": "heard", "tokens": 20_000 * 256})
    page = Page(train)
    page.ask("run")
    until(lambda: train.train.get("verdict"))
    verdict = train.train["verdict"]
    assert "of a step" in verdict["words"] and verdict["do"] and len(verdict["ranks"]) == 1
    parts = verdict["ranks"][0]["parts"]
    assert {"forward", "backward"} <= {p["name"] for p in parts} and sum(p["share"] for p in parts) == pytest.approx(1, abs=0.01)
    assert "time" in [name for name, before, now in train.train["costs"] if before != "–" and now != "–"]
    page.ask("tell", word="pause")
    until(lambda: train.train["told"]["paused"])
    page.ask("tell", word="stacks")
    until(lambda: train.train["told"].get("stacks"))
    assert "in on_train_batch_start" in train.train["told"]["stacks"][0]["threads"][0]["stack"]
    page.ask("tell", word="set", learning_rate="2e-3")
    until(lambda: train.train["told"]["changed"])
    assert train.train["told"]["rate"] == 2e-3
    assert "expected a number above 0" in page.ask("tell", word="set", learning_rate="much")[0]["error"]
    page.ask("tell", word="on")
    until(lambda: not train.train["told"]["paused"])
    page.ask("tell", word="profile", steps=2)
    until(lambda: train.train["told"].get("profile"))
    profile = train.train["told"]["profile"]
    assert (train.watch.run.directory / profile["file"]).is_file() and profile["longest"]
    log = page.ask("ranklog", rank=0)[0]["value"]
    assert log["ranks"] == [0] and log["path"] == "logs/rank-0.log"
    assert page.ask("ranklog", rank="../../workbench")[0].get("error") or not page.ask("ranklog", rank=7)[0]["value"]["text"]
    page.ask("stop")
    until(lambda: train.status["state"] == "stopped")
    assert "has ended" in page.ask("tell", word="pause")[0]["error"]


def test_a_sweep_is_a_table_of_trials_and_parallel_coordinates(panel, live):
    spec = {**SMALL, "word": "train", "name": "swept", "tokens": 40 * 256,
            "sweep": {"over": {"learning_rate": [3e-4, 1e-2]}, "how": "grid", "prune": False}}
    run = runs.run(spec, live)
    train = panel(run=run.id)
    page = Page(train)
    sweep, best = train.train["sweep"], run.result["best"]
    assert sweep["best"] == best["trial"] and sweep["svg"].count("<polyline") == 2
    rows = page.ask("trials", sort="value")[0]["value"]["rows"]
    assert [r["value"] for r in rows] == sorted(r["value"] for r in run.result["trials"])
    assert rows[0]["best"] and rows[0]["run"] == best["run"]
    assert page.ask("trials", sort="learning_rate", descending=True)[0]["value"]["rows"][0]["learning_rate"] == 1e-2
    assert page.ask("trials", filter="no such")[0]["value"] == {"rows": [], "total": 0}
    page.ask("open", run=best["run"])
    until(lambda: train.opened)
    assert train.opened[0].watch.run.id == best["run"]
    train.opened[0].close()
    drawn = run._repr_html_()
    assert "Parallel coordinates of 2 trials" in drawn and "complete, the best" in drawn


def test_pictures_before_and_after_are_read_by_the_kernel_and_measured_in_their_own_words(panel, live):
    runs.submit({"word": "data", "name": "digits", "sources": [{"kind": "digits"}]}, live, place="here").wait()
    run = runs.run({"word": "train", "data": "digits", "epochs": 0.5, "hardware": {"ranks": 1, "threads": 1}, "batch": {"sequences": 16},
                    "objective": {"kind": "diffusion", "width": 8, "noise_steps": 50, "sample_steps": 4},
                    "every": {"checkpoint": 20, "evaluate": 20, "sample": 60}}, live)
    train = panel(run=run.id)
    page = Page(train)
    until(lambda: train.results.get("facts"))
    assert train.results["words"]["first"] == ["loss", "noise_error"]
    assert {"noise_error", "images_per_second"} <= set(train.results["curves"])
    facts = {name: value for name, value, _ in train.results["facts"]}
    assert facts["held out"].endswith("squared error of the noise") and facts["trained"].endswith(" images")
    samples = train.results["samples"]
    files = samples["rows"][0]["files"]
    assert samples["steps"][0] == 0 and files[0][0]["file"] != files[-1][0]["file"]
    url = page.ask("sample", file=files[-1][0]["file"])[0]["value"]["url"]
    kind, _, content = url.partition(",")
    assert kind == "data:image/png;base64" and base64.b64decode(content) == (run.directory / files[-1][0]["file"]).read_bytes()
    assert "no sample of this run" in page.ask("sample", file="../../audit.jsonl")[0]["error"]
    assert "no sample of this run" in page.ask("sample", file="spent.json")[0]["error"]


def test_the_form_says_what_the_objective_has_of_its_own(panel):
    train = panel({**SMALL, "name": "own"})
    assert train.own["values"]["learning_rate"] == 1e-2 and train.own["idle"] == []
    Page(train).ask("put", path=["objective"], value={"kind": "sft", "base": "docs-lm"})
    assert train.own["values"] == {"learning_rate": 1e-3, "batch.sequences": 4, "epochs": 3.0, "optimizer": "adamw", "weight_decay": 0.0}
    assert train.own["idle"] == ["model", "tokens"]
    objective = next(f for f in train.form["fields"] if f["name"] == "objective")
    assert objective["main"] and {v["value"] for v in objective["variants"]} >= {"pretrain", "sft", "gan"}
