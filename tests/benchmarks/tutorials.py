"""The tutorials at full size, as papermill runs them, each in a workspace without anything in it; what each training brought.

    python tests/benchmarks/tutorials.py [NAME …]

Ends with status 1 where one takes longer than it may, or a training made what it measures no better.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import papermill

from workbench import runs
from workbench.workspace import Workspace

FOLDER = Path(__file__).resolve().parents[2] / "notebooks" / "tutorials"
MOST = 300
"""Seconds that a tutorial may take, the start of its cluster included."""


def run(notebook: Path) -> bool:
    """Print a tutorial's row; true where it holds."""
    with tempfile.TemporaryDirectory(prefix="tutorial-") as folder:
        (Path(folder) / "workbench.toml").write_text("")
        workspace, begin = Workspace(folder).open(), time.monotonic()
        try:
            papermill.execute_notebook(str(notebook), f"{folder}/{notebook.name}", cwd=folder, kernel_name="python3", progress_bar=False)
            seconds = time.monotonic() - begin
            gains = {r.entry.name: r.result["metrics"]["gain"]["difference"] for r in runs.listed(workspace, word="train")}
        finally:
            runs.shut_down(workspace)
    brought = ", ".join(f"{name} {gain:+.3f}" for name, gain in sorted(gains.items()))
    print(f"| {notebook.stem} | {seconds:.0f} s | {MOST} s | {brought} |", flush=True)
    return seconds <= MOST and bool(gains) and all(g < 0 for g in gains.values())


def main(names: list[str]) -> int:
    """Print the table; the status to end with."""
    print("| tutorial | took | may take | held-out measure, after − before |\n|---|---|---|---|")
    held = [run(n) for n in sorted(FOLDER.glob("*.ipynb")) if not names or n.stem in names]
    return int(not all(held))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
