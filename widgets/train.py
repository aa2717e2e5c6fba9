"""The train panel: what a model learns from and how; its curves and samples as it learns."""

from __future__ import annotations

from typing import Any, ClassVar

from workbench.runs import Run

from .panel import Panel


class TrainPanel(Panel):
    """Trains models."""

    WORD: ClassVar[str] = "train"
    ABOUT: ClassVar[str] = "Trains a language model on a dataset, on one process or many; it can be stopped and resumed."
    MAIN: ClassVar[tuple[str, ...]] = ("data", "name", "model", "tokens", "learning_rate")
    CURVES: ClassVar[tuple[str, ...]] = ("loss", "bits_per_byte", "learning_rate", "tokens_per_second", "gradient_norm")
    ESTIMATES: ClassVar[bool] = False

    def next_step(self, run: Run) -> dict[str, Any] | None:
        return {"label": "Assess this model", "word": "assess", "spec": {"model": run.result["model"]}}
