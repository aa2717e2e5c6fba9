"""The audit log: whatever is changed, cut, put back or lost is noticed; what a kill leaves is not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.audit import AuditLog
from workbench.errors import StorageError
from workbench.storage import canonical_json, digest_bytes


def filled(folder: Path, count: int = 6) -> AuditLog:
    log = AuditLog(folder / "audit.jsonl")
    for n in range(count):
        log.append("alias", model=f"m{n}", words="naïve\u2028text\x85 with line ends\n")
    return log


@pytest.fixture
def log(tmp_path) -> AuditLog:
    return filled(tmp_path)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[bytes, str]:
    log = filled(tmp_path_factory.mktemp("written"))
    return log.path.read_bytes(), log.head.read_text()


def with_bytes(data: bytes, head: str | None) -> AuditLog:
    log = AuditLog(Path(tempfile.mkdtemp()) / "audit.jsonl")
    log.path.write_bytes(data)
    if head is not None:
        log.head.write_text(head)
    return log


def test_lines_are_numbered_chained_and_say_who_did_what_when(log):
    entries = log.entries()
    assert log.verify() == 6 and [e["seq"] for e in entries] == list(range(6))
    assert entries[3]["previous"] == entries[2]["hash"] and entries[0]["previous"] == "0" * 64
    assert entries[3]["action"] == "alias" and entries[3]["details"]["model"] == "m3" and entries[3]["who"]
    assert entries[3]["details"]["words"] == "naïve\u2028text\x85 with line ends\n"
    assert log.find(entries[3]["hash"]) == entries[3]
    assert log.find("0" * 64) is None


def test_an_empty_log_is_whole(tmp_path):
    log = AuditLog(tmp_path / "none" / "audit.jsonl")
    assert (log.verify(), log.entries(), log.find("f" * 64)) == (0, [], None)


@settings(max_examples=150, deadline=None)
@given(where=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_any_changed_byte_is_noticed(written, where, change):
    data, head = written
    at = int(where * len(data))
    with pytest.raises(StorageError):
        with_bytes(data[:at] + bytes([data[at] ^ change]) + data[at + 1:], head).verify()


@settings(max_examples=100, deadline=None)
@given(where=st.floats(0, 1, exclude_max=True))
def test_any_cut_is_noticed_and_stays_noticed_when_lines_follow(written, where):
    data, head = written
    log = with_bytes(data[:int(where * len(data))], head)
    with pytest.raises(StorageError):
        log.verify()
    log.append("alias", model="later")
    log.append("alias", model="later still")
    with pytest.raises(StorageError):
        log.verify()


@settings(max_examples=100, deadline=None)
@given(order=st.lists(st.integers(0, 5), max_size=8).filter(lambda order: order != [0, 1, 2, 3, 4, 5]))
def test_lines_taken_out_doubled_or_in_another_order_are_noticed(written, order):
    data, head = written
    lines = data.split(b"\n")[:-1]
    with pytest.raises(StorageError):
        with_bytes(b"".join(lines[n] + b"\n" for n in order), head).verify()


def test_a_log_written_anew_does_not_fit_the_head_that_is_kept(log):
    rows = log.entries()
    rows[2]["details"]["model"] = "another"
    previous, data = "0" * 64, b""
    for row in rows:
        row.pop("hash")
        row["previous"] = previous
        row["hash"] = previous = digest_bytes(canonical_json(row))
        data += canonical_json(row) + b"\n"
    log.path.write_bytes(data)
    with pytest.raises(StorageError, match="not the one that was written"):
        log.verify()
    log.append("alias", model="later")
    with pytest.raises(StorageError):
        log.verify()


def test_a_log_or_head_that_was_removed_or_put_back_is_noticed(log, tmp_path):
    data, head = log.path.read_bytes(), log.head.read_text()
    log.head.unlink()
    with pytest.raises(StorageError, match="removed or put back"):
        log.verify()
    log.head.write_text(head)
    log.path.unlink()
    with pytest.raises(StorageError, match="holds 0 lines, but 6 were written"):
        log.verify()
    log.append("alias", model="later")
    with pytest.raises(StorageError, match="line 1"):
        log.verify()
    log.path.write_bytes(data)
    log.head.write_text(head)
    assert log.verify() == 6


def test_a_line_that_a_killed_writer_left_unfinished_never_counted(log):
    whole = log.path.read_bytes()
    for size in (1, 20, 150):
        log.path.write_bytes(whole + whole[:size])
        assert log.verify() == 6 and len(log.entries()) == 6
    assert log.append("alias", model="next")["seq"] == 6
    assert log.verify() == 7


def test_a_writer_killed_before_it_wrote_the_head_costs_nothing(log):
    head = log.head.read_text()
    for n in range(3):
        assert log.append("alias", model="x")["seq"] == 6 + n
        log.head.write_text(head)  # as a kill between the log and the head leaves it
        assert log.verify() == 7 + n
        head = f"{6 + n} {log.entries()[-1]['hash']}\n"


_WRITE = """
import sys
from workbench.audit import AuditLog
log = AuditLog(sys.argv[1])
for n in range(int(sys.argv[2])):
    print(log.append("alias", model="m" * 3000, writer=sys.argv[3])["hash"], flush=True)
"""


def writer(log: AuditLog, count: int, name: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", _WRITE, str(log.path), str(count), name], stdout=subprocess.PIPE, text=True)


def test_many_processes_write_one_chain(tmp_path):
    log = AuditLog(tmp_path / "audit.jsonl")
    writers = [writer(log, 25, str(n)) for n in range(4)]
    seen = 0
    deadline = time.monotonic() + 120
    while any(w.poll() is None for w in writers):
        assert time.monotonic() < deadline, "the writers do not end"
        seen, before = log.verify(), seen  # a reader never takes a write for a fault
        assert seen >= before
    said = [h for w in writers for h in w.stdout.read().split()]
    assert log.verify() == 100 and sorted(said) == sorted(e["hash"] for e in log.entries())
    for name in "0123":
        assert sum(e["details"]["writer"] == name for e in log.entries()) == 25


def test_kill_of_writers_loses_no_line_that_was_confirmed(tmp_path):
    log = AuditLog(tmp_path / "audit.jsonl")
    said: list[str] = []
    for round_ in range(4):
        child = writer(log, 100_000, str(round_))
        for _ in range(random.Random(round_).randint(1, 20)):
            said.append(child.stdout.readline().strip())
        os.kill(child.pid, signal.SIGKILL)
        said += child.communicate()[0].split()
        assert log.verify() >= len(said)
    hashes = [e["hash"] for e in log.entries()]
    assert [h for h in hashes if h in set(said)] == said and len(hashes) <= len(said) + 4


def test_what_is_no_json_number_is_refused_and_leaves_the_log_whole(log):
    with pytest.raises(ValueError, match="JSON"):
        log.append("verdict", value=float("nan"))
    assert log.verify() == 6
    assert json.loads(log.path.read_bytes().split(b"\n")[5])["seq"] == 5


def test_a_reader_that_comes_just_before_the_first_line_takes_it_for_no_loss(tmp_path, monkeypatch):
    log = AuditLog(tmp_path / "audit.jsonl")
    look = log._head

    def between() -> tuple[int, str] | None:  # all is written after the reader saw no file, and before it looks at the head
        monkeypatch.setattr(log, "_head", look)
        log.append("alias", model="m")
        return look()

    monkeypatch.setattr(log, "_head", between)
    assert log.verify() == 1
