"""Frames: whatever is sent comes out as it went in, however the bytes are cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.serve.wire import Unpacker, pack

messages = st.lists(st.dictionaries(st.text(), st.integers() | st.text() | st.none() | st.lists(st.text()), max_size=4), max_size=5)


@given(messages, st.lists(st.integers(0, 200)))
def test_frames_survive_any_cut(sent, cuts):
    data, unpacker, got = b"".join(map(pack, sent)), Unpacker(), []
    places = sorted({min(c, len(data)) for c in cuts} | {0, len(data)})
    for begin, end in itertools.pairwise(places):
        got += unpacker.feed(data[begin:end])
    assert got == sent


def test_what_is_no_frame_is_refused():
    with pytest.raises(ValueError, match="a frame of"):
        list(Unpacker().feed(b"GET / HTTP/1.1\r\n"))
