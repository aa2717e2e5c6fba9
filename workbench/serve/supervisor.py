"""The supervisor of an endpoint: a detached process that keeps gateway and replicas as the wanted state has them.

It needs neither the kernel that asked nor the cluster. All children are forks of one warm process that ends with the
supervisor, so that a killed supervisor leaves nothing behind; the next one takes up the same wanted state.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.reduction import send_handle
from pathlib import Path
from typing import Any

from .. import processes
from ..errors import PolicyError, SpecError, WorkbenchError
from ..events import Events
from ..forkserver import Child, Forkserver
from ..registry import Registry
from ..storage import write_atomic
from ..workspace import Workspace
from . import door
from .wanted import Member, Wanted, WantedModel, plan, read

PRELOAD = ("torch", "safetensors.torch", "tokenizers", "jinja2.sandbox", "uvloop", "uvicorn", "httptools", "starlette.applications",
           "workbench.serve.replica", "workbench.serve.engines.llama", "workbench.serve.gateway")
SILENCE = 30.0
"""Seconds without an answer to a ping after which a child is killed and started anew."""
SIGN = 5.0
"""Seconds between two signs of life: the time of ``endpoint.json``, by which a reader sees since when a killed one is gone."""
QUIET_DEATHS = 3
"""Deaths within a minute that are answered at once; each further one doubles the wait, from a quarter of a second to 30 s."""


@dataclass
class _Replica:
    id: str
    model: WantedModel
    shape: tuple[int, int]
    child: Child
    state: str = "starting"
    since: float = field(default_factory=time.monotonic)
    pinged: float | None = None


@dataclass
class _Gateway:
    child: Child
    state: str = "starting"
    since: float = field(default_factory=time.monotonic)
    pinged: float | None = None


class Supervisor:
    """Brings about what ``wanted.json`` says, again and again, until it is asked to end."""

    def __init__(self, workspace: Workspace, name: str):
        self.workspace, self.name = workspace, name
        self.folder = workspace.path("endpoints", name)
        self.stopping = False
        self._events = Events(workspace)
        self._server: Forkserver | None = None
        self._replicas: dict[str, _Replica] = {}
        self._gateway: _Gateway | None = None
        self._socket: socket.socket | None = None
        self._note: str | None = None
        self._bound: tuple[str, int] | None = None
        self._mark: tuple[int, int] | None = None
        self._wanted: Wanted | None = None
        self._reached: Wanted | None = None
        self._asked: Wanted | None = None
        self._routed: Wanted | None = None
        self._problem: dict[str, Any] | None = None
        self._deaths: dict[str, deque[float]] = {}
        self._written, self._told, self._signed = "", None, time.monotonic()
        self._started = time.time()

    # --- one round ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Work until asked to end.

        Raises
        ------
        PolicyError, SpecError
            When the first wanted state can't be brought about at all.
        """
        self._end_leftovers()
        try:
            while not self.stopping:
                self._look()
                try:
                    self._keep_server()
                    self._keep_gateway()
                    self._keep_replicas()
                except WorkbenchError as error:  # the forkserver ended just now: the next round starts another
                    self._say("trouble", error=str(error))
                self._write()
                self._hear(0.2)
        finally:
            self._end_all()

    def _look(self) -> None:
        """Take up a changed wanted state, if it may be."""
        try:
            stat = (self.folder / "wanted.json").stat()
        except FileNotFoundError:
            if self._wanted is None:
                raise WorkbenchError("nothing is wanted here", where=self.folder, hint=f"Run: workbench serve --name {self.name}") from None
            return
        if (mark := (stat.st_mtime_ns, stat.st_ino)) == self._mark:
            return
        self._mark = mark
        try:
            wanted = read(self.folder)
            door.check(self.workspace, wanted.host, wanted.in_traffic)
            if self._bound != (wanted.host, wanted.port):
                self._listen(wanted)
        except WorkbenchError as error:
            if self._wanted is None:
                raise
            with contextlib.suppress(SpecError):
                self._fail(error, read(self.folder))
            return
        self._wanted, self._problem = wanted, None
        self._deaths.clear()
        self._say("wanted", generation=wanted.generation, models=[m.model_dump() for m in wanted.models])

    def _listen(self, wanted: Wanted) -> None:
        port = wanted.port
        if self._bound is None and wanted.port == 0:  # after a restart clients find it where it was
            port = _document(self.folder).get("port") or 0
        sock, note = door.listen(wanted.host, port)
        if self._socket is not None:
            self._socket.close()
            self._end_gateway()
        self._socket, self._bound = sock, (wanted.host, wanted.port)
        self._note = note if wanted.port else None

    def _keep_server(self) -> None:
        if self._server is None or not self._server.alive:
            if self._server is not None:
                self._say("forkserver-lost")
                self._server.close()
            threads = str(self._wanted.threads)
            self._server = Forkserver(PRELOAD, environment={
                "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false",
                "WORKBENCH_ROOT": str(self.workspace.root), processes.STEP: None, "CUDA_VISIBLE_DEVICES": ""})

    def _keep_gateway(self) -> None:
        if self._gateway is None and not self._is_held("gateway"):
            self._gateway = gateway = _Gateway(self._fork("workbench.serve.gateway:main",
                                                          {"root": str(self.workspace.root), "name": self.name}))
            self._asked = self._routed or self._wanted
            self._told = None
            with contextlib.suppress(OSError):
                gateway.child.connection.send(("listen", None))
                send_handle(gateway.child.connection, self._socket.fileno(), gateway.child.pid)
                gateway.child.connection.send(_route(self._asked))

    def _keep_replicas(self) -> None:
        wanted = self._wanted
        shape = (wanted.threads, wanted.limits.concurrent)
        held = {m.digest for m in wanted.models if self._is_held(m.digest)}
        members = [Member(r.id, r.model.digest, r.shape, r.state) for r in self._replicas.values()]
        up = self._gateway is not None and self._gateway.state == "up"
        moves = plan([m.digest for m in wanted.models], wanted.replicas, shape, members, shifted=self._routed == wanted, held=held)
        models = {m.digest: m for m in wanted.models}
        for digest in moves.start:
            self._start(models[digest], shape)
        for replica in moves.end:
            self._end(self._replicas[replica])
        if moves.able and self._asked != wanted and up:
            self._asked = wanted
            with contextlib.suppress(OSError):
                self._gateway.child.connection.send(_route(wanted))
        elif up:
            for replica in moves.drain:
                self._replicas[replica].state = "draining"
                with contextlib.suppress(OSError):
                    self._gateway.child.connection.send(("drain", replica))
        if moves.complete and up and self._reached != wanted:
            self._reached = wanted
            self._say("reached", generation=wanted.generation)

    # --- children ----------------------------------------------------------------------------------------------------

    def _fork(self, target: str, argument: dict[str, Any]) -> Child:
        return self._server.fork(target, argument)

    def _start(self, model: WantedModel, shape: tuple[int, int]) -> None:
        try:
            path = Registry(self.workspace).by_digest("model", model.digest).path
        except WorkbenchError as error:
            self._count_death(model.digest)
            self._fail(error, self._wanted)
            return
        child = self._fork("workbench.serve.replica:main",
                           {"path": str(path), "digest": model.digest, "threads": shape[0], "slots": shape[1]})
        replica = _Replica(secrets.token_hex(4), model, shape, child)
        self._replicas[replica.id] = replica

    def _connect(self, replica: _Replica) -> None:
        """Give gateway and replica the two ends of a socket."""
        ours, theirs = socket.socketpair()
        with contextlib.suppress(OSError), ours, theirs:
            replica.child.connection.send(("gateway",))
            send_handle(replica.child.connection, theirs.fileno(), replica.child.pid)
            self._gateway.child.connection.send(("replica", replica.id, replica.model.digest))
            send_handle(self._gateway.child.connection, ours.fileno(), self._gateway.child.pid)

    def _end(self, replica: _Replica) -> None:
        replica.state, replica.since = "ending", time.monotonic()
        with contextlib.suppress(OSError):
            replica.child.connection.send(("end",))
        if self._gateway and self._gateway.state == "up":
            with contextlib.suppress(OSError):
                self._gateway.child.connection.send(("drop", replica.id))

    def _end_gateway(self) -> None:
        """Let the gateway finish what it answers, for two seconds, and close."""
        if self._gateway is not None:
            with contextlib.suppress(OSError):
                self._gateway.child.connection.send(("end",))
            if self._gateway.child.wait(3) is None:
                self._gateway.child.kill()
            self._gateway.child.connection.close()
            self._gateway = None

    def _hear(self, seconds: float) -> None:
        """Wait for a word of a child; death is heard as the end of its connection."""
        by_connection = {r.child.connection: r for r in self._replicas.values()}
        if self._gateway is not None:
            by_connection[self._gateway.child.connection] = self._gateway
        for connection in wait(list(by_connection), seconds):
            member = by_connection[connection]
            try:
                while connection.poll():
                    word, *rest = connection.recv()
                    self._on_gateway(word, *rest) if isinstance(member, _Gateway) else self._on_replica(member, word, *rest)
            except (EOFError, OSError):
                self._gone(member)
        self._check_silence()

    def _on_replica(self, replica: _Replica, word: str, *rest: Any) -> None:
        if word == "ready":
            replica.state = "ready"
            self._say("replica-ready", replica=replica.id, pid=replica.child.pid, digest=replica.model.digest, **rest[0])
            if self._gateway is not None and self._gateway.state == "up":
                self._connect(replica)
        elif word == "failed":
            self._fail(rest[0], self._wanted, digest=replica.model.digest)
        elif word == "pong":
            replica.pinged = None

    def _on_gateway(self, word: str, *rest: Any) -> None:
        if word == "up":
            self._gateway.state, self._routed = "up", self._asked
            self._say("gateway-up", pid=rest[0], address=door.address(self._socket))
            for replica in self._replicas.values():
                if replica.state == "draining":  # its answers went with the old gateway
                    self._end(replica)
                elif replica.state == "ready":
                    self._connect(replica)
        elif word == "idle" and rest[0] in self._replicas:
            self._end(self._replicas[rest[0]])
        elif word == "routed":
            self._routed = self._asked
            self._say("routed", models=[m.model_dump() for m in self._routed.models])
        elif word == "refused":  # the gateway has a look of its own, whatever was said to it
            self._fail({"what": rest[0], "kind": "PolicyError"}, self._wanted)
            if self._routed is None:
                raise PolicyError(rest[0])
            self._wanted = self._asked = self._routed
        elif word == "pong":
            self._gateway.pinged = None

    def _gone(self, member: _Replica | _Gateway) -> None:
        member.child.kill()
        status = member.child.wait(1)
        member.child.connection.close()
        if isinstance(member, _Gateway):
            self._gateway = None
            self._count_death("gateway")
            self._say("gateway-lost", pid=member.child.pid, status=status)
            return
        del self._replicas[member.id]
        if member.state != "ending":
            self._count_death(member.model.digest)
            self._say("replica-lost", replica=member.id, pid=member.child.pid, digest=member.model.digest, status=status)

    def _check_silence(self) -> None:
        now = time.monotonic()
        for member in [*self._replicas.values(), *([self._gateway] if self._gateway else [])]:
            if member.state == "ending" and now - member.since > 3:
                member.child.kill()
            elif member.state in ("ready", "draining", "up"):
                if member.pinged is None and now - member.since > 2:
                    member.pinged = member.since = now
                    with contextlib.suppress(OSError):
                        member.child.connection.send(("ping",))
                elif member.pinged is not None and now - member.pinged > SILENCE:
                    member.child.kill()

    def _count_death(self, key: str) -> None:
        self._deaths.setdefault(key, deque(maxlen=16)).append(time.monotonic())

    def _is_held(self, key: str) -> bool:
        now = time.monotonic()
        deaths = [d for d in self._deaths.get(key, ()) if now - d < 60]
        return len(deaths) > QUIET_DEATHS and now - deaths[-1] < min(30.0, 0.25 * 2 ** (len(deaths) - QUIET_DEATHS))

    # --- beginning, telling, ending ----------------------------------------------------------------------------------

    def _end_leftovers(self) -> None:
        """Whatever a killed predecessor left: its children end with it, so this only waits for them."""
        for left in _document(self.folder).get("processes", []):
            processes.Process(**left).end(patience=1)

    def _fail(self, error: WorkbenchError | dict[str, Any], wanted: Wanted, digest: str | None = None) -> None:
        told = error if isinstance(error, dict) else {"what": str(error), "kind": type(error).__name__}
        self._problem = {"generation": wanted.generation, "digest": digest, **told}
        self._say("problem", problem=self._problem)

    def _say(self, event: str, **data: Any) -> None:
        with contextlib.suppress(WorkbenchError, OSError):  # a full disk must not end what answers
            print(time.strftime("%H:%M:%S"), event, json.dumps(data), flush=True)
            self._events.append(f"endpoint/{self.name}", "mark", name=event, **data)

    def _write(self, state: str | None = None) -> None:
        """Say how things stand, where that has changed: to whoever reads the document, and to the gateway's metrics."""
        up = self._gateway is not None and self._gateway.state == "up"
        shown = self._routed or self._wanted
        replicas = [{"id": r.id, "pid": r.child.pid, "digest": r.model.digest, "model": f"{r.model.name}@{r.model.digest[:12]}",
                     "state": r.state} for r in self._replicas.values()]
        if up and self._told != replicas:
            self._told = replicas
            with contextlib.suppress(OSError):
                self._gateway.child.connection.send(("replicas", replicas))
        ready = {r.model.digest for r in self._replicas.values() if r.state == "ready"}
        answering = up and any(m.digest in ready for m in shown.models if m.weight > 0)
        document = {
            "format": 1, "name": self.name, "state": state or ("up" if answering else "starting"), "started": self._started,
            "pid": os.getpid(), "gateway": {"pid": self._gateway.child.pid, "state": self._gateway.state} if self._gateway else None,
            "url": door.address(self._socket), "host": self._bound[0], "port": self._socket.getsockname()[1], "note": self._note,
            "run": self._reached.run if self._reached else None, "generation": self._reached.generation if self._reached else None,
            "models": [m.model_dump(mode="json") for m in shown.models], "replicas": replicas, "problem": self._problem,
            "reached": self._reached.model_dump(mode="json") if self._reached else None}
        text = json.dumps(document, indent=1)
        if text == self._written:
            if time.monotonic() - self._signed > SIGN:
                self._signed = time.monotonic()
                with contextlib.suppress(OSError):
                    os.utime(self.folder / "endpoint.json")
            return
        self._written = text
        pids = [r.child.pid for r in self._replicas.values()] + ([self._gateway.child.pid] if self._gateway else [])
        with contextlib.suppress(WorkbenchError):
            document["processes"] = _processes([self._server.pid, *pids])
            write_atomic(self.folder / "endpoint.json", json.dumps(document, indent=1))

    def _end_all(self) -> None:
        self._end_gateway()
        for replica in self._replicas.values():
            with contextlib.suppress(OSError):
                replica.child.connection.send(("end",))
        deadline = time.monotonic() + 1
        for replica in self._replicas.values():
            replica.child.wait(max(0.0, deadline - time.monotonic()))
        if self._server is not None:
            self._server.close()
        self._replicas.clear()
        if self._socket is not None:
            self._write("down")
            self._socket.close()


def _route(wanted: Wanted) -> tuple[str, list[dict[str, Any]], dict[str, Any]]:
    return "route", [m.model_dump(mode="json") for m in wanted.models], wanted.limits.model_dump(mode="json")


def _document(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "endpoint.json").read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}


def _processes(pids: list[int]) -> list[dict[str, Any]]:
    import psutil

    found = []
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            found.append({"name": str(pid), "pid": pid, "created": psutil.Process(pid).create_time()})
    return found


def _main(name: str) -> int:
    workspace = Workspace.find()
    supervisor = Supervisor(workspace, name)

    def stop(*_: object) -> None:
        supervisor.stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        with processes.lock(workspace, f"endpoint-{name}", patience=15):  # one supervisor an endpoint
            supervisor.run()
    except (WorkbenchError, TimeoutError) as error:
        print(error, file=sys.stderr, flush=True)
        write_atomic(supervisor.folder / "refused.json", json.dumps({"what": str(error), "kind": type(error).__name__, "pid": os.getpid()}))
        return getattr(error, "exit_code", 1)
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
