"""Runs written down as a pipeline: run elsewhere on the same files, it makes the same digests."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml

from workbench import runs
from workbench.errors import RunFailedError, SpecError
from workbench.journal import Journal
from workbench.pipeline.saved import save
from workbench.workspace import Workspace

TEXT = "The quick brown fox number {n} jumps over the lazy dog, and the dog number {n} does not mind it at all today. " * 3
DATA = {"word": "data", "name": "foxes", "sources": [{"kind": "files", "paths": ["texts/*.txt"]}],
        "steps": [{"step": "normalise"}, {"step": "exact-duplicates"}], "split": {"validation": 0.2, "test": 0.1}}
TRAIN = {"word": "train", "model": {"size": "100K", "vocabulary": 320, "context": 32}, "tokens": 20 * 64, "batch": {"sequences": 2},
         "hardware": {"ranks": 1}, "prompts": ["The quick"], "every": {"checkpoint": 10, "evaluate": 10, "sample": 20}}


def texts(workspace: Workspace) -> None:
    """Files to learn from, and one worker: nothing here needs more."""
    (workspace.root / "workbench.toml").write_text("[cluster]\nworkers = 1\n")
    folder = workspace.root / "texts"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.txt").write_text(TEXT.format(n=number))


def test_a_saved_pipeline_makes_the_same_digests_in_a_fresh_workspace(workspace, tmp_path):
    texts(workspace)
    data = runs.run(DATA, workspace)
    train = runs.run({**TRAIN, "data": f"foxes@{data.result['digest'][:12]}"}, workspace)
    path = save([train, data], "nightly")
    assert path == workspace.root / "nightly" / "pipeline.yaml"
    document = yaml.safe_load(path.read_text())
    assert [(s["name"], s["notebook"], s.get("needs", [])) for s in document["steps"]] == [
        ("data", "1-data.ipynb", []), ("train", "2-train.ipynb", ["data"])]
    other = Workspace(tmp_path / "other").open()
    shutil.copytree(workspace.root / "nightly", other.root / "nightly")
    texts(other)
    try:
        made = runs.run(other.root / "nightly" / "pipeline.yaml", other)
        products = {p["kind"]: p["digest"] for step in made.result["steps"].values() for p in step["products"]}
        assert products == {"dataset": data.result["digest"], "model": train.result["digest"]}
    finally:
        runs.shut_down(other)


def test_references_to_what_the_runs_made_lose_their_version_and_others_keep_it(taught):
    data = runs.submit({"word": "data", "name": "digits", "sources": [{"kind": "digits"}], "steps": []}, taught, place="here")
    journal, made = Journal(taught), []
    for word, spec in (("assess", {"model": "docs-lm@v1", "data": f"digits@{data.result['digest'][:12]}"}),
                       ("serve", {"name": "docs", "models": [{"model": "docs-lm@v1", "weight": 90}]}), ("monitor", {"name": "watch"})):
        entry, _ = journal.add(word, word, word, {"word": word, "version": 1, **spec}, {}, place="here")
        journal.claim(entry.id)
        journal.move(entry.id, "done", result={})
        made.append(runs.attach(entry.id, taught))
    path = save([data, *made], taught.root / "saved", name="mine")
    document = yaml.safe_load(path.read_text())
    assert document["name"] == "mine"
    assert [s.get("needs", []) for s in document["steps"]] == [[], ["data"], [], ["serve"]]
    cells = {p.name: json.loads(p.read_text())["cells"] for p in (taught.root / "saved").glob("*.ipynb")}
    spec = "".join(cells["2-assess.ipynb"][1]["source"])
    assert "'model': 'docs-lm@v1'" in spec and "'data': 'digits'," in spec
    assert cells["3-serve.ipynb"][1]["metadata"]["tags"] == ["parameters"]
    assert save([data, *made], taught.root / "saved") == path  # its own folder is written again


def test_what_can_not_be_repeated_is_refused_and_nothing_written(workspace):
    entry, _ = Journal(workspace).add("data", "digits", "k", {"word": "data", "version": 1, "name": "digits",
                                                              "sources": [{"kind": "digits"}]}, {}, place="here")
    run = runs.attach(entry.id, workspace)
    with pytest.raises(RunFailedError, match="is queued"):
        save([run], "there")
    with pytest.raises(SpecError, match="at least one run"):
        save([], "there", workspace=workspace)
    assert not (workspace.root / "there").exists()
    done = runs.submit({"word": "data", "name": "digits", "sources": [{"kind": "digits"}], "steps": []}, workspace, place="here")
    (workspace.root / "there").mkdir()
    (workspace.root / "there" / "1-data.ipynb").write_text("mine")
    with pytest.raises(SpecError, match=r"holds 1-data\.ipynb already"):
        save([done], "there")
    assert (workspace.root / "there" / "1-data.ipynb").read_text() == "mine"
