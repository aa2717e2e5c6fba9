"""The README's own words, run as they stand; its links and targets are there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from workbench import runs
from workbench.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
SMALL = " --set model.size=100K --set model.vocabulary=512 --set model.context=64 --set tokens=20000"


def block(heading: str) -> str:
    """The first code block below a heading."""
    return re.search(r"```\n(.*?)```", README.partition(f"## {heading}\n")[2], re.DOTALL)[1]


@pytest.mark.timeout(600)
def test_now_yours_works_word_by_word(tmp_path, cli):
    notes = tmp_path / "home" / "notes"
    notes.mkdir(parents=True)
    for number in range(80):
        (notes / f"n{number}.md").write_text(
            f"# Note {number}\n\nOn day {number * 37 % 101} the {['gardener', 'baker', 'sailor', 'teacher'][number % 4]} of house {number} "
            f"wrote that part {number * 7919 % 1013} was made of {number * number % 97} stones, and that nobody had counted them before.\n")
    commands = block("Now yours")
    assert commands.splitlines()[0] == ". .venv/bin/activate"
    # Only the length of the training is another one: a test has no minutes.
    commands = commands.replace("workbench train --data notes\n", f"workbench train --data notes{SMALL}\n")
    assert SMALL in commands
    (tmp_path / ".venv").symlink_to(sys.prefix)
    outside = {k: v for k, v in os.environ.items() if not k.startswith("WORKBENCH")}
    try:
        done = subprocess.run(["bash", "-eu", "-c", commands], cwd=tmp_path, capture_output=True, text=True, timeout=560,
                              env={**outside, "HOME": str(tmp_path / "home")})
        assert done.returncode == 0, done.stdout + done.stderr
        for words in ("dataset notes@", "model notes-lm@", "notes-lm answers at http://127.0.0.1:", "curl -s "):
            assert words in done.stdout
        bot = tmp_path / "bot"
        [endpoint] = json.loads(cli("endpoints", "--json", cwd=bot).stdout)
        assert endpoint["alive"] and endpoint["models"][0]["name"] == "notes-lm"
        lineage = json.loads(cli("models", "--json", cwd=bot).stdout)[0]
        assert lineage["dataset"]["digest"] == json.loads(cli("datasets", "--json", cwd=bot).stdout)[0]["digest"]
        assert "endpoint/notes-lm" in cli("down", cwd=bot).stdout
    finally:
        runs.shut_down(Workspace(tmp_path / "bot").open())


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/benchmarks.md"])
def test_what_documents_link_to_is_there(document):
    text = (ROOT / document).read_text("utf-8")
    for link in re.findall(r"\]\((?!https?://)([^)#]*)", text):
        assert not link or ((ROOT / document).parent / link).exists(), link
    for script in re.findall(r"`(\w+\.py)`", text) if document == "docs/benchmarks.md" else ():
        assert (ROOT / "tests" / "benchmarks" / script).exists(), script


def test_every_path_in_the_architecture_is_there():
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    for path in set(re.findall(r"`((?:data|train|assess|serve|monitor|pipeline|cli|detect|tests)/[\w/.]*)`", text)):
        base = ROOT if path.startswith("tests/") else ROOT / "workbench"
        assert (base / path).exists(), path


def test_make_lists_the_targets_that_the_documents_name():
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, timeout=30).stdout
    assert re.findall(r"^make (\w+)", listed, re.MULTILINE) == ["help", "run", "test", "soak", "bench", "pictures", "lint", "clean"]
    named = set(re.findall(r"make (\w+)", README + (ROOT / "CONTRIBUTING.md").read_text()))
    assert named <= set(re.findall(r"^make (\w+)", listed, re.MULTILINE))


def test_no_notebook_is_committed_with_outputs():
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            assert not cell.get("outputs") and cell.get("execution_count") is None, path
