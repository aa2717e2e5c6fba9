"""The six words from the shell: specs from files and options, errors that users meet, dry runs, exit codes, JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workbench.cli.options import build, parse_set
from workbench.errors import SpecError
from workbench.journal import Journal
from workbench.processes import listed
from workbench.spec import WORDS, load_spec, spec_class
from workbench.workspace import Workspace

DIGITS = ("data", "digits", "--set", "steps=[{step: exact-duplicates}]")


def test_set_reads_values_as_yaml():
    assert parse_set(["model.size=10M", "tokens=1e6", "a=[1, x]", "b=", "c=no=yes"]) == {
        "model.size": "10M", "tokens": 1e6, "a": [1, "x"], "b": None, "c": "no=yes"}


def test_set_without_a_value_tells_every_fault():
    with pytest.raises(SpecError) as caught:
        parse_set(["model.size", "=3"])
    assert len(caught.value.problems) == 2


def test_set_reaches_into_defaults_lists_and_what_lacks(tmp_path):
    spec = build("data", None, {"sources": [{"kind": "python-docs"}]}, ["name=x", "sources.0.max_megabytes=2"][:1])
    assert spec.name == "x"
    spec = build("data", None, {"name": "x", "sources": [{"kind": "python-docs"}]}, ["steps.2.threshold=0.9", "split.seed=3"])
    assert spec.steps[2].threshold == 0.9 and spec.split.seed == 3
    file = tmp_path / "t.yaml"
    file.write_text("{word: train, data: notes, tokens: 5}")
    assert build("train", str(file), {"data": "other"}, ["tokens=7"]).changed() == {"word": "train", "data": "other", "tokens": 7}


@pytest.mark.parametrize("word", WORDS)
def test_the_printed_command_builds_the_same_spec(word):
    given = {"data": {"name": "n", "sources": [{"kind": "files", "paths": ["a b/*.md"]}], "split": {"seed": 4}},
             "train": {"data": "n@v2", "model": {"size": "10M"}, "prompts": ["it's", "a: b"]}, "assess": {"model": "n-lm", "seed": 2},
             "serve": {"name": "e", "models": [{"model": "n-lm", "weight": 1.5}]}, "monitor": {"builtin": False},
             "pipeline": {"name": "p", "steps": [{"name": "s", "notebook": "s.ipynb"}]}}[word]
    import shlex

    spec = spec_class(word).load(given)
    words = shlex.split(spec.to_command())
    assert words[:2] == ["workbench", word]
    assert build(word, None, {}, words[3::2]) == spec


def test_files_are_taken_relative_to_the_workspace_from_any_directory_below(cli, place):
    (place / "sub").mkdir(exist_ok=True)
    (place / "sub" / "a.txt").write_text("A note of some length about this and that.\n" * 3)
    told = json.loads(cli("data", "a.txt", "--dry-run", "--json", cwd=place / "sub").stdout)
    assert told["spec"]["name"] == "a" and told["spec"]["sources"][0]["paths"] == ["sub/a.txt"]
    assert list(told["inputs"]) == ["sub/a.txt"]


def test_a_dry_run_shows_everything_and_starts_nothing(cli, place):
    before = [e.id for e in Journal(Workspace(place).open()).entries()]
    shown = cli(*DIGITS, "--dry-run", cwd=place).stdout
    assert "would run" in shown and "reads " in shown
    yaml = shown.partition("\n\n")[0]
    assert load_spec(yaml).to_dict()["steps"] == [{"step": "exact-duplicates"}]
    workspace = Workspace(place)
    assert [e.id for e in Journal(workspace).entries()] == before and listed(workspace) == []


def test_a_preview_says_what_would_be_dropped_and_starts_nothing(cli, place):
    lines = [" ".join(f"word{n}of{m}" for m in range(20)) for n in range(9)]
    (place / "p.csv").write_text("\n".join(["text", *lines, "short"]) + "\n")
    told = cli("data", "p.csv", "--preview", "50", cwd=place).stdout
    assert told.startswith("the first 10 records: 9 kept") and "quality: −1 too short" in told
    few = json.loads(cli("data", "p.csv", "--preview", "4", "--json", cwd=place).stdout)
    assert (few["read"], few["kept"]) == (4, 4)
    assert [e for e in Journal(Workspace(place).open()).entries() if e.name == "p"] == []


def test_a_run_is_made_found_and_repeated(cli, place):
    first = json.loads(cli(*DIGITS, "--json", cwd=place).stdout)
    assert first["state"] == "done" and first["result"]["dataset"] == "digits" and first["found"] is False
    found = cli(*DIGITS, cwd=place)
    assert f"found: {first['run']}" in found.stderr and "dataset digits@" in found.stdout
    assert first["run"] in cli(*DIGITS, "--dry-run", cwd=place).stdout
    again = json.loads(cli(*DIGITS, "--again", "--json", cwd=place).stdout)
    assert again["run"] != first["run"] and again["result"]["digest"] == first["result"]["digest"]


def test_a_detached_run_is_followed_by_another_command(cli, place):
    told = cli(*DIGITS, "--again", "--detach", cwd=place).stdout
    run_id = told.split()[0]
    attached = cli("attach", run_id, cwd=place)
    assert "dataset digits@" in attached.stdout
    assert json.loads(cli("attach", run_id, "--json", cwd=place).stdout)["state"] == "done"


def test_without_a_terminal_a_run_is_told_in_few_plain_lines(cli, place):
    done = cli(*DIGITS, "--again", cwd=place)
    assert "\x1b" not in done.stderr + done.stdout
    assert 1 < len(done.stderr.splitlines()) < 30
    assert "next: workbench train --data digits" in done.stdout


@pytest.mark.parametrize(("arguments", "said"), [
    (("train", "--data", "digits", "--set", "model.siez=10M"), ["model.siez: unknown field", 'did you mean "size"']),
    (("train", "--data", "digits", "--set", "model.size=11M", "--set", "learning_rate=3"),
     ["model.size: received '11M'", 'did you mean "1M"', "learning_rate: received 3", "≤ 0.1", "2 problems"]),
    (("train", "--data", "digts"), ['no dataset "digts"', 'Did you mean "digits"']),
    (("assess", "digits-lm"), ['no model "digits-lm"', "workbench train"]),
    (("serve", "nothing-lm"), ['no model "nothing-lm"']),
    (("data", "nowhere/*.md", "--name", "x"), ["nowhere/*.md"]),
    (("data", "--name", "x"), ["sources: is missing"]),
    (("data", "my.yaml"), ["my.yaml: 1 problem", "can't be read: No such file"]),
    (("train", "wrong.yaml"), ["wrong.yaml", "this is a 'data' spec; expected 'train'"]),
    (("pipeline", "wrong.yaml"), ["this is a 'data' spec; expected 'pipeline'"]),
    (("train", "--set", "model.size"), ["--set", "PATH=VALUE"]),
    (("show", "digts"), ['nothing here is called "digts"', 'Did you mean "digits"']),
    (("attach", "data-0000"), ['no run "data-0000"']),
    (("runs", "trian"), ['no word "trian"', "train"]),
    (("schema", "trian"), ["did you mean \"train\""]),
    (("models", "alias", "no-lm", "production"), ['no model "no-lm"']),
], ids=lambda v: " ".join(v) if isinstance(v, tuple) else "")
def test_what_users_get_wrong_most_is_answered_in_words_with_code_2(cli, cli_here, place, arguments, said):
    if not Path(place / ".workbench" / "datasets" / "digits").exists():
        cli(*DIGITS, cwd=place)
    (place / "wrong.yaml").write_text("{word: data, name: x, sources: [{kind: digits}]}")
    done = cli_here(*arguments, cwd=place, code=2)
    for words in said:
        assert words in done.stderr
    assert done.stdout == ""


def test_training_without_a_name_takes_the_only_dataset_and_says_so(cli, place):
    told = cli("train", "--set", "tokens=0", cwd=place, code=2)
    assert "training on digits" in told.stderr and "tokens: received 0" in told.stderr


def test_a_run_that_fails_says_why_and_leaves_with_its_code(cli, place):
    (place / "one.txt").write_text("A single short paragraph that nothing can be held out from, long enough to be kept as it is.")
    failure = json.loads(cli("data", "one.txt", "--json", cwd=place, code=2).stdout)["failure"]
    done = cli("data", "one.txt", cwd=place, code=failure["exit_code"])
    assert f"failed: {failure['what']}" in done.stderr and "workbench show data-" in done.stderr


@pytest.mark.parametrize("word", WORDS)
def test_schema_is_json_schema_that_accepts_the_spec(cli_here, tmp_path, word):
    import jsonschema

    schema = json.loads(cli_here("schema", word, cwd=tmp_path).stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False and schema["properties"]["word"]["const"] == word
