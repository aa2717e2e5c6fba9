"""A cluster of rented machines: a container on each, started by dask_cloudprovider."""

from __future__ import annotations

import importlib
from typing import Any

from ..settings import CloudCluster
from ..workspace import Workspace
from .security import security

NANNY = "workbench.cluster.nanny"
CLASSES = {"aws": "dask_cloudprovider.aws:EC2Cluster", "azure": "dask_cloudprovider.azure:AzureVMCluster",
           "gcp": "dask_cloudprovider.gcp:GCPCluster"}
NAMES: dict[str, dict[str, str]] = {
    "aws": {"machine": "worker_instance_type", "scheduler_machine": "scheduler_instance_type", "disk_gb": "filesystem_size",
            "region": "region"},
    "azure": {"machine": "vm_size", "scheduler_machine": "scheduler_vm_size", "disk_gb": "disk_size", "location": "location",
              "resource_group": "resource_group", "vnet": "vnet", "security_group": "security_group", "subscription": "subscription_id"},
    "gcp": {"machine": "worker_machine_type", "scheduler_machine": "scheduler_machine_type", "disk_gb": "filesystem_size",
            "project": "projectid", "zone": "zone"},
}
"""What each library's class calls what the settings say."""


def arguments(workspace: Workspace, settings: CloudCluster) -> dict[str, Any]:
    """Arguments of dask_cloudprovider's class, but for the certificates."""
    root = str(workspace.root)
    said = settings.model_dump()
    if settings.kind != "azure":
        said["scheduler_machine"] = settings.scheduler_machine or settings.machine
    named = {theirs: said[ours] for ours, theirs in NAMES[settings.kind].items() if said[ours] is not None}
    if settings.kind == "aws" and settings.spot:
        named["spot"] = True
    if settings.kind == "gcp" and settings.preemptible:
        named["preemptible"] = True
    return {**named, "docker_image": settings.image, "docker_args": settings.docker, "extra_bootstrap": list(settings.bootstrap) or None,
            "env_vars": {"WORKBENCH_ROOT": root, "PYTHONPATH": root, **settings.environment},
            "scheduler_options": {"idle_timeout": f"{settings.idle_minutes * 60:.0f}s"},
            "worker_options": {"nthreads": settings.threads, "preload": [NANNY], "preload_nanny": [NANNY]},
            "n_workers": 0, **settings.options}


def made(workspace: Workspace, settings: CloudCluster):
    """The cluster with no worker yet; the certificates travel with the machines' first commands."""
    module, _, name = CLASSES[settings.kind].partition(":")
    kind = getattr(importlib.import_module(module), name)
    return kind(asynchronous=True, security=security(workspace, inline=True), **arguments(workspace, settings))
