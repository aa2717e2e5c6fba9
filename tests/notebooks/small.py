"""The notebooks with small specs in a workspace of their own; run as a script, nbval executes them there.

    python tests/notebooks/small.py [pytest options]

Only the literal in each ``parameters`` cell is another one; every other cell is as committed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SPECS: dict[str, Any] = {
    "1-data.ipynb": {"word": "data", "name": "python-docs", "sources": [{"kind": "python-docs", "max_megabytes": 0.5}]},
    "2-train.ipynb": {"word": "train", "data": "python-docs", "model": {"size": "100K", "vocabulary": 512, "context": 64}, "tokens": 40_000,
                      "every": {"evaluate": 20, "sample": 20}},
    "3-assess.ipynb": {"word": "assess", "model": "python-docs-lm", "probes": [
        {"probe": "bits_per_byte", "max_kilobytes": 8},
        {"probe": "memorised", "passages": 10, "prompt_tokens": 8, "continuation_tokens": 8},
        {"probe": "pii_generated", "generations": 10, "tokens": 8}, {"probe": "group_likelihood_gap"}]},
    "4-serve.ipynb": {"word": "serve", "name": "python-docs", "models": [{"model": "python-docs-lm"}], "port": 0},
    "5-monitor.ipynb": {"word": "monitor", "name": "monitor", "port": 0},
}
TUTORIALS = {"answers.ipynb": "questions, tokens, epochs = 80, 20_000, 1",
             "digits.ipynb": "gan_epochs, diffusion_epochs, width = 1, 0.5, 8", "notes.ipynb": "notes, tokens = None, 20_000"}
"""The parameters cell of each tutorial, for a quick run."""


def small_workspace(folder: Path, specs: dict[str, Any] = SPECS) -> Path:
    """A directory with ``workbench.toml`` and all notebooks, those named with another spec; returns the notebooks' folder."""
    place = folder / "notebooks"
    place.mkdir(parents=True)
    (folder / "workbench.toml").write_text("")
    (place / "pipeline.yaml").write_bytes((ROOT / "notebooks" / "pipeline.yaml").read_bytes())
    for source in sorted((ROOT / "notebooks").glob("*.ipynb")):
        document = json.loads(source.read_text("utf-8"))
        if source.name in specs:
            cell = next(c for c in document["cells"] if "parameters" in c["metadata"].get("tags", []))
            cell["source"] = f"spec = {specs[source.name]!r}"
        (place / source.name).write_text(json.dumps(document), "utf-8")
    return place


def small_tutorials(place: Path, cells: dict[str, str] = TUTORIALS) -> list[Path]:
    """All tutorials beside the notebooks of a workspace, each with a small parameters cell."""
    (place / "tutorials").mkdir()
    made = []
    for source in sorted((ROOT / "notebooks" / "tutorials").glob("*.ipynb")):
        document = json.loads(source.read_text("utf-8"))
        next(c for c in document["cells"] if "parameters" in c["metadata"].get("tags", []))["source"] = cells[source.name]
        made.append(place / "tutorials" / source.name)
        made[-1].write_text(json.dumps(document), "utf-8")
    return made


def main(options: list[str]) -> int:
    """Run nbval on the notebooks in order, and look whether each training taught its model something; leaves no process behind."""
    from workbench.runs import listed, shut_down
    from workbench.workspace import Workspace

    with tempfile.TemporaryDirectory(prefix="notebooks-") as folder:
        notebooks = small_workspace(Path(folder))
        options = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300", "--nbval-kernel-startup-timeout=120", "-q",
                   "--timeout=600", "-p", "no:cacheprovider", "-c", "/dev/null", f"--rootdir={notebooks}", *options]
        try:
            files = map(str, [*sorted(notebooks.glob("*.ipynb")), *small_tutorials(notebooks)])
            status = subprocess.run([sys.executable, "-m", "pytest", *options, *files], cwd=notebooks, check=False).returncode
            gains = {r.entry.name: r.result["metrics"]["gain"]["difference"] for r in listed(Workspace(folder).open(), word="train")}
            print(", ".join(f"{name} {gain:+.3f}" for name, gain in gains.items()))
            return status or int(len(gains) < 5 or any(gain >= 0 for gain in gains.values()))
        finally:
            shut_down(Workspace(folder).open())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
