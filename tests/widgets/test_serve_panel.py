"""The serve panel without a page: from a model to answers, traffic, marks, and what visitors may not."""

from __future__ import annotations

import time

import psutil
import pytest
from test_panel import Page, until

from widgets import ServePanel
from widgets.still import picture
from workbench import runs
from workbench.model import Model, save_tokenizer, write_model
from workbench.serve import visits
from workbench.serve.feedback import Feedback


@pytest.fixture(scope="module")
def place(copy_of_taught, tmp_path_factory):
    workspace = copy_of_taught(tmp_path_factory.mktemp("panel") / "workspace")
    first = Model.open("docs-lm", workspace)

    def save(folder):
        import transformers

        model = transformers.LlamaForCausalLM.from_pretrained(first.path)
        model.model.norm.weight.data *= 1.01
        model.save_pretrained(folder)
        save_tokenizer(first.tokenizer(), folder)

    manifest = {k: first.manifest[k] for k in ("parameters", "dataset", "metrics", "spec")}
    write_model(workspace, "second-lm", save, card="# second-lm\n", manifest=manifest)
    yield workspace
    runs.shut_down(workspace)


@pytest.fixture
def serve(place):
    made = []

    def make(spec=None, **known):
        made.append(ServePanel(spec, workspace=place, **known))
        return made[-1]

    yield make
    for one in made:
        one.close()


def deployed(serve, name: str = "bot"):
    panel = serve({"name": name, "port": 0, "replicas": 1, "models": [{"model": "docs-lm"}]})
    panel.run()
    until(lambda: panel.endpoint.get("state") == "up" and panel.results.get("endpoint"))
    return panel, Page(panel)


def ended(page: Page, number: int) -> dict:
    page.wait(lambda c: c.get("talk") == number and c.get("over"))
    return page.ask("exchange", number=number)[0]["value"]


def test_from_a_model_alone_to_an_answer_and_the_record_that_taught_it(serve, place):
    panel = serve({"models": [{"model": "docs-lm"}], "port": 0, "replicas": 1})  # as the step after an assessment gives it, and less
    assert panel.about["verb"] == "Deploy" and panel.edit["valid"] and panel.endpoint == {}
    page = Page(panel)
    page.ask("run")
    until(lambda: panel.results.get("endpoint") == "docs-lm")
    assert (panel.status["said"], panel.status["state"], panel.endpoint["state"]) == ("answering", "done", "up")
    assert panel.results["next"] == {"label": "Watch it", "word": "monitor", "spec": {"name": "docs-lm"}}
    version = panel.endpoint["versions"][0]
    assert version["label"] == "docs-lm v1" and version["verdict"]["words"] == "not assessed yet" and version["verdict"]["why"]
    until(lambda: panel.endpoint["suggestions"])
    number = page.ask("question", prompt="Return the", temperature=0, max_tokens=40)[0]["value"]
    told = ended(page, number)
    (side,) = told["sides"]
    assert side["state"] == "done" and side["tokens"] == 40 and side["first"] > 0 and side["rate"] > 0
    parts = [c for c, _ in page.heard if c.get("talk") == number and "part" in c]
    assert "".join(c["sides"][0]["fresh"] for c in parts) == side["text"] and [c["part"] for c in parts] == list(range(1, len(parts) + 1))
    trace = page.ask("trace", number=number, side=0)[0]["value"]
    assert "".join(s["text"] for s in trace["segments"]) == side["text"]
    marked = [s for s in trace["segments"] if s.get("kind")]
    assert marked and all(s["text"] == s["text"].strip() for s in marked)
    assert [s["kind"] for s in trace["lineage"]] == ["endpoint", "model", "dataset", "source"]
    record = page.ask("record", number=number, side=0, record=trace["spans"][0]["records"][0]["id"])[0]["value"]
    assert trace["spans"][0]["text"].strip() in [s["text"] for s in record["segments"] if s.get("kind") == "taught"]
    assert record["facts"]["dataset"] == "docs v1" and record["facts"]["source"] == "stdlib"
    drawn = picture(panel)
    assert panel.endpoint["address"] in drawn and panel.act_token() not in drawn


def test_two_versions_get_the_same_seed_and_a_chat_goes_on(serve):
    panel, page = deployed(serve)
    page.ask("join", model="second-lm", share=25)
    until(lambda: len(panel.endpoint["versions"]) == 2 and panel.status["state"] == "done")
    first, second = panel.endpoint["versions"]
    assert (first["share"], second["share"]) == (0.75, 0.25) and panel.editor.spec.models[1].weight == 25
    number = page.ask("question", prompt="Return", models=[first["reference"], second["reference"]], max_tokens=6)[0]["value"]
    told = ended(page, number)
    assert [s["served"] for s in told["sides"]] == [first["reference"], second["reference"]] and told["options"]["seed"] >= 0
    again = page.ask("question", prompt="Return", models=[first["reference"]], **told["options"])[0]["value"]
    assert ended(page, again)["sides"][0]["text"] == told["sides"][0]["text"]
    chat = page.ask("question", prompt="hi", chat=0, max_tokens=4)[0]["value"]
    said = ended(page, chat)["sides"][0]["text"]
    more = page.ask("question", prompt="and", chat=chat, max_tokens=4)[0]["value"]
    ended(page, more)
    messages = panel.talk.find(more).sides[0].stream._body["messages"]
    assert [m["content"] for m in messages] == ["hi", said, "and"]
    assert [e["number"] for e in page.ask("talk")[0]["value"]] == [number, again, chat, more]


def test_traffic_shifts_rolls_back_and_scales_by_runs_and_other_edits_stay(serve, place):
    panel, page = deployed(serve, "shifty")
    page.ask("join", model="second-lm", share=10)
    until(lambda: len(panel.endpoint["versions"]) == 2 and panel.status["state"] == "done")
    before = len(runs.listed(place, word="serve"))
    panel.editor.put(["limits", "max_tokens"], 99)
    assert [p["path"] for p in panel.status["pending"]] == ["limits.max_tokens"]
    names = [v["asked"] for v in panel.endpoint["versions"]]
    assert "error" not in page.ask("shift", weights=dict(zip(names, (40, 60), strict=True)))[0]
    until(lambda: [round(v["share"], 2) for v in panel.endpoint["versions"]] == [0.4, 0.6] and panel.status["state"] == "done")
    after = runs.listed(place, word="serve")
    assert after[0].entry.spec["models"][1]["weight"] == 60 and len(after) == before + 1
    assert [p["path"] for p in panel.status["pending"]] == ["limits.max_tokens"] and panel.endpoint["limits"]["max_tokens"] == 512
    until(lambda: panel.endpoint["back"] is not None and "90 %" in panel.endpoint["back"]["words"])
    page.ask("back")
    until(lambda: [round(v["share"], 2) for v in panel.endpoint["versions"]] == [0.9, 0.1] and panel.status["state"] == "done")
    page.ask("leave", model=names[1])
    until(lambda: [v["asked"] for v in panel.endpoint["versions"]] == names[:1] and panel.status["state"] == "done")
    page.ask("scale", replicas=2)
    until(lambda: panel.endpoint["versions"][0]["ready"] == 2 and panel.status["state"] == "done")
    assert "not among the models" in page.ask("shift", weights={"<b>nobody</b>": 1})[0]["error"]
    assert page.ask("status")[0]["value"]["versions"][0]["label"] == "docs-lm v1"


def test_answers_are_stopped_marked_and_taken_back(serve, place):
    _, page = deployed(serve)
    number = page.ask("question", prompt="Return the", max_tokens=90, temperature=0)[0]["value"]
    page.wait(lambda c: c.get("talk") == number and c.get("sides"))
    page.ask("hush")
    assert ended(page, number)["sides"][0]["state"] in ("stopped", "done")
    number = page.ask("question", prompt="Return the", max_tokens=5)[0]["value"]
    answer = ended(page, number)["sides"][0]
    page.ask("mark", number=number, side=0, mark="wrong", note="no\x1b[31m", better=" value.")
    (row,) = [r for r in Feedback(place, "bot").rows() if r["id"] == answer["id"]]
    assert row["text"] == "Return the value." and row["dataset"]["name"] == "docs" and row["model"]["name"] == "docs-lm"
    assert page.ask("marks")[0]["value"]["rows"][0]["note"] == "no\x1b[31m"
    assert page.ask("exchange", number=number)[0]["value"]["sides"][0]["mark"]["mark"] == "wrong"
    page.ask("unmark", number=number, side=0)
    assert [r for r in Feedback(place, "bot").rows() if r["id"] == answer["id"]] == []
    assert "no longer kept" in page.ask("trace", number=999, side=0)[0]["error"]
    assert "no model 'x' answers here" in ended(page, page.ask("question", prompt="x", models=["x"])[0]["value"])["sides"][0]["error"]


def test_killed_it_is_told_and_brought_back_by_one_question_and_stopped_by_another(serve, place):
    panel, page = deployed(serve, "mortal")
    address, first = panel.endpoint["address"], panel.watch.run.id
    psutil.Process(runs.attach(first, place).output.document["pid"]).kill()
    until(lambda: page.ask("status") and panel.endpoint["state"] == "lost")
    assert panel.status["said"] == "not answering" and panel.attention["action"] == {"label": "Start again", "ask": "start"}
    other = serve({"name": "mortal", "port": 0, "replicas": 1, "models": [{"model": "docs-lm"}]})
    assert other.status["said"] == "not answering"  # a notebook opened afterwards says it too
    page.ask("start")
    until(lambda: panel.endpoint["state"] == "up" and panel.status.get("said") == "answering")
    assert panel.endpoint["address"] == address and panel.watch.run.id != first and not panel.status["edited"]
    page.ask("end")
    assert panel.endpoint["state"] == "down" and panel.status["said"] == "stopped" and panel.attention["level"] == "info"
    assert place.audit.entries()[-1]["action"] == "endpoint-stopped"


def test_a_change_made_elsewhere_is_followed(serve, place):
    panel, page = deployed(serve, "shared")
    other = serve({"name": "shared", "port": 0, "replicas": 1, "models": [{"model": "docs-lm"}]})
    assert other.watch.run.id == panel.watch.run.id
    page.ask("join", model="second-lm", share=50)
    until(lambda: len(panel.endpoint["versions"]) == 2 and panel.status["state"] == "done")
    theirs = Page(other)
    until(lambda: theirs.ask("status") and other.watch.run.id == panel.watch.run.id)
    assert other.status["said"] == "answering" and len(other.endpoint["versions"]) == 2


def test_visitors_may_ask_a_little_and_change_nothing(serve, place, monkeypatch):
    deployed(serve)
    monkeypatch.setenv("WORKBENCH_READ_ONLY", "1")
    monkeypatch.setattr(visits, "A_MINUTE", 2)
    panel = serve({"name": "bot", "port": 0, "replicas": 1, "models": [{"model": "docs-lm"}]})
    page = Page(panel)
    for name in ("shift", "join", "leave", "scale", "back", "start", "end", "token", "mark", "unmark"):
        assert "visitors" in page.ask(name)[0]["error"]
    number = page.ask("question", prompt="Return", max_tokens=100_000)[0]["value"]
    assert panel.talk.find(number).options["max_tokens"] == visits.TOKENS
    page.ask("hush")
    ended(page, page.ask("question", prompt="Return", max_tokens=3)[0]["value"])
    assert "visitors have asked 2 times within a minute" in page.ask("question", prompt="Return")[0]["error"]
    assert panel.attention.get("action") is None


def test_nobody_looks_nobody_asks(serve, monkeypatch):
    panel, page = deployed(serve)
    until(lambda: panel.results.get("run") == panel.watch.run.id and time.monotonic() - panel._looked > 1)
    looked = panel._looked
    time.sleep(1.2)
    assert panel._looked == looked
    page.ask("status")
    asked = panel._looked
    monkeypatch.setattr("widgets.serve.PACE", 600)  # however long this machine takes for what follows
    for _ in range(20):
        page.ask("status")
    assert panel._looked == asked > looked  # one look for all of them
