"""A person's own files: listed, sent, guessed at, and taken through the steps before anything is run."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workbench import runs
from workbench.data.guess import guess
from workbench.data.inbox import LARGEST, Arrival, listing, safe_name
from workbench.data.preview import preview
from workbench.data.spec import DataSpec, Files
from workbench.errors import SourceError, WorkbenchError, WorkspaceError


def send(workspace, name: str, content: bytes, piece: int = 7) -> str:
    arrival = Arrival(workspace, name, len(content))
    for at in range(0, len(content), piece):
        assert arrival.take(at, content[at:at + piece]) == min(at + piece, len(content))
    return arrival.keep()


def test_a_file_that_was_sent_lies_under_the_name_of_its_content(workspace):
    path = send(workspace, "../../notes.txt", b"some text of mine")
    assert path.startswith("data/notes-") and (workspace.root / path).read_bytes() == b"some text of mine"
    assert send(workspace, "notes.txt", b"some text of mine") == path == send(workspace, "copy.txt", b"some text of mine")
    other = send(workspace, "notes.txt", b"some other text of mine")
    assert other != path and len(list((workspace.root / "data").iterdir())) == 2
    assert send(workspace, "n.jsonl.gz", gzip.compress(b"{}")).endswith(".jsonl.gz")
    assert list(workspace.path("arrivals").iterdir()) == []


def test_what_is_too_large_unknown_or_not_whole_is_refused_and_leaves_nothing(workspace):
    with pytest.raises(SourceError, match="too large"):
        Arrival(workspace, "a.txt", LARGEST + 1)
    with pytest.raises(SourceError, match="no format is known"):
        Arrival(workspace, "a.exe", 1)
    arrival = Arrival(workspace, "a.txt", 10)
    arrival.take(0, b"123")
    with pytest.raises(WorkspaceError, match="did not come whole"):
        arrival.keep()
    arrival = Arrival(workspace, "a.txt", 10)
    with pytest.raises(WorkspaceError, match="do not fit"):
        arrival.take(4, b"123")
    assert list(workspace.path("arrivals").iterdir()) == [] and not (workspace.root / "data").exists()


@pytest.mark.parametrize(("name", "safe"), [("a/b\\c.txt", "c.txt"), ("..", "file"), ("\u202egpj.txt", "gpj.txt"),
                                           ("x" * 400 + ".md", "x" * 100 + ".md"),
                                           ("\n\0.csv", "csv"), ("é.txt", "é.txt")])
def test_names_are_made_safe(name, safe):
    assert safe_name(name) == safe


def test_folders_are_listed_within_workspace_and_home_only(workspace, monkeypatch, tmp_path):
    home = tmp_path / "home"
    (home / "texts").mkdir(parents=True)
    (home / "texts" / "b.md").write_text("# b")
    (home / ".secret").write_text("x")
    monkeypatch.setenv("HOME", str(home))
    (workspace.root / "a.csv").write_text("text\nx\n")
    (workspace.root / "z.bin").write_bytes(b"x")
    (workspace.root / "sub").mkdir()
    found = listing(workspace)
    listed = [(e["name"], e["format"], e["folder"]) for e in found["entries"]]
    assert listed == [("sub", None, True), ("a.csv", "csv", False), ("z.bin", None, False)]
    assert found["path"] == "." and found["parent"] is None
    assert [e["path"] for e in listing(workspace, "~")["entries"]] == ["~/texts"]
    inner = listing(workspace, "~/texts")
    assert inner["entries"][0]["path"] == "~/texts/b.md" and inner["parent"] == "~"
    for outside in ("/etc", "../..", "~/../.."):
        with pytest.raises(SourceError, match="outside"):
            listing(workspace, outside)
    (workspace.root / "way_out").symlink_to("/etc")
    with pytest.raises(SourceError, match="outside"):
        listing(workspace, "way_out")


def test_what_files_seem_to_be(workspace):
    root = workspace.root
    (root / "a.csv").write_text("title;body\n" + "".join(f"t{n};a longer text number {n}\n" for n in range(7)))
    (root / "b.jsonl").write_text("".join(json.dumps({"text": f"line {n}", "id": n}) + "\n" for n in range(5)))
    (root / "c.txt").write_text("\n\n".join("word " * 250 for _ in range(3)))
    pq.write_table(pa.table({"content": ["x", "y"], "label": [1, 2]}), root / "d.parquet")
    found = guess(Files(paths=("a.csv", "b.jsonl", "c.txt", "d.parquet")), workspace)
    assert [(f["format"], f["text"], f["records"], f["exact"]) for f in found["files"]] == [
        ("csv", "body", 7, True), ("jsonl", "text", 5, True), ("text", None, 3, True), ("parquet", "content", 2, True)]
    assert found["records"] == 17 and found["exact"] and found["files"][0]["columns"] == ["title", "body"]
    assert found["files"][0]["first"][0] == {"locator": "line 2", "text": "a longer text number 0", "problem": ""}
    wrong = guess(Files(paths=("a.csv",), text="boddy"), workspace)["files"][0]
    assert "boddy" in wrong["problem"] and "title, body" in wrong["problem"]
    with pytest.raises(WorkbenchError):
        guess(Files(paths=("nowhere.csv",)), workspace)


@pytest.mark.parametrize(("text", "encoding"), [("Größe, café, naïve: die Straße entlang. " * 9, "cp1252"),
                                                ("Съешь же ещё этих мягких французских булок. " * 9, "cp1251")])
def test_an_old_encoding_is_told_and_offered(workspace, text, encoding):
    (workspace.root / "old.txt").write_bytes(text.encode(encoding))
    found = guess(Files(paths=("old.txt",)), workspace)["files"][0]
    assert found["offer"] == {"field": "encoding", "value": encoding}
    better = guess(Files(paths=("old.txt",), encoding=encoding), workspace)["files"][0]
    assert better["offer"] is None and better["first"][0]["text"].startswith(text[:30]) and not better["first"][0]["problem"]


def test_a_large_file_is_estimated_from_its_beginning(workspace):
    line = json.dumps({"text": "a sentence of some length " * 8}) + "\n"
    (workspace.root / "large.jsonl").write_text(line * 20_000)
    found = guess(Files(paths=("large.jsonl",)), workspace)
    assert not found["exact"] and abs(found["records"] - 20_000) < 1_500


def test_a_preview_of_everything_says_what_the_run_does(workspace):
    rows = [f"A sentence number {n} that tells of rivers, bridges and {'very ' * (n % 7)}old towns, {n * n}." for n in range(40)]
    rows += [rows[3], "short", "Write to ada@example.org about the old town, the bridge and the river as soon as you can, she said."]
    (workspace.root / "t.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in rows) + "{broken\n")
    spec = DataSpec.load({"name": "d", "sources": [{"kind": "files", "paths": ["t.jsonl"]}], "split": {"test": 0.1, "validation": 0.1}})
    found = preview(spec, workspace, count=500)
    run = runs.submit(spec, workspace, place="here")
    told = {s["step"]: s["reasons"] for s in found["steps"] if s["reasons"]}
    assert told == run.output.manifest["drops"] and found["read"] == 44 and found["kept"] == run.output.table().num_rows
    assert {r["id"]: r["text"] for r in found["records"] if not r["reason"]} == {r["id"]: r["text"] for r in run.output.table().to_pylist()}
    assert next(s for s in found["steps"] if s["step"] == "pii")["found"] == {"email": 1}
    assert preview(spec, workspace, count=10)["read"] == 10
    assert not list(workspace.path("runs").glob("*preview*"))
