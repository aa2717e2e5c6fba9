"""A training that is told things while it works: it waits and goes on, changes its rate, shows its ranks; a repeat repeats it."""

from __future__ import annotations

import gzip
import json
import os
import signal

import pytest

from workbench import runs
from workbench.cli.app import run_app
from workbench.errors import RunFailedError, SpecError
from workbench.tracking import EXPERIMENT, connect


def told(run: runs.Run, word: str, answer: str, **values):
    """The mark of what came of a word."""
    after = run.tell(word, **values)
    return marked(run, answer, after)


def marked(run: runs.Run, name: str, after: int = 0):
    return next(e for e in run.follow(after) if e.kind == "mark" and e.name == name)


def at_step(run: runs.Run, step: int) -> None:
    next(e for e in run.follow() if e.kind == "point" and e.name == "loss" and e.step >= step)


@pytest.fixture(scope="module")
def changed(live, small):
    """A run whose learning rate was halved while it waited, somewhere in the middle."""
    run = runs.submit(small(name="told"), live)
    at_step(run, 20)
    paused = told(run, "pause", "paused")
    change = told(run, "set", "changed", learning_rate=run.spec.rate / 2)
    assert change.step == paused.step + 1
    yield run, change
    run.stop()  # where a test failed before it let the run go on
    run.wait(30, check=False)


def command(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        run_app(list(arguments))
    assert not ended.value.code


def test_a_training_that_waits_goes_on_with_what_it_was_told(live, changed, undisturbed, capsys, monkeypatch):
    run, change = changed
    monkeypatch.chdir(live.root)
    command("tell", run.id, "stacks")
    shown = capsys.readouterr().out
    assert f"rank 1 at step {change.step - 1}" in shown and "in on_train_batch_start" in shown
    assert run.curve("loss")[-1][0] <= change.step - 1
    command("tell", run.id, "on", "--json")
    assert json.loads(capsys.readouterr().out)["answer"]["name"] == "continued"
    run.wait(100)
    rates, before = dict(run.curve("learning_rate")), dict(undisturbed.curve("learning_rate"))
    assert {s: r for s, r in rates.items() if s < change.step} == {s: r for s, r in before.items() if s < change.step}
    assert [rates[s] for s in range(change.step, 150)] == pytest.approx([before[s] / 2 for s in range(change.step, 150)])
    assert run.result["digest"] != undisturbed.result["digest"]
    with pytest.raises(RunFailedError, match="has ended and hears nothing"):
        run.tell("pause")


def test_a_repeat_changes_at_the_same_step_though_a_rank_is_killed_in_between(live, changed, small):
    first, change = changed
    first.wait(100)
    again = runs.submit(small(name="told"), live, again=True)
    at_step(again, min(change.step + 30, 140))
    ranks = marked(again, "ranks").data["ranks"]
    os.kill(ranks[1]["pid"], signal.SIGKILL)
    again.wait(100)
    assert [e.step for e in again.events(kinds=("mark",)) if e.name == "changed"] == [change.step]
    for curve in ("loss", "learning_rate", "gradient_norm"):
        assert again.curve(curve) == first.curve(curve)
    assert again.result["digest"] == first.result["digest"]


def test_a_profile_of_some_steps_changes_nothing(live, small, undisturbed):
    run = runs.submit(small(), live, again=True)
    run.tell("pause")
    run.tell("profile", steps=3)
    first = told(run, "on", "profiled")
    run.wait(100)
    files = sorted((run.directory / "profile").iterdir())
    assert [f.name for f in files] == [f"step-{first.step:06d}-rank-{r}.json.gz" for r in range(2)] and first.data["steps"] == 3
    with gzip.open(files[0]) as file:
        assert len(json.load(file)["traceEvents"]) > 100
    client = connect(live)
    (record,) = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id], f"tags.`workbench.run` = '{run.id}'")
    assert [f.path for f in client.list_artifacts(record.info.run_id, "profile")] == [f"profile/{f.name}" for f in files]
    assert run.result["digest"] == undisturbed.result["digest"]


def test_words_that_no_training_knows_are_refused(live, undisturbed):
    for word, values, words in (("puase", {}, 'did you mean "pause"'), ("set", {"learning_rate": -1}, "a number above 0"),
                                ("set", {"warmup": 3}, "is no value of set"), ("profile", {"steps": 0.5}, "a whole number")):
        with pytest.raises(SpecError, match=words):
            undisturbed.tell(word, **values)
    dataset = next(r for r in runs.listed(live) if r.word == "data")
    with pytest.raises(RunFailedError, match="a run of data hears nothing while it works"):
        dataset.tell("pause")
