"""What runs in a rank's process: its environment, the meeting with its peers, the control pipe to its driver."""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from ..errors import WorkbenchError

MEETING_SECONDS = 120


class Control:
    """A rank's end of the control pipe. Its threads work even while the main thread sits in a collective.

    Stopping needs no collective: asked to hold, each rank says which step it has begun and begins no further one;
    released to the one after the furthest of these, which nobody has begun, all end after the same step.
    """

    def __init__(self, connection: Connection, rank: int, world: int):
        self.rank, self.world = rank, world
        self.stop_at: int | None = None
        """The last step to make, once a stop was agreed."""
        self.step = 0
        self.vitals: Callable[[], dict[str, Any]] | None = None
        """What is told with each heartbeat of how this process fares."""
        self._connection, self._sending, self._changed = connection, threading.Lock(), threading.Condition()
        self._hold, self._port = False, None

    def start(self) -> None:
        """Listen to the driver and beat."""
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()

    def send(self, kind: str, **data: Any) -> None:
        """Tell the driver something: JSON values only."""
        with self._sending:
            self._connection.send({"kind": kind, **data})

    def begin(self, step: int) -> None:
        """Wait here, before a step, while the gang is held."""
        with self._changed:
            while self._hold and step > self.step:
                self._changed.wait()
            self.step = max(self.step, step)

    def port(self, seconds: float) -> int:
        """The port at which rank 0 waits; comes through the driver."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._port is not None, seconds):
                raise TimeoutError(f"rank 0 did not say where it waits within {seconds:g} s")
            return self._port

    def _listen(self) -> None:
        try:
            while True:
                what, *values = self._connection.recv()
                with self._changed:
                    if what == "port":
                        self._port = values[0]
                    elif what == "hold":
                        self._hold = True
                        self.send("held", step=self.step)
                    elif what == "release":
                        self.stop_at, self._hold = values[0], False
                    self._changed.notify_all()
        except (EOFError, OSError):
            os._exit(9)  # the worker is gone: a rank never lingers

    def _beat(self) -> None:
        while True:
            time.sleep(1)
            vitals: dict[str, Any] = {}
            if self.vitals is not None:
                with contextlib.suppress(Exception):  # a heart beats on whatever can't be measured
                    vitals = self.vitals()
            try:
                self.send("beat", step=self.step)
                if vitals:
                    self.send("vitals", step=self.step, **vitals)
            except OSError:
                os._exit(9)


def main(connection: Connection, argument: dict[str, Any]) -> None:
    """Become a rank: meet the peers, run the target, say what it gave or why it failed."""
    import torch
    import torch.distributed as dist

    control = Control(connection, argument["rank"], argument["world"])
    control.start()
    try:
        _prepare(argument)
        torch.set_num_threads(argument["threads"] or max(1, len(os.sched_getaffinity(0)) // argument["local_world"]))
        if argument["world"] > 1 or argument["argument"].get("group"):
            _meet(control, argument)
        module, _, name = argument["target"].partition(":")
        value = getattr(importlib.import_module(module), name)(control, argument["argument"])
        if dist.is_initialized():
            dist.barrier()
            dist.destroy_process_group()
        control.send("done", value=value)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the driver must hear of it
        sys.stderr.write(traceback.format_exc())
        control.send("error", error=_described(error) | {"step": control.step})
        sys.stderr.flush()
        os._exit(1)


def _prepare(argument: dict[str, Any]) -> None:
    world, local, host = argument["world"], argument["local_rank"], argument["host"]
    os.environ.update(RANK=str(argument["rank"]), WORLD_SIZE=str(world), LOCAL_RANK=str(local), NODE_RANK=str(argument["node"]),
                      MASTER_ADDR=argument["main"])
    # The hostname often means 127.0.0.1: take the interface that the Dask worker uses.
    import psutil

    for name, addresses in psutil.net_if_addrs().items():
        if any(a.address == host for a in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)
            break


def _meet(control: Control, argument: dict[str, Any]) -> None:
    """Form the process group. Rank 0 binds its store to port 0 of its own address and publishes where: no race for a port."""
    import datetime

    import torch
    import torch.distributed as dist

    main, world, patience = argument["main"], argument["world"], datetime.timedelta(seconds=MEETING_SECONDS)
    if control.rank == 0:
        listening = socket.socket(socket.AF_INET6 if ":" in main else socket.AF_INET)
        listening.bind((main, 0))
        listening.listen(world + 8)
        port = listening.getsockname()[1]
        store = dist.TCPStore(main, port, world, is_master=True, timeout=patience, wait_for_workers=False,
                              master_listen_fd=listening.detach())
        control.send("port", port=port)
    else:
        store = dist.TCPStore(main, control.port(MEETING_SECONDS), world, is_master=False, timeout=patience)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and argument["argument"].get("accelerator") in ("auto", "gpu") else "gloo"
    dist.init_process_group(backend, store=store, rank=control.rank, world_size=world)


def _described(error: BaseException) -> dict[str, Any]:
    """An error as JSON; ``peer`` says that it tells of a lost connection, not of the work."""
    import torch.distributed as dist

    text = str(error)
    peer = isinstance(error, (dist.DistBackendError, dist.DistNetworkError, dist.DistStoreError, ConnectionError, TimeoutError)) or (
        isinstance(error, RuntimeError) and any(w in text for w in ("gloo/transport", "onnection closed by peer", "onnection reset")))
    described = {"what": text or type(error).__name__, "kind": type(error).__name__, "peer": peer, "traceback": traceback.format_exc()}
    if isinstance(error, WorkbenchError):
        described.update(what=error.what, where=str(error.where) if error.where is not None else None,
                         received=None if error.received is None else str(error.received), allowed=error.allowed, hint=error.hint)
    return described
