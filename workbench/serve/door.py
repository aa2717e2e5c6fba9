"""Who may come in: what binds where, under which permit, and whose token counts."""

from __future__ import annotations

import contextlib
import errno
import hmac
import ipaddress
import socket
from collections.abc import Iterable

from ..assessment import permit_for, standing
from ..errors import PolicyError, WorkbenchError
from ..workspace import Workspace

NEAR = 20
"""Ports after the one wanted that are tried before any free one is taken."""


def is_loopback(host: str) -> bool:
    """True if an address reaches this machine only; a name other than localhost counts as public."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host == "localhost"


def check(workspace: Workspace, host: str, models: Iterable[tuple[str, str]]) -> None:
    """Let nothing be reached by others that the policy does not permit.

    Parameters
    ----------
    models : (name, digest) of every model that answers.

    Raises
    ------
    PolicyError
    """
    if is_loopback(host):
        return
    for name, digest in models:
        if permit_for(workspace, digest) is None:
            raise PolicyError(f"{name}@{digest[:12]} {standing(workspace, digest).words}", where=f"host {host}",
                              allowed="a loopback address, or a model with a passing assessment", hint=f"Run: workbench assess {name}")


def listen(host: str, port: int) -> tuple[socket.socket, str | None]:
    """A listening socket, and a sentence where another port than the one wanted was taken.

    Raises
    ------
    WorkbenchError
        When the address is none of this machine's, or may not be bound.
    """
    bare = host.strip("[]")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    for attempt in [port, *([n for n in range(port + 1, port + 1 + NEAR) if n < 65_536] if port else []), 0]:
        try:
            sock = socket.create_server((bare, attempt), family=family, backlog=1024)
        except OSError as error:
            if error.errno == errno.EADDRINUSE or (error.errno == errno.EACCES and attempt):
                continue
            raise WorkbenchError("can't listen there", where=f"{host}:{port}", received=error.strerror,
                                 allowed="an address of this machine") from error
        taken = sock.getsockname()[1]
        return sock, f"port {port} is taken; {taken} is used instead" if port and taken != port else None
    raise WorkbenchError("no port is free", where=host)


def address(sock: socket.socket) -> str:
    """``http://host:port`` by which this machine reaches a listening socket."""
    host, port = sock.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def knows(header: str | None, token: str) -> bool:
    """True if an Authorization header shows the token; takes the same time wherever it is wrong."""
    kind, _, shown = (header or "").partition(" ")
    return hmac.compare_digest(shown.strip().encode("utf-8", "surrogateescape"), token.encode()) and kind.lower() == "bearer"
