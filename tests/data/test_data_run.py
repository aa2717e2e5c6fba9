"""The data word as others meet it: inputs, what a version says of itself, a newcomer's notes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from workbench import __version__, runs
from workbench.data import run as word
from workbench.data.spec import DataSpec
from workbench.dataset import Dataset
from workbench.errors import SourceError, SpecError
from workbench.storage import digest_file

NOTES = {
    "garden.md": """# Garden

## Spring
Sow the peas as soon as the soil can be worked, usually in the third week of March. Cover them against pigeons, and do not water before
they show.

## Autumn
Cut the raspberries that bore fruit this year to the ground and tie the new canes to the wire. The leaves go on the heap behind the shed.
""",
    "bread.md": """# Bread

Five hundred grams of flour, three hundred and fifty of water, ten of salt, and a spoon of the starter from the fridge. Fold it every half
hour, four times, then leave it alone over night. Bake very hot with steam for twenty minutes, then twenty more without.
""",
    "car.md": """# The old car

It starts badly when it is damp. The plugs were changed in May; next time look at the ignition coil first, which is cheap and sits right on
top. The mechanic in Mill Lane knows this model well, and he may be called in the evening.
"""}


def notes(workspace) -> dict:
    folder = workspace.root / "notes"
    folder.mkdir(exist_ok=True)
    for name, text in NOTES.items():
        (folder / name).write_text(text)
    return {"word": "data", "name": "notes", "sources": [{"kind": "files", "paths": [f"notes/{n}" for n in NOTES]}]}


def test_three_small_notes_are_enough(workspace):
    run = runs.submit(notes(workspace), workspace, place="here")
    assert run.state == "done", run.failure
    splits = run.result["splits"]
    assert splits == {"train": 2, "validation": 1, "test": 1} and run.result["dropped"] == 0
    assert {(r["source"], r["locator"]) for r in run.output.table().to_pylist()} == {
        ("notes/garden.md", "Garden, line 1"), ("notes/garden.md", "Garden > Autumn, line 7"), ("notes/bread.md", "Bread, line 1"),
        ("notes/car.md", "The old car, line 1")}


def test_the_manifest_says_how_it_was_made(workspace):
    spec = notes(workspace)
    run = runs.submit(spec, workspace, place="here")
    manifest = Dataset.open("notes", workspace).manifest
    assert manifest["parents"] == {f"notes/{n}": digest_file(workspace.root / "notes" / n) for n in NOTES} == run.entry.inputs
    assert DataSpec.load(manifest["spec"]) == DataSpec.load(spec) and manifest["run"] == run.id
    assert manifest["modality"] == "text" and manifest["package"] == {"name": "genai-workbench", "version": __version__}
    assert manifest["environment"]["python"] == ".".join(map(str, sys.version_info[:3]))


def test_a_changed_byte_makes_a_new_version_and_taken_back_the_old_is_found(workspace):
    spec = notes(workspace)
    first = runs.submit(spec, workspace, place="here")
    path = workspace.root / "notes" / "car.md"
    path.write_text(NOTES["car.md"].replace("damp", "cold"))
    second = runs.submit(spec, workspace, place="here")
    path.write_text(NOTES["car.md"])
    third = runs.submit(spec, workspace, place="here")
    assert second.result["digest"] != first.result["digest"] and third.id == first.id
    assert Dataset.open("notes", workspace).digest == first.result["digest"]


@pytest.mark.parametrize(("sources", "more", "kind", "words"), [
    ([{"kind": "digits"}, {"kind": "python-docs"}], {}, SourceError, "text and images can't be records of one dataset"),
    ([{"kind": "files", "paths": ["notes/*.md"]}, {"kind": "files", "paths": ["notes/car.md"]}], {}, SourceError,
     "notes/car.md: is named by two sources"),
    ([{"kind": "digits"}, {"kind": "digits"}], {}, SourceError, "digits: is named by two sources"),
    ([{"kind": "digits"}], {"keep": ["a" * 16], "drop": ["a" * 16]}, SpecError, "stands in drop too"),
    ([{"kind": "digits"}], {"steps": [{"step": "function", "function": "no_such_file:f"}]}, SourceError, "there is no such module")])
def test_what_can_not_be_is_refused_before_anything_starts(workspace, sources, more, kind, words):
    notes(workspace)
    with pytest.raises(kind, match=words):
        runs.submit({"word": "data", "name": "x", "sources": sources, **more}, workspace)
    assert runs.listed(workspace) == []


def test_a_function_step_is_an_input_and_runs_on_workers(workspace):
    (workspace.root / "own.py").write_text("def loud(text):\n    return None if 'car' in text else text.upper()\n")
    spec = {**notes(workspace), "steps": [{"step": "function", "function": "own:loud"}]}
    run = runs.run(spec, workspace)
    assert "function own:loud" in run.entry.inputs and run.output.manifest["drops"] == {"function": {"by function": 1}}
    assert all(t == t.upper() for t in run.output.table()["text"].to_pylist())


def test_the_estimate_speaks_of_size_and_time(workspace):
    told = word.estimate(DataSpec.load(notes(workspace)), workspace)
    assert told["files"] == 3 and told["bytes"] == sum(len(t) for t in NOTES.values()) and 0 < told["seconds"] < 5
    docs = word.estimate(DataSpec.load({"name": "d", "sources": [{"kind": "python-docs"}]}), workspace)
    assert docs["bytes"] == 8_000_000 and docs["files"] > 100


def test_submitting_loads_nothing_heavy():
    code = ("import sys, workbench.data.spec, workbench.data.run; "
            "print([m for m in ('torch', 'distributed', 'mlflow', 'numpy', 'pyarrow', 'sklearn') if m in sys.modules])")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
