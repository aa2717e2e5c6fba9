"""The doors: what may be opened to whom."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from workbench import runs
from workbench.cli.opening import dashboard_settings, home_notebook
from workbench.errors import PolicyError


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "example.org"])
def test_a_public_dashboard_without_a_token_is_refused(workspace, host):
    with pytest.raises(PolicyError, match="needs a token"):
        dashboard_settings(workspace, host, 8866, token=False)
    assert len(dashboard_settings(workspace, host, 8866)["Voila"]["token"]) >= 32


def test_the_refusal_leaves_the_command_with_the_policys_code_and_starts_nothing(cli, tmp_path):
    (tmp_path / "workbench.toml").touch()
    said = cli("dashboard", "--host", "0.0.0.0", "--no-token", "--no-browser", cwd=tmp_path, code=3)
    assert "needs a token" in said.stderr and not (tmp_path / ".workbench" / "processes").exists()


def test_on_loopback_the_token_may_be_left_out(workspace):
    for host in ("127.0.0.1", "localhost", "::1"):
        assert dashboard_settings(workspace, host, 8866, token=False)["Voila"]["token"] == ""


def test_home_is_put_where_it_is_missing_and_left_where_it_is(workspace):
    made = home_notebook(workspace)
    assert made == workspace.root / "workbench.ipynb" and "workbench.open()" in made.read_text()
    made.write_text("mine")
    assert home_notebook(workspace).read_text() == "mine"


def page(address: str) -> str:
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()


def answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address.partition("?")[0] + "nothing", timeout=10).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def test_a_dashboard_answers_only_who_has_the_token(workspace):
    log = workspace.root / "log"
    with open(log, "w") as output:
        voila = subprocess.Popen([sys.executable, "-m", "workbench.cli", "dashboard", "--no-browser", "--port", "18966", "--preheat", "0"],
                                 cwd=workspace.root, stdout=output, stderr=output, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        deadline = time.monotonic() + 90
        while not answers(address := next((x for x in log.read_text().splitlines() if x.startswith("http://")), "http://127.0.0.1:1/")):
            assert voila.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        assert "anywidget" in page(address)
        assert "anywidget" not in page(address.partition("?")[0])
        settings = workspace.path("dashboard", "voila.json")
        assert json.loads(settings.read_text())["Voila"]["token"] in address
        assert stat.S_IMODE(settings.stat().st_mode) == 0o600
    finally:
        runs.shut_down(workspace)
        voila.wait(30)
