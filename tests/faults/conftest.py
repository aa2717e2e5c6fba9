"""Counts what was survived: with WORKBENCH_COUNTS=FILE each test leaves a line there, which ``counts.py`` sums up."""

from __future__ import annotations

import json
import os


def pytest_runtest_logreport(report) -> None:
    """A line a test: its call, or what failed or was left out before or behind it."""
    file = os.environ.get("WORKBENCH_COUNTS")
    if file and (report.when == "call" or report.outcome != "passed"):
        with open(file, "a", encoding="utf-8") as lines:
            lines.write(json.dumps({"test": report.nodeid, "when": report.when, "outcome": report.outcome}) + "\n")
