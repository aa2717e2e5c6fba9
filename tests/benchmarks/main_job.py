"""The main job from a fresh workspace, and again: seconds, tokens trained, bits a byte beside xz's.

    python tests/benchmarks/main_job.py

Runs ``notebooks/pipeline.yaml`` in a temporary workspace as ``make run`` does after the install, then a
second time, and prints a row for each figure.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def pipeline(place: Path) -> float:
    """Seconds of one ``workbench pipeline`` in a workspace."""
    begin = time.monotonic()
    subprocess.run([sys.executable, "-m", "workbench.cli", "pipeline", "notebooks/pipeline.yaml"], cwd=place, check=True,
                   env={**os.environ, "WORKBENCH_ROOT": str(place)})
    return time.monotonic() - begin


def main() -> None:
    from workbench import Registry, Workspace
    from workbench.assessment import Assessment
    from workbench.runs import shut_down

    place = Path(tempfile.mkdtemp(prefix="main-job-"))
    shutil.copytree(ROOT / "notebooks", place / "notebooks")
    workspace = Workspace(place).open()
    try:
        first, second = pipeline(place), pipeline(place)
        registry = Registry(workspace)
        model = json.loads((registry.versions("model")[0].path / "manifest.json").read_text())
        evidence = {e.metric: e for e in Assessment(registry.versions("assessment")[0].path).evidence}
        bits = evidence["bits_per_byte"]
        print(f"make run, after the install        {first:7.1f} s   (≤ 360)")
        print(f"make run again                     {second:7.1f} s   (≤ 10)")
        print(f"parameters                         {model['parameters']:>9,}")
        print(f"tokens trained                     {model['metrics']['tokens']:>9,}   (≥ 1,000,000)")
        print(f"bits a byte, held out              {bits.value:7.3f}     {bits.beside}")
    finally:
        shut_down(workspace)
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
