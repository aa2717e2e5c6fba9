"""The data panel: sources, steps and split of a dataset; what was kept, what was dropped and why."""

from __future__ import annotations

from typing import Any, ClassVar

from workbench.runs import Run

from .panel import Panel


class DataPanel(Panel):
    """Makes datasets."""

    WORD: ClassVar[str] = "data"
    ABOUT: ClassVar[str] = "Makes a dataset: read from sources, cleaned in steps, split; whatever is dropped is kept aside with its reason."
    EXAMPLE: ClassVar[dict[str, Any]] = {"name": "python-docs", "sources": [{"kind": "python-docs", "max_megabytes": 1.0}]}
    MAIN: ClassVar[tuple[str, ...]] = ("name", "sources", "steps", "split")

    def next_step(self, run: Run) -> dict[str, Any] | None:
        return {"label": "Train on this dataset", "word": "train", "spec": {"data": run.result["dataset"]}}
