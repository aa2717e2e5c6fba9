"""questions: true answers, the same each time, and their twin with a wrong answer beside each."""

from __future__ import annotations

import importlib

import pytest

from workbench import runs
from workbench.data.sources import questions
from workbench.data.spec import Questions


def test_two_thousand_questions_are_a_dataset_that_the_steps_keep(workspace):
    run = runs.submit({"word": "data", "name": "questions", "sources": [{"kind": "questions"}]}, workspace, place="here")
    assert run.state == "done", run.failure
    dataset = run.output
    assert dataset.form == "chat" and sum(run.result["splits"].values()) > 1_900
    asked = [c["messages"] for c in dataset.chats("train")]
    assert all([m["role"] for m in messages] == ["user", "assistant"] for messages in asked)
    assert len({messages[0]["content"] for messages in asked}) == len(asked)
    held = [m for m in asked if m[0]["content"].startswith("Which module")]
    for question, answer in held[:40]:
        name = question["content"].rpartition(" ")[2].rstrip("?")
        module = answer["content"].rpartition(" ")[2].rstrip(".")
        if module.partition(".")[0] in ("json", "collections", "textwrap", "difflib", "email", "http", "unittest", "asyncio", "logging"):
            assert hasattr(importlib.import_module(module), name), (module, name)
    assert len(held) > 100


def test_the_twin_has_another_answer_to_the_same_kind_of_question(workspace):
    chat, twin = ([r for u in questions.units(source, workspace) for r in questions.read(u)] for source in (
        Questions(count=300), Questions(count=300, preference=True)))
    assert len(chat) == 300 and [r.locator for r in chat] == [r.locator for r in twin]
    from workbench.chats import parsed

    answers = {r.locator: parsed("chat", r.text)["messages"] for r in chat}
    for record in twin:
        value = parsed("preference", record.text)
        assert value["prompt"] + value["chosen"] == answers[record.locator] and value["rejected"] != value["chosen"]
        kin = [other[1] for place, other in answers.items() if place.rpartition(" ")[2] == record.locator.rpartition(" ")[2]]
        assert value["rejected"][0] in kin
    assert questions.inputs(Questions(), workspace) != questions.inputs(Questions(preference=True), workspace)


@pytest.mark.parametrize(("docstring", "says"), [
    ("Return x.  Then more.\n\nMore.", ""), ("Return the value of x.  Then\nmore.", "Return the value of x."),
    ("walk(top) -> iterator over all", ""), ("Join the parts, e.g. of a path", "Join the parts, e.g. of a path.")])
def test_the_first_sentence_is_the_answer(docstring, says):
    assert questions._first_sentence(docstring) == says
