"""The command line: a view over specs, runs and what they made, as the widgets are."""

from __future__ import annotations


def main() -> None:
    """Entry point of the ``workbench`` script and of ``python -m workbench.cli``."""
    from .app import run_app

    run_app()
