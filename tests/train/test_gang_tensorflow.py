"""The gang knows no framework: TensorFlow's MultiWorkerMirroredStrategy on two ranks, in an environment of its own.

``WORKBENCH_TENSORFLOW`` names the Python of an environment that has TensorFlow; without it one is made, once, in .venv/tensorflow.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from workbench import cluster
from workbench.train.ranks.gang import Gang, RankError, RankLost

HERE = Path(__file__).resolve()
SCRIPT = HERE.with_name("tensorflow_mirrored.py")
ENVIRONMENT = HERE.parents[2] / ".venv" / "tensorflow"
SECONDS = 90
"""Seconds that making the environment may take; it needs the package registry, and half a minute where that is near."""


@pytest.fixture(scope="module")
def python() -> str:
    named = os.environ.get("WORKBENCH_TENSORFLOW")
    if named:
        return named
    found, made = ENVIRONMENT / "bin" / "python", ENVIRONMENT / ".installed"
    if not made.exists():
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(ENVIRONMENT)], check=True, capture_output=True,
                           timeout=SECONDS)
            # Our own pip installs it, and compiles nothing: Python does so for the few modules that are imported.
            subprocess.run([sys.executable, "-m", "pip", "--python", str(found), "install", "--quiet", "--no-compile", "-r",
                            str(HERE.parents[2] / "environments" / "tensorflow.txt")], check=True, capture_output=True, timeout=SECONDS)
        except (subprocess.SubprocessError, OSError) as error:
            pytest.skip(f"no environment with TensorFlow: {error}; name one by WORKBENCH_TENSORFLOW=path/to/python")
        made.touch()
    return str(found)


@pytest.fixture
def gang(live, request):
    name = request.node.name
    with Gang(cluster.connect(live), 2, run=name, attempt=1, logs=live.path("logs", name)) as made:
        made.claim()
        yield made


def plan(python: str, folder: Path, **more) -> dict:
    return {"python": python, "meeting": f"{SCRIPT}:meeting", "steps": 60, "every": 10, "checkpoint": str(folder / "kept.npz"), **more}


def test_mirrored_training_survives_the_kill_of_a_rank(gang, python, tmp_path):
    target, begun, steps = f"{SCRIPT}:train", [], []

    def heard(message: dict) -> None:
        if message["kind"] == "started":
            begun.append([r["pid"] for r in message["ranks"]])
            steps.clear()
        elif message["kind"] == "step":
            steps.append(message["step"])
            if message["step"] == 25 and len(begun) == 1:
                os.kill(begun[0][1], signal.SIGKILL)
                time.sleep(0.2)

    with pytest.raises(RankLost, match=r"rank 1 was killed \(SIGKILL\)"):
        gang.call(target, plan(python, tmp_path, steps=100_000), on_message=heard)
    gang.claim()
    first, second = gang.call(target, plan(python, tmp_path), on_message=heard)
    assert first == second and first["ranks"] == 2 and first["step"] == 60
    assert steps[0] > 20 and steps[0] % 10 == 1 and steps[-1] == 60  # from the last checkpoint on
    assert first["weights"] == pytest.approx(undisturbed(60), rel=1e-4)
    for pid in [p for pids in begun for p in pids]:
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def undisturbed(steps: int) -> np.ndarray:
    """The weights that two ranks end with, as one process computes them."""
    true, weights = np.array([1.0, -2.0, 3.0, 0.5]), np.zeros(4)
    for step in range(1, steps + 1):
        drawn = [np.random.default_rng([step, rank]).normal(size=(16, 4)) for rank in range(2)]
        weights -= 0.1 * np.mean([x.T @ (x @ (weights - true)) * 2 / 16 for x in drawn], axis=0)
    return weights


def test_an_error_in_another_environment_comes_back_whole(gang, python):
    with pytest.raises(RankError, match="No module named 'workbench'") as caught:
        gang.call("workbench.train.fit:fit", {"python": python})
    assert "in carry_out" in caught.value.cause["traceback"]
    with pytest.raises(RankError, match="/no/python: can't become a rank; received 'No such file or directory'"):
        gang.call("os:getpid", {"python": "/no/python"})
