"""What runs and the machine say, read from what they wrote, and as Prometheus' own tool wants it."""

from __future__ import annotations

import math
import shutil
import subprocess
import time
from dataclasses import replace

import pytest

from workbench import processes
from workbench.events import Events
from workbench.journal import Journal
from workbench.monitor.metrics import Gatherer, gauge, page, parse, samples


def gathered(gatherer: Gatherer) -> dict:
    return samples(gatherer.collect())


def one(found: dict, metric: str, /, **labels) -> float:
    [value] = [v for seen, v in found[metric] if labels.items() <= seen.items()]
    return value


def test_a_run_from_its_first_event_to_its_end(workspace, at_work):
    entry, events, gatherer = at_work(), Events(workspace), Gatherer(workspace)
    assert one(gathered(gatherer), "workbench_run_state", run=entry.id, word="train", state="running") == 1
    events.append_many([(entry.id, "point", time.time(), "loss", n, 5.0 - n / 10_000, {}) for n in range(25_000)])
    events.append(entry.id, "progress", done=3, total=4, unit="steps")
    found = gathered(gatherer)
    assert one(found, "workbench_run_value", run=entry.id, name="loss") == 5.0 - 24_999 / 10_000
    assert one(found, "workbench_run_progress", run=entry.id) == 0.75
    assert one(found, "workbench_run_not_finite", run=entry.id, name="loss") == 0
    events.point(entry.id, "loss", 25_001, math.nan)
    assert math.isnan(one(gathered(gatherer), "workbench_run_value", run=entry.id))
    events.point(entry.id, "loss", 25_002, 1.0)
    found = gathered(gatherer)
    assert one(found, "workbench_run_value", run=entry.id) == 1.0 and one(found, "workbench_run_not_finite", run=entry.id) == 1
    Journal(workspace).move(entry.id, "done", attempt=1)
    for reader in (gatherer, Gatherer(workspace)):  # one that saw it all, and one that comes later
        found = gathered(reader)
        assert one(found, "workbench_run_state", run=entry.id) == one(found, "workbench_runs", word="train", state="done") == 1
        assert one(found, "workbench_run_value", run=entry.id) == 1.0
        assert not found.get("workbench_run_silence_seconds") and not found.get("workbench_run_not_finite")


def test_silence_is_the_time_since_anything_was_said(workspace, at_work):
    entry, gatherer = at_work(), Gatherer(workspace)
    Journal(workspace).database.execute("UPDATE runs SET started = ? WHERE id = ?", (time.time() - 1000, entry.id))
    Events(workspace).database.execute("UPDATE events SET at = ?", (time.time() - 500,))
    assert 500 <= one(gathered(gatherer), "workbench_run_silence_seconds") < 530
    Events(workspace).append(entry.id, "log", text="still here")
    assert one(gathered(gatherer), "workbench_run_silence_seconds") < 30


def test_reading_again_costs_only_what_is_new(workspace, at_work):
    entry, gatherer = at_work(), Gatherer(workspace)
    Events(workspace).append_many([(entry.id, "point", time.time(), "loss", n, 1.0, {}) for n in range(50_000)])
    begin = time.process_time()
    gatherer.collect()
    first, begin = time.process_time() - begin, time.process_time()
    gatherer.collect()
    assert time.process_time() - begin < first / 3


def test_the_machine_and_background_processes(workspace):
    processes.record(workspace, replace(processes.current(), name="endpoint/<b>"))
    found = gathered(Gatherer(workspace))
    assert one(found, "workbench_machine_cpus") >= 1
    assert 0 < one(found, "workbench_machine_memory_available_bytes") <= one(found, "workbench_machine_memory_bytes")
    assert 0 < one(found, "workbench_machine_disk_free_bytes") <= one(found, "workbench_machine_disk_bytes")
    assert one(found, "workbench_machine_cpu_seconds_total") > 0
    assert one(found, "workbench_process_memory_bytes", process="endpoint/<b>") > 10e6
    processes.forget(workspace, "endpoint/<b>")


def test_what_is_written_is_read_back_with_every_letter():
    labels = {"name": 'a "quoted" \\ back\nslash', "other": "ü"}
    families = [gauge("some_value", "words", [(labels, 1.5), ({"name": "b", "other": ""}, math.inf)])]
    assert parse(page(families).decode()) == samples(families)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Prometheus is not installed")
def test_promtool_finds_nothing_to_complain_of(workspace, at_work):
    entry = at_work()
    Events(workspace).point(entry.id, "loss", 1, 2.0)
    Events(workspace).append(entry.id, "progress", done=1, total=2, unit="steps")
    text = page(Gatherer(workspace).collect())
    out = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=60)
    assert (out.returncode, out.stdout + out.stderr) == (0, b"")
