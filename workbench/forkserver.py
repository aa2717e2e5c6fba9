"""A warm process that forks others: modules are imported once, and each child begins in milliseconds.

Training ranks and serving replicas need torch and transformers, whose import costs seconds; a fork of a process that
has them costs none. The server itself runs no thread, so that forking it is safe (POSIX.1-2017, ``fork``).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .errors import WorkbenchError

_MOST = 1 << 16
"""Bytes of one request: an argument is a few paths and numbers; what is larger goes through the connection."""
_PR_SET_PDEATHSIG = 1
_END = b"end"
"""Said by an owner that closes: nobody will follow it."""
ENDING = 5.0
"""Seconds for which the end of killed children is waited for."""
FOLLOWED = 60.0
"""Seconds for which a warm process waits for a next owner."""


class Child:
    """A forked process and this end of the pipe to it."""

    def __init__(self, pid: int, connection: Connection, on_exit: Callable[[Child], None] | None):
        self.pid, self.connection, self._on_exit = pid, connection, on_exit
        self._status: int | None = None
        self._ended = threading.Event()

    def poll(self) -> int | None:
        """Exit status as ``Popen.returncode`` has it (negative: the signal that ended it), or None while it lives."""
        return self._status

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for its end; None when ``timeout`` seconds passed first."""
        self._ended.wait(timeout)
        return self._status

    def kill(self, sign: int = signal.SIGKILL) -> None:
        """Send it a signal, if it has not ended."""
        if self._status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sign)

    def _end(self, status: int) -> None:
        self._status = status
        self._ended.set()
        if self._on_exit:
            self._on_exit(self)


class Forkserver:
    """Start a warm process; it lives until ``close`` or until this process is gone, and takes its children along.

    Parameters
    ----------
    preload : modules that it imports before the first fork; those that are missing are left to the children to miss.
    environment : variables set in it before anything is imported; a value of None takes a variable away.
    log : file that its output, and by default its children's, is appended to.
    name, keeper : where this process may be killed and followed by another that gives the same name (secret, of this host): the warm
        process ends its children then, but waits itself to be taken over, as long as the keeper's pid lives and at most a minute
        (Linux; elsewhere a new one is started).

    Examples
    --------
    >>> server = Forkserver([])
    >>> child = server.fork("workbench.forkserver:_echo", {"n": 1})
    >>> child.connection.recv(), child.wait(10)
    ({'n': 1}, 0)
    >>> server.close()
    """

    def __init__(self, preload: Sequence[str], *, environment: Mapping[str, str | None] | None = None, log: Path | None = None,
                 name: str | None = None, keeper: int | None = None):
        self._asking, self._lock = threading.Lock(), threading.Lock()
        self._children: dict[int, Child] = {}
        self._early: dict[int, int] = {}
        self._answer: list[dict[str, Any]] = []
        self._answered = threading.Semaphore(0)
        left = None if name is None else _left(name)
        self._socket, self._process = left or _started(preload, {**os.environ, **(environment or {})}, log, name, keeper)
        self._reader = threading.Thread(target=self._read, name="forkserver", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def fork(self, target: str, argument: Any, *, environment: Mapping[str, str] | None = None, log: Path | None = None,
             on_exit: Callable[[Child], None] | None = None) -> Child:
        """A child that calls ``target(connection, argument)`` and ends with it.

        Parameters
        ----------
        target : ``package.module:function``.
        argument : JSON value.
        environment : variables set in the child only.
        log : file for the child's output.
        on_exit : called once, from a thread, with the child when it has ended.

        Raises
        ------
        WorkbenchError
            When the forkserver is gone.
        """
        ours, theirs = socket.socketpair()
        request = json.dumps({"target": target, "argument": argument, "environment": dict(environment or {}),
                              "log": str(log) if log else None}).encode()
        if len(request) > _MOST:
            raise WorkbenchError("the argument is too large for a fork", where=target, received=f"{len(request)} bytes",
                                 allowed=f"at most {_MOST} bytes of JSON", hint="Send it through the child's connection")
        with self._asking:
            try:
                _send(self._socket, request, theirs.fileno())
            except OSError as error:
                ours.close()
                raise WorkbenchError("the forkserver is gone", where=f"pid {self.pid}", received=error.strerror) from None
            finally:
                theirs.close()
            self._answered.acquire()
            if not self._answer:
                ours.close()
                raise WorkbenchError("the forkserver ended while it was asked to fork", where=f"pid {self.pid}",
                                     received=f"status {self._process.poll()}")
            pid = self._answer.pop()["forked"]
        child = Child(pid, Connection(ours.detach()), on_exit)
        with self._lock:
            status = self._early.pop(pid, None)
            if status is None:
                self._children[pid] = child
        if status is not None:
            child._end(status)
        return child

    def close(self) -> None:
        """End it and every child."""
        with contextlib.suppress(OSError):
            _send(self._socket, _END)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if threading.current_thread() is not self._reader:
            self._reader.join(5)
        self._socket.close()

    def _read(self) -> None:
        while True:
            said, _ = _receive(self._socket)
            if not said:
                break
            message = json.loads(said)
            if "forked" in message:
                self._answer.append(message)
                self._answered.release()
                continue
            with self._lock:
                child = self._children.pop(message["exited"], None)
                if child is None:
                    self._early[message["exited"]] = message["status"]
            if child:
                child._end(message["status"])
        self._answered.release()
        with self._lock:
            left, self._children = list(self._children.values()), {}
        for child in left:  # the kernel kills them with their parent
            child._end(-signal.SIGKILL)


class _Adopted:
    """A warm process that another owner started, with what ``Forkserver`` asks of a ``Popen``; its status is not ours to know."""

    def __init__(self, pid: int, handle: int):
        self.pid, self._handle = pid, handle

    def poll(self) -> int | None:
        return 0 if select.select([self._handle], [], [], 0)[0] else None

    def wait(self, timeout: float | None = None) -> int:
        if not select.select([self._handle], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("workbench.forkserver", timeout or 0.0)
        return 0

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def __del__(self):
        os.close(self._handle)


def _started(preload: Sequence[str], variables: Mapping[str, str | None], log: Path | None, name: str | None,
             keeper: int | None) -> tuple[socket.socket, subprocess.Popen]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with theirs, contextlib.ExitStack() as stack:
        output = stack.enter_context(_appending(log)) if log else None
        told = json.dumps({"preload": list(preload), "name": name, "keeper": keeper})
        return ours, subprocess.Popen(
            [sys.executable, "-m", "workbench.forkserver", str(theirs.fileno()), told], pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            env={k: v for k, v in variables.items() if v is not None})


def _left(name: str) -> tuple[socket.socket, _Adopted] | None:
    """The warm process that waits for a next owner by this name; one that is frozen is ended."""
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        ours.connect(_address(name))
        pid = _own_peer(ours)
        if pid is not None:
            process = _Adopted(pid, os.pidfd_open(pid))
            if not stopped(pid):
                return ours, process
            process.kill()
    except (OSError, AttributeError):  # nobody waits, or not on this system
        pass
    ours.close()
    return None


def stopped(pid: int) -> bool:
    """True of a process that was stopped (SIGSTOP), as ``/proc`` says (Linux, proc(5)).

    Examples
    --------
    >>> stopped(os.getpid())
    False
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] == b"T"
    except OSError:
        return False


def _address(name: str) -> str:
    return f"\0workbench-forkserver-{name}"  # in no directory (Linux, unix(7)): gone with who listens


def _own_peer(peer: socket.socket) -> int | None:
    """The pid at the other end, if it is of the same user."""
    pid, user, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid if user == os.getuid() else None


def _send(peer: socket.socket, body: bytes, descriptor: int | None = None) -> None:
    """One message, its length before it: sockets that keep messages apart are not to be had everywhere."""
    framed = struct.pack("!I", len(body)) + body
    sent = 0 if descriptor is None else socket.send_fds(peer, [framed], [descriptor])
    peer.sendall(framed[sent:])


def _receive(peer: socket.socket) -> tuple[bytes, list[int]]:
    """The next message and what descriptors came with it; empty where the other end is gone, be it amid one."""
    descriptors: list[int] = []
    try:
        head, descriptors, _, _ = socket.recv_fds(peer, 4, 1)
        head += exactly(peer, 4 - len(head)) if head else b""
        body = exactly(peer, struct.unpack("!I", head)[0]) if head else b""
    except OSError:  # also: it was killed before it had read all
        body = b""
    if not body:
        for left in descriptors:
            os.close(left)
        return b"", []
    return body, descriptors


def exactly(peer: socket.socket, size: int) -> bytes:
    """So many bytes of a stream; ``ConnectionError`` where it ends before."""
    found = bytearray()
    while len(found) < size:
        part = peer.recv(size - len(found))
        if not part:
            raise ConnectionError("the other end is gone")
        found += part
    return bytes(found)


@contextlib.contextmanager
def _appending(path: Path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        yield file


# --- the warm process ------------------------------------------------------------------------------------------------


class _Owners:
    """Whom a warm process works for: who started it, and where it has a name those who follow."""

    def __init__(self, first: socket.socket, name: str | None, keeper: int | None):
        self.now = first
        self._listening: socket.socket | None = None
        with contextlib.suppress(OSError, AttributeError):  # where a system can't, nobody follows
            if name is not None:
                self._keeper = os.pidfd_open(keeper)
                listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                listening.bind(_address(name))
                listening.listen()
                self._listening = listening

    def follow(self) -> bool:
        """Wait for the next; false where none comes."""
        self.now.close()
        if self._listening is None:
            return False
        deadline = time.monotonic() + FOLLOWED
        while (left := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select([self._listening, self._keeper], [], [], left)
            if self._keeper in ready:
                break
            if self._listening in ready:
                found, _ = self._listening.accept()
                if _own_peer(found) is not None:
                    self.now = found
                    return True
                found.close()
        return False

    def close(self) -> None:
        """In a forked child: none of it is its own."""
        self.now.close()
        if self._listening is not None:
            self._listening.close()
            os.close(self._keeper)


def _serve(owners: _Owners, preload: Sequence[str]) -> None:
    for name in preload:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a child's collector must not touch, and so copy, every page
    wake, woken = os.pipe()
    os.set_blocking(wake, False), os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: set[int] = set()
    while True:
        owner = owners.now
        ready, _, _ = select.select([owner, wake], [], [])
        if wake in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)
            for pid in list(children):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    children.discard(pid)
                    with contextlib.suppress(OSError):
                        _send(owner, json.dumps({"exited": pid, "status": os.waitstatus_to_exitcode(status)}).encode())
        if owner in ready:
            request, descriptors = _receive(owner)
            if not request or request == _END:
                if not _ended(children) or request == _END or not owners.follow():
                    os._exit(0)
                continue
            pid = os.fork()
            if pid == 0:
                os.close(wake), os.close(woken)
                owners.close()
                _become(json.loads(request), descriptors[0])
            os.close(descriptors[0])
            children.add(pid)
            with contextlib.suppress(OSError):  # an owner that is gone is seen above
                _send(owner, json.dumps({"forked": pid}).encode())


def _ended(children: set[int]) -> bool:
    """Kill children and wait for them; false where one can't be killed (a driver of a device holds it): nobody should follow then."""
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + ENDING
    while children and time.monotonic() < deadline:
        children -= {pid for pid in children if os.waitpid(pid, os.WNOHANG)[0]}
        time.sleep(0.005 if children else 0)
    return not children


def _become(request: dict[str, Any], descriptor: int) -> None:
    """The forked child's whole life; never returns."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with contextlib.suppress(AttributeError):  # Linux alone has it
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.environ.update(request["environment"])
        if request["log"]:
            with _appending(Path(request["log"])) as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
        module, _, name = request["target"].partition(":")
        getattr(importlib.import_module(module), name)(Connection(descriptor), request["argument"])
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # noqa: BLE001 - the last frame of this process: say it and end
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _echo(connection: Connection, argument: Any) -> None:
    """What the example above runs."""
    connection.send(argument)


if __name__ == "__main__":
    # Under its importable name, so that children share one copy of this module.
    itself, told = importlib.import_module("workbench.forkserver"), json.loads(sys.argv[2])
    itself._serve(itself._Owners(socket.socket(fileno=int(sys.argv[1])), told["name"], told["keeper"]), told["preload"])
