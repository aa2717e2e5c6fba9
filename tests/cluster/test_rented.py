"""Pods and rented machines, as far as they go without either: the resource and the requests that would be sent."""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
from collections.abc import Iterator

import pytest

from workbench.settings import KINDS
from workbench.workspace import Workspace


@pytest.fixture
def place(tmp_path) -> Workspace:
    return Workspace(tmp_path / "place").open()


@pytest.fixture(autouse=True)
def _settings_of_dask_as_before() -> Iterator[None]:
    """The clouds' library writes certificates and the wish for them into Dask's own settings, for the whole process."""
    import dask
    import distributed

    assert distributed  # whose settings stand in Dask's once it is imported
    before = copy.deepcopy(dask.config.config["distributed"])
    yield
    dask.config.config["distributed"] = before


def test_the_pods_bear_the_workspace_and_what_the_settings_ask(place):
    pytest.importorskip("dask_kubernetes")
    from workbench.cluster.kubernetes import manifest

    settings = KINDS["kubernetes"](image="registry/workbench:1", namespace="team", workers=3, threads=2, idle_minutes=5, volume="notes",
                                   resources={"requests": {"cpu": "2"}, "limits": {"nvidia.com/gpu": "1"}}, environment={"A": "b"})
    made = json.loads(json.dumps(manifest(place, settings)))
    assert (made["kind"], made["metadata"]["name"], made["metadata"]["namespace"]) == ("DaskCluster", "workbench", "team")
    assert made["spec"]["idleTimeout"] == 300 and made["spec"]["worker"]["replicas"] == 3
    for part in ("scheduler", "worker"):
        pod = made["spec"][part]["spec"]
        box = pod["containers"][0]
        assert box["image"] == "registry/workbench:1" and {"name": "A", "value": "b"} in box["env"]
        assert {"name": "WORKBENCH_ROOT", "value": str(place.root)} in box["env"]
        assert pod["volumes"] == [{"name": "workspace", "persistentVolumeClaim": {"claimName": "notes"}}]
        assert box["volumeMounts"] == [{"name": "workspace", "mountPath": str(place.root)}] and box["workingDir"] == str(place.root)
    worker = made["spec"]["worker"]["spec"]["containers"][0]
    assert worker["resources"] == {"requests": {"cpu": "2"}, "limits": {"nvidia.com/gpu": "1"}}
    assert worker["args"][:3] == ["dask-worker", "--nthreads", "2"] and "workbench.cluster.nanny" in worker["args"]


def test_the_resource_holds_to_the_operators_own_schema(place):
    kubernetes = pytest.importorskip("dask_kubernetes")
    from pathlib import Path

    import yaml
    from jsonschema import Draft202012Validator

    from workbench.cluster.kubernetes import manifest

    files = [p for p in Path(kubernetes.__file__).parent.rglob("*.yaml") if "CustomResourceDefinition" in p.read_text()]
    schemas = {d["spec"]["names"]["kind"]: d["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
               for p in files for d in yaml.safe_load_all(p.read_text()) if d and d.get("kind") == "CustomResourceDefinition"}
    if "DaskCluster" not in schemas:
        pytest.skip("this dask-kubernetes does not bring its schema along")
    made = manifest(place, KINDS["kubernetes"](image="i", volume="notes", minimum=0, maximum=4))
    check = Draft202012Validator(schemas["DaskCluster"])
    assert list(check.iter_errors(made)) == [] and made["spec"]["worker"]["replicas"] == 0
    made["spec"]["worker"]["replicas"] = "many"
    assert list(check.iter_errors(made))


CLOUDS = {
    "aws": ({"region": "eu-central-1", "machine": "g5.xlarge", "disk_gb": 100, "spot": True},
            {"region": "eu-central-1", "worker_instance_type": "g5.xlarge", "scheduler_instance_type": "g5.xlarge",
             "filesystem_size": 100, "spot": True}),
    "azure": ({"location": "westeurope", "resource_group": "team", "vnet": "net", "security_group": "dask", "machine": "Standard_D4s_v3"},
              {"location": "westeurope", "resource_group": "team", "vnet": "net", "security_group": "dask", "vm_size": "Standard_D4s_v3"}),
    "gcp": ({"project": "p-1", "zone": "europe-west1-b", "machine": "n1-standard-4", "preemptible": True},
            {"projectid": "p-1", "zone": "europe-west1-b", "worker_machine_type": "n1-standard-4",
             "scheduler_machine_type": "n1-standard-4", "preemptible": True}),
}


@pytest.mark.parametrize("kind", CLOUDS)
def test_a_clouds_arguments_are_those_of_its_class(kind, place):
    from workbench.cluster.cloud import CLASSES, arguments

    said, named = CLOUDS[kind]
    settings = KINDS[kind](image="registry/workbench:1", docker="-v /team:/team", bootstrap=("mount /team",), idle_minutes=2, **said)
    made = arguments(place, settings)
    assert {k: made[k] for k in named} == named and made["docker_image"] == "registry/workbench:1"
    assert made["env_vars"]["WORKBENCH_ROOT"] == str(place.root) and made["scheduler_options"] == {"idle_timeout": "120s"}
    module, _, name = CLASSES[kind].partition(":")
    library = pytest.importorskip(module)
    from dask_cloudprovider.generic.vmcluster import VMCluster

    taken = set(inspect.signature(getattr(library, name).__init__).parameters) | set(inspect.signature(VMCluster.__init__).parameters)
    assert set(made) <= taken, set(made) - taken


def test_the_first_commands_of_a_rented_machine(place, monkeypatch):
    """What EC2 would be sent as user data: mount first, then the container with our certificates and the workspace's place."""
    aws = pytest.importorskip("dask_cloudprovider.aws")
    import re

    import dask
    import yaml

    from workbench.cluster.cloud import made

    assert aws
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    settings = KINDS["aws"](image="registry/workbench:1", region="eu-central-1", bootstrap=("mount /team",), docker="-v /team:/team")

    async def text() -> str:
        cluster = made(place, settings)
        worker = cluster.worker_class("tls://10.0.0.1:8786", **cluster.worker_options)
        told = cluster.render_process_cloud_init(worker)
        cluster.status = cluster.status.closed
        return told

    commands = yaml.safe_load(asyncio.run(text()))["runcmd"]
    start = next(n for n, c in enumerate(commands) if "docker run" in c)
    assert commands.index("mount /team") < start
    command = commands[start]
    assert f'WORKBENCH_ROOT="{place.root}"' in command and "-v /team:/team registry/workbench:1" in command
    told = dask.config.deserialize(re.search(r'DASK_INTERNAL_INHERIT_CONFIG="?([^" ]+)', command).group(1))
    certificate = place.path("cluster", "tls", "node.pem").read_text()
    assert told["distributed"]["comm"]["tls"]["worker"]["cert"] == certificate and "workbench.cluster.nanny" in command
