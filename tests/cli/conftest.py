"""The command line as a person calls it: a process of its own, in a directory of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from workbench import runs
from workbench.cli.app import run_app
from workbench.workspace import Workspace

Cli = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(scope="session")
def cli() -> Cli:
    """A function that calls ``workbench`` with arguments in a directory; expects exit code 0 unless told another."""
    def call(*arguments: str, cwd: Path, code: int = 0, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess:
        outside = {k: v for k, v in os.environ.items() if k not in ("WORKBENCH_ROOT", "WORKBENCH_STEP")}
        done = subprocess.run([sys.executable, "-m", "workbench.cli", *arguments], cwd=cwd, capture_output=True, text=True,
                              timeout=timeout, env={**outside, **environment})
        assert done.returncode == code, f"{arguments} left with {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback (most recent call last):" not in done.stderr
        return done

    return call


@pytest.fixture
def cli_here(monkeypatch, capsys):
    """The same in this process, for what is refused before anything starts: saves the start of an interpreter."""
    def call(*arguments: str, cwd: Path, code: int = 0) -> subprocess.CompletedProcess:
        monkeypatch.chdir(cwd)
        with pytest.raises(SystemExit) as left:
            run_app(list(arguments))
        said = capsys.readouterr()
        assert left.value.code == code, f"{arguments} left with {left.value.code}\n{said.out}\n{said.err}"
        return subprocess.CompletedProcess(arguments, code, said.out, said.err)

    return call


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A directory with a workspace, shared by the tests of a file; whatever works in it is ended afterwards."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "workbench.toml").write_text("[cluster]\nworkers = 1\n")
    yield folder
    runs.shut_down(Workspace(folder).open())
