"""What this machine and this installation lack, and how to get it."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from .options import Json
from .screen import print_json, say

if TYPE_CHECKING:
    from ..workspace import Workspace

Level = Literal["good", "note", "bad"]
DISTRIBUTION = "genai-workbench"
MIN_MEMORY, MIN_DISK = 3e9, 2e9
"""Bytes of memory and of disk under which the reference pipeline gets into trouble."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at: how it is, and what to do where it lacks."""

    what: str
    level: Level
    words: str
    remedy: str = ""


def doctor(as_json: Json = False) -> None:
    """Say what is missing here and how to get it."""
    found = examine()
    bad = [f for f in found if f.level == "bad"]
    if as_json:
        print_json({"good": not bad, "findings": [asdict(f) for f in found]})
    else:
        wide = max(len(f.what) for f in found)
        for finding in found:
            say(f"{ {'good': '✓', 'note': '·', 'bad': '✗'}[finding.level]} {finding.what:<{wide}}  {finding.words}")
            if finding.remedy:
                say(f"  {'':<{wide}}  → {finding.remedy}")
        say(f"\n{len(bad)} thing{'s' * (len(bad) != 1)} to mend" if bad else "\nnothing needed is missing")
    if bad:
        raise typer.Exit(1)


def examine() -> list[Finding]:
    """Everything that is looked at, in the order in which a person would mend it."""
    from ..errors import WorkbenchError
    from ..workspace import Workspace

    found = [_python(), *_packages(), _cores(), _memory()]
    try:
        workspace = Workspace.find()
        workspace.settings  # noqa: B018 - read now, so that its problems are found
    except WorkbenchError as error:
        return [*found, Finding("workspace", "bad", str(error), "Mend workbench.toml, or choose another directory")]
    return [*found, Finding("workspace", "good", str(workspace.root)), _disk(workspace), _cluster(workspace), *_ports(), _gpu(),
            *_programs()]


def _python() -> Finding:
    words = f"{sys.version.split()[0]} ({sys.executable})"
    return Finding("python", "good", words) if sys.version_info >= (3, 11) else Finding(
        "python", "bad", words, "Install Python 3.11 or newer, and make the environment with it")


def _packages() -> list[Finding]:
    """Packages that are needed and are not there or too old, and how many differ from the versions that were tested."""
    from importlib import metadata

    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(r) for r in metadata.requires(DISTRIBUTION) or ()]
    except metadata.PackageNotFoundError:
        return [Finding("packages", "bad", f"{DISTRIBUTION} is not installed here", "pip install -e . in a clone of it")]
    lacking = []
    for requirement in wanted:
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            lacking.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            lacking.append(f"{requirement.name} is {version}, {requirement.specifier} is needed")
    if lacking:
        return [Finding("packages", "bad", "; ".join(lacking), f"pip install -c environments/constraints.txt {DISTRIBUTION}")]
    differing = _differing()
    if differing is None:
        return [Finding("packages", "good", "all that is needed")]
    if differing:
        few = ", ".join(differing[:4]) + (f" and {len(differing) - 4} more" if len(differing) > 4 else "")
        return [Finding("packages", "note", f"all that is needed; other versions than tested: {few}",
                        "If something fails: pip install -c environments/constraints.txt -e .")]
    return [Finding("packages", "good", "all that is needed, in the versions tested")]


def _differing() -> list[str] | None:
    """Packages whose version is another than the constraints say; None where there is no such file."""
    from importlib import metadata

    import workbench

    package = Path(workbench.__file__).parent
    file = next((p for p in (package / "environments", package.parent / "environments") if (p / "constraints.txt").exists()), None)
    if file is None:
        return None
    found = []
    for line in (file / "constraints.txt").read_text("utf-8").splitlines():
        name, sign, version = line.partition("#")[0].strip().partition("==")
        if not sign:
            continue
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if installed.partition("+")[0] != version:
            found.append(f"{name} {installed} ({version})")
    return found


def _cores() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Finding("cores", "good" if cores >= 2 else "note", str(cores),
                   "" if cores >= 2 else "It works, at half the pace: two ranks share the core")


def _memory() -> Finding:
    import psutil

    from ..drawing import size

    memory = psutil.virtual_memory()
    words = f"{size(memory.available)} free of {size(memory.total)}"
    return Finding("memory", "good", words) if memory.available >= MIN_MEMORY else Finding(
        "memory", "bad", words, f"About {size(MIN_MEMORY)} is needed for the reference pipeline: end other programs")


def _disk(workspace: Workspace) -> Finding:
    from ..drawing import size

    usage = shutil.disk_usage(workspace.root)
    words = f"{size(usage.free)} free of {size(usage.total)}"
    return Finding("disk", "good", words) if usage.free >= MIN_DISK else Finding(
        "disk", "bad", words, f"About {size(MIN_DISK)} is needed: old versions lie in models and datasets of {workspace.state}")


def _cluster(workspace: Workspace) -> Finding:
    from .. import cluster
    from ..errors import ClusterError

    settings = workspace.settings.cluster
    try:
        cluster.require(settings.kind)
        found = cluster.status(workspace)
        unseeing = cluster.blind(cluster.connect(workspace, start=False), workspace) if found and not found.local else {}
    except ClusterError as error:
        remedy = "Start that scheduler, or take [cluster] address out of workbench.toml" if settings.kind == "address" else error.hint
        return Finding("cluster", "bad", str(error), remedy or "workbench down, then workbench up")
    if found is None:
        return Finding("cluster", "note", f"{settings.kind}: none runs; the first run starts it", "workbench up starts it now")
    if unseeing:
        return Finding("cluster", "bad", f"{found.words}; the workspace is not seen on {', '.join(sorted(unseeing))}",
                       f"Share {workspace.root} with every machine: docs/clusters.md")
    few = not found.workers and settings.minimum != 0
    return Finding("cluster", "bad" if few and settings.kind == "address" else "note" if few else "good", found.words,
                   "Start workers for that scheduler" if few and settings.kind == "address" else "They are asked for and not there yet"
                   if few else "")


def _ports() -> list[Finding]:
    import socket

    taken = []
    for port, use in ((8000, "serve"), (9400, "monitor"), (8888, "JupyterLab")):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                taken.append(f"{port} ({use})")
    if taken:
        return [Finding("ports", "note", f"taken: {', '.join(taken)}", "Another is chosen and said; --port asks for a certain one")]
    return [Finding("ports", "good", "8000, 9400 and 8888 are free")]


def _gpu() -> Finding:
    if shutil.which("nvidia-smi"):
        return Finding("gpu", "good", "nvidia-smi is there; train.hardware.accelerator: auto takes it where torch can")
    return Finding("gpu", "note", "none found; training and serving use the cores", "With one: environments/gpu.yml")


def _programs() -> list[Finding]:
    """Programs that only some tests and exports use."""
    found = []
    for name, use, package in (("chromium", "browser tests", "chromium"), ("prometheus", "tests of dashboards and alerts", "prometheus")):
        path = shutil.which(name)
        found.append(Finding(name, "good", path) if path else Finding(
            name, "note", f"not there; only {use} want it", f"apt-get install {package} (Debian, Ubuntu)"))
    return found


def add_to(app: typer.Typer) -> None:
    """Put the command into the application."""
    app.command()(doctor)
