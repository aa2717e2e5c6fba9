"""From an answer to the record that taught it, over HTTP."""

from __future__ import annotations

import pytest
from conftest import POEM

from workbench.dataset import Dataset
from workbench.errors import WorkbenchError
from workbench.model import Model
from workbench.serve.trace import Answers


def test_a_phrase_learned_by_heart_leads_to_the_record_that_taught_it(served):
    answer = served.endpoint.complete("The kettle sang", model="poem-lm", temperature=0, max_tokens=40)
    assert answer.text.startswith(" <b>to the copper cat</b> & the cat")  # else the model has nothing by heart and this shows nothing
    model, dataset = Model.open("poem-lm", served.workspace), Dataset.open("poem", served.workspace)
    trace = served.endpoint.trace(answer.id)
    assert trace["endpoint"] == "bot" and trace["answer"]["text"] == answer.text and trace["answer"]["asked"]["prompt"] == "The kettle sang"
    assert (trace["model"]["name"], trace["model"]["digest"], trace["run"]) == ("poem-lm", model.digest, "train-poem")
    assert trace["dataset"]["digest"] == dataset.digest and trace["dataset"]["sources"] == [{"kind": "files"}]
    assert trace["recipe"]["word"] == "data" and trace["missing"] == []
    first = trace["spans"][0]
    assert first["text"] == answer.text[first["start"]:first["end"]] and len(first["text"]) > 30
    (record,) = first["records"]
    assert record["source"] == "poem.md"
    assert dataset.record(record["id"])["text"][record["start"]:record["end"]] == first["text"]
    assert POEM["poem.md"][record["start"]:record["end"]] == first["text"]


def test_streams_and_chats_are_traced_too_and_say_what_was_asked(served):
    chunks = list(served.client.completions.create(model="docs-lm", prompt="A", max_tokens=8, seed=11, stream=True))
    trace = served.endpoint.trace(chunks[0].id)
    assert trace["answer"]["text"] == "".join(c.choices[0].text for c in chunks) and trace["answer"]["asked"]["seed"] == 11
    chat = served.client.chat.completions.create(model="docs-lm", messages=[{"role": "user", "content": "hi"}], max_tokens=4)
    asked = served.endpoint.trace(chat.id)["answer"]["asked"]
    assert asked["messages"] == [{"role": "user", "content": "hi"}]
    again = served.client.chat.completions.create(model="docs-lm", messages=asked["messages"], max_tokens=4, seed=asked["seed"])
    assert again.choices[0].message.content == chat.choices[0].message.content


def test_an_answer_that_is_not_there_is_a_clear_error(served):
    with pytest.raises(WorkbenchError, match="no answer"):
        served.endpoint.trace("cmpl-<b>nothing</b>/..")


def test_what_is_gone_is_said_and_the_rest_is_shown(served):
    answer = served.endpoint.complete("x", model="docs-lm", max_tokens=2)
    manifest = Dataset.open("docs", served.workspace).path / "manifest.json"
    aside = manifest.rename(manifest.with_suffix(".aside"))
    try:
        trace = served.endpoint.trace(answer.id)
    finally:
        aside.rename(manifest)
    assert trace["model"]["name"] == "docs-lm" and trace["spans"] == [] and "no manifest.json" in trace["missing"][0]


def test_an_answer_is_recorded_once_and_the_oldest_are_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.serve.trace.KEPT", 500)
    answers = Answers(tmp_path)
    row = {"at": 0.0, "model": "m", "digest": "d", "asked": {}, "finish": "stop", "prompt_tokens": 1, "completion_tokens": 1,
           "seconds": 0.1}
    answers.add("a", text="first", **row)
    answers.add("a", text="second", **row)
    assert answers.get("a")["text"] == "first"
    for n in range(1000):
        answers.add(str(n), text="", **row)
    with pytest.raises(WorkbenchError, match='no answer "a"'):
        answers.get("a")
    assert answers.get("999")["id"] == "999" and answers.database.row("SELECT count(*) AS n FROM answers")["n"] <= 502
