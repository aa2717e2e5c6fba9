"""Jobs of batch systems: their scripts for all; a real Slurm of one node, whose daemons this test starts itself."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from workbench import cluster, processes, runs
from workbench.settings import KINDS
from workbench.workspace import Workspace

pytest.importorskip("dask_jobqueue")
SBIN = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
DAEMONS = {name: shutil.which(name, path=SBIN) for name in ("munged", "slurmctld", "slurmd", "sbatch")}
slurm = pytest.mark.skipif(not all(DAEMONS.values()) or os.getuid() != 0,
                           reason="a real Slurm needs slurmctld, slurmd, slurm-client and munge, and root to start jobs")

DOCS = {"word": "data", "name": "docs", "sources": [{"kind": "python-docs", "max_megabytes": 0.2}]}
SPEC = {"word": "train", "data": "docs", "name": "moved", "model": {"size": "100K", "vocabulary": 512, "context": 64},
        "tokens": 80 * 256, "batch": {"sequences": 4}, "hardware": {"ranks": 1, "threads": 1}, "prompts": [],
        "every": {"checkpoint": 500, "evaluate": 40}}


@pytest.mark.parametrize(("kind", "head"), [
    ("slurm", ["#SBATCH -p gpu", "#SBATCH -A team", "#SBATCH --cpus-per-task=4", "#SBATCH --mem=30G", "#SBATCH -t 04:00:00",
               "#SBATCH --signal=B:TERM@90", "#SBATCH --gres=gpu:1"]),
    ("pbs", ["#PBS -q gpu", "#PBS -A team", "#PBS -l select=1:ncpus=4:mem=30GB", "#PBS -l walltime=04:00:00", "#PBS --gres=gpu:1"]),
    ("sge", ["#$ -q gpu", "#$ -P team", "#$ -l h_rt=04:00:00", "#$ --gres=gpu:1"]),
    ("lsf", ["#BSUB -q gpu", '#BSUB -P "team"', "#BSUB -n 4", "#BSUB -W 04:00", "#BSUB --gres=gpu:1"]),
])
def test_a_job_says_what_the_settings_say(kind, head, tmp_path, monkeypatch):
    import asyncio

    from workbench.cluster.jobs import made

    workspace = Workspace(tmp_path / "a b").open()
    monkeypatch.chdir(workspace.root)  # as the process that keeps a cluster does
    settings = KINDS[kind](queue="gpu", account="team", memory="32GB" if kind != "pbs" else "30GiB", walltime="04:00:00", threads=2,
                           processes=2, notice_seconds=90, directives=("--gres=gpu:1",), prologue=("module load cuda",),
                           python="/env/bin/python")

    async def script() -> str:
        return made(workspace, settings).job_script()

    text = asyncio.run(script())
    for line in head:
        assert line in text.splitlines(), text
    body = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert body[:3] == ["module load cuda", f"cd '{workspace.root}'", f"export WORKBENCH_ROOT='{workspace.root}'"]
    assert len(body) == 4 and body[3].startswith("exec /env/bin/python -m distributed.cli.dask_worker ")
    assert "--nthreads 2 " in body[3] and "--nworkers 2 " in body[3] and "--preload-nanny workbench.cluster.nanny" in body[3]
    assert "--tls-ca-file .workbench/cluster/tls/ca.pem" in body[3]  # no path that would need quoting


@pytest.fixture(scope="module")
def node(tmp_path_factory) -> Iterator[Path]:
    """A Slurm of this machine alone that has eight cores to give: munged, slurmctld, slurmd; its configuration is given."""
    folder = tmp_path_factory.mktemp("slurm")
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    name = socket.gethostname().split(".")[0]
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        ports = one.getsockname()[1], two.getsockname()[1]
    conf = folder / "slurm.conf"
    conf.write_text("\n".join([
        "ClusterName=workbench", f"SlurmctldHost={name}(127.0.0.1)", f"SlurmctldPort={ports[0]}", f"SlurmdPort={ports[1]}",
        "SlurmUser=root", "SlurmdUser=root", "AuthType=auth/munge", f"AuthInfo=socket={folder}/munge.socket",
        f"StateSaveLocation={folder}/state", f"SlurmdSpoolDir={folder}/spool", f"SlurmctldPidFile={folder}/slurmctld.pid",
        f"SlurmdPidFile={folder}/slurmd.pid", f"SlurmctldLogFile={folder}/slurmctld.log", f"SlurmdLogFile={folder}/slurmd.log",
        "ProctrackType=proctrack/linuxproc", "TaskPlugin=task/none", "JobAcctGatherType=jobacct_gather/none", "MpiDefault=none",
        "SelectType=select/cons_tres", "SelectTypeParameters=CR_Core", "SlurmdParameters=config_overrides", "ReturnToService=2",
        "SchedulerParameters=sched_interval=1,bf_interval=1", "KillWait=20", "",
        f"NodeName={name} NodeAddr=127.0.0.1 CPUs=8 Sockets=8 CoresPerSocket=1 ThreadsPerCore=1 RealMemory=8000 State=UNKNOWN",
        "PartitionName=short Nodes=ALL Default=YES MaxTime=60 State=UP", ""]))
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    with contextlib.ExitStack() as daemons:
        def start(*command: str | Path) -> None:
            process = daemons.enter_context(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL,
                                                             stderr=subprocess.DEVNULL))
            daemons.callback(process.terminate)

        start(DAEMONS["munged"], "--foreground", "--force", f"--key-file={folder}/munge.key", f"--socket={folder}/munge.socket",
              f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log", f"--seed-file={folder}/munged.seed")
        wait((folder / "munge.socket").exists)
        start(DAEMONS["slurmctld"], "-D", "-c")
        start(DAEMONS["slurmd"], "-D")
        wait(lambda: "idle" in subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True).stdout)
        yield conf


@pytest.fixture
def slurmed(node, tmp_path, monkeypatch) -> Iterator[Workspace]:
    monkeypatch.setenv("SLURM_CONF", str(node))
    monkeypatch.setenv("PATH", SBIN)
    (tmp_path / "workbench.toml").write_text('[cluster]\nkind = "slurm"\nmemory = "1GB"\nwalltime = "00:20:00"\nworkers = 2\n')
    workspace = Workspace(tmp_path).open()
    yield workspace
    runs.shut_down(workspace)
    assert processes.listed(workspace) == []


def wait(true, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def jobs() -> dict[str, str]:
    """id -> state of Slurm's jobs that have not ended."""
    out = subprocess.run(["squeue", "-h", "-o", "%i %T"], capture_output=True, text=True, check=True).stdout
    return {i: s for i, s in (line.split() for line in out.splitlines()) if s in ("PENDING", "RUNNING")}


@slurm
def test_training_whose_job_is_given_notice_goes_on_elsewhere_without_losing_a_step(slurmed):
    runs.submit(DOCS, slurmed, place="here").wait()
    address = cluster.up(slurmed)
    assert address.startswith("tls://") and len(jobs()) == 2
    run = runs.submit(SPEC, slurmed)
    for event in run.follow():
        if event.kind == "point" and event.name == "loss" and event.step >= 10:
            break
    ids = cluster.connect(slurmed).run(lambda: os.environ["SLURM_JOB_ID"])
    victim = next(r["worker"] for e in run.events(kinds=["mark"]) if e.name == "ranks" for r in e.data["ranks"])
    subprocess.run(["scancel", "--signal=TERM", "--batch", ids[victim]], check=True)
    run.wait(200)
    marks = [(e.name, e.step) for e in run.events(kinds=["mark"]) if e.name in ("resumed", "restart")]
    # The only checkpoint of this run is the one that the notice asked for.
    # (Where the job bore the driver too, that has gone on for a moment, and the next one again from there.)
    assert {n for n, _ in marks} == {"resumed"} and len({s for _, s in marks}) == 1 and 10 <= marks[0][1] < 80
    resumed = next(e for e in run.events(kinds=["mark"]) if e.name == "resumed")
    assert max(e.step for e in run.events(kinds=["point"]) if e.name == "loss" and e.seq < resumed.seq) == resumed.step  # none was lost
    assert [p[0] for p in run.curve("loss")] == list(range(1, 81))
    wait(lambda: ids[victim] not in jobs())
    (slurmed.root / "workbench.toml").write_text("")
    assert cluster.down(slurmed)
    wait(lambda: not jobs())


@slurm
@pytest.mark.skipif(not os.environ.get("WORKBENCH_SOAK"), reason="a long round: set WORKBENCH_SOAK=1")
def test_it_grows_from_nothing_for_work_and_shrinks_again(slurmed):
    toml = slurmed.root / "workbench.toml"
    toml.write_text('[cluster]\nkind = "slurm"\nmemory = "1GB"\nminimum = 0\nmaximum = 2\nidle_minutes = 5\nshrink_seconds = 3\n')
    cluster.up(slurmed)
    assert jobs() == {} and cluster.status(slurmed).words.endswith("0 of 0 to 2 workers")
    client = cluster.connect(slurmed)
    assert client.submit(lambda: os.environ["WORKBENCH_ROOT"], pure=False).result(60) == str(slurmed.root)
    assert len(jobs()) == 1
    wait(lambda: not jobs(), 90)
    address = cluster.running(slurmed)
    wait(lambda: not any(address in (p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])))
