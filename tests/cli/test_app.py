"""The application as a whole: what it costs to ask it for help, what it says, how errors leave it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from workbench.cli.app import ORDER, app, tell_error
from workbench.errors import PolicyError, SpecError, WorkbenchError
from workbench.spec import WORDS

HEAVY = ("torch", "transformers", "lightning", "distributed", "dask", "mlflow", "pyarrow", "numpy", "sklearn", "rich", "workbench.spec",
         "workbench.runs")


@pytest.mark.parametrize("arguments", [["--help"], *([word, "--help"] for word in WORDS), ["--version"]], ids=" ".join)
def test_help_loads_nothing_heavy(arguments):
    code = ("import sys\nfrom workbench.cli import main\nsys.argv[1:] = " + repr(arguments) + "\n"
            "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
            f"print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr.strip() == "[]", done.stderr
    assert "workbench" in done.stdout


def test_help_names_every_command_and_gives_examples():
    shown = CliRunner().invoke(app, ["--help"]).output
    for name in ORDER:
        assert f"\n  {name} " in shown
    assert "Examples:" in shown and "Exit codes: 0 done, 1 failed, 2 bad spec" in shown
    assert len(shown.splitlines()) < 50
    for word in WORDS:
        assert f"workbench {word}" in CliRunner().invoke(app, [word, "--help"]).output.partition("Examples:")[2]


def test_every_command_has_its_place_in_the_help():
    from typer.main import get_command

    assert set(get_command(app).commands) == set(ORDER)


def test_a_misspelt_command_is_answered_with_the_near_one(cli, tmp_path):
    assert "Did you mean 'train'" in cli("trian", cwd=tmp_path, code=2).stderr


@pytest.mark.parametrize(("error", "code"), [(WorkbenchError("broke"), 1), (SpecError.one("a.b", "is odd"), 2), (PolicyError("no"), 3)])
def test_an_error_of_ours_is_told_in_its_words_with_its_code(capsys, error, code):
    assert tell_error(error) == code
    assert capsys.readouterr().err == f"{error}\n"


def test_an_error_can_be_had_as_json(cli, tmp_path):
    told = json.loads(cli("train", "--data", "x", "--set", "tokns=1", "--json", cwd=tmp_path, code=2).stdout)["error"]
    assert told["kind"] == "SpecError" and told["exit_code"] == 2
    assert told["problems"][0]["path"] == "tokns" and '"tokens"' in told["problems"][0]["message"]


def test_an_error_that_nobody_foresaw_leaves_no_traceback_on_the_screen(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_ROOT", str(tmp_path))
    with pytest.raises(ZeroDivisionError) as caught:
        raise ZeroDivisionError("of all things")
    assert tell_error(caught.value) == 1
    said = capsys.readouterr().err
    assert "ZeroDivisionError: of all things" in said and "Traceback" not in said
    log = tmp_path / ".workbench" / "logs" / "command-line.log"
    assert str(log) in said and "Traceback" in log.read_text()


def test_control_characters_in_an_error_do_not_reach_the_terminal(capsys):
    tell_error(WorkbenchError("broke", received="x", hint="\x1b[2Jgone"))
    assert "\x1b" not in capsys.readouterr().err


def test_a_reader_that_went_away_is_no_error(tmp_path):
    line = f"'{sys.executable}' -m workbench.cli schema train | head -c 10; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=60, env={**os.environ})
    assert "Traceback" not in done.stderr and "should not have happened" not in done.stderr
