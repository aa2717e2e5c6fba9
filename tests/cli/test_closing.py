"""The closing words: what they tell to paste works as pasted, and the record they name did teach the answer."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from workbench import runs
from workbench.cli.closing import close_endpoint, close_pipeline, python_line, telling_answer
from workbench.dataset import Dataset
from workbench.display import stretches, trace_drawing, words_around
from workbench.endpoint import Endpoint


@pytest.fixture(scope="module")
def served(copy_of_taught, tmp_path_factory, cli):
    """A workspace whose model "docs-lm" answers at the endpoint "docs"."""
    workspace = copy_of_taught(tmp_path_factory.mktemp("served") / "w")
    done = cli("serve", "docs-lm", "--name", "docs", "--port", "0", "--replicas", "1", cwd=workspace.root)
    assert "docs answers at http://127.0.0.1:" in done.stdout
    assert "docs-lm" in done.stderr and "no evidence" in done.stderr  # on loopback a missing assessment warns
    yield workspace
    runs.shut_down(workspace)


def line(said: str, name: str) -> str:
    return re.search(rf"^{name} +(.*)$", said, re.MULTILINE)[1]


def test_the_lines_to_paste_work_as_pasted(served, capsys):
    close_endpoint(served, {"endpoint": "docs"})
    said = capsys.readouterr().out
    asked = subprocess.run(["bash", "-c", line(said, "curl")], capture_output=True, text=True, timeout=60)
    assert json.loads(asked.stdout)["choices"][0]["text"]
    asked = subprocess.run(["bash", "-c", line(said, "Python")], capture_output=True, text=True, timeout=120)
    assert asked.returncode == 0 and asked.stdout.strip(), asked.stderr
    assert Path(line(said, "Token")).read_text().strip() == Endpoint.open("docs", served).token


def test_without_openai_the_python_line_is_our_own_and_works_too(served, monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    written = python_line(Endpoint.open("docs", served))
    monkeypatch.undo()
    assert "openai" not in written
    asked = subprocess.run(["bash", "-c", written], capture_output=True, text=True, timeout=120)
    assert asked.returncode == 0 and asked.stdout.strip(), asked.stderr


def test_the_record_that_is_named_holds_the_stretch_of_the_answer(served):
    _, answer, trace = telling_answer(Endpoint.open("docs", served))
    found = stretches(trace)
    assert found, "a model that was taught these records repeats some of them"
    span, record = found[0], found[0]["records"][0]
    assert answer.text[span["start"]:span["end"]] == span["text"]
    before, stretch, after = words_around(trace, record, served)
    text = Dataset.open("docs", served).record(record["id"])["text"]
    assert stretch == span["text"] and f"{before}{stretch}{after}".strip("…") in text
    drawing = trace_drawing(trace, served)
    assert "<mark" in drawing._repr_html_() and record["locator"] in drawing._repr_html_() and f"»{stretch}«" in repr(drawing)


def test_html_in_an_answer_or_a_record_is_text_in_the_drawing(served):
    trace = {"id": "<i>", "model": {"name": "<m>", "digest": "0" * 12}, "dataset": {"name": "gone", "digest": "1" * 12},
             "answer": {"text": "<b>bold</b> words", "asked": {"prompt": "<script>"}},
             "spans": [{"start": 0, "end": 6, "text": "<b>bol", "occurrences": 1,
                        "records": [{"id": "x", "source": "<s>", "locator": "<l>", "start": 0, "end": 6}]}]}
    html = trace_drawing(trace, served)._repr_html_()
    for hostile in ("<b>bold", "<script>", "<s>", "<l>", "<i>", "<m>"):
        assert hostile not in html


def test_a_pipeline_is_closed_with_answer_record_verdict_report_and_next(served, capsys):
    close_pipeline(served, {"report": ".workbench/runs/p/report.html", "steps": {
        "assess": {"result": {"assessment": "docs-lm", "digest": "0" * 64, "passed": False, "words": "must not be deployed: because"}},
        "serve": {"result": {"endpoint": "docs"}}, "other": {"result": None}}})
    said = capsys.readouterr().out
    for name in ("Endpoint", "Token", "curl", "Python", "Asked", "Answer", "Stretch", "Taught by", "Verdict", "Report", "Next"):
        assert line(said, name)
    assert line(said, "Verdict") == "must not be deployed: because"
    assert line(said, "Report") == str(served.root / ".workbench/runs/p/report.html")


def test_an_endpoint_is_shown_stopped_and_told_to_be_down(served, cli):
    assert "docs answers at" in cli("show", "docs", cwd=served.root).stdout  # before the dataset of the same name
    assert json.loads(cli("endpoints", "--json", cwd=served.root).stdout)[0]["alive"] is True
    assert "endpoint docs: down" in cli("stop", "docs", cwd=served.root).stdout
    assert "down" in cli("endpoints", cwd=served.root).stdout
    assert "workbench serve docs-lm --name docs" in cli("show", "docs", cwd=served.root).stdout
