"""Curate, train, assess, serve and watch generative models from Jupyter; see ARCHITECTURE.md."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> module that holds it; imported when first asked for, so that `import workbench` is free.
_HOMES = {
    "AssessSpec": "assess.spec", "Assessment": "assessment", "DataSpec": "data.spec", "Dataset": "dataset",
    "Endpoint": "endpoint", "Model": "model", "MonitorSpec": "monitor.spec", "PipelineSpec": "pipeline.spec", "Policy": "policy",
    "Registry": "registry", "Run": "runs", "ServeSpec": "serve.spec", "TrainSpec": "train.spec",
    "WorkbenchError": "errors", "Workspace": "workspace", "attach": "runs", "load_spec": "spec", "open": "cli.opening",
    "run": "runs", "submit": "runs",
}
__all__ = sorted({*_HOMES, "__version__"} - {"open"})  # noqa: PLE0605 - one table says it all; `import *` must not hide Python's own open

if TYPE_CHECKING:
    from .runs import attach, run, submit  # noqa: F401


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'workbench' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "open"])
