"""A disk that fills up and workers that die while data is curated: no half version, and the next try goes through."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time

import pytest

from workbench import cluster, runs
from workbench.dataset import Dataset
from workbench.errors import NotFoundError, RunFailedError
from workbench.journal import ENDED

WORDS = [f"{a}{b}" for a in ("mor", "ken", "sal", "tir", "vel", "ban") for b in ("da", "lo", "mi", "ru", "sen", "tak")]


def spec(workspace, megabytes: float = 1.5) -> dict:
    generator = random.Random(5)
    with open(workspace.root / "a.jsonl", "w") as file:
        while file.tell() < megabytes * 1e6:
            file.write(json.dumps({"text": " ".join(generator.choices(WORDS, k=300))}) + "\n")
    return {"word": "data", "name": "d", "sources": [{"kind": "files", "paths": ["a.jsonl"]}]}


@pytest.fixture
def small_disk(workspace):
    """A function that puts a part of the workspace on a disk of some kilobytes."""
    mounted = []

    def mount(part: str, kilobytes: int):
        place = workspace.path(part)
        place.mkdir(parents=True, exist_ok=True)
        told = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", place], capture_output=True, text=True)
        if told.returncode:
            pytest.skip(f"no file system may be mounted here: {told.stderr.strip()}")
        mounted.append(place)
        return lambda size: subprocess.run(["mount", "-o", f"remount,size={size}k", place], check=True)

    yield mount
    runs.shut_down(workspace)
    for place in mounted:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.parametrize(("part", "kilobytes", "place"), [("runs", 600, "here"), ("runs", 2500, "cluster"), ("datasets", 300, "here")])
def test_a_full_disk_is_named_leaves_no_half_version_and_room_mends_it(workspace, small_disk, part, kilobytes, place):
    wanted = spec(workspace)
    enlarge = small_disk(part, kilobytes)
    run = runs.submit(wanted, workspace, place=place)
    with pytest.raises(RunFailedError, match="the disk is full"):
        run.wait(120)
    assert run.failure["kind"] == "StorageError" and run.failure["hint"].startswith("Free some space")
    with pytest.raises(NotFoundError):
        Dataset.open("d", workspace)
    assert list(workspace.path("datasets").rglob("*.parquet")) == [] and list(workspace.path("runs").rglob("*.arrow")) == []
    enlarge(100_000)
    again = runs.submit(wanted, workspace, place=place).wait(120)
    assert again.id != run.id
    again.output.verify()


def test_workers_that_die_again_and_again_change_nothing(workspace, tmp_path):
    wanted = {**spec(workspace), "partitions": 6}
    undisturbed = runs.submit({**wanted, "name": "undisturbed"}, workspace, place="here").result["digest"]
    run = runs.submit(wanted, workspace)
    killed, labels = 0, set()
    while run.state not in ENDED and killed < 4:
        progress = run.progress
        if progress and progress["label"] not in labels:
            labels.add(progress["label"])
            pids = list(cluster.connect(workspace).run(os.getpid, on_error="ignore").values())
            if pids:
                os.kill(random.Random(killed).choice(pids), signal.SIGKILL)
                killed += 1
        time.sleep(0.01)
    run.wait(150)
    assert killed >= 2 and run.result["digest"] == undisturbed
    run.output.verify()
    assert not list(run.directory.glob("*parts*"))


def test_a_run_that_is_stopped_leaves_nothing(workspace):
    run = runs.submit(spec(workspace, 8), workspace)
    while not run.events(kinds=["progress"]) and run.state not in ENDED:
        time.sleep(0.01)
    run.stop()
    run.wait(60, check=False)
    assert run.state == "stopped" and not list(workspace.path("datasets").glob("*/*"))
    assert not list(run.directory.glob("*parts*"))
