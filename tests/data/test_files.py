"""files: which files a path, a directory or a glob means, and what is said where there is none."""

from __future__ import annotations

import pytest

from workbench.data.sources import files
from workbench.data.spec import Files
from workbench.errors import SourceError
from workbench.storage import digest_file
from workbench.workspace import Workspace

TEXT = "A paragraph that is long enough to say something. " * 3


@pytest.fixture
def notes(workspace):
    folder = workspace.root / "notes"
    (folder / "deep" / ".git").mkdir(parents=True)
    for name in ("a.md", "b.txt", "deep/c.jsonl", "deep/.git/d.txt", "picture.png"):
        (folder / name).write_text(TEXT if not name.endswith("jsonl") else '{"text": "x"}\n')
    return folder


def names(workspace, *paths: str, **options) -> list[str]:
    return [u.name for u in files.units(Files(paths=paths, **options), workspace)]


def test_paths_globs_and_directories_relative_to_the_workspace(workspace, notes, tmp_path, monkeypatch):
    assert names(workspace, "notes/b.txt", "notes/a.md") == ["notes/a.md", "notes/b.txt"]
    assert names(workspace, "notes/*") == ["notes/a.md", "notes/b.txt"]
    assert names(workspace, "notes") == names(workspace, "notes/**/*") == ["notes/a.md", "notes/b.txt", "notes/deep/c.jsonl"]
    assert names(workspace, "notes/a.md", "notes/*.md", str(notes / "a.md")) == ["notes/a.md"]
    outside = tmp_path / "home" / "e.txt"
    outside.parent.mkdir()
    outside.write_text(TEXT)
    assert names(workspace, str(outside)) == [str(outside)]
    monkeypatch.setenv("HOME", str(outside.parent))
    assert names(workspace, "~/*.txt") == [str(outside)]
    assert files.skipped(Files(paths=("notes",)), workspace) == ["notes/picture.png"]


def test_a_workspace_whose_name_looks_like_a_pattern(tmp_path):
    workspace = Workspace(tmp_path / "a[1] *").open()
    (workspace.root / "b.txt").write_text(TEXT)
    (workspace.root / "c[2].txt").write_text(TEXT)
    assert names(workspace, "*.txt") == ["b.txt", "c[2].txt"] and names(workspace, "c[2].txt") == ["c[2].txt"]


def test_inputs_are_the_digests_of_the_files(workspace, notes):
    source = Files(paths=("notes/b.txt", "notes/a.md"))
    assert files.inputs(source, workspace) == {"notes/a.md": digest_file(notes / "a.md"), "notes/b.txt": digest_file(notes / "b.txt")}
    assert files.inputs(Files(paths=("notes/*.md", "notes/b.txt")), workspace) == files.inputs(source, workspace)


@pytest.mark.parametrize(("paths", "words"), [
    (("notes/b.text",), r'no such file.*Did you mean ".*b.txt"'), (("nots/*.md",), r'no file matches.*Did you mean ".*/notes/\*.md"'),
    (("notes/deep/*.md",), r"no file matches.*there is: c.jsonl"), (("notes/picture.png",), "no format is known.*expected one of .txt"),
    (("notes/*.png",), "no format is known"), (("empty.txt",), "empty.txt: is empty"), (("empty.txt", "empty.md"), "all 2 files are empty"),
    (("bare",), "no file of a known format is in this directory")])
def test_what_is_not_there_or_empty_is_refused_with_what_is_near(workspace, notes, paths, words):
    for name in ("empty.txt", "empty.md"):
        (workspace.root / name).touch()
    (workspace.root / "bare").mkdir()
    with pytest.raises(SourceError, match=words):
        files.inputs(Files(paths=paths), workspace)


def test_a_format_may_be_said(workspace, notes):
    (notes / "log").write_text(TEXT)
    with pytest.raises(SourceError, match="no format is known"):
        names(workspace, "notes/log")
    unit = files.units(Files(paths=("notes/log",), format="text"), workspace)[0]
    assert [r.text for r in files.read(unit)] == [TEXT]
