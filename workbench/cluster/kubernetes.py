"""A cluster of pods: the resource that the Dask operator is asked for."""

from __future__ import annotations

from typing import Any

from ..settings import KubernetesCluster
from ..workspace import Workspace

NANNY = "workbench.cluster.nanny"


def manifest(workspace: Workspace, settings: KubernetesCluster) -> dict[str, Any]:
    """The ``DaskCluster`` resource: scheduler and workers, each with the workspace's volume."""
    from dask_kubernetes.operator import make_cluster_spec

    root = str(workspace.root)
    environment = {"WORKBENCH_ROOT": root, "PYTHONPATH": root, **settings.environment}
    spec = make_cluster_spec(
        settings.name, image=settings.image, n_workers=settings.minimum or 0 if settings.grows else settings.workers,
        resources=dict(settings.resources), env=environment, idle_timeout=int(settings.idle_minutes * 60),
        worker_command=["dask-worker", "--nthreads", str(settings.threads), "--preload", NANNY, "--preload-nanny", NANNY])
    spec["metadata"]["namespace"] = settings.namespace
    if settings.volume:
        for part in (spec["spec"]["scheduler"]["spec"], spec["spec"]["worker"]["spec"]):
            part.setdefault("volumes", []).append({"name": "workspace", "persistentVolumeClaim": {"claimName": settings.volume}})
            for container in part["containers"]:
                container.setdefault("volumeMounts", []).append({"name": "workspace", "mountPath": root})
                container["workingDir"] = root
    return spec


def made(workspace: Workspace, settings: KubernetesCluster):
    """The cluster by its resource; the operator makes the pods."""
    from dask_kubernetes.operator import KubeCluster

    return KubeCluster(namespace=settings.namespace, custom_cluster_spec=manifest(workspace, settings), asynchronous=True, quiet=True,
                       shutdown_on_close=True, resource_timeout=int(settings.STARTED_IN), **settings.options)
