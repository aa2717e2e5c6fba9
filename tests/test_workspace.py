"""Where state lives: found upwards, refused when newer, settings with all their problems at once."""

from __future__ import annotations

import os

import pytest

from workbench.errors import NotFoundError, SpecError, StorageError, WorkspaceError
from workbench.workspace import Workspace


def test_found_upwards_by_settings_or_state(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "workbench.toml").write_text("")
    assert Workspace.find(tmp_path / "a" / "b").root == tmp_path
    Workspace(tmp_path / "a").open()
    assert Workspace.find(tmp_path / "a" / "b").root == tmp_path / "a"
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert Workspace.find().root == tmp_path / "a"
    monkeypatch.setenv("WORKBENCH_ROOT", str(tmp_path))
    assert Workspace.find().root == tmp_path


def test_all_state_is_in_one_directory_that_git_ignores(workspace):
    assert {p.name for p in workspace.root.iterdir()} == {".workbench"}
    assert (workspace.state / ".gitignore").read_text() == "*\n"


@pytest.mark.parametrize(("mark", "words"), [
    ("2\n", "was written by a newer workbench; received 2; expected format 1. Update genai-workbench"),
    ("x", "has an unreadable format mark")])
def test_a_newer_workspace_is_refused_and_left_alone(tmp_path, mark, words):
    (tmp_path / ".workbench").mkdir()
    (tmp_path / ".workbench" / "format").write_text(mark)
    with pytest.raises(WorkspaceError, match=words):
        Workspace.find(tmp_path)
    assert (tmp_path / ".workbench" / "format").read_text() == mark


def test_settings_tell_all_their_problems_at_once(tmp_path):
    (tmp_path / "workbench.toml").write_text('[cluster]\nworkres = 3\nthreads = 0\nlog_level = "loud"\n')
    with pytest.raises(SpecError) as caught:
        _ = Workspace.find(tmp_path).settings
    said = str(caught.value)
    assert 'cluster.workres: unknown field; did you mean "workers"?' in said
    assert "cluster.threads: received 0; expected a number ≥ 1" in said and str(tmp_path / "workbench.toml") in said


def test_settings_that_are_no_toml(tmp_path):
    (tmp_path / "workbench.toml").write_text("cluster = \n")
    with pytest.raises(SpecError, match="expected TOML"):
        _ = Workspace.find(tmp_path).settings


def test_a_secret_is_named_in_settings_and_lies_in_the_environment(tmp_path, monkeypatch):
    (tmp_path / "workbench.toml").write_text('[secrets]\nhook = "HOOK_TOKEN"\n')
    workspace = Workspace.find(tmp_path)
    with pytest.raises(NotFoundError, match='the secret "hook" has no value. Set the environment variable HOOK_TOKEN'):
        workspace.secret("hook")
    monkeypatch.setenv("HOOK_TOKEN", "s3cret")
    assert workspace.secret("hook") == "s3cret"
    with pytest.raises(NotFoundError, match='no secret "hok".*Did you mean "hook"'):
        workspace.secret("hok")


def test_a_token_is_made_once_and_only_its_owner_reads_it(workspace):
    path = workspace.path("endpoints", "x", "token")
    token = workspace.token(path)
    assert workspace.token(path) == token and len(token) >= 32
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_can_not_be_written_says_so(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="can't be written"):
        Workspace(tmp_path / "w").open()


def test_records_name_files_inside_by_relative_path(workspace, tmp_path):
    assert workspace.relative(workspace.root / "a" / "b.txt") == "a/b.txt"
    assert workspace.relative(tmp_path / "elsewhere") == (tmp_path / "elsewhere").as_posix()
