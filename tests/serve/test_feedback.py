"""What is said of answers: bound to what made them, once each, and readable as data."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from workbench import runs
from workbench.errors import NotFoundError, PolicyError, SpecError
from workbench.model import Model
from workbench.serve import visits
from workbench.serve.feedback import Feedback, listed


def test_a_mark_is_bound_to_answer_model_and_dataset_and_replaced_by_the_next(served):
    answer = served.endpoint.complete("The kettle sang", model="poem-lm", temperature=0, max_tokens=8)
    feedback, model = Feedback(served.workspace, "bot"), Model.open("poem-lm", served.workspace)
    feedback.mark(answer.id, "wrong", note="<b>no</b>\u202e")
    row = feedback.mark(answer.id, "wrong", note="a cat", better=" to nobody.")
    assert feedback.rows() == [row] and listed(served.workspace) == [row]
    assert row["model"] == {"name": "poem-lm", "digest": model.digest} and row["dataset"] == model.manifest["dataset"]
    assert (row["prompt"], row["answer"], row["text"]) == ("The kettle sang", answer.text, "The kettle sang to nobody.")
    assert feedback.mark(answer.id, "right")["text"] == "The kettle sang" + answer.text
    feedback.withdraw(answer.id)
    assert feedback.rows() == []


def test_what_can_not_be_marked_is_refused(served):
    feedback = Feedback(served.workspace, "bot")
    with pytest.raises(NotFoundError, match="no answer"):
        feedback.mark("cmpl-nothing", "right")
    with pytest.raises(SpecError, match="expected right or wrong"):
        feedback.mark("cmpl-nothing", "<script>")
    with pytest.raises(SpecError, match="note"):
        feedback.mark("cmpl-nothing", "wrong", note="x" * 20_001)
    assert not feedback.path.exists() or feedback.rows() == []


def test_the_file_is_a_source_of_data(served):
    feedback = Feedback(served.workspace, "bot")
    texts = []
    for n in range(3):
        answer = served.endpoint.complete("The kettle sang", model="poem-lm", seed=n, max_tokens=12)
        texts.append(feedback.mark(answer.id, "wrong", better=f" number {n}, and nobody heard it.")["text"])
    unmended = served.endpoint.complete("Nobody", model="poem-lm", max_tokens=4)
    feedback.mark(unmended.id, "wrong")
    source = {"kind": "files", "paths": [str(feedback.path)]}
    run = runs.run({"word": "data", "name": "said", "steps": [], "sources": [source]}, served.workspace)
    assert sorted(t for t in run.output.table()["text"].to_pylist() if t) == sorted(texts)
    assert [json.loads(line)["id"] for line in feedback.path.read_text().splitlines()][-1] == unmended.id
    told = subprocess.run([sys.executable, "-m", "workbench.cli", "endpoints", "feedback", "bot", "--json"], cwd=served.workspace.root,
                          capture_output=True, text=True, check=True)
    assert json.loads(told.stdout) == feedback.rows()[::-1]


def test_visitors_ask_so_many_times_a_minute_together(tmp_path):
    from workbench.workspace import Workspace

    place = Workspace(tmp_path).open()
    for n in range(visits.A_MINUTE):
        visits.admit(place, "bot", now=1000.0 + n)
    with pytest.raises(PolicyError, match=r"Ask again in 45 s"):
        visits.admit(place, "bot", now=1015.0)
    visits.admit(place, "other", now=1015.0)
    visits.admit(place, "bot", now=1060.5)  # the first is a minute ago
    with pytest.raises(PolicyError):
        visits.admit(place, "bot", now=1060.6)
    visits.admit(place, "bot", now=900.0)  # a clock that was put back locks nobody out
