"""Atomic writes and commits, digests and the shared database, with real kills and a really full disk."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import StorageError
from workbench.storage import Database, canonical_json, digest_json, digest_tree, staging, write_atomic

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(st.none() | st.booleans() | st.integers() | TEXT, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
                    max_leaves=12)


@given(st.dictionaries(TEXT, JSON))
def test_a_digest_does_not_depend_on_the_order_of_keys(value):
    assert digest_json(value) == digest_json(dict(reversed(value.items())))


def test_canonical_json_has_no_nan():
    with pytest.raises(ValueError, match="Out of range"):
        canonical_json({"x": float("nan")})


def test_a_reader_sees_the_old_bytes_or_the_new_ones_while_a_writer_is_killed(tmp_path):
    path = tmp_path / "file"
    old, new = b"old" * 100_000, b"new" * 100_000
    write_atomic(path, old)
    code = ("import sys\nfrom workbench.storage import write_atomic\nprint('up', flush=True)\n"
            "while True:\n    for w in (b'new', b'old'): write_atomic(sys.argv[1], w * 100_000)")
    for _ in range(5):
        writer = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
        writer.stdout.readline()
        for _ in range(20):
            assert path.read_bytes() in (old, new)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        assert path.read_bytes() in (old, new)


def test_staging_is_seen_whole_or_not_at_all(tmp_path):
    with staging(tmp_path / "versions") as place:
        (place / "a").write_text("1")
        (place / "sub").mkdir()
        (place / "sub" / "b").write_text("2")
        assert [p for p in (tmp_path / "versions").iterdir() if not p.name.startswith(".")] == []
        final = place.commit(tmp_path / "versions" / "v1")
    assert digest_tree(final) == digest_tree(tmp_path / "versions" / "v1") and (final / "sub" / "b").read_text() == "2"
    with pytest.raises(KeyError), staging(tmp_path / "versions") as place:
        (place / "a").write_text("half")
        raise KeyError
    assert [p.name for p in (tmp_path / "versions").iterdir()] == ["v1"]


def test_what_a_killed_writer_left_is_removed_later_and_what_is_still_written_is_not(tmp_path):
    code = ("import sys, time\nfrom workbench.storage import staging\nwith staging(sys.argv[1]) as place:\n"
            "    (place / 'a').write_text('half')\n    print(place.path.name, flush=True)\n    time.sleep(600)")
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    killed, fresh, alive = [tmp_path / w.stdout.readline().strip() for w in writers]
    try:
        for writer in writers[:2]:
            writer.kill()
            writer.wait()
        for path in (killed, alive):
            os.utime(path, (0, 0))
        with staging(tmp_path):
            pass
        assert (killed.exists(), fresh.exists(), alive.exists()) == (False, True, True)
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()


def test_of_two_commits_the_first_stays(tmp_path):
    for text in ("first", "second"):
        with staging(tmp_path) as place:
            (place / "a").write_text(text)
            place.commit(tmp_path / "v")
    assert (tmp_path / "v" / "a").read_text() == "first"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_says_so_and_leaves_what_was_there(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]).returncode:
        pytest.skip("tmpfs can't be mounted here")
    try:
        write_atomic(disk / "file", "kept")
        with pytest.raises(StorageError, match=r"file: the disk is full\. Free some space and run again"):
            write_atomic(disk / "file", b"x" * 200_000)
        with pytest.raises(StorageError, match="the disk is full"), staging(disk / "versions") as place:
            (place / "big").write_bytes(b"x" * 200_000)
        assert (disk / "file").read_text() == "kept" and list((disk / "versions").iterdir()) == []
        database = Database(disk / "db" / "x.db", "CREATE TABLE IF NOT EXISTS t (v BLOB)")
        with pytest.raises(StorageError, match="disk is full"):
            database.execute("INSERT INTO t VALUES (zeroblob(200000))")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def _count(path: str, times: int) -> None:
    database = Database(path, "CREATE TABLE IF NOT EXISTS counter (n INTEGER)")
    for _ in range(times):
        with database.transaction() as connection:
            n = connection.execute("SELECT n FROM counter").fetchone()[0]
            connection.execute("UPDATE counter SET n = ?", (n + 1,))


def test_transactions_of_many_processes_do_not_lose_each_other(tmp_path):
    path = tmp_path / "x.db"
    database = Database(path, "CREATE TABLE IF NOT EXISTS counter (n INTEGER)")
    database.execute("INSERT INTO counter VALUES (0)")
    workers = [multiprocessing.get_context("spawn").Process(target=_count, args=(str(path), 50)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert database.row("SELECT n FROM counter")["n"] == 150


def test_a_transaction_is_whole_or_not_at_all(tmp_path):
    database = Database(tmp_path / "x.db", "CREATE TABLE IF NOT EXISTS t (v INTEGER)")
    with pytest.raises(ZeroDivisionError), database.transaction() as connection:
        connection.execute("INSERT INTO t VALUES (1)")
        _ = 1 / 0
    assert database.rows("SELECT * FROM t") == []


def test_a_fork_does_not_share_its_parents_connection(tmp_path):
    database = Database(tmp_path / "x.db", "CREATE TABLE IF NOT EXISTS t (v INTEGER)")
    database.execute("INSERT INTO t VALUES (1)")
    pid = os.fork()
    if pid == 0:
        try:
            database.execute("INSERT INTO t VALUES (2)")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    database.execute("INSERT INTO t VALUES (3)")
    assert [r["v"] for r in database.rows("SELECT v FROM t ORDER BY v")] == [1, 2, 3]


def test_a_damaged_database_says_what_to_do(tmp_path):
    (tmp_path / "x.db").write_bytes(b"nonsense" * 1000)
    with pytest.raises(StorageError, match=r"x\.db: is damaged.*Restore it from a backup"):
        Database(tmp_path / "x.db", "CREATE TABLE IF NOT EXISTS t (v)").rows("SELECT 1")
