"""A project of one's own: made, opened, and not made twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from workbench import runs
from workbench.cli.project import notebooks
from workbench.workspace import Workspace


def test_new_makes_a_workspace_with_settings_notebooks_and_a_readme(cli, tmp_path):
    said = cli("new", "bot", cwd=tmp_path).stdout
    assert "cd bot" in said
    made = tmp_path / "bot"
    assert sorted(p.name for p in made.iterdir()) == [".gitignore", "README.md", "notebooks", "workbench.toml"]
    copied, kept = (sorted(p for p in place.rglob("*") if p.suffix in (".ipynb", ".yaml") and ".ipynb_checkpoints" not in p.parts)
                    for place in (made / "notebooks", notebooks()))
    assert [p.relative_to(made / "notebooks") for p in copied] == [p.relative_to(notebooks()) for p in kept]
    assert [p.read_bytes() for p in copied] == [p.read_bytes() for p in kept]
    assert [p.stem for p in (made / "notebooks" / "tutorials").iterdir()] and len(copied) > 10
    assert len(list((made / "notebooks").glob("*.ipynb"))) == 7
    assert Workspace.find(made / "notebooks").root == made
    assert Workspace(made).settings.cluster.workers == 2
    assert "bot" in (made / "README.md").read_text()
    assert json.loads(cli("pipeline", "notebooks/pipeline.yaml", "--explain", "--json", cwd=made).stdout)["steps"].keys() == {
        "data", "train", "assess", "serve", "monitor"}


def test_new_touches_nothing_that_is_there(cli, tmp_path):
    (tmp_path / "bot").mkdir()
    (tmp_path / "bot" / "mine.txt").write_text("mine")
    assert "is not empty" in cli("new", "bot", cwd=tmp_path, code=2).stderr
    assert [p.name for p in (tmp_path / "bot").iterdir()] == ["mine.txt"]
    (tmp_path / "file").write_text("mine")
    assert "is not empty" in cli("new", "file", cwd=tmp_path, code=2).stderr


def test_up_and_down_start_and_end_the_cluster(cli, tmp_path):
    (tmp_path / "workbench.toml").write_text("[cluster]\nworkers = 1\n")
    address = json.loads(cli("up", "--json", cwd=tmp_path).stdout)["cluster"]
    assert address.startswith("tls://127.0.0.1:")
    assert address in cli("up", cwd=tmp_path).stdout
    assert json.loads(cli("down", "--json", cwd=tmp_path).stdout)["ended"] == ["cluster"]
    assert "nothing was running" in cli("down", cwd=tmp_path).stdout


def test_open_starts_jupyterlab_on_the_notebooks_and_down_ends_it(cli, tmp_path):
    cli("new", "bot", cwd=tmp_path)
    root = tmp_path / "bot"
    log = tmp_path / "lab.log"
    environment = {**{k: v for k, v in os.environ.items() if not k.startswith("WORKBENCH")}, "JUPYTER_TOKEN": "t", "HOME": str(tmp_path)}
    with open(log, "w") as output:
        lab = subprocess.Popen([sys.executable, "-m", "workbench.cli", "open", "--no-browser", "--port", "18931"], cwd=root,
                               stdout=output, stderr=output, env=environment)
    try:
        served = _contents(log, lab)
        assert {f["name"] for f in served["content"]} >= {"1-data.ipynb", "6-pipeline.ipynb", "pipeline.yaml"}
        assert "jupyterlab" in cli("down", cwd=root).stdout
        lab.wait(30)
    finally:
        if lab.poll() is None:
            lab.kill()
        lab.wait()
        runs.shut_down(Workspace(root).open())


def _contents(log: Path, lab: subprocess.Popen) -> dict:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and lab.poll() is None:
        found = [w for w in log.read_text().split() if w.startswith("http://127.0.0.1:") and "/lab" in w]
        if found:
            base = found[0].partition("/lab")[0]
            try:
                with urllib.request.urlopen(f"{base}/api/contents/notebooks?token=t", timeout=30) as answer:
                    return json.load(answer)
            except urllib.error.URLError as error:  # the server says its address, and only then listens
                if not isinstance(error.reason, ConnectionRefusedError):
                    raise
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def test_open_of_a_run_without_a_report_says_so(cli, place):
    run = json.loads(cli("data", "digits", "--set", "steps=[{step: exact-duplicates}]", "--json", cwd=place).stdout)["run"]
    assert "has no report" in cli("open", run, "--no-browser", cwd=place, code=1).stderr
