"""``/metrics`` for Prometheus, by a small HTTP server on loopback."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ...errors import WorkbenchError

HOST = "127.0.0.1"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
"""The text format that every Prometheus reads (Prometheus, "Exposition formats", 0.0.4)."""


class Exporter:
    """Serves ``/metrics``, ``/alerts`` and ``/health`` until it is closed.

    Parameters
    ----------
    metrics : gives the page of ``/metrics``.
    alerts : gives the list that ``/alerts`` shows as JSON.
    ports : ports wanted, the first that is free is taken; where none is, any.
    """

    def __init__(self, metrics: Callable[[], bytes], alerts: Callable[[], list[dict[str, Any]]], ports: Iterable[int]):
        pages = {"/metrics": (TEXT, metrics),
                 "/alerts": ("application/json", lambda: json.dumps(alerts()).encode()),
                 "/health": ("application/json", lambda: b'{"status": "ok"}')}
        self._server = _bind(_handler(pages), [*ports, 0])
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="exporter", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Address of ``/metrics``."""
        return f"http://{HOST}:{self.port}/metrics"

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A port in TIME_WAIT may be taken again; one that somebody listens on is refused all the same.
    allow_reuse_address = True


def _bind(handler: type[BaseHTTPRequestHandler], ports: Iterable[int]) -> _Server:
    for port in ports:
        try:
            return _Server((HOST, port), handler)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise WorkbenchError("can't listen", where=f"{HOST}:{port}", received=error.strerror) from error
    raise WorkbenchError("no port is free", where=HOST)


def _handler(pages: dict[str, tuple[str, Callable[[], bytes]]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version, timeout = "workbench", "", 10

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, *, body: bool) -> None:
            kind, page = pages.get(self.path.partition("?")[0], ("", None))
            if page is None:
                self.send_error(404, "There is /metrics, /alerts and /health")
                return
            try:
                text = page()
            except Exception as error:  # noqa: BLE001 - told to whoever asked; the next may fare better
                self.send_error(500, f"{type(error).__name__} while the page was made")
                return
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if body:
                self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """A scrape each few seconds is no news."""

    return Handler
