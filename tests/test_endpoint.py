"""An endpoint as an artefact: opened by name, asked, drawn, with lines that work as pasted, and stopped without a trace."""

from __future__ import annotations

import shutil
import subprocess
import sys

import psutil
import pytest

from workbench import runs
from workbench.endpoint import Endpoint
from workbench.errors import NotFoundError, WorkbenchError
from workbench.model import Model


@pytest.fixture(scope="module")
def endpoint(copy_of_taught, tmp_path_factory):
    workspace = copy_of_taught(tmp_path_factory.mktemp("endpoint") / "it's a workspace")  # a quote and spaces must survive pasting
    yield runs.run({"word": "serve", "name": "bot", "port": 0, "replicas": 1, "models": [{"model": "docs-lm"}]}, workspace).output
    runs.shut_down(workspace)


def test_it_is_opened_by_name_and_an_unknown_one_names_the_near_one(endpoint):
    assert Endpoint.open("bot", endpoint.workspace) == endpoint and Endpoint.listed(endpoint.workspace) == [endpoint]
    with pytest.raises(NotFoundError, match='Did you mean "bot"'):
        Endpoint.open("bott", endpoint.workspace)
    assert endpoint.alive and endpoint.address.endswith("/v1") and endpoint.metrics_url.endswith("/metrics")


def test_it_answers_and_leads_back(endpoint):
    answer = endpoint.complete("Return the", max_tokens=12, temperature=0, stop=["zzz"])
    assert str(answer) == answer.text != "" and answer.model == Model.open("docs-lm", endpoint.workspace).reference
    assert answer.usage["completion_tokens"] == 12 and answer.finish == "length"
    assert endpoint.trace(answer)["answer"]["text"] == answer.text
    with pytest.raises(WorkbenchError, match='endpoint bot: .*did you mean "max_tokens"'):
        endpoint.complete("x", max_token=3)


def test_the_lines_for_clients_work_as_pasted(endpoint):
    lines = endpoint.client_code("Return the")
    told = subprocess.run([sys.executable, "-c", lines["python"]], capture_output=True, text=True, timeout=60)
    assert told.returncode == 0 and told.stdout.strip("\n"), told.stderr
    if not shutil.which("curl"):
        pytest.skip("no curl here")
    told = subprocess.run(["/bin/sh", "-c", lines["curl"]], capture_output=True, text=True, timeout=60)
    assert '"text_completion"' in told.stdout, told.stderr


def test_it_draws_itself(endpoint):
    drawn = endpoint._repr_html_()
    assert "docs-lm@" in drawn and endpoint.address in drawn and endpoint.token not in drawn
    assert str(endpoint).startswith(f"endpoint bot at {endpoint.address} (up): docs-lm@")


def test_stopped_it_leaves_no_process_and_says_how_to_start_it(endpoint):
    pids = [endpoint.document["pid"], *(p["pid"] for p in endpoint.document["processes"])]
    assert endpoint.stop() and not endpoint.stop()
    assert not [p for p in pids if psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE]
    assert not endpoint.alive and endpoint.document["state"] == "down"
    with pytest.raises(WorkbenchError, match="does not answer.*workbench serve"):
        endpoint.complete("x")
