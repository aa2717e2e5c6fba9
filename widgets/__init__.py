"""Home and the six panels for JupyterLab and Voila: editors of specs and views of runs."""

from __future__ import annotations

import importlib
from typing import Any

# Public name -> module that holds it; imported when first asked for, so that `import widgets` costs nothing.
_HOMES = {"AssessPanel": "assess", "DataPanel": "data", "Home": "home", "MonitorPanel": "monitor", "Panel": "panel",
          "PipelinePanel": "pipeline", "ServePanel": "serve", "TrainPanel": "train"}
__all__ = sorted(_HOMES)  # noqa: PLE0605 - one table says it all


def panel_class(word: str) -> Any:
    """The panel of one of the six words."""
    return __getattr__(f"{word.capitalize()}Panel")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'widgets' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
