"""From the command to the end of a run that fails: the error whole and once, the exit code, and going on from there."""

from __future__ import annotations

import json

import nbformat
import pytest


@pytest.fixture
def pipeline(tmp_path):
    """A pipeline of two notebooks in a workspace of its own; the second fails."""
    def write(name: str, code: str) -> None:
        document = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("spec = None", metadata={"tags": ["parameters"]}),
                                                   nbformat.v4.new_code_cell(code)])
        nbformat.write(document, tmp_path / name)

    (tmp_path / "workbench.toml").write_text("")
    write("good.ipynb", "print(1)")
    write("bad.ipynb", "def inner():\n    raise ValueError('the reason, whole')\n\ninner()")
    (tmp_path / "p.yaml").write_text("{word: pipeline, name: p, steps: [{name: good, notebook: good.ipynb}, "
                                     "{name: bad, notebook: bad.ipynb, needs: [good]}]}")
    return tmp_path, write


def test_a_failing_cell_is_told_whole_and_once_and_the_pipeline_goes_on_from_there(pipeline, cli):
    folder, write = pipeline
    done = cli("pipeline", "p.yaml", cwd=folder, code=1)
    assert done.stderr.count("ValueError: the reason, whole") >= 1
    assert done.stderr.count("in inner()") == 1, "the traceback of the cell stands there once"
    assert "step bad" in done.stderr and "it goes on from there" in done.stderr and "workbench show pipeline-" in done.stderr
    run = json.loads(cli("runs", "--json", cwd=folder).stdout)[0]["run"]
    assert "in inner()" in cli("attach", run, cwd=folder, code=1).stderr
    assert "in inner()" in cli("show", run, cwd=folder).stdout
    assert [w.split()[0] for w in cli("pipeline", "p.yaml", "--explain", cwd=folder).stdout.splitlines()] == ["good:", "bad:"]
    write("bad.ipynb", "print(2)")
    done = cli("pipeline", "p.yaml", cwd=folder)
    assert "good: cached" in done.stderr and "bad: done" in done.stderr
    report = next(line.split(maxsplit=1)[1] for line in done.stdout.splitlines() if line.startswith("Report"))
    assert "<html" in open(report, encoding="utf-8").read()  # noqa: SIM115
    assert cli("open", json.loads(cli("runs", "--json", cwd=folder).stdout)[0]["run"], "--no-browser", cwd=folder).stdout.strip() == report
