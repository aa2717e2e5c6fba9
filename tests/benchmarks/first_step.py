"""Submit to first step: two coupled ranks on a warm cluster against torchrun and Ray Train, medians of one run.

    python tests/benchmarks/first_step.py [rounds [python of an environment with Ray]]

    python -m venv /tmp/ray
    python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > /tmp/ray/lib/python3*/site-packages/base.pth
    /tmp/ray/bin/pip install -c environments/constraints.txt 'ray[train]'

All train the same script's model on the same tokens; the clock runs from the call (``submit``, torchrun's start, ``TorchTrainer.fit``) to
the end of the first optimizer step in rank 0, as that rank says it. The rounds of ours and torchrun's alternate; Ray's come behind them,
with our cluster ended, on a Ray that runs already and has trained once.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from workbench import runs
from workbench.dataset import Dataset
from workbench.train.plan import planned
from workbench.train.reading.tokens import cached
from workbench.train.spec import TrainSpec
from workbench.workspace import Workspace

SCRIPT = Path(__file__).resolve().parents[1] / "train" / "under_torchrun.py"
DATA = {"word": "data", "name": "docs", "sources": [{"kind": "python-docs", "max_megabytes": 0.3}]}
TRAIN = {"word": "train", "data": "docs", "name": "first", "model": {"size": "100K", "vocabulary": 512, "context": 64}, "prompts": [],
         "tokens": 5 * 512, "batch": {"sequences": 4}}


def ours(workspace: Workspace) -> float:
    """Seconds from ``submit`` to the end of the first step."""
    begin = time.time()
    run = runs.submit(TRAIN, workspace, again=True).wait(120)
    return next(e.at for e in run.events(kinds=["mark"]) if e.name == "first-step") - begin


def torchrun(workspace: Workspace, place: Path) -> float:
    """Seconds from torchrun's start to the end of the first step."""
    tokens = cached(workspace, Dataset.open("docs", workspace).digest, 512)
    plan = planned(TrainSpec.load(TRAIN), tokens.count("train")).to_dict() | {"tokens": str(tokens.path)}
    (place / "plan.json").write_text(json.dumps(plan))
    begin = time.time()
    subprocess.run([sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", str(SCRIPT),
                    str(place / "plan.json"), str(place)], check=True, capture_output=True,
                   env={k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"})
    return json.loads((place / "losses.json").read_text())["first"] - begin


def ray(python: str, workspace: Workspace, place: Path, rounds: int) -> list[float]:
    """Seconds from ``TorchTrainer.fit`` to the end of the first step; the first round isn't counted."""
    script = Path(__file__).parent / "peers" / "ray_train.py"
    subprocess.run([python, str(script), str(place / "plan.json"), str(rounds), str(place / "ray.json")],
                   check=True, capture_output=True, env={k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "PYTHONPATH")})
    return json.loads((place / "ray.json").read_text())[1:]


def main() -> None:
    """Print the medians and their ratios."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory(prefix="first-step-") as folder:
        workspace = Workspace(folder).open()
        try:
            runs.submit(DATA, workspace, place="here")
            first = ours(workspace)
            mine, theirs = [], []
            for _ in range(rounds):
                mine.append(ours(workspace))
                theirs.append(torchrun(workspace, Path(folder)))
        finally:
            runs.shut_down(workspace)
        rays = ray(sys.argv[2], workspace, Path(folder), rounds) if len(sys.argv) > 2 else []
    print(f"submit to first step, cluster cold     {first:7.2f} s")
    print(f"submit to first step, cluster warm     {statistics.median(mine):7.2f} s   (≤ 0.25)   {' '.join(f'{s:.2f}' for s in mine)}")
    print(f"torchrun to first step                 {statistics.median(theirs):7.2f} s             {' '.join(f'{s:.2f}' for s in theirs)}")
    print(f"ratio                                  {statistics.median(theirs) / statistics.median(mine):7.1f} x   (≥ 20)")
    if rays:
        print(f"Ray Train to first step                {statistics.median(rays):7.2f} s             {' '.join(f'{s:.2f}' for s in rays)}")
        print(f"ratio                                  {statistics.median(rays) / statistics.median(mine):7.1f} x   (≥ 40)")


if __name__ == "__main__":
    main()
