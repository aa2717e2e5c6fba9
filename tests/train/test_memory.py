"""Out of memory: the batch is computed in parts from there on, and that is said."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest

from workbench import runs
from workbench.errors import RunFailedError


def data_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(status.partition("VmData:")[2].split()[0])


def narrowed(run: runs.Run, room: int) -> None:
    """A run's only rank is held between two of its first steps, and may have no more than so many bytes beside what it has then."""
    run.tell("pause")
    assert any(e.kind == "mark" and e.name == "paused" for e in run.follow()), run.failure
    pid = next(e for e in run.events(kinds=("mark",)) if e.name == "ranks").data["ranks"][0]["pid"]
    least = min((data_bytes(pid), time.sleep(0.01))[0] for _ in range(60))
    resource.prlimit(pid, resource.RLIMIT_DATA, (least + room, resource.RLIM_INFINITY))
    run.tell("on")


def test_a_rank_without_memory_for_its_batch_goes_on_with_half_batches_to_almost_the_same_weights(live):
    spec = {"word": "train", "data": "docs", "name": "large", "model": {"size": "100K", "vocabulary": 2048, "context": 256}, "seed": 5,
            "tokens": 10 * 16 * 256, "prompts": [], "batch": {"sequences": 16}, "hardware": {"ranks": 1},
            "every": {"checkpoint": 2, "evaluate": 50, "sample": 50}}
    run = runs.submit(spec, live)
    narrowed(run, 10_000_000)  # less than the logits of a batch (33 MB)
    run.wait(200)
    marks = {e.name: e for e in run.events(kinds=("mark",))}
    assert marks["halved"].data["split"] == 2
    said = [e.data["text"] for e in run.events(kinds=("log",)) if "out of memory" in e.data["text"]]
    at = marks["halved"].step
    assert said == [(f"out of memory at step {at}: 16 a rank and step are computed in 2 parts from here on; "
                    "a step is the same but for rounding")]
    whole = runs.run({**spec, "name": "whole"}, live)
    assert [s for s, _ in run.curve("loss")] == list(range(1, 11))
    for (_, halved), (_, at_once) in zip(run.curve("loss"), whole.curve("loss"), strict=True):
        assert halved == pytest.approx(at_once, abs=2e-4)


def test_a_single_sequence_that_finds_no_memory_is_an_error_that_says_what_to_do(live):
    spec = {"word": "train", "data": "docs", "name": "long", "model": {"size": "100K", "vocabulary": 2048, "context": 4608},
            "tokens": 60 * 4608, "batch": {"sequences": 1}, "hardware": {"ranks": 1}, "every": {"checkpoint": 50, "evaluate": 90}}
    run = runs.submit(spec, live)
    narrowed(run, 10_000_000)  # less than the logits of a sequence (38 MB)
    with pytest.raises(RunFailedError, match=r"allocate memory.*Lower batch.sequences and raise batch.accumulate"):
        run.wait(200)
    assert not [e for e in run.events(kinds=("mark",)) if e.name in ("halved", "restart")]
