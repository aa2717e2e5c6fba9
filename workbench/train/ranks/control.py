"""A rank's end of the control pipe, and the one way in which work is carried out over it.

Needs nothing but Python: a rank in another environment, which has no workbench, runs this very file.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import itertools
import os
import pickle
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

MEETING_SECONDS = 120
"""Seconds that ranks wait for one another before the work begins."""
_LISTENER, _HEART = "rank-listens", "rank-beats"
"""Names of the threads that are the rank's own and none of the work's."""


class Unmet(TimeoutError):
    """A peer did not come: whatever kept it from that is the fault, not the work that waits."""

    peer = True


class Control:
    """A rank's end of the control pipe. Its threads work even while the main thread sits in a collective.

    Agreeing needs no collective: asked to hold, each rank says which step it has begun and begins no further one;
    then all hear what was agreed: to end after the step behind the furthest of these, which nobody has begun; to wait
    behind the furthest; or what changes from the step behind it on.
    """

    def __init__(self, connection: Connection, rank: int, world: int):
        self.rank, self.world = rank, world
        self.stop_at: int | None = None
        """The last step to make, once a stop was agreed."""
        self.step = 0
        self.vitals: Callable[[], dict[str, Any]] | None = None
        """What is told with each heartbeat of how this process fares."""
        self.known: int | None = None
        """The step up to which the driver has written down what this rank said, as it last told; none: it has told nothing yet."""
        self.looks: list[Callable[[], Any]] = []
        """What is looked after with each heartbeat."""
        self.doing: str | None = None
        """The long act that it is in, during which no step is expected."""
        self._connection, self._sending, self._changed = connection, threading.Lock(), threading.Condition()
        self._begun, self._hold, self._port = False, None, None
        self._pause_at: int | None = None
        self._paused = False
        self._agreed: list[tuple[int, str, dict[str, Any]]] = []
        self._rounds, self._exchanged = itertools.count(1), {}
        self._said = 0.0

    def start(self) -> None:
        """Listen to the driver and beat."""
        threading.Thread(target=self._listen, name=_LISTENER, daemon=True).start()
        threading.Thread(target=self._beat, name=_HEART, daemon=True).start()

    def send(self, kind: str, **data: Any) -> None:
        """Tell the driver something: JSON values only."""
        said = pickle.dumps({"kind": kind, **data})  # Connection.send's own pickler takes five times as long
        with self._sending:
            self._connection.send_bytes(said)

    def begin(self, step: int) -> None:
        """Wait here, before a step, while the gang is held or paused."""
        with self._changed:
            if not self._begun:  # which step a rank goes on from is known only now
                self._begun, self.step = True, step - 1
                self._say_held()
            while (self._hold is not None and step > self.step) or (self._pause_at is not None and step > self._pause_at):
                if self._pause_at is not None and step > self._pause_at and not self._paused:
                    self._paused = True
                    self.send("paused", step=step - 1)
                self._changed.wait()
            self.step = max(self.step, step)

    def due(self, word: str, step: int) -> list[dict[str, Any]]:
        """What was agreed under a word for this step, in order; told once. Ask after ``begin(step)``."""
        with self._changed:
            found = [values for at, name, values in self._agreed if name == word and at <= step]
            self._agreed = [a for a in self._agreed if a[1] != word or a[0] > step]
        return found

    @contextlib.contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """While it lasts this rank is not taken for hung, however long it makes no step."""
        before, self.doing = self.doing, what
        try:
            yield
        finally:
            self.doing = before

    def goes_on(self, what: str) -> None:
        """Say that a long act gets on, as often as it does: this rank is not taken for hung, unless that ceases."""
        now = time.monotonic()
        if now - self._said >= 1:
            self._said = now
            self.send("beat", step=self.step, doing=what)

    def port(self, seconds: float = MEETING_SECONDS) -> int:
        """The port at which rank 0 waits; comes through the driver."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._port is not None, seconds):
                raise Unmet(f"rank 0 did not say where it waits within {seconds:g} s")
            return self._port

    def exchange(self, value: Any, seconds: float = MEETING_SECONDS) -> list[Any]:
        """What each rank gave, by rank: all must call it equally often. Goes through the driver, needs no network of its own."""
        number = next(self._rounds)
        self.send("exchange", round=number, value=value)
        with self._changed:
            if not self._changed.wait_for(lambda: number in self._exchanged, seconds):
                raise Unmet(f"not every rank came to the exchange within {seconds:g} s")
            return self._exchanged.pop(number)

    def _listen(self) -> None:
        try:
            while True:
                what, *values = self._connection.recv()
                with self._changed:
                    self._take(what, values)
                    self._changed.notify_all()
        except (EOFError, OSError):
            os._exit(9)  # the worker is gone: a rank never lingers

    def _take(self, what: str, values: list[Any]) -> None:
        if what == "port":
            self._port = values[0]
        elif what == "exchanged":
            self._exchanged[values[0]] = values[1]
        elif what == "ping":
            self.known = values[0]
        elif what == "hold":
            self._hold = values[0]
            if self._begun:
                self._say_held()
        elif what == "release":
            number, agreed = values
            if number != self._hold:
                return
            self._hold = None
            if "stop" in agreed:
                self.stop_at, self._pause_at = agreed["stop"], None
            elif "pause" in agreed:
                self._pause_at, self._paused = agreed["pause"], False
            else:
                self._agreed.append((agreed["from"], agreed["word"], agreed["values"]))
        elif what == "on":
            self._pause_at = None
        elif what == "stacks":
            self.send("stacks", number=values[0], step=self.step, doing=self.doing, threads=stacks())

    def _say_held(self) -> None:
        if self._hold is not None:
            self.send("held", number=self._hold, step=self.step)

    def _beat(self) -> None:
        while True:
            time.sleep(1)
            for look in self.looks:
                with contextlib.suppress(Exception):
                    look()
            try:
                self.send("beat", step=self.step, doing=self.doing)
                self.fares()
            except OSError:
                os._exit(9)

    def fares(self, *, last: bool = False) -> None:
        """Say how this rank fares; ``last`` where its training is over, however short it was."""
        vitals: dict[str, Any] = {}
        if self.vitals is not None:
            with contextlib.suppress(Exception):  # a heart beats on whatever can't be measured
                vitals = self.vitals()
        if vitals:
            self.send("vitals", step=self.step, last=last, **vitals)


def stacks() -> list[dict[str, str]]:
    """Where each thread of this process stands, the main thread first: its name, its innermost line, its whole stack.

    Examples
    --------
    >>> stacks()[0]["thread"], "stacks()" in stacks()[0]["stack"]
    ('MainThread', True)
    """
    names, main = {t.ident: t.name for t in threading.enumerate()}, threading.main_thread().ident
    found = []
    for ident, frame in sorted(sys._current_frames().items(), key=lambda item: item[0] != main):
        if names.get(ident) in (_LISTENER, _HEART):
            continue
        stack = traceback.extract_stack(frame)
        began = next((n for n, f in enumerate(stack, 1) if f.name == carry_out.__name__ and f.filename == __file__), 0)
        found.append({"thread": names.get(ident, str(ident)), "stack": "".join(traceback.format_list(stack[began:])),
                      "at": f"{Path(stack[-1].filename).name}:{stack[-1].lineno} in {stack[-1].name}"})
    return found


def carry_out(control: Control, argument: dict[str, Any], meet: Callable[..., Any]) -> None:
    """Meet the peers, run the target, say what it gave or why it failed. Returns only where it went well.

    Parameters
    ----------
    meet : context manager of ``(control, argument)`` around the work.
    """
    try:
        with meet(control, argument):
            value = named(argument["target"])(control, argument["argument"])
        control.send("done", value=value)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the driver must hear of it
        sys.stderr.write(traceback.format_exc())
        control.send("error", error=described(error) | {"step": control.step})
        sys.stderr.flush()
        os._exit(1)


def named(target: str) -> Any:
    """What ``package.module:name`` or ``path/to/file.py:name`` means.

    Examples
    --------
    >>> named("os.path:join")("a", "b")
    'a/b'
    """
    place, _, name = target.rpartition(":")
    if not place.endswith(".py"):
        return getattr(importlib.import_module(place), name)
    spec = importlib.util.spec_from_file_location(Path(place).stem, place)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return getattr(module, name)


@contextlib.contextmanager
def alone(control: Control, argument: dict[str, Any]) -> Iterator[None]:  # noqa: ARG001 - what every meeting gets
    """The meeting of ranks that find one another by themselves, or have no need to."""
    yield


def described(error: BaseException) -> dict[str, Any]:
    """An error as JSON; ``peer`` says that it tells of a lost peer, not of the work; ``lost`` says what else the rank lost.

    Who knows that of an error says so by its attribute ``peer`` or ``lost``. Its type alone does not tell: a refused connection may
    be one to a store of the work's own.

    Examples
    --------
    >>> described(Unmet("nobody came"))["peer"], described(ConnectionRefusedError("no store"))["peer"]
    (True, False)
    """
    found = {"what": str(error) or type(error).__name__, "kind": type(error).__name__, "peer": bool(getattr(error, "peer", False)),
             "lost": getattr(error, "lost", None), "traceback": traceback.format_exc()}
    if isinstance(getattr(error, "what", None), str):  # one of our own errors: its parts are told apart
        found.update({name: None if (part := getattr(error, name, None)) is None else str(part)
                      for name in ("what", "where", "received", "allowed", "hint")})
    return found


def places(argument: dict[str, Any]) -> dict[str, str]:
    """A rank's place in its gang as frameworks look for it in the environment."""
    return {"RANK": str(argument["rank"]), "WORLD_SIZE": str(argument["world"]), "LOCAL_RANK": str(argument["local_rank"]),
            "LOCAL_WORLD_SIZE": str(argument["local_world"]), "NODE_RANK": str(argument["node"]), "MASTER_ADDR": argument["main"]}


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # Apple's has none


def threads(argument: dict[str, Any]) -> int:
    """Threads that a rank computes with: as its plan says, or its machine's cores shared out among the gang's ranks there."""
    return argument["threads"] or max(1, cores() // argument["local_world"])


def _elsewhere(descriptor: int) -> None:
    """The whole life of a rank in another environment: this file as a script, its argument through the pipe."""
    connection = Connection(descriptor)
    argument = connection.recv()
    own = str(Path(__file__).resolve().parent)
    sys.path[:] = [argument["folder"], *(p for p in sys.path if p != own)]  # where the work's own modules lie; ours are none of its
    os.environ.update(places(argument))
    os.environ.setdefault("OMP_NUM_THREADS", str(threads(argument)))
    control = Control(connection, argument["rank"], argument["world"])
    control.start()
    meeting = argument["argument"].get("meeting", "none")
    carry_out(control, argument, alone if meeting == "none" else named(meeting))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # what a framework's threads still do must not hold up the end


if __name__ == "__main__":
    _elsewhere(int(sys.argv[1]))
