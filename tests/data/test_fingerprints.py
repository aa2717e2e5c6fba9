"""Digests from memory must never be older than the file."""

from __future__ import annotations

import os
import time

import pytest

from workbench.data import fingerprints
from workbench.data.fingerprints import digest_files
from workbench.errors import SourceError
from workbench.storage import digest_file


@pytest.fixture
def settled(monkeypatch):
    """Digests are remembered at once."""
    monkeypatch.setattr(fingerprints, "SETTLED", -1.0)


def remembered(workspace) -> int:
    return len(fingerprints.Database(workspace.path("cache", "fingerprints.db"), fingerprints._SCHEMA).rows("SELECT * FROM fingerprints"))


def test_a_changed_byte_is_seen_though_size_and_time_are_put_back(workspace, tmp_path, settled):
    path = tmp_path / "a.txt"
    path.write_text("one")
    before = os.stat(path)
    first = digest_files(workspace, [path])
    assert first == {str(path): digest_file(path)} and remembered(workspace) == 1
    path.write_text("two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert digest_files(workspace, [path]) == {str(path): digest_file(path)} != first
    path.write_text("one")
    assert digest_files(workspace, [path]) == first


def test_a_file_that_was_just_written_is_read_each_time(workspace, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one")
    digest_files(workspace, [path])
    assert remembered(workspace) == 0
    os.utime(path, (time.time() - 60,) * 2)
    digest_files(workspace, [path])
    assert remembered(workspace) == 0  # the change time can't be set: it is still fresh


def test_more_files_than_one_query_takes(workspace, tmp_path, settled):
    paths = [tmp_path / f"{n}.txt" for n in range(1100)]
    for n, path in enumerate(paths):
        path.write_text(str(n))
    first = digest_files(workspace, paths)
    assert len(set(first.values())) == 1100 and digest_files(workspace, reversed(paths)) == first


def test_a_file_that_is_gone(workspace, tmp_path):
    with pytest.raises(SourceError, match="gone.txt: can't be read"):
        digest_files(workspace, [tmp_path / "gone.txt"])
