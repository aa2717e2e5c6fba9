"""The whole way of a spec: the same version however it is cut up, every drop kept, work taken up again."""

from __future__ import annotations

import json
import random
import re
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench import runs
from workbench.data import partition, recipe
from workbench.data.partition import ReadTask
from workbench.data.sources import files
from workbench.data.spec import DataSpec
from workbench.dataset import record_id
from workbench.errors import SourceError
from workbench.workspace import Workspace

WORDS = ("river night bridge morning nobody stone water leaf window paper garden letter winter summer mountain harbour candle silver "
         "quiet shadow copper basket thunder meadow").split()


def sentence(seed: int, words: int = 24) -> str:
    generator = random.Random(seed)
    return " ".join(generator.choice(WORDS) for _ in range(words)).capitalize() + "."


def curated(spec: dict, workspace: Workspace, **options) -> runs.Run:
    run = runs.submit({"word": "data", "name": "d", **spec}, workspace, place="here", **options)
    assert run.state == "done", run.failure
    return run


def fill(root, count: int = 60, file_of=lambda n: n % 4) -> list[str]:
    """JSONL files with exact duplicates, near duplicates, junk and personal data among prose; returns their names."""
    texts = [sentence(n) for n in range(count)]
    texts += [texts[0], texts[1], texts[2] + " Later.", "short", "=" * 200, f"{texts[3][:90]} write to ada@example.org or so"]
    rows: dict[str, list[str]] = {}
    for n, text in enumerate(texts):
        rows.setdefault(f"part{file_of(n)}.jsonl", []).append(json.dumps({"text": text}))
    for name, lines in rows.items():
        (root / name).write_text("\n".join(lines) + "\n")
    return sorted(rows)


def test_drops_are_counted_by_step_and_reason_and_kept_as_they_were_read(workspace):
    paths = fill(workspace.root)
    broken = workspace.root / "part0.jsonl"
    broken.write_text(broken.read_text() + "{broken\n" + json.dumps({"text": "\r\n\x07too short \x07"}) + "\n")
    run = curated({"sources": [{"kind": "files", "paths": paths}]}, workspace)
    manifest = run.output.manifest
    assert manifest["drops"] == {"read": {"broken JSON": 1}, "exact-duplicates": {"same content": 2},
                                 "near-duplicates": {"near duplicate": 1}, "quality": {"symbols": 1, "too short": 2}}
    assert manifest["pii"] == {"email": 1} and manifest["read"] == 68
    dropped = run.output.dropped().to_pylist()
    assert len(dropped) == 7 and manifest["read"] == run.output.table().num_rows + 7
    assert {(r["step"], r["reason"], r["text"]) for r in dropped} >= {
        ("read", "broken JSON", "{broken"), ("quality", "too short", "\r\n\x07too short \x07"),
        ("exact-duplicates", "same content", sentence(0))}
    assert all(r["id"] == record_id(r["source"], r["locator"], r["text"].encode()) for r in dropped)
    said = [e.data["text"] for e in run.events(kinds=["log"])]
    assert said[0].startswith("read part0.jsonl, ") and "67 records" in said[0] and said[0].endswith("set aside: 1 broken JSON")
    assert [s.split(":")[0] for s in said[1:-1]] == ["normalise", "exact-duplicates", "near-duplicates", "quality", "pii"]
    assert not list(run.directory.glob("*parts*"))


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> runs.Run:
    workspace = Workspace(tmp_path_factory.mktemp("cut")).open()
    return curated({"sources": [{"kind": "files", "paths": fill(workspace.root)}]}, workspace)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_the_digest_is_the_same_however_it_is_cut_up(reference, data):
    workspace, paths = reference.workspace, reference.spec.sources[0].paths
    order = data.draw(st.permutations(paths))
    halves = data.draw(st.integers(0, 3))
    sources = [{"kind": "files", "paths": p} for p in (order[:halves], order[halves:]) if p]
    run = curated({"sources": sources, "partitions": data.draw(st.sampled_from([1, 2, 3, 4, 64]))}, workspace)
    assert run.result == reference.result
    assert run.output.dropped().equals(reference.output.dropped())


def test_one_or_two_workers_and_none(tmp_path):
    digests = set()
    for name, workers in (("none", 0), ("one", 1), ("two", 2)):
        workspace = Workspace(tmp_path / name)
        workspace.root.mkdir()
        (workspace.root / "workbench.toml").write_text(f"[cluster]\nworkers = {workers or 1}\n")
        workspace.open()
        paths = fill(workspace.root)
        spec = {"word": "data", "name": "d", "sources": [{"kind": "files", "paths": paths}], "partitions": 3}
        try:
            digests.add(runs.submit(spec, workspace, place=None if workers else "here").wait(120).result["digest"])
        finally:
            runs.shut_down(workspace)
    assert len(digests) == 1


def test_ids_that_a_person_keeps_or_drops(workspace):
    paths = fill(workspace.root)
    source = {"sources": [{"kind": "files", "paths": paths}]}
    plain = curated(source, workspace).output
    short = next(r["id"] for r in plain.dropped().to_pylist() if r["text"] == "short")
    doubles = next(r["id"] for r in plain.dropped().to_pylist() if r["step"] == "exact-duplicates")
    unwanted = plain.table("train")["id"][0].as_py()
    run = curated({**source, "keep": [short, doubles], "drop": [unwanted, "f" * 16]}, workspace)
    kept = {r["id"]: r for r in run.output.table().to_pylist()}
    assert kept[short]["text"] == "short" and doubles in kept and unwanted not in kept
    by_hand = [r for r in run.output.dropped().to_pylist() if r["step"] == "by hand"]
    assert [(r["id"], r["reason"]) for r in by_hand] == [(unwanted, "dropped by hand")]
    assert run.output.manifest["drops"]["exact-duplicates"] == {"same content": 2}, "the other of the pair goes now"
    warned = [e.data["text"] for e in run.events(kinds=["log"]) if e.name == "warning"]
    assert len(warned) == 1 and "f" * 16 in warned[0] and short not in warned[0]


def test_pictures_pass_text_steps(workspace):
    run = curated({"sources": [{"kind": "digits"}]}, workspace)
    manifest = run.output.manifest
    assert manifest["modality"] == "image" and manifest["read"] == 1797 and list(manifest["drops"]) in ([], ["exact-duplicates"])
    record = run.output.table("test").to_pylist()[0]
    assert record["image"].startswith(b"\x89PNG") and record["text"] is None and 0 <= record["label"] <= 9


@pytest.mark.parametrize(("text", "steps", "words"), [
    ("too short\n\n" * 2, None, "the steps leave no record.*1 dropped by quality .too short."),
    ("\xff" * 90, None, "holds no record that can be taken; received '1 invalid UTF-8'"),
    (" \n\n ", [], "holds no record that can be taken"),
    (sentence(1), [], "too little to split: 1 record")])
def test_where_nothing_is_left(workspace, text, steps, words):
    (workspace.root / "a.txt").write_bytes(text.encode("latin-1"))
    spec = {"word": "data", "name": "d", "sources": [{"kind": "files", "paths": ["a.txt"]}], **({} if steps is None else {"steps": steps})}
    run = runs.submit(spec, workspace, place="here")
    assert run.state == "failed" and run.failure["kind"] == "SourceError"
    assert re.search(words, run.failure["what"]), run.failure["what"]
    assert not list(run.directory.glob("*parts*")) and not list(workspace.path("datasets").glob("*/*"))


def test_what_was_done_is_not_done_again(tmp_path, monkeypatch):
    """A read file that is there is taken as it is: a new attempt goes on from it."""
    workspace = Workspace(tmp_path).open()
    fill(workspace.root, file_of=lambda n: 0)
    unit = files.units(DataSpec.load({"name": "d", "sources": [{"kind": "files", "paths": ["part0.jsonl"]}]}).sources[0], workspace)[0]
    task = ReadTask(str(tmp_path / "parts" / "read-0"), [(0, unit)], 500)
    with pytest.raises(FileNotFoundError):  # a task of a run that has ended
        partition.read(task)
    (tmp_path / "parts").mkdir()
    first = partition.read(task)
    assert sum(n for _, _, n, _ in first["units"]) == 66 and len(first["batches"]) > 5
    (workspace.root / "part0.jsonl").unlink()
    assert partition.read(task) == json.loads(json.dumps(first))
    shutil.rmtree(task.folder)
    with pytest.raises(SourceError, match="part0.jsonl: can't be read"):
        partition.read(task)
    assert list((tmp_path / "parts").iterdir()) == []


def test_a_source_that_changes_while_it_is_read_is_refused(workspace, monkeypatch):
    paths = fill(workspace.root)
    read = partition.read

    def meddle(task):
        result = read(task)
        (workspace.root / "part1.jsonl").write_text('{"text": "something else"}\n')
        return result

    monkeypatch.setattr(recipe.partition, "read", meddle)
    run = runs.submit({"word": "data", "name": "d", "sources": [{"kind": "files", "paths": paths}]}, workspace, place="here")
    assert run.state == "failed" and "changed while it was read" in run.failure["what"]


def test_python_docs_end_at_their_megabytes_however_they_are_cut(workspace, monkeypatch):
    spec = {"sources": [{"kind": "python-docs", "max_megabytes": 0.05}], "steps": []}
    reference = curated(spec, workspace).output
    size = sum(part["bytes"] for part in reference.manifest["splits"].values())
    assert 0.05e6 <= size < 0.25e6
    monkeypatch.setattr(recipe, "READ_AT_ONCE", 1000)
    monkeypatch.setattr(recipe, "DENSITY", 0.9)
    again = curated({**spec, "partitions": 2}, workspace, again=True)
    assert again.result["digest"] == reference.digest and again.output.manifest["drops"] == reference.manifest["drops"]


def test_text_steps_between_comparisons_take_their_turn():
    spec = DataSpec.load({"name": "d", "sources": [{"kind": "digits"}], "steps": [
        {"step": s} for s in ("quality", "exact-duplicates", "near-duplicates", "normalise", "pii")]})
    assert recipe._passes(spec) == [([0], 1), ([], 2), ([3, 4], None)]
