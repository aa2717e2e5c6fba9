"""A real receiver of webhooks, and runs whose events a test writes itself."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from workbench.journal import Entry, Journal


class Receiver:
    """Keeps what it is sent; ``answer`` decides the status for (body, headers) and may do anything before."""

    def __init__(self):
        self.got: list[dict] = []
        self.headers: list[dict] = []
        self.visits: list[str] = []
        self.answer: Callable[[dict], int] = lambda body: 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.got.append(body)
                receiver.headers.append(dict(self.headers))
                status = receiver.answer(body)
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", receiver.url + "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self):
                receiver.visits.append(self.path)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def wait(self, count: int, seconds: float = 30) -> list[dict]:
        """What came, once it is so many."""
        until(lambda: len(self.got) >= count, seconds)
        return self.got

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


@pytest.fixture(name="until")
def _until() -> Callable:
    return until


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def receivers() -> Iterator[Callable[[], Receiver]]:
    """Makes as many as are asked for."""
    made: list[Receiver] = []

    def make() -> Receiver:
        made.append(Receiver())
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def at_work(workspace) -> Iterator[Callable[..., Entry]]:
    """Makes runs recorded as at work, whose driver is the test; they have ended when it has."""
    journal, made = Journal(workspace), []

    def make(word: str = "train", name: str = "small") -> Entry:
        entry, _ = journal.add(word, name, f"key-{time.time_ns()}", {"word": word}, {}, place="here")
        made.append(entry.id)
        return journal.claim(entry.id)

    yield make
    for run in made:
        journal.move(run, "failed")
