"""The forkserver through its door: forks, statuses, logs, and that nothing outlives whom it belongs to."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from workbench.errors import WorkbenchError
from workbench.forkserver import Forkserver


@pytest.fixture
def server(tmp_path):
    made = Forkserver(["json", "no_such_module"], environment={"WB_GIVEN": "yes", "WB_TAKEN": None}, log=tmp_path / "server.log")
    yield made
    made.close()


def tell(connection, argument):
    connection.send([argument, os.getpid(), os.environ.get("WB_GIVEN"), os.environ.get("WB_OWN"), "json" in sys.modules])


def leave(connection, argument):
    print("leaving")
    sys.exit(argument)


def fail(connection, argument):
    raise ValueError("as asked")


def stay(connection, argument):
    connection.send("here")
    connection.recv()


HERE = f"{__name__}:"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(__file__))


def test_a_child_gets_its_argument_and_environment(server):
    child = server.fork(HERE + "tell", {"a": [1, None]}, environment={"WB_OWN": "mine"})
    assert child.connection.recv() == [{"a": [1, None]}, child.pid, "yes", "mine", True]
    assert child.wait(10) == 0 == child.poll()


def test_statuses_and_logs(server, tmp_path):
    left = server.fork(HERE + "leave", 7, log=tmp_path / "child.log")
    failed = server.fork(HERE + "fail", None, log=tmp_path / "failed.log")
    killed = server.fork(HERE + "stay", None)
    assert left.wait(10) == 7 and (tmp_path / "child.log").read_text() == "leaving\n"
    assert failed.wait(10) == 1 and "ValueError: as asked" in (tmp_path / "failed.log").read_text()
    assert killed.connection.recv() == "here" and killed.poll() is None
    killed.kill()
    assert killed.wait(10) == -signal.SIGKILL


def test_on_exit_is_called_once_for_each_of_many(server):
    ended, all_of_them = [], threading.Semaphore(0)

    def note(child):
        ended.append(child.pid)
        all_of_them.release()

    children = [server.fork(HERE + "leave", n % 3, on_exit=note) for n in range(40)]
    for _ in children:
        assert all_of_them.acquire(timeout=20)
    assert sorted(ended) == sorted(c.pid for c in children)
    assert [c.poll() for c in children] == [n % 3 for n in range(40)]


def test_closing_ends_children(server):
    child = server.fork(HERE + "stay", None)
    child.connection.recv()
    server.close()
    assert child.wait(5) == -signal.SIGKILL and not psutil.pid_exists(child.pid) and not server.alive


def test_kill_of_the_server_ends_children_and_says_so(server):
    child = server.fork(HERE + "stay", None)
    child.connection.recv()
    os.kill(server.pid, signal.SIGKILL)
    assert child.wait(5) == -signal.SIGKILL
    _, alive = psutil.wait_procs([p for p in [_process(child.pid)] if p], timeout=5)
    assert alive == []
    with pytest.raises(WorkbenchError, match="the forkserver"):
        server.fork(HERE + "stay", None)


def test_kill_of_the_owner_ends_server_and_children():
    code = ("import os, signal\nfrom workbench.forkserver import Forkserver\ns = Forkserver([])\n"
            f"c = s.fork('{HERE}stay', None)\nc.connection.recv()\nprint(s.pid, c.pid, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert out.returncode == -signal.SIGKILL
    left = [p for p in map(_process, map(int, out.stdout.split())) if p]
    _, alive = psutil.wait_procs(left, timeout=10)
    assert alive == []


def owner(name, keeper):
    """An owner that is killed once its child is there; pids of server and child."""
    code = ("import os, signal\nfrom pathlib import Path\nfrom workbench.forkserver import Forkserver\n"
            f"s = Forkserver(['json'], environment={{'WB_GIVEN': 'first'}}, name={name!r}, keeper={keeper}, "
            "log=Path(os.devnull))\n"  # else it holds this end of the pipe open
            f"c = s.fork('{HERE}stay', None)\nc.connection.recv()\nprint(s.pid, c.pid, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert out.returncode == -signal.SIGKILL
    return map(int, out.stdout.split())


def gone(*pids):
    return psutil.wait_procs([p for p in map(_process, pids) if p], timeout=10)[1] == []


@pytest.fixture
def keeper():
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def test_who_follows_a_killed_owner_gets_its_warm_server_without_its_children(keeper):
    name = secrets.token_hex(16)
    pid, child = owner(name, keeper.pid)
    assert gone(child) and _process(pid)
    server = Forkserver(["json"], environment={"WB_GIVEN": "second"}, name=name, keeper=keeper.pid)
    try:
        assert server.pid == pid and server.alive
        found = server.fork(HERE + "tell", 1)
        assert found.connection.recv()[2] == "first" and found.wait(10) == 0
        stays = server.fork(HERE + "stay", None)
        assert stays.connection.recv() == "here"
    finally:
        server.close()
    assert stays.wait(5) == -signal.SIGKILL and not server.alive and gone(pid)


def test_a_server_that_nobody_may_follow_any_more_ends(keeper):
    pid, _ = owner(secrets.token_hex(16), keeper.pid)
    assert _process(pid)
    keeper.kill()
    assert gone(pid)


def test_a_frozen_server_is_not_taken_over(keeper):
    name = secrets.token_hex(16)
    pid, _ = owner(name, keeper.pid)
    os.kill(pid, signal.SIGSTOP)
    while psutil.Process(pid).status() != psutil.STATUS_STOPPED:  # it may be in the middle of ending its child
        time.sleep(0.01)
    server = Forkserver([], name=name, keeper=keeper.pid)
    try:
        assert server.pid != pid and server.fork(HERE + "tell", 1).wait(10) == 0 and gone(pid)
    finally:
        server.close()


def test_an_argument_too_large_is_refused(server):
    with pytest.raises(WorkbenchError, match="too large for a fork.*connection"):
        server.fork(HERE + "tell", "x" * 100_000)


def _process(pid):
    try:
        process = psutil.Process(pid)
        return process if process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None
