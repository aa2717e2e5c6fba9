"""Streams that lie elsewhere and mixtures of several: what is read is the same whatever is fetched when."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import runs
from workbench.errors import SourceError
from workbench.train.reading import sight
from workbench.train.reading.mixture import BLOCK, Mixture
from workbench.train.reading.order import NearOrder
from workbench.train.reading.streaming import Streamed, published
from workbench.train.reading.windows import Windows
from workbench.train.spec import TrainSpec


@pytest.fixture
def served(tmp_path):
    """A directory and the address at which a web server offers it."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.log_message = lambda *_: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def held(cache: Path) -> int:
    """Bytes of all blocks that a cache holds, while others may write and remove them."""
    total = 0
    for file in cache.rglob("*.bin"):
        with contextlib.suppress(FileNotFoundError):
            total += file.stat().st_size
    return total


def test_a_stream_that_lies_in_memory_reads_like_an_array(tmp_path):
    stream = np.arange(9000, dtype=np.uint16)
    published(stream, "memory://streams/there", "x")
    streamed = Streamed("memory://streams/there", "x", tmp_path, limit=10**6)
    assert streamed.block == 4096 and np.array_equal(streamed[4000:8300], stream[4000:8300]) and streamed.fetched == 3


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4000), st.integers(1, 300), st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 400)), max_size=8))
def test_a_stream_that_lies_elsewhere_reads_like_an_array(tmp_path_factory, tokens, block, places):
    folder = tmp_path_factory.mktemp("stream")
    stream = np.random.default_rng(0).integers(0, 60_000, tokens).astype(np.uint16)
    published(stream, str(folder / "there"), "x", block)
    streamed = Streamed(str(folder / "there"), "x", folder / "cache", limit=10**9)
    assert len(streamed) == tokens
    for first, length in places:
        first = min(first, tokens - 1)
        assert np.array_equal(streamed[first:first + length], stream[first:first + length])


def test_the_cache_keeps_its_bound_and_a_broken_block_is_fetched_anew(served, tmp_path):
    folder, address = served
    stream = np.arange(50_000, dtype=np.uint16)
    published(stream, str(folder), "x", 1000)
    streamed = Streamed(address, "x", tmp_path / "cache", limit=10_000)  # five blocks of two thousand bytes
    for first in range(0, 49_000, 997):
        assert np.array_equal(streamed[first:first + 1001], stream[first:first + 1001])
        assert sum(f.stat().st_size for f in (tmp_path / "cache").rglob("*.bin")) <= 10_000
    last = max((tmp_path / "cache").rglob("*.bin"))
    last.write_bytes(b"x" + last.read_bytes()[1:])
    again = Streamed(address, "x", tmp_path / "cache", limit=10_000)
    assert np.array_equal(again[49_000:50_000], stream[49_000:]) and again.fetched == 1


def test_blocks_that_are_larger_than_the_cache_leave_it_as_it_is(tmp_path):
    stream = np.arange(1050, dtype=np.uint16)
    published(stream, str(tmp_path / "there"), "x", 50)
    Streamed(str(tmp_path / "there"), "x", tmp_path / "cache", limit=300)[0:150]
    little = Streamed(str(tmp_path / "there"), "x", tmp_path / "cache", limit=10)
    little.ahead([500, 600])
    assert np.array_equal(little[200:1000], stream[200:1000]) and held(tmp_path / "cache") == 300


def test_readers_side_by_side_keep_the_bound_together(tmp_path):
    stream = np.arange(40_000, dtype=np.uint16)
    published(stream, str(tmp_path / "there"), "x", 500)
    most, reading = 0, [Streamed(str(tmp_path / "there"), "x", tmp_path / "cache", limit=3000) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(lambda s=s, n=n: [s[f:f + 500] for f in np.roll(range(0, 40_000, 500), 20 * n)]) for n, s in enumerate(reading)]
        while not all(d.done() for d in done):
            most = max(most, held(tmp_path / "cache"))
    assert 0 < most <= 3000 and all(np.array_equal(np.sort(np.concatenate(d.result())), stream) for d in done)


def test_what_is_missing_or_changed_there_is_said(served, tmp_path):
    folder, address = served
    with pytest.raises(SourceError, match=r"x.json: is not there"):
        Streamed(address, "x", tmp_path / "cache", limit=10**6)
    published(np.arange(3000, dtype=np.uint16), str(folder), "x", 1000)
    (folder / "x-000001.bin").write_bytes(b"0" * 2000)
    with pytest.raises(SourceError, match="x-000001.bin: is not what was written there"):
        Streamed(address, "x", tmp_path / "cache", limit=10**6)[1000:1010]
    with pytest.raises(SourceError, match="can't be written to"):
        published(np.arange(10, dtype=np.uint16), "nowhere://bucket/x", "x")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 500), st.integers(1, 60), st.integers(1, 6), st.integers(0, 9))
def test_a_near_order_reads_each_sample_once_an_epoch_from_few_blocks_at_a_time(count, block, together, seed):
    order = NearOrder(count, seed, block=block, together=together)
    for epoch in range(2):
        samples = [order.at(epoch * count + n)[1] for n in range(count)]
        assert sorted(samples) == list(range(count))
        seen = list(dict.fromkeys(s // block for s in samples))
        groups = [seen[n:n + together] for n in range(0, len(seen), together)]
        at = {b: n for n, g in enumerate(groups) for b in g}
        assert [at[s // block] for s in samples] == sorted(at[s // block] for s in samples)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=5), st.integers(0, 9))
def test_a_mixture_holds_its_weights_in_every_block_and_reads_each_source_in_its_own_order(weights, seed):
    sources = [Windows(np.arange(k * 1000, k * 1000 + 200), context=4, seed=seed) for k in range(len(weights))]
    mixed = Mixture(sources, weights, seed)
    places = [mixed.place(p) for p in range(2 * BLOCK)]
    for block in range(2):
        counts = Counter(s for s, _ in places[block * BLOCK:(block + 1) * BLOCK])
        for source, weight in enumerate(weights):
            assert counts[source] == pytest.approx(max(1, weight / sum(weights) * BLOCK), abs=len(weights))
    for source in range(len(weights)):
        mine = [n for s, n in places if s == source]
        assert mine == list(range(len(mine)))
    assert np.array_equal(mixed.rows([7])[0], sources[places[7][0]].rows([places[7][1]])[0])


def test_a_training_streams_to_the_same_weights_with_a_cache_that_holds_little(live, small, tmp_path):
    stream = {"kind": "pretrain", "stream": str(tmp_path / "there"), "stream_cache": "20kB"}
    spec = small(name="streamed", tokens=60 * 512, objective=stream)
    cache, most = live.path("cache", "tokens").parent / "streams", 0
    seen = sight.look(TrainSpec.load(spec), live)
    first = runs.submit(spec, live)
    for _ in first.follow():
        most = max(most, held(cache))
    assert len(list((tmp_path / "there").glob("*.bin"))) >= 20 and 0 < most <= 20_000 and first.wait().state == "done"
    assert {str(e.data["rank"]): [e.data["digest"]] for e in first.events(kinds=["mark"]) if e.name == "reads"} == seen["digests"]
    wide = runs.run({**spec, "name": "wide", "objective": {**stream, "stream_cache": "1GB"}}, live)
    assert held(cache) > 20_000  # the first removed what it had read
    assert first.result["digest"] == wide.result["digest"] and first.curve("loss") == wide.curve("loss")
    assert first.curve("loss")[-1][1] < first.curve("loss")[0][1] - 1


def test_a_training_on_two_datasets_reads_both_by_their_weights(live, small):
    runs.run({"word": "data", "name": "letters", "sources": [{"kind": "python-docs", "max_megabytes": 0.1, "packages": ["json"]}]}, live)
    spec = small(name="mixed", tokens=60 * 512, objective={"kind": "pretrain", "mix": {"letters": 0.5}})
    run = runs.run(spec, live)
    assert set(run.entry.inputs) == {"data", "mix:letters"}
    assert run.curve("loss")[-1][1] < run.curve("loss")[0][1] - 1
    seen = sight.first_batch(TrainSpec.load(spec), live)
    assert {str(e.data["rank"]): [e.data["digest"]] for e in run.events(kinds=["mark"]) if e.name == "reads"} == seen["digests"]
    read = [sight.first_batch(TrainSpec.load(spec), live, step=step)["sequences"] for step in range(1, 61, 2)]
    own = Counter(s["dataset"].partition("@")[0] for step in read for s in step)
    assert own["docs"] + own["letters"] == 240 and own["letters"] == pytest.approx(80, abs=20)
    with pytest.raises(Exception, match="no dataset"):
        runs.submit(small(objective={"kind": "pretrain", "mix": {"nothing": 1}}), live)
