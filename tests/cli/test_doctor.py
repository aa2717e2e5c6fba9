"""The doctor: what it looks at, and that it finds what is wrong."""

from __future__ import annotations

import json
import socket

from workbench.cli import doctor
from workbench.cli.doctor import Finding


def test_it_looks_at_everything_and_starts_nothing(cli, tmp_path):
    done = cli("doctor", "--json", cwd=tmp_path)
    told = json.loads(done.stdout)
    assert [f["what"] for f in told["findings"]] == ["python", "packages", "cores", "memory", "workspace", "disk", "cluster", "ports",
                                                     "gpu", "chromium", "prometheus"]
    assert told["good"] is True
    assert not (tmp_path / ".workbench" / "processes").exists()


def test_settings_that_are_wrong_are_bad_and_named(cli, tmp_path):
    (tmp_path / "workbench.toml").write_text("[cluster]\nworkrs = 2\n")
    done = cli("doctor", cwd=tmp_path, code=1)
    assert "✗ workspace" in done.stdout and 'did you mean "workers"' in done.stdout and "1 thing to mend" in done.stdout


def test_a_workspace_of_a_newer_version_is_bad(cli, tmp_path):
    (tmp_path / ".workbench").mkdir()
    (tmp_path / ".workbench" / "format").write_text("99\n")
    assert "newer workbench" in cli("doctor", cwd=tmp_path, code=1).stdout
    assert "newer workbench" in cli("runs", cwd=tmp_path, code=1).stderr


def test_a_cluster_that_does_not_answer_is_bad(cli, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        (tmp_path / "workbench.toml").write_text(f'[cluster]\naddress = "tcp://127.0.0.1:{closed.getsockname()[1]}"\n')
        findings = {f["what"]: f for f in json.loads(cli("doctor", "--json", cwd=tmp_path, code=1).stdout)["findings"]}
    assert findings["cluster"]["level"] == "bad" and findings["cluster"]["remedy"]


def test_a_port_that_is_taken_is_said(cli, tmp_path):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 8888))
            taken.listen()
        except OSError:
            pass  # somebody has it already: the same to the doctor
        assert "8888 (JupyterLab)" in cli("doctor", cwd=tmp_path).stdout


def test_a_package_that_is_too_old_or_missing_is_bad(monkeypatch):
    from importlib import metadata

    real = metadata.version

    def version(name: str) -> str:
        if name == "mlflow":
            raise metadata.PackageNotFoundError(name)
        return "0.1" if name == "torch" else real(name)

    monkeypatch.setattr(metadata, "version", version)
    [found] = doctor._packages()
    assert isinstance(found, Finding) and found.level == "bad"
    assert "mlflow is missing" in found.words and "torch is 0.1" in found.words and "pip install" in found.remedy


def test_other_versions_than_tested_are_a_note(monkeypatch):
    from importlib import metadata

    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "99.0" if name == "rich" else real(name))
    [found] = doctor._packages()
    assert found.level == "note" and "rich 99.0" in found.words
