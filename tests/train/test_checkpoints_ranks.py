"""A checkpoint is read by any number of ranks, whatever strategy wrote it, and a dead rank keeps none of the others waiting."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from workbench.errors import StorageError
from workbench.train.state import checkpoints, saving, shards


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> tuple[Path, list[dict]]:
    """What the ranks of ``across_ranks`` found, and the checkpoints that they left."""
    folder = tmp_path_factory.mktemp("across")
    done = subprocess.run([sys.executable, "-W", "ignore", Path(__file__).with_name("across_ranks.py"), folder], capture_output=True,
                          text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_any_number_of_ranks_and_either_strategy_reads_what_another_wrote(told):
    found = [f for f in told[1] if "kind" in f and not f["hosts"]]
    assert sorted((f["step"], f["kind"], f["world"], f["rank"]) for f in found if f["step"] > 2 or f["world"] == 1) == [
        (2, "ddp", 1, 0), (4, "ddp", 3, 0), (4, "ddp", 3, 1), (4, "ddp", 3, 2), (6, "fsdp", 2, 0), (6, "fsdp", 2, 1), (8, "ddp", 1, 0)]
    assert all(f["same"] and f["rates"] and f["count"] == 18 for f in found)  # 6 parameters: step, mean, square of each


def test_the_ranks_share_the_writing(told):
    worlds = {r["step"]: r["ranks"] for r in checkpoints.table(told[0])}
    assert worlds == {10: 1, 8: 2, 6: 3, 4: 1, 2: 2} and all(r["whole"] for r in checkpoints.table(told[0]))
    sizes = [f["size"] for f in checkpoints.manifest(checkpoints.path_of(told[0], 6))["files"]]
    assert max(sizes) < 0.6 * sum(sizes)
    shard = checkpoints.manifest(checkpoints.path_of(told[0], 8))["tensors"]["state_dict.net.0.weight"]
    assert [(c["offsets"], c["sizes"]) for c in shard["chunks"]] == [([0, 0], [34, 41]), ([34, 0], [33, 41])]


def test_as_many_ranks_go_on_bit_by_bit(told):
    assert [f["bitwise"] for f in told[1] if "bitwise" in f] == [True]


def test_a_lost_host_costs_no_step_its_shards_lie_on_the_next(told):
    assert [f["host"] for f in told[1] if "host" in f] == [True]
    resumed = [(f["rank"], f["step"], f["same"], f["count"]) for f in told[1] if f.get("hosts")]
    assert sorted(resumed) == [(0, 4, True, 18), (1, 4, True, 18)]


def test_without_the_word_of_a_dead_rank_nothing_is_shown_and_nobody_is_held_up(tmp_path):
    store = dist.HashStore()
    state = {"state_dict": {"a": torch.ones(5000), "b": torch.ones(4000)}}
    savers = [saving.Saver(tmp_path, rank, 2, store=store) for rank in (0, 1)]
    savers[1].save(state, 1)
    savers[1].wait()  # rank 1 has written, and waits for nobody
    assert checkpoints.listed(tmp_path) == []
    savers[0].save(state, 1)
    savers[0].wait()
    assert [r["ranks"] for r in checkpoints.table(tmp_path)] == [2]
    savers[0].save(state, 2)  # rank 1 is dead
    savers[0].staged()
    assert not savers[0]._idle.wait(0.2) and [r["step"] for r in checkpoints.table(tmp_path)] == [1]
    for saver in savers:
        saver.abandon()
    assert "not all ranks" in savers[0].failure.what
    checkpoints.tidy(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["step-000000001"]


def test_what_one_rank_could_not_write_no_checkpoint_holds(tmp_path):
    store, told = dist.HashStore(), []
    savers = [saving.Saver(tmp_path, rank, 2, store=store, said=lambda *what: told.append(what)) for rank in (0, 1)]
    savers[1].folder = tmp_path / "file"
    savers[1].folder.write_text("no directory")
    for step in (1, 2):
        for saver in savers:
            saver.save({"state_dict": {"a": torch.ones(5000), "b": torch.ones(4000)}}, step)
        for saver in savers:
            if step == 1:
                with pytest.raises(StorageError):
                    saver.wait()
            else:
                saver.wait()
        savers[1].folder = tmp_path
    assert [(s, f and f.where.endswith("rank 1")) for s, f in told] == [(1, True), (2, None)]
    assert torch.equal(shards.load(checkpoints.path_of(tmp_path, 2))["state_dict"]["b"], torch.ones(4000))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "step-000000002"]
