"""Pipelines through their door: side by side, never in place, redone only when something changed, and why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import psutil
import pytest
import yaml

from workbench import runs
from workbench.dataset import Dataset
from workbench.errors import SpecError
from workbench.monitor.watch import Watch
from workbench.pipeline.cache import explain
from workbench.pipeline.notebook import _bearing
from workbench.workspace import Workspace

# Each waits until the other has begun: done only if both are at work at the same time.
MEET = """import pathlib, time
pathlib.Path({own!r}).touch()
deadline = time.monotonic() + 60
while not pathlib.Path({other!r}).exists():
    assert time.monotonic() < deadline, "the other step never began"
    time.sleep(0.02)"""


def states(run: runs.Run) -> dict[str, str]:
    return {e.data["node"]: e.data["state"] for e in run.events(kinds=["mark"]) if e.name == "step"}


def why(pipeline, workspace: Workspace) -> dict[str, str]:
    return {p.step: p.why for p in explain(pipeline, workspace)}


@pytest.fixture(scope="module")
def five(place, write_pipeline):
    """Five steps: two that meet, one after both, one beside it, one last."""
    folder = place.root / "five {braces}"
    marks = [str(place.root / "left"), str(place.root / "right")]
    return write_pipeline(folder, {
        "left": ["# Left", MEET.format(own=marks[0], other=marks[1])],
        "right": ["# Right", MEET.format(own=marks[1], other=marks[0])],
        "both": ["# Both", "print('both')"],
        "beside": ["# Beside", "x = 1", "x + 1"],
        "last": ["# Last", "print('last')"]}, needs={"both": ["left", "right"], "last": ["both", "beside"]}, name="five")


@pytest.fixture(scope="module")
def first(five, place, drive):
    """The first run of the five steps, and the bytes of the notebooks before it."""
    before = {p.name: p.read_bytes() for p in five.parent.glob("*.ipynb")}
    return drive(five, place), before


def test_the_first_run_does_every_step_side_by_side_and_never_in_place(first, five, place):
    run, before = first
    assert run.state == "done", run.failure
    assert states(run) == {"left": "done", "right": "done", "both": "done", "beside": "done", "last": "done"}
    assert {p.name: p.read_bytes() for p in five.parent.glob("*.ipynb")} == before
    executed = json.loads((place.root / run.result["steps"]["beside"]["notebook"]).read_text())
    assert executed["cells"][-1]["outputs"][0]["data"]["text/plain"] == ["2"]
    assert (place.root / run.result["report"]).read_text().startswith("<!doctype html>")
    assert sorted(p.name for p in run.directory.glob("*.ipynb")) == ["1-left.ipynb", "2-right.ipynb", "3-both.ipynb", "4-beside.ipynb",
                                                                    "5-last.ipynb"]


def test_no_step_begins_before_what_it_needs_is_done(first):
    told = [(e.data["node"], e.data["state"]) for e in first[0].events(kinds=["mark"]) if e.name == "step"]
    for name, needs in {"both": ["left", "right"], "last": ["both", "beside"]}.items():
        assert all(told.index((n, "done")) < told.index((name, "running")) for n in needs)


def test_without_change_nothing_is_redone_and_it_costs_next_to_nothing(first, five, place, drive):
    before = psutil.Process().cpu_times()
    run = drive(five, place)
    after = psutil.Process().cpu_times()
    assert set(states(run).values()) == {"cached"}
    assert sum(after[:4]) - sum(before[:4]) <= 3
    assert all(p.why.startswith(f"cached: made by run {first[0].id}") for p in explain(five, place))
    assert len(list(run.directory.glob("*.ipynb"))) == 5 and (run.directory / "report.html").exists()
    assert all(step["state"] == "cached" and step["seconds"] > 0 for step in run.result["steps"].values())


def test_from_any_process_too(first, five, place):
    code = "import sys; from workbench.pipeline.cache import explain; [print(p) for p in explain(sys.argv[1])]"
    out = subprocess.run([sys.executable, "-c", code, str(five)], env={**os.environ, "WORKBENCH_ROOT": str(place.root)}, text=True,
                         capture_output=True, timeout=60, check=True)
    assert [line.split(":")[1].strip() for line in out.stdout.splitlines()] == ["cached"] * 5, out.stdout


def test_a_change_of_markdown_redoes_nothing_one_of_code_that_step_alone_and_taken_back_it_is_found(first, five, place, drive):
    path = five.parent / "both.ipynb"
    original = path.read_text()
    path.write_text(original.replace("# Both", "# Both of them"))
    assert why(five, place)["both"].startswith("cached")
    path.write_text(original.replace("print('both')", "print('BOTH')"))
    assert why(five, place)["both"] == "redone: code changed: code cell 1"
    assert why(five, place)["last"] == "waits for both: redone if that yields something else"
    changed = drive(five, place)
    assert states(changed) == {"left": "cached", "right": "cached", "both": "done", "beside": "cached", "last": "cached"}
    path.write_text(original)
    assert why(five, place)["both"].startswith(f"cached: as before the last change, made by run {first[0].id}")
    assert set(states(drive(five, place)).values()) == {"cached"}
    assert why(five, place)["both"].startswith(f"cached: made by run {first[0].id}")


def test_an_executed_notebook_that_was_deleted_is_made_anew(place, write_pipeline, drive):
    pipeline = write_pipeline(place.root / "deleted", {"only": ["print(1)"]}, name="deleted")
    run = drive(pipeline, place)
    (place.root / run.result["steps"]["only"]["notebook"]).unlink()
    assert why(pipeline, place) == {"only": "redone: its executed notebook is gone"}
    assert states(drive(pipeline, place)) == {"only": "done"}


def test_a_changed_package_redoes_the_step_and_says_which_file(first, five, place, monkeypatch):
    from workbench.pipeline import cache

    now = cache.package()
    monkeypatch.setattr(cache, "package", lambda: {**now, "runs.py": "another"})
    assert set(why(five, place).values()) == {"redone: the package workbench changed: runs.py"}


def test_the_spec_is_put_in_and_a_change_of_it_is_told_field_by_field(place, write_pipeline, drive):
    spec = {"word": "data", "name": "numbers", "sources": [{"kind": "digits"}], "steps": [{"step": "exact-duplicates"}]}
    folder = place.root / "specs"
    pipeline = write_pipeline(folder, {"one": ["spec = None", "print(spec['name'], spec['steps'])"]}, specs={"one": spec}, name="specs")
    run = drive(pipeline, place)
    assert run.state == "done", run.failure
    executed = json.loads((place.root / run.result["steps"]["one"]["notebook"]).read_text())
    assert "".join(executed["cells"][-1]["outputs"][0]["text"]).startswith("numbers [{'step': 'exact-duplicates'}]")
    write_pipeline(folder, {"one": ["spec = None", "print(spec['name'], spec['steps'])"]}, specs={"one": {**spec, "split": {"seed": 3}}},
                   name="specs")
    assert why(pipeline, place) == {"one": "redone: spec changed: one.split.seed 0 → 3"}


def test_one_byte_of_a_source_redoes_what_read_it_and_taken_back_data_is_found(place, write_pipeline, drive):
    folder = place.root / "bytes"
    folder.mkdir()
    source = folder / "notes.txt"
    text = "\n\n".join(f"Paragraph {n} tells of the {w} that {'runs and sits and looks ' * 4}in year {n * n}." for n in range(40)
                       for w in ("cat", "dog"))
    source.write_text(text)
    data = {"word": "data", "name": "notes", "sources": [{"kind": "files", "paths": ["bytes/notes.txt"]}],
            "steps": [{"step": "normalise"}, {"step": "exact-duplicates"}]}
    train = {"word": "train", "data": "notes"}
    pipeline = write_pipeline(folder, {
        "data": ["# Data", "spec = None", "import workbench\nrun = workbench.submit(spec, place='here')\nrun.output"],
        "reads": ["# Reads what data made", "spec = None", "print('read')"],
        "blind": ["# Reads nothing", "print('blind')"]}, needs={"reads": ["data"], "blind": ["data"]},
        specs={"data": data, "reads": train}, name="bytes")
    run = drive(pipeline, place)
    assert run.state == "done", run.failure
    made = run.result["steps"]["data"]["products"]
    assert [(p["kind"], p["name"]) for p in made] == [("dataset", "notes")]
    assert run.result["steps"]["data"]["result"]["digest"] == made[0]["digest"]

    source.write_text(text.replace("cat", "Cat", 1))
    assert why(pipeline, place)["data"].startswith("redone: inputs changed: ")
    second = drive(pipeline, place)
    assert states(second) == {"data": "done", "reads": "done", "blind": "cached"}
    assert Dataset.open("notes", place).digest == second.result["steps"]["data"]["result"]["digest"] != made[0]["digest"]

    source.write_text(text)
    third = drive(pipeline, place)
    assert set(states(third).values()) == {"cached"}
    assert Dataset.open("notes", place).digest == made[0]["digest"]  # what was made before is the newest again

    manifest = Dataset.open("notes", place).path / "manifest.json"
    manifest.rename(manifest.with_suffix(".away"))
    assert why(pipeline, place)["data"] == f"redone: the dataset notes@{made[0]['digest'][:12]} is gone"
    manifest.with_suffix(".away").rename(manifest)


def test_a_failing_cell_is_shown_whole_the_rest_goes_on_and_a_resume_begins_there(place, write_pipeline, drive):
    good, bad = "print('good')", "def deep(x):\n    raise ValueError('not ' + '<b>this</b> ' * 60 + 'at all')\ndeep(1)"
    cells = {"first": ["# First", good], "second": ["# Second", "x = 'before'\nprint(x)", bad], "third": ["# Third", good],
             "other": ["# Other", good]}
    needs = {"second": ["first"], "third": ["second"]}
    pipeline = write_pipeline(place.root / "failing", cells, needs=needs, name="failing")
    run = drive(pipeline, place)
    assert run.state == "failed"
    assert states(run) == {"first": "done", "second": "failed", "third": "skipped", "other": "done"}
    what = run.failure["what"]
    assert "step second: second.ipynb, code cell 2: ValueError" in what and "at all" in what and "deep(1)" in what and "\x1b" not in what
    marked = next(e.data for e in run.events(kinds=["mark"]) if e.name == "step" and e.data["state"] == "failed")
    assert marked["error"]["cell"] == 2 and marked["error"]["source"] == bad and marked["error"]["traceback"].count("this") >= 60
    kept = json.loads((run.directory / "2-second.ipynb").read_text())
    assert "before" in json.dumps(kept["cells"])
    report = (run.directory / "report.html").read_text()
    assert report.count("&lt;b&gt;this&lt;/b&gt;") >= 60 and "<b>this</b>" not in report

    write_pipeline(place.root / "failing", {**cells, "second": ["# Second", good, good]}, needs=needs, name="failing")
    again = drive(pipeline, place)
    assert again.state == "done"
    assert states(again) == {"first": "cached", "second": "done", "third": "done", "other": "cached"}


def test_everything_that_is_wrong_is_told_at_once_before_anything_starts(place, write_pipeline):
    pipeline = write_pipeline(place.root / "wrong", {"one": ["spec = None"], "two": ["spec = None"], "three": ["spec = "]}, name="wrong",
                              specs={"one": {"word": "data", "name": "x", "source": []}, "two": "nowhere.yaml"})
    document = yaml.safe_load(pipeline.read_text())
    document["steps"].append({"name": "four", "notebook": "missing.ipynb"})
    pipeline.write_text(yaml.safe_dump(document))
    before = len(runs.listed(place))
    with pytest.raises(SpecError) as told:
        runs.submit(pipeline, place)
    text = str(told.value)
    assert 'steps.0.spec.source: unknown field; did you mean "sources"?' in text and "steps.1.spec" in text and "nowhere.yaml" in text
    assert "steps.2.notebook" in text and "steps.3.notebook: missing.ipynb: is not there" in text
    assert len(runs.listed(place)) == before


def test_a_step_that_reads_what_another_makes_must_say_so(place, write_pipeline):
    pipeline = write_pipeline(place.root / "races", {"data": ["spec = None"], "train": ["spec = None"]}, name="races", specs={
        "data": {"word": "data", "name": "raced", "sources": [{"kind": "digits"}]}, "train": {"word": "train", "data": "raced"}})
    with pytest.raises(SpecError, match=r'steps\.1\.needs: lacks "data", which makes the dataset "raced" that "train" reads'):
        runs.submit(pipeline, place)


def test_what_changes_while_a_step_reads_it_is_done_again(place, write_pipeline, drive):
    folder = place.root / "meanwhile"
    folder.mkdir()
    (folder / "a.txt").write_text("Some words of a text that is long enough to be kept. " * 4)
    spec = {"word": "data", "name": "meanwhile", "sources": [{"kind": "files", "paths": ["meanwhile/a.txt"]}]}
    change = """import pathlib
path = pathlib.Path("a.txt")
if not pathlib.Path("changed").exists():
    path.write_text(path.read_text() + "x")
pathlib.Path("changed").touch()"""
    pipeline = write_pipeline(folder, {"only": ["spec = None", change]}, specs={"only": spec}, name="meanwhile")
    run = drive(pipeline, place)
    assert run.state == "done" and "changed meanwhile" in run.result["steps"]["only"]["why"]
    assert why(pipeline, place)["only"].startswith("redone: ")
    assert states(drive(pipeline, place)) == {"only": "done"} and why(pipeline, place)["only"].startswith("cached")


def test_a_watch_that_was_ended_is_begun_anew(place, write_pipeline, drive):
    spec = {"word": "monitor", "name": "watch", "port": 0}
    pipeline = write_pipeline(place.root / "watched", {"watch": ["spec = None", "import workbench\nrun = workbench.run(spec)"]},
                              specs={"watch": spec}, name="watched")
    run = drive(pipeline, place)
    assert [p["kind"] for p in run.result["steps"]["watch"]["products"]] == ["monitor"], run.failure
    watch = Watch.open("watch", place)
    assert watch.alive and why(pipeline, place)["watch"].startswith("cached")  # the kernel that began it is gone, and it stays
    watch.stop()
    assert why(pipeline, place) == {"watch": "redone: the watch of watch is gone"}
    assert states(drive(pipeline, place)) == {"watch": "done"} and watch.alive
    watch.stop()


def test_stop_leaves_no_kernel_keeps_what_was_executed_and_stops_what_the_steps_began(place, write_pipeline):
    inner = {"word": "monitor", "name": "inner", "port": 0, "seconds": 600}
    pipeline = write_pipeline(place.root / "stopped", {
        "waits": ["import workbench", f"workbench.run({inner!r})"],
        "long": ["print('begun')", ("import subprocess, pathlib\nchild = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
                                    "pathlib.Path('child').write_text(str(child.pid))\nchild.wait()")]}, name="stopped")
    run = runs.submit(pipeline, place)
    child = pipeline.parent / "child"
    deadline = time.monotonic() + 60
    while not (child.exists() and child.read_text() and Watch(place, "inner").alive):
        assert time.monotonic() < deadline and run.state in ("queued", "running"), run.failure
        time.sleep(0.05)
    mark = f"{run.id}/long"
    bearing = _bearing(mark)
    assert len(bearing) >= 3  # papermill's process, its kernel, and what the cell started
    run.stop()
    run.wait(60, check=False)
    assert run.state == "stopped"
    assert _bearing(mark) == [] and not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in bearing)
    assert "begun" in (run.directory / "2-long.ipynb").read_text()
    [begun] = [r for r in runs.listed(place, word="monitor") if r.entry.name == "inner"]
    begun.wait(30, check=False)
    assert begun.state == "stopped" and not Watch(place, "inner").alive
