"""Doors: which addresses only this machine reaches, ports that are taken, and tokens."""

from __future__ import annotations

import socket

import pytest

from workbench.errors import PolicyError, WorkbenchError
from workbench.serve import door


@pytest.mark.parametrize(("host", "local"), [("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("[::1]", True), ("localhost", True),
                                             ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("localhost.example.org", False),
                                             ("", False), ("::ffff:0.0.0.0", False)])
def test_only_loopback_is_loopback(host, local):
    assert door.is_loopback(host) == local


def test_a_port_that_is_taken_gives_another_and_says_so():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sock, note = door.listen("127.0.0.1", port)
        with sock:
            got = sock.getsockname()[1]
            assert got != port and note == f"port {port} is taken; {got} is used instead"
            assert door.address(sock) == f"http://127.0.0.1:{got}"
    sock, note = door.listen("127.0.0.1", 0)
    with sock:
        assert note is None


def test_an_address_of_somewhere_else_is_a_clear_error():
    with pytest.raises(WorkbenchError, match=r"203\.0\.113\.1:80.*can't listen there"):
        door.listen("203.0.113.1", 80)


@pytest.mark.parametrize(("header", "known"), [("Bearer abc", True), ("bearer abc", True), ("Bearer abd", False), ("Bearer ab", False),
                                               ("Basic abc", False), ("abc", False), ("", False), (None, False), ("Bearer \xe9", False)])
def test_tokens(header, known):
    assert door.knows(header, "abc") == known


def test_no_model_without_a_permit_is_let_out(taught):
    from workbench.model import Model

    model = Model.open("docs-lm", taught)
    door.check(taught, "127.0.0.1", [(model.name, model.digest)])
    with pytest.raises(PolicyError, match="must not be deployed.*workbench assess docs-lm"):
        door.check(taught, "0.0.0.0", [(model.name, model.digest)])
    assert taught.audit.verify() is not None
