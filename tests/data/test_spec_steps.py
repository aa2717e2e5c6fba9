"""Steps that are off, notes and encodings: what they change, and what they must not."""

from __future__ import annotations

import json

import pytest

from workbench import runs
from workbench.data.spec import DataSpec
from workbench.errors import SpecError

SOURCE = {"word": "data", "name": "d", "sources": [{"kind": "files", "paths": ["t.jsonl"]}], "split": {"validation": 0.1, "test": 0.1}}
STEPS = [{"step": "normalise"}, {"step": "quality", "min_characters": 30}, {"step": "exact-duplicates"}]


def with_off(number: int) -> dict:
    return {**SOURCE, "steps": [{**s, "on": False} if n == number else s for n, s in enumerate(STEPS)]}


def test_a_step_that_is_off_is_the_spec_without_it_and_stays_in_it():
    off, without = DataSpec.load(with_off(1)), DataSpec.load({**SOURCE, "steps": [STEPS[0], STEPS[2]]})
    assert off != without and off.digest() == without.digest() and off.recipe() == without
    assert DataSpec.load(off.to_yaml()) == off and "on: false" in off.to_yaml() and "on" not in without.to_dict()["steps"][1]
    assert off.changed()["steps"][1] == {"step": "quality", "on": False, **{k: v for k, v in off.steps[1].model_dump().items()
                                                                          if k not in ("step", "on")}}
    assert off.digest() != DataSpec.load({**SOURCE, "steps": STEPS}).digest()
    with pytest.raises(SpecError, match=r"steps\.0\.on"):
        DataSpec.load({**SOURCE, "steps": [{"step": "normalise", "on": "perhaps"}]})


def test_specs_of_before_mean_what_they_meant():
    dumped = DataSpec.load({**SOURCE, "steps": STEPS}).to_dict()
    assert "unsure" not in dumped and dumped["steps"][0] == {"step": "normalise"} and "encoding" not in dumped["sources"][0]
    noted = DataSpec.load({**SOURCE, "unsure": ["0" * 16]})
    assert noted.digest() == DataSpec.load(SOURCE).digest() and noted.to_dict()["unsure"] == ["0" * 16]


def test_a_run_of_a_spec_with_a_step_off_is_that_of_the_spec_without_it(workspace):
    rows = [f"A sentence number {n} about the river and the bridge." for n in range(30)] + ["short", "short"]
    (workspace.root / "t.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in rows))
    off = runs.submit(with_off(1), workspace, place="here")
    assert off.state == "done", off.failure
    assert off.output.manifest["drops"] == {"exact-duplicates": {"same content": 1}} and "quality" not in off.output.card
    without = runs.submit({**SOURCE, "steps": [STEPS[0], STEPS[2]]}, workspace, place="here")
    assert without.id == off.id, "one recipe, one run"
    on = runs.submit({**SOURCE, "steps": STEPS}, workspace, place="here")
    assert on.output.manifest["drops"] == {"quality": {"too short": 2}}
    marks = {m.data["by"]: m.data["reasons"] for m in on.events(kinds=["mark"]) if m.name == "dropped"}
    assert marks == {"normalise": {}, "quality": {"too short": 2}, "exact-duplicates": {}}


def test_a_file_in_an_old_encoding_is_read_where_it_is_named(workspace):
    rows = ["text;label"] + [f"Größe und Straße, café {n}: ein Satz mit genügend Wörtern;{n}" for n in range(20)]
    (workspace.root / "t.csv").write_bytes("\n".join(rows).encode("cp1252"))
    source = {"kind": "files", "paths": ["t.csv"], "encoding": "cp1252"}
    run = runs.submit({**SOURCE, "sources": [source], "steps": []}, workspace, place="here")
    assert run.state == "done", run.failure
    texts = run.output.table()["text"].to_pylist()
    assert len(texts) == 20 and all("Größe und Straße, café" in t for t in texts)
