"""What Linux alone has is taken away from a Python and all that it starts: the rest must do. It is no Mac, but as near as a test gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT = '''
import builtins, ctypes, os, signal, socket, sys

for name in ("pidfd_open", "pipe2", "sched_getaffinity", "sched_setaffinity", "memfd_create", "eventfd"):
    if hasattr(os, name):
        delattr(os, name)
for module, name in ((signal, "pidfd_send_signal"), (socket, "SO_PEERCRED")):
    if hasattr(module, name):
        delattr(module, name)

opened, opened_low, library, sockets = builtins.open, os.open, ctypes.CDLL, socket.socket


def refused(path):
    if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(("/proc/", "/sys/")):
        if "workbench" in sys._getframe(2).f_globals.get("__name__", ""):
            raise FileNotFoundError(2, "No such file or directory", os.fspath(path))


def open_(path, *arguments, **options):
    refused(path)
    return opened(path, *arguments, **options)


def open_low(path, *arguments, **options):
    refused(path)
    return opened_low(path, *arguments, **options)


class Library:
    def __init__(self, real):
        self._real = real

    def __getattr__(self, name):
        if name == "prctl":
            raise AttributeError(name)
        return getattr(self._real, name)


class Socket(sockets):
    def __init__(self, family=-1, type=-1, proto=-1, fileno=None):
        if type == socket.SOCK_SEQPACKET:
            raise OSError(43, "Protocol not supported")
        super().__init__(family, type, proto, fileno)

    def connect(self, address):
        nameless(address)
        return super().connect(address)

    def bind(self, address):
        nameless(address)
        return super().bind(address)


def nameless(address):
    if isinstance(address, str) and address.startswith(chr(0)):
        raise FileNotFoundError(2, "No such file or directory")


builtins.open, os.open, socket.socket = open_, open_low, Socket
ctypes.CDLL = lambda name=None, *a, **k: Library(library(name, *a, **k)) if name is None else library(name, *a, **k)
os.environ["WITHOUT"] = os.environ.get("WITHOUT", "") + "."
'''


@pytest.fixture
def poorer(tmp_path):
    """The environment of a Python that lacks what Linux alone has; whatever it starts lacks it too."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])}


def test_a_warm_process_forks_and_ends_its_children(poorer):
    code = """
import json, os
from workbench.forkserver import Forkserver
server = Forkserver(["json"], name="a-name", keeper=os.getpid())
child = server.fork("workbench.forkserver:_echo", {"text": "x" * 60_000})
got = child.connection.recv()
print(json.dumps({"without": os.environ["WITHOUT"], "got": len(got["text"]), "status": child.wait(10)}))
stays = server.fork("time:sleep", 600)
server.close()
print(stays.wait(10))
"""
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, timeout=60, env=poorer, check=True)
    told, status = done.stdout.splitlines()
    assert json.loads(told) == {"without": ".", "got": 60_000, "status": 0} and status in ("1", "-9")


@pytest.mark.skipif(not os.environ.get("WORKBENCH_SOAK"), reason="a cluster of its own: set WORKBENCH_SOAK=1")
def test_a_model_is_trained(poorer, tmp_path):
    def workbench(*arguments: str) -> str:
        return subprocess.run([Path(sys.executable).with_name("workbench"), *arguments], cwd=tmp_path, env=poorer, check=True, timeout=300,
                              stdout=subprocess.PIPE, text=True).stdout

    specs = {"data": {"word": "data", "name": "docs", "sources": [{"kind": "python-docs", "max_megabytes": 0.3}]},
             "train": {"word": "train", "data": "docs", "name": "small", "model": {"size": "100K", "vocabulary": 512, "context": 64},
                       "tokens": 40_000, "batch": {"sequences": 4}, "hardware": {"ranks": 2}}}
    try:
        for word, spec in specs.items():
            (tmp_path / f"{word}.yaml").write_text(json.dumps(spec))
            said = workbench(word, f"{word}.yaml")
    finally:
        ended = workbench("down")
    assert "model small@" in said and "ranks 2" in said and "ended: cluster" in ended
