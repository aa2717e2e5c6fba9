"""Kinds of clusters: where each is made, and what it needs installed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import ClusterError
from ..workspace import Workspace

if TYPE_CHECKING:
    from distributed.deploy.cluster import Cluster

# kind -> the file that makes it, what must be importable, the extra that brings it
KINDS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "local": ("local", (), ""),
    "address": ("", (), ""),  # others made it
    "ssh": ("ssh", ("asyncssh",), "ssh"),
    "slurm": ("jobs", ("dask_jobqueue",), "slurm"),
    "pbs": ("jobs", ("dask_jobqueue",), "pbs"),
    "sge": ("jobs", ("dask_jobqueue",), "sge"),
    "lsf": ("jobs", ("dask_jobqueue",), "lsf"),
    "kubernetes": ("kubernetes", ("dask_kubernetes",), "kubernetes"),
    "aws": ("cloud", ("dask_cloudprovider", "aiobotocore"), "aws"),
    "azure": ("cloud", ("dask_cloudprovider", "azure.mgmt.compute", "azure.mgmt.network", "azure.identity"), "azure"),
    "gcp": ("cloud", ("dask_cloudprovider", "googleapiclient"), "gcp"),
}


def require(kind: str) -> None:
    """Refuse a kind whose library is not installed.

    Raises
    ------
    ClusterError
    """
    _, modules, extra = KINDS[kind]
    missing = [m for m in modules if not _installed(m)]
    if missing:
        raise ClusterError(f'a cluster of the kind "{kind}" needs {", ".join(missing)}, which is not installed', where="workbench.toml",
                           hint=f"pip install 'genai-workbench[{extra}]'")


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent is missing
        return False


def maker(kind: str) -> Callable[[Workspace, Any], Cluster]:
    """The function that makes a cluster of a kind, not started yet, from the workspace and its settings."""
    return importlib.import_module(f"workbench.cluster.{KINDS[kind][0]}").made
