"""What runs in a rank's process on this environment: its place, the meeting of torch's process group, the work."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ...errors import ClusterError
from . import control as rank_control
from . import loaders
from .control import MEETING_SECONDS, Control, alone, carry_out, described, named, places, threads

__all__ = ["Control", "elsewhere", "main", "torch_meeting"]


def main(connection: Connection, argument: dict[str, Any]) -> None:
    """Become a rank: meet the peers, run the target, say what it gave or why it failed."""
    control = Control(connection, argument["rank"], argument["world"])
    loaders.tied()
    control.looks.append(loaders.Frozen())
    control.start()
    carry_out(control, argument, _meeting)


def elsewhere(connection: Connection, argument: dict[str, Any]) -> None:
    """Become a rank in another environment: its Python takes this process over, with nothing of ours but the control pipe.

    The log, the pipe and the end with the worker (``PR_SET_PDEATHSIG``) pass on through ``exec``.
    """
    python, file = argument["python"], Path(rank_control.__file__).resolve()
    os.set_inheritable(connection.fileno(), True)
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONSTARTUP")}
    try:
        os.execve(python, [python, str(file), str(connection.fileno())], environment | {"PYTHONSAFEPATH": "1"})
    except OSError as error:
        connection.send({"kind": "error", "error": described(ClusterError(
            "can't become a rank", where=str(python), received=error.strerror, allowed="a Python of an environment on each worker"))})
        raise


@contextlib.contextmanager
def _meeting(control: Control, argument: dict[str, Any]) -> Iterator[None]:
    _prepare(argument)
    name = argument["argument"].get("meeting", "torch")
    meet = {"torch": torch_meeting, "none": alone}.get(name) or named(name)
    with meet(control, argument):
        yield


def _prepare(argument: dict[str, Any]) -> None:
    os.environ.update(places(argument))
    # The hostname often means 127.0.0.1: take the interface that the Dask worker uses.
    import psutil

    for name, addresses in psutil.net_if_addrs().items():
        if any(a.address == argument["host"] for a in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)
            break


@contextlib.contextmanager
def torch_meeting(control: Control, argument: dict[str, Any]) -> Iterator[None]:
    """The process group of torch around the work, where there is more than one rank or the work asks for a group."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(threads(argument))
    try:
        if argument["world"] > 1 or argument["argument"].get("group"):
            _meet(control, argument)
        yield
        if dist.is_initialized():
            dist.barrier()
            dist.destroy_process_group()
    except Exception as error:
        gone = loaders.lost(error)
        if gone is not None:
            error.lost = f"lost a loader of its data: {gone}"
        elif _of_a_peer(error):
            error.peer = True
        raise


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


def _of_a_peer(error: Exception) -> bool:
    import torch.distributed as dist

    return isinstance(error, (dist.DistBackendError, dist.DistNetworkError, dist.DistStoreError)) or (
        isinstance(error, RuntimeError) and any(w in str(error) for w in ("gloo/transport", "onnection closed by peer", "onnection reset")))
