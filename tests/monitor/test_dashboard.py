"""What a dashboard says: health by word, rules' states, marks, charts, files for others; and an evaluator that died."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from workbench import runs
from workbench.events import Events
from workbench.journal import Journal
from workbench.monitor.charts import charts_of, offered, run_of
from workbench.monitor.evaluator import Evaluator
from workbench.monitor.exporters.files import FILES
from workbench.monitor.health import health, rule_states
from workbench.monitor.marks import marks
from workbench.monitor.spec import MonitorSpec
from workbench.monitor.watch import Watch

SPEC = MonitorSpec.load({"word": "monitor", "port": 0, "rules": [
    {"rule": "threshold", "name": "full", "metric": "workbench_machine_disk_free_bytes", "below": 1e18},
    {"rule": "threshold", "name": "soon", "metric": "workbench_machine_load", "above": -1, "for": 1000},
    {"rule": "threshold", "name": "never", "metric": "nothing", "above": 0}]})


def test_health_and_rules_say_what_is(workspace, at_work):
    entry = at_work()
    Events(workspace).point(entry.id, "loss", 1, float("nan"))
    watch = Watch(workspace, "monitor")
    watch.directory.mkdir(parents=True)
    (watch.directory / "wanted.json").write_text(json.dumps({"spec": SPEC.to_dict(), "run": "r", "until": None}))
    Evaluator(workspace, SPEC).look()
    states = {r["name"]: r["state"] for r in rule_states(watch)}
    assert (states["full"], states["soon"], states["never"], states["run-nan"], states["run-stuck"]) == (
        "firing", "pending", "no data", "firing", "ok")
    assert next(r for r in rule_states(watch) if r["name"] == "soon")["expression"] == "workbench_machine_load above -1 for 16 min 40 s"
    told = {h["word"]: (h["state"], h["sign"], h["count"]) for h in health(watch, SPEC)}
    assert told["machines"] == ("alert", "▲", 1) and told["train"] == ("alert", "▲", 1)
    assert told["data"] == ("none", "○", 0) and told["monitor"] == ("unknown", "?", 0)


def test_marks_tell_specs_that_changed_and_restarts(workspace):
    journal, begin = Journal(workspace), time.time()
    for number, rate in enumerate((0.1, 0.1, 0.2)):
        entry, _ = journal.add("train", "m", f"k{number}", {"learning_rate": rate, "model": {"size": "1M"}}, {}, place="here")
        journal.claim(entry.id)
    journal.events.append(entry.id, "mark", name="restart", why="rank 1 died", step=7)
    found = marks(workspace, begin)
    assert [(m["kind"], m["text"], m["step"]) for m in found] == [
        ("spec", "train m: learning_rate changed", None), ("restart", "restart: rank 1 died", 7)]
    for one in journal.entries():
        journal.move(one.id, "failed")


def test_charts_are_those_of_the_spec_or_what_there_is(workspace, at_work):
    entry = at_work()
    Events(workspace).point(entry.id, "loss", 1, 2.0)
    Evaluator(workspace, SPEC).look()
    Evaluator(workspace, SPEC).look()
    assert charts_of(SPEC, workspace)[0].curves[0].metric == "loss"
    assert run_of("train/small", workspace) == entry.id and run_of("machine", workspace) is None
    mine = SPEC.override({"charts": [{"curves": [{"of": "machine", "metric": "workbench_machine_load"}]}]})
    assert charts_of(mine, workspace) == mine.charts
    losses = offered(workspace, "monitor", "loss small")
    assert {(o["of"], o["metric"]) for o in losses} == {("train/small", "loss"), (f"run/{entry.id}", "loss")}
    assert [o["metric"] for o in offered(workspace, "monitor", "machine load")] == ["workbench_machine_load"]


def test_a_dead_evaluator_is_started_again_and_other_charts_start_none(workspace, until):
    run = runs.run({"word": "monitor", "port": 0, "builtin": False}, workspace)
    watch = Watch(workspace, "monitor")
    first = watch.process
    other = runs.run({"word": "monitor", "port": 0, "builtin": False, "charts": [
        {"curves": [{"of": "machine", "metric": "workbench_machine_load"}]}]}, workspace)
    assert watch.process.pid == first.pid and watch.wanted["spec"]["charts"] and other.id != run.id
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: not watch.alive)
    watch.revive()
    assert watch.alive and watch.process.pid != first.pid
    assert set(run.result["files"]) == set(FILES)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool")
def test_prometheus_accepts_the_files(workspace):
    run = runs.run({**SPEC.to_dict(), "rules": [*SPEC.to_dict()["rules"], {"rule": "absence", "name": "gone", "metric": "x",
                                                                         "labels": {"a": 'b"c'}}]}, workspace)
    folder = Watch(workspace, "monitor").directory / "export"
    for arguments in (["check", "config", "prometheus.yml"], ["check", "rules", "rules.yml"]):
        done = subprocess.run(["promtool", *arguments], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    made = json.loads((folder / "grafana.json").read_text())
    assert [p["title"] for p in made["panels"]][-1] == "Alerts that go on" and run.state == "done"
