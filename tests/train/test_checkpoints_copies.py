"""Copies in memory: the furthest step that is whole is found, read without its bytes moving, and nothing is left behind."""

from __future__ import annotations

import json
import os
import time
from types import SimpleNamespace

import pytest
import torch

from workbench.errors import StorageError
from workbench.train.callbacks import Curves
from workbench.train.state import checkpoints, memory, neighbour, shards
from workbench.train.state.neighbour import Copies, furthest


def state(step: int) -> dict:
    return {"step": step, "state_dict": {"w": torch.full((50, 60), float(step)), "b": torch.full((9,), step, dtype=torch.bfloat16)}}


def test_a_copy_is_read_as_a_checkpoint_is(tmp_path):
    copies = Copies(tmp_path / "copies", 0, 1, mark="m")
    for step in range(1, 6):
        assert copies.take(state(step), step, own={"drawn": step})
    assert sorted(w["step"] for w in copies.words()) == [3, 4, 5]
    path = copies.checkpoint("m", 5)
    loaded, said = shards.load(path), checkpoints.manifest(path)
    assert checkpoints.step_of(path) == 5 and loaded["step"] == 5 and shards.rest(path, said, 0) == {"drawn": 5}
    assert torch.equal(loaded["state_dict"]["w"], torch.full((50, 60), 5.0)) and loaded["state_dict"]["b"].dtype == torch.bfloat16
    assert sum(p.stat().st_size for p in path.iterdir()) < 4096
    copies.keep_only("m", 5)
    later = Copies(tmp_path / "copies", 0, 1, mark="n")
    later.take(state(6), 6)  # takes no slot that is still needed
    assert torch.equal(shards.load(path)["state_dict"]["w"], torch.full((50, 60), 5.0))
    assert {(w["mark"], w["step"]) for w in later.words()} == {("m", 5), ("n", 6)}
    copies.remove()
    assert not (tmp_path / "copies").exists()


def test_a_copy_that_was_cut_off_is_none(tmp_path, monkeypatch):
    copies = Copies(tmp_path, 0, 1, mark="m")
    for step in (1, 2):
        copies.take(state(step), step)
    monkeypatch.setattr(neighbour.Moment, "copy", lambda *_: (_ for _ in ()).throw(OSError("killed here")))
    assert not copies.take(state(3), 3)
    assert furthest([("here", Copies(tmp_path, 0, 1).words())]) == ("m", 2, {0: ["here"]})


def test_large_copies_are_taken_while_the_loop_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(neighbour, "AT_ONCE", 0)
    copies, tensor = Copies(tmp_path, 0, 1, mark="m"), torch.ones(3_000_000)
    copies.take({"state_dict": {"w": tensor}}, 1, steady=frozenset({tensor.data_ptr()}))
    copies.ready()
    tensor.fill_(7)
    assert torch.equal(shards.load(copies.checkpoint("m", 1))["state_dict"]["w"], torch.ones(3_000_000))


@pytest.mark.parametrize("behind", [0, 1])
def test_a_point_is_sent_once_no_dying_rank_takes_its_step_along(tmp_path, behind):
    copies, sent = Copies(tmp_path, 0, 1, mark="m"), []
    copies.spread = bool(behind)  # then the others' parts of a step are sure only when the next one is
    curves = Curves(SimpleNamespace(rank=0, send=lambda kind, rows: sent.extend(r[0] for r in rows)), lambda: copies.sure)
    for step in range(1, 6):
        curves.rows.append([step, 0.5])
        curves.flush()
        assert sent == list(range(1, step - behind))
        copies.take(state(step), step)
        curves.flush()
        assert sent == list(range(1, step + 1 - behind))
    curves.flush(over=True)
    assert sent == [1, 2, 3, 4, 5]


def test_the_furthest_whole_step_wins():
    def word(rank, step, mark="m", alone=False, world=2):
        return {"rank": rank, "step": step, "mark": mark, "alone": alone, "world": world}

    assert furthest([("a", []), ("b", [])]) is None
    parts = [word(0, 8), word(0, 7), word(1, 7), word(1, 6)]
    assert furthest([("a", parts)]) == ("m", 7, {0: ["a"], 1: ["a"]})
    assert furthest([("a", parts[:2]), ("b", parts[1:])]) == ("m", 7, {0: ["a", "b"], 1: ["b"]})
    assert furthest([("a", parts[:2])]) is None  # the host with the other shard is gone
    assert furthest([("a", [word(0, 8, alone=True)]), ("b", [word(1, 9, alone=True)])]) == ("m", 9, {1: ["b"]})
    assert furthest([("a", [word(0, 9), word(1, 9, mark="n")])]) is None  # of two starts


def test_what_nobody_holds_any_more_is_swept(tmp_path):
    roots = [memory.place(tmp_path / name, memory=tmp_path) for name in ("old", "held", "new")]
    for root in roots:
        (root).mkdir()
        (root / "rank-0.a").write_bytes(b"x" * 100)
    held = Copies(roots[1], 0, 1)
    for root in roots[:2]:
        os.utime(root, (time.time() - 2 * memory.LEFT,) * 2)
    memory.sweep(tmp_path)
    assert [root.exists() for root in roots] == [False, True, True]
    assert held.words() == [] and memory.place(tmp_path / "run", memory=tmp_path / "none") == tmp_path / "run" / "copies"


def test_a_place_that_is_no_directory_of_ours_is_refused(tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "place").symlink_to(tmp_path / "theirs")
    with pytest.raises(StorageError, match="belongs to somebody else"):
        Copies(tmp_path / "place", 0, 1)
    assert json.dumps(Copies(tmp_path / "theirs", 0, 1).words()) == "[]"
