"""The train panel without a page: over real runs on a real cluster."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

import pytest
from test_panel import Page, until

from widgets import TrainPanel
from widgets.still import picture
from widgets.train import told
from workbench import runs
from workbench.dataset import Dataset
from workbench.journal import Journal
from workbench.train.state import checkpoints, saving, shards
from workbench.workspace import Workspace

SMALL = {"data": "docs", "name": "small", "model": {"size": "100K", "vocabulary": 512, "context": 64}, "tokens": 300 * 512,
         "prompts": ["Return the"], "every": {"checkpoint": 20, "evaluate": 60, "sample": 100}}


@pytest.fixture(scope="module")
def live(copy_of_taught, tmp_path_factory) -> Iterator[Workspace]:
    made = copy_of_taught(tmp_path_factory.mktemp("train-panel") / "live")
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


@pytest.fixture(scope="module")
def done(live) -> runs.Run:
    """One training that came to its end."""
    return runs.run({"word": "train", **SMALL, "name": "ended", "seed": 1}, live)


def step(train: TrainPanel) -> int:
    found = re.match(r"step ([\d,]+) /", " ".join(train.train.get("headline") or ()))
    return int(found[1].replace(",", "")) if found else 0


def test_a_training_is_watched_stopped_and_resumed(panel, live):
    train = panel(SMALL)
    page = Page(train)
    page.ask("run")
    until(lambda: step(train) > 40)
    headline = " · ".join(train.train["headline"])
    assert re.search(r"step \d+ / 300 · [\d.,k]+ tok/s · 2 ranks", headline)
    until(lambda: train.train["ranks"])
    assert [r["rank"] for r in train.train["ranks"]] == [0, 1] and all(r["cpu"].endswith(" %") for r in train.train["ranks"])
    page.ask("stop")
    until(lambda: train.status["state"] == "stopped" and train.results.get("run"))
    rest = train.status["rest"]
    assert 40 < rest["step"] < 300 and rest["words"] == f"from step {rest['step']}"
    assert "loss" in train.results["curves"] and train.results["marks"] == [{"step": rest["step"], "kind": "stop", "text": "stopped"}]
    other = panel(run=train.watch.run.id)  # another page on the same run: both see it go on
    Page(other).ask("resume")
    assert train.watch.run.id == other.watch.run.id
    until(lambda: train.status["state"] == "done" and train.results.get("facts"))
    until(lambda: other.results.get("facts"))
    assert train.watch.run.entry.attempt == 2 and train.status["rest"] is None
    assert train.results["marks"] == [{"step": rest["step"], "kind": "stop", "text": "stopped, then resumed"}]
    assert [s for s, _ in train.watch.run.curve("loss")] == list(range(1, 301))
    assert train.results["samples"]["steps"] == [0, 100, 200, 300]
    gain = train.results["gain"]
    assert gain["low"] <= gain["difference"] <= gain["high"] < 0
    assert f"{gain['before']:.3f} → {gain['after']:.3f} bits a byte" in train.results["card"]
    assert train.results["next"] == {"label": "Assess this model", "word": "assess", "spec": {"model": "small"}}
    assert "small" in picture(train) and "done" in picture(train) and len(picture(train)) < 200_000


def test_what_it_will_take_is_tried_aside_and_remembered(panel):
    train = panel({**SMALL, "model": {**SMALL["model"], "context": 48}})
    page = Page(train)
    until(lambda: "inputs" in train.plan)
    assert train.plan["text"] == ""
    reply, _ = page.ask("estimate")
    assert reply["value"]["text"] == "trying one step on 2 ranks …"
    page.ask("put", path=["seed"], value=5)  # the page is answered while the trial goes on
    page.ask("undo")
    until(lambda: "tried" in train.plan.get("text", ""))
    assert re.match(r"about [\d.]+ m?s.*, [\d.]+ MB, \d+ steps of [\d.]+ m?s, [\d,]+ tokens, (as )?tried .* m?Wh$", train.plan["text"])
    alike = panel({**SMALL, "model": {**SMALL["model"], "context": 48}, "learning_rate": 2e-3, "name": "alike"})
    until(lambda: "as tried" in alike.plan.get("text", ""))


def test_a_trial_does_not_wait_for_workers_that_others_hold(panel, live):
    long = runs.submit({"word": "train", **SMALL, "tokens": 100_000 * 512, "name": "long", "seed": 8}, live)
    try:
        assert any(e.name == "first-step" for e in long.follow())
        train = panel({**SMALL, "model": {**SMALL["model"], "context": 40}})
        Page(train).ask("estimate")
        until(lambda: "no trial now" in train.attention.get("text", ""))
        assert long.id in train.attention["text"] and not train.plan.get("trying") and train.edit["valid"]
    finally:
        long.stop()
        long.wait(60, check=False)


def test_what_the_model_sees_of_the_spec_and_of_the_run(panel, done):
    train = panel(run=done.id)
    page = Page(train)
    of_run, _ = page.ask("sight", of="run")
    reads = {e.data["rank"]: e.data["digest"] for e in done.events(kinds=["mark"]) if e.name == "reads"}
    assert {int(r): d[0] for r, d in of_run["value"]["digests"].items()} == reads
    train.editor.put(["seed"], 7)
    of_spec, _ = page.ask("sight")
    assert of_spec["value"]["digests"] != of_run["value"]["digests"]
    assert page.ask("sight", of="run", step=2)[0]["value"]["digests"] != of_run["value"]["digests"]
    train.editor.put(["data"], "nowhere")
    assert 'no dataset "nowhere"' in page.ask("sight")[0]["error"]


def test_runs_are_compared_by_what_differs(panel, done, live):
    other = runs.run({"word": "train", **SMALL, "name": "other", "seed": 1, "learning_rate": 5e-3}, live)
    train = panel(run=done.id)
    page = Page(train)
    offered = page.ask("others")[0]["value"]
    assert other.id in [o["run"] for o in offered] and done.id not in [o["run"] for o in offered]
    found = page.ask("compare", others=[other.id])[0]["value"]
    assert [r["run"] for r in found["runs"]] == [done.id, other.id] and all(r["bits"] for r in found["runs"])
    assert found["rows"] == [{"path": "name", "values": ["ended", "other"]}, {"path": "learning_rate", "values": ["0.01", "0.005"]}]
    points = page.ask("points", run=other.id, name="loss")
    assert points[0]["value"]["count"] == 300 and points[1]


def test_a_failure_says_where_why_and_what_next(panel, live):
    run = runs.submit({"word": "train", **SMALL, "name": "fails", "seed": 3}, live)
    assert any(e.kind == "point" and e.step == 30 for e in run.follow())
    run.stop()
    run.wait(60, check=False)
    path, _ = checkpoints.newest(run.directory / "checkpoints")
    state = shards.load(path)
    next(iter(state["state_dict"].values())).fill_(float("nan"))
    saving.save(state, path.parent, checkpoints.step_of(path))
    train = panel(run=run.id)
    Page(train).ask("resume")
    until(lambda: train.status["state"] == "failed")
    failure = train.status["failure"]
    assert re.fullmatch(rf"rank [01], step {checkpoints.step_of(path) + 1}", failure["where"])
    assert "no number any more" in failure["what"] and failure["hint"].startswith("Lower learning_rate")
    assert train.status["rest"] is None and "other" not in train.attention  # it would end there again: nothing is kept


def test_a_failed_run_that_kept_a_checkpoint_offers_to_go_on_but_not_to_visitors(panel, live, monkeypatch):
    entry, _ = Journal(live).add("train", "kept", "kept", {"word": "train", **SMALL, "name": "kept"}, {}, place="here")
    folder = live.path("runs", entry.id, "checkpoints")
    folder.mkdir(parents=True)
    (folder / "step-000000040.ckpt").write_bytes(b"")
    Journal(live).claim(entry.id)
    Journal(live).move(entry.id, "failed", failure={"what": "the disk is full", "where": "rank 0, step 41", "hint": "Free some space"})
    train = panel(run=entry.id)
    assert train.status["rest"] == {"step": 40, "words": "from step 40"}
    assert train.attention["other"] == {"label": "Resume", "ask": "resume"}
    monkeypatch.setenv("WORKBENCH_READ_ONLY", "1")
    visitor = panel(run=entry.id)
    assert "other" not in visitor.attention
    assert "visitors" in Page(visitor).ask("resume")[0]["error"] and visitor.status["state"] == "failed"


def test_the_example_is_what_there_is_to_train_on(panel):
    empty = panel()
    Page(empty).ask("example")
    assert empty.spec.data == "docs"


@pytest.mark.parametrize(("marks", "shown"), [
    ([("restart", 7, {"ranks": []})], ["ranks were lost"]),
    ([("restart", 7, {"ranks": [1]}), ("restart", 7, {"ranks": [0]})], ["rank 0 was lost"]),
    ([("restart", 7, {"ranks": [1]}), ("resumed", 5, {}), ("back", 7, {"ranks": [1], "seconds": 72})],
     ["rank 1 came back after 1 min 12 s"]),
    ([("frozen", 9, {"ranks": [9, 9]}), ("resumed", 9, {})], ["stopped, then resumed"]),
    ([("resumed", 20, {})], ["went on"]),
    ([("first-step", 1, {}), ("checkpoint", 20, {}), ("estimate", None, {})], []),
])
def test_what_happened_on_the_way_is_told_once(marks, shown):
    assert [m["text"] for m in told([{"name": n, "step": s, "why": "", **d} for n, s, d in marks])] == shown


ONE = {**SMALL, "hardware": {"ranks": 1, "threads": 1}, "every": {"checkpoint": 20, "evaluate": 20, "sample": 100}}


def test_a_run_at_work_is_judged_and_hears_what_the_page_says(panel):
    train = panel({**ONE, "name": "heard", "tokens": 20_000 * 256})
    page = Page(train)
    page.ask("run")
    until(lambda: train.train.get("verdict"))
    verdict = train.train["verdict"]
    # What bounds it on a machine that runs other tests is for that machine to say.
    assert verdict["bound"] in ("data", "computing", "busy", "measures") and "%" in verdict["words"]
    assert verdict["do"] and len(verdict["ranks"]) == 1
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
    stakes = []
    train.observe(lambda change: stakes.append(change["new"]["stake"]), "status")
    page.ask("stop")
    page.ask("stop", now=True)
    until(lambda: train.status["state"] == "stopped")
    assert any("since the checkpoint of step" in s or "no checkpoint yet" in s for s in stakes if s) and stakes[-1] is None
    assert "has ended" in page.ask("tell", word="pause")[0]["error"]


def test_a_sweep_is_a_table_of_trials_and_parallel_coordinates(panel, live):
    spec = {**ONE, "word": "train", "name": "swept", "tokens": 40 * 256,
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
    assert train.results["next"] is None  # probes and endpoints are for text
    samples = train.results["samples"]
    files = samples["rows"][0]["files"]
    assert samples["steps"][0] == 0 and files[0][0]["file"] != files[-1][0]["file"]
    url = page.ask("sample", file=files[-1][0]["file"])[0]["value"]["url"]
    kind, _, content = url.partition(",")
    assert kind == "data:image/png;base64" and base64.b64decode(content) == (run.directory / files[-1][0]["file"]).read_bytes()
    assert "no sample of this run" in page.ask("sample", file="../../audit.jsonl")[0]["error"]
    assert "no sample of this run" in page.ask("sample", file="spent.json")[0]["error"]
    seen = page.ask("sight", of="run")[0]["value"]
    [read] = [e.data for e in run.events(kinds=["mark"]) if e.name == "reads"]
    assert [p["number"] for p in seen["pictures"]] == read["windows"] and seen["total"] == 16 and not seen["clips"]
    taught = run.output.manifest["dataset"]["name"]
    row = Dataset.open(taught, live).table("train", ["image", "label"]).slice(read["windows"][3], 1).to_pylist()[0]
    assert seen["pictures"][3]["title"] == str(row["label"])
    assert base64.b64decode(seen["pictures"][3]["url"].partition(",")[2]) == row["image"]
    assert page.ask("sight", of="run", step=2)[0]["value"]["pictures"] != seen["pictures"]
    train.editor.put(["data"], "docs")
    assert "received 'a dataset of texts'" in page.ask("sight")[0]["error"]


def test_a_module_of_ones_own_without_a_first_batch_says_why(panel):
    train = panel({"name": "own", "objective": {"kind": "module", "module": "nets:Net"}})
    assert train.own["sees"] == "parts" and not train.own["needs"]
    assert "nets:Net: there is no such module" in Page(train).ask("sight")[0]["error"]


def test_the_form_says_what_the_objective_has_of_its_own(panel):
    train = panel({**ONE, "name": "own"})
    assert train.own["values"]["learning_rate"] == 1e-2 and train.own["idle"] == [] and train.own["needs"]
    Page(train).ask("put", path=["objective"], value={"kind": "sft", "base": "docs-lm"})
    assert train.own["values"] == {"learning_rate": 1e-3, "batch.sequences": 4, "epochs": 3.0, "optimizer": "adamw", "weight_decay": 0.0}
    assert train.own["idle"] == ["model", "tokens"]
    objective = next(f for f in train.form["fields"] if f["name"] == "objective")
    assert objective["main"] and {v["value"] for v in objective["variants"]} >= {"pretrain", "sft", "gan"}
