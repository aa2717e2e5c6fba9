"""What ``workbench.toml`` may say: settings of a workspace, and of its cluster by kind."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator

from .spec import Bytes, Part

Path = Annotated[str, Field(min_length=1)]


class Cluster(Part):
    """What every kind of cluster may be told."""

    workers: int = Field(2, ge=1, le=4096)
    """worker processes, where their number is fixed"""
    minimum: int | None = Field(None, ge=0, le=4096)
    """fewest workers of a cluster that grows and shrinks with its work"""
    maximum: int | None = Field(None, ge=1, le=4096)
    """most workers of a cluster that grows and shrinks; none: the number is fixed"""
    shrink_seconds: float = Field(30, ge=1)
    """seconds that a worker is not needed before it is taken away, where the number follows the work"""
    threads: int = Field(1, ge=1, le=256)
    """threads a worker offers to data work"""
    idle_minutes: float = Field(60, gt=0)
    """minutes without work after which the cluster ends"""

    PATIENCE: ClassVar[float] = 120
    """Seconds that work waits for workers which are not there yet."""
    STARTED_IN: ClassVar[float] = 60
    """Seconds after which a start has failed."""
    ENDED_IN: ClassVar[float] = 15
    """Seconds that an end may take before what is left is killed."""

    @field_validator("maximum")
    @classmethod
    def _not_under_the_minimum(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and value < (info.data.get("minimum") or 0):
            raise ValueError(f"expected a number ≥ minimum, which is {info.data['minimum']}")
        return value

    @property
    def grows(self) -> bool:
        """True where the number of workers follows the work."""
        return self.maximum is not None

    @property
    def most(self) -> int | None:
        """Workers there can be at once; None where nobody here knows."""
        return self.maximum or max(self.workers, self.minimum or 0)


class LocalCluster(Cluster):
    """Processes on this machine."""

    kind: Literal["local"] = "local"


class AddressCluster(Cluster):
    """A Dask scheduler that others started."""

    kind: Literal["address"] = "address"
    address: str = Field(pattern=r"^(tcp|tls|ws|wss|ucx)://.+$", description="tls://host:port or tcp://host:port")
    """address of the scheduler (tls://… or tcp://…)"""
    tls_ca: str | None = None
    """file of the authority"""
    tls_cert: str | None = None
    """file of the client's certificate and key"""

    @property
    def most(self) -> int | None:
        """Nobody here knows."""
        return None


class SSHCluster(Cluster):
    """Machines that are reached over SSH."""

    kind: Literal["ssh"] = "ssh"
    hosts: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)
    """the scheduler's machine first, then the workers'; one alone bears both"""
    user: str | None = None
    """who logs in; none: who works here"""
    port: int = Field(22, ge=1, le=65535)
    key: Path | None = None
    """file of the private key; none: the agent's and the usual ones"""
    known_hosts: Path | None = None
    """file of the machines' keys; none: the usual one. A machine that is not in it is refused"""
    python: Path | None = None
    """interpreter on the machines, with the workbench installed; none: this one's path"""
    scheduler_port: int = Field(0, ge=0, le=65535)
    """port of the scheduler; 0: a free one"""
    connect: dict[str, Any] = {}
    """more arguments of asyncssh.connect"""
    worker: dict[str, Any] = {}
    """more arguments of Dask's worker: memory_limit, local_directory, resources, …"""
    scheduler: dict[str, Any] = {}
    """more arguments of Dask's scheduler: interface, host, …"""

    STARTED_IN = 120


class QueueCluster(Cluster):
    """Jobs of a batch system, each bearing one or more workers."""

    queue: str | None = None
    """queue or partition; none: the system's own default"""
    account: str | None = None
    """account or project that pays"""
    cores: int | None = Field(None, ge=1, le=4096)
    """cores of a job; none: threads times processes"""
    memory: Bytes
    """memory of a job"""
    processes: int = Field(1, ge=1, le=256)
    """workers in a job"""
    walltime: str | None = Field(None, pattern=r"^([0-9]+-)?[0-9]+(:[0-9]{2}){0,2}$", description="HH:MM:SS or D-HH:MM:SS")
    """longest time of a job (HH:MM:SS); a new one takes its place"""
    notice_seconds: int = Field(60, ge=1, le=3600)
    """seconds before its end in which a job's training writes a checkpoint; the batch system is asked to say so that early"""
    interface: str | None = None
    """network interface between scheduler and workers, such as ib0"""
    python: Path | None = None
    """interpreter on the nodes, with the workbench installed; none: this one's path"""
    directives: tuple[str, ...] = ()
    """more lines of the job's head, without their prefix: --gres=gpu:1"""
    prologue: tuple[str, ...] = ()
    """commands that a job runs first: module load cuda"""
    options: dict[str, Any] = {}
    """more arguments of dask_jobqueue's cluster class"""

    PATIENCE = float("inf")  # a queue is for waiting; what is waited for is said

    @property
    def job_cores(self) -> int:
        """Cores that a job asks for."""
        return self.cores or self.threads * self.processes


class SlurmCluster(QueueCluster):
    """Jobs of Slurm."""

    kind: Literal["slurm"] = "slurm"


class PBSCluster(QueueCluster):
    """Jobs of PBS."""

    kind: Literal["pbs"] = "pbs"


class SGECluster(QueueCluster):
    """Jobs of Grid Engine."""

    kind: Literal["sge"] = "sge"


class LSFCluster(QueueCluster):
    """Jobs of LSF."""

    kind: Literal["lsf"] = "lsf"


class KubernetesCluster(Cluster):
    """Pods, by the Dask operator."""

    kind: Literal["kubernetes"] = "kubernetes"
    image: str = Field(min_length=1)
    """image with the workbench installed"""
    name: str = Field("workbench", pattern=r"^[a-z]([-a-z0-9]{0,51}[a-z0-9])?$", description="lower-case letters, digits and '-'")
    """name of the cluster in its namespace"""
    namespace: str = Field("default", pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", description="lower-case letters, digits and '-'")
    resources: dict[Literal["requests", "limits"], dict[str, str]] = {}
    """of a pod: {requests = {cpu = "4", memory = "16Gi"}, limits = {"nvidia.com/gpu" = "1"}}"""
    environment: dict[str, str] = {}
    """more variables of a pod"""
    volume: str | None = None
    """claim of a volume that holds the workspace; mounted in each pod at the workspace's own path"""
    options: dict[str, Any] = {}
    """more arguments of dask_kubernetes' KubeCluster"""

    STARTED_IN = 600
    ENDED_IN = 120
    PATIENCE = 1800


class CloudCluster(Cluster):
    """Rented machines, by dask_cloudprovider."""

    image: str = Field("daskdev/dask:latest", min_length=1)
    """container image with the workbench installed"""
    machine: str | None = None
    """type of the workers' machines; none: the library's default"""
    scheduler_machine: str | None = None
    """type of the scheduler's machine; none: as the workers'"""
    disk_gb: int | None = Field(None, ge=8, le=65536)
    """size of a machine's disk"""
    environment: dict[str, str] = {}
    """more variables of the containers"""
    bootstrap: tuple[str, ...] = ()
    """commands that a machine runs first: mounting the file system that holds the workspace"""
    docker: str = ""
    """more arguments of docker run: -v /team:/team"""
    options: dict[str, Any] = {}
    """more arguments of dask_cloudprovider's cluster class"""

    STARTED_IN = 1200
    ENDED_IN = 300
    PATIENCE = 1800


class AWSCluster(CloudCluster):
    """Machines of EC2."""

    kind: Literal["aws"] = "aws"
    region: str | None = Field(None, pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]$", description="a region such as eu-central-1")
    spot: bool = False
    """cheaper machines that can be taken away"""


class AzureCluster(CloudCluster):
    """Machines of Azure."""

    kind: Literal["azure"] = "azure"
    location: str = Field(min_length=1)
    resource_group: str = Field(min_length=1)
    vnet: str = Field(min_length=1)
    """virtual network"""
    security_group: str = Field(min_length=1)
    """network security group that lets the scheduler's port through"""
    subscription: str | None = None
    """id of the subscription; none: the account's default"""


class GCPCluster(CloudCluster):
    """Machines of Google's Compute Engine."""

    kind: Literal["gcp"] = "gcp"
    project: str = Field(min_length=1)
    zone: str = Field(pattern=r"^[a-z]+-[a-z]+[0-9]-[a-z]$", description="a zone such as europe-west1-b")
    preemptible: bool = False
    """cheaper machines that can be taken away"""


KINDS: dict[str, type[Cluster]] = {
    "local": LocalCluster, "address": AddressCluster, "ssh": SSHCluster, "slurm": SlurmCluster, "pbs": PBSCluster, "sge": SGECluster,
    "lsf": LSFCluster, "kubernetes": KubernetesCluster, "aws": AWSCluster, "azure": AzureCluster, "gcp": GCPCluster}


def _kind(value: Any) -> Any:
    """The kind that settings name; an address alone says it too."""
    if isinstance(value, Cluster):
        return getattr(value, "kind", None)
    return value.get("kind", "address" if "address" in value else "local") if isinstance(value, dict) else "local"


ClusterSettings = Annotated[
    Annotated[LocalCluster, Tag("local")] | Annotated[AddressCluster, Tag("address")] | Annotated[SSHCluster, Tag("ssh")]
    | Annotated[SlurmCluster, Tag("slurm")] | Annotated[PBSCluster, Tag("pbs")] | Annotated[SGECluster, Tag("sge")]
    | Annotated[LSFCluster, Tag("lsf")] | Annotated[KubernetesCluster, Tag("kubernetes")] | Annotated[AWSCluster, Tag("aws")]
    | Annotated[AzureCluster, Tag("azure")] | Annotated[GCPCluster, Tag("gcp")], Discriminator(_kind)]


class Settings(Part):
    """What ``workbench.toml`` may say; every field has a default."""

    cluster: ClusterSettings = LocalCluster()
    tracking_uri: str | None = None
    """MLflow tracking URI; none: a file in the workspace"""
    secrets: dict[str, str] = {}
    """name of a secret -> environment variable that holds it"""
    prices: dict[str, float] = {}
    """prices: of a kWh ("kwh"), of an hour of a core ("core") and of a GPU ("gpu")"""
    watts: dict[str, float] = {}
    """power of a busy core ("core"; none: 10) and of a GPU that does not tell its own ("gpu"; none: 300)"""
    currency: str = Field("EUR", min_length=1, max_length=8)
    """what prices are in"""
    policy: str | None = None
    """path of the policy (YAML); none: the built-in one"""
    log_level: Literal["debug", "info", "warning"] = "info"
