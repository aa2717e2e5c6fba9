"""The notebooks run three ways, JupyterLab's, the pipeline's and papermill's, and yield the same digests.

Each way has a workspace of its own, so that nothing can be found; they share one cluster, which saves a minute.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from small import SPECS, small_workspace

from workbench import cluster, runs
from workbench.pipeline.notebook import Notebook
from workbench.registry import Registry
from workbench.workspace import Workspace

pytestmark = pytest.mark.timeout(900)  # three trainings and a dozen kernels: minutes where the machine is shared
MADE = {"1-data.ipynb": "dataset", "2-train.ipynb": "model", "3-assess.ipynb": "assessment"}


@pytest.fixture(scope="module")
def ways(tmp_path_factory) -> dict[str, Path]:
    """The notebooks' folder of each way; whatever works in any is ended afterwards."""
    folders = {way: tmp_path_factory.mktemp(way) / "w" for way in ("jupyter", "pipeline", "papermill")}
    places = {way: small_workspace(folder) for way, folder in folders.items()}
    first = Workspace(folders["jupyter"]).open()
    address, tls = cluster.up(first), first.path("cluster", "tls")
    cluster.connect(first)  # writes the certificates, if it must
    for way in ("pipeline", "papermill"):
        (folders[way] / "workbench.toml").write_text(f'[cluster]\naddress = "{address}"\ntls_ca = "{tls / "ca.pem"}"\n'
                                                     f'tls_cert = "{tls / "node.pem"}"\n')
    yield places
    for folder in reversed(folders.values()):
        runs.shut_down(Workspace(folder).open())


def digests(place: Path) -> dict[str, str]:
    registry = Registry(Workspace.find(place))
    return {kind: registry.versions(kind)[0].digest for kind in MADE.values()}


def call(*command: str, cwd: Path) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WORKBENCH")}
    done = subprocess.run([sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True, timeout=900, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def by_jupyter(ways) -> dict[str, str]:
    """Cell by cell in a kernel, as JupyterLab does it."""
    import nbclient
    import nbformat

    for name in MADE:
        document = nbformat.read(ways["jupyter"] / name, 4)
        nbclient.NotebookClient(document, timeout=900, resources={"metadata": {"path": str(ways["jupyter"])}}).execute()
        html = [o["data"]["text/html"] for c in document.cells for o in c.get("outputs", []) if "text/html" in o.get("data", {})]
        assert len(html) >= 2, "tables and pictures stay in the saved file"
    return digests(ways["jupyter"])


def test_papermill_with_a_spec_of_ones_own_yields_the_same_digests(ways, by_jupyter):
    place = ways["papermill"]
    for name in MADE:
        # The committed notebook, its literal as it is: what counts is the file given to -p.
        (place / name).write_bytes((Path(__file__).parents[2] / "notebooks" / name).read_bytes())
        (place / "my.yaml").write_text(yaml.safe_dump(SPECS[name]))
        call("papermill", name, f"out-{name}", "-p", "spec", "my.yaml", "--no-progress-bar", cwd=place)
        executed = Notebook(place / f"out-{name}").document["cells"]
        assert any("injected-parameters" in c["metadata"].get("tags", []) for c in executed)
    assert digests(place) == by_jupyter


def test_the_pipeline_yields_the_same_digests_and_ends_in_an_endpoint(ways, by_jupyter):
    place = ways["pipeline"]
    before = {p.name: p.read_bytes() for p in place.iterdir()}
    done = call("workbench.cli", "pipeline", "pipeline.yaml", cwd=place)
    assert digests(place) == by_jupyter
    assert {p.name: p.read_bytes() for p in place.iterdir()} == before, "notebooks are never executed in place"
    for words in ("python-docs answers at http://127.0.0.1:", "\nAnswer", "\nVerdict", "\nReport", "\nNext"):
        assert words in done.stdout
    executed = next(iter(runs.listed(Workspace.find(place), word="pipeline"))).directory
    assert sum(path.stat().st_size for path in executed.glob("*.ipynb")) < 2_000_000, "executed notebooks of all panels stay light"
    assert (executed / "report.html").stat().st_size < 4_000_000
    again = call("workbench.cli", "pipeline", "pipeline.yaml", "--explain", cwd=place).stdout
    assert [line.partition(":")[2].split()[0] for line in again.splitlines()] == ["cached:"] * 5


def test_each_notebook_is_a_title_a_parameters_cell_a_panel_and_its_run():
    folder = Path(__file__).parents[2] / "notebooks"
    paths = sorted(folder.glob("[0-9]-*.ipynb"))
    assert len(paths) == 6
    for path in paths:
        notebook, word = Notebook(path), path.stem.partition("-")[2]
        assert notebook.title.lower() == {"assess": "ethics and quality"}.get(word, word)
        assert "parameters" in notebook.cells[1]["metadata"]["tags"] and notebook.parameter("spec") is not None
        code = "".join(notebook.code)
        assert f"panel = {word.capitalize()}Panel(spec)" in code and "run = panel.run()" in code
