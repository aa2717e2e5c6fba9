"""kill -9 and SIGSTOP of ranks, workers, the driver's worker, the scheduler, whoever asked: the weights are the same, bit for bit."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from workbench import cluster, processes, runs, tracking, unrecorded
from workbench.events import Event
from workbench.journal import ENDED
from workbench.train.state import memory
from workbench.workspace import Workspace

DOCS = {"word": "data", "name": "docs", "sources": [{"kind": "python-docs", "max_megabytes": 0.3}]}
SPEC = {"word": "train", "data": "docs", "name": "killed", "model": {"size": "100K", "vocabulary": 512, "context": 64},
        "tokens": 150 * 512, "batch": {"sequences": 4}, "prompts": [], "every": {"checkpoint": 20, "evaluate": 60}}
soak = pytest.mark.skipif(not os.environ.get("WORKBENCH_SOAK"), reason="a long round: set WORKBENCH_SOAK=1")


@pytest.fixture(scope="module")
def live(tmp_path_factory) -> Iterator[Workspace]:
    made = Workspace(tmp_path_factory.mktemp("killed")).open()
    runs.submit(DOCS, made, place="here").wait()
    yield made
    assert leased(made) == (set(), set(), set())
    runs.shut_down(made)
    assert processes.listed(made) == []
    assert left_over(made) == []  # and so no port that one listens at, no lock that one holds


@pytest.fixture(autouse=True)
def no_trace(live) -> Iterator[None]:
    """Behind each fault: no rank, no lease, no copy in memory of a run that has ended."""
    yield
    ended = [r for r in runs.listed(live, word="train") if r.state in ENDED]
    for pid in {r["pid"] for run in ended for e in run.events(kinds=["mark"]) if e.name == "ranks" for r in e.data["ranks"]}:
        with contextlib.suppress(psutil.Error):
            if psutil.Process(pid).environ().get("WORKBENCH_ROOT") == str(live.root):
                gone(pid)
    assert not {r.id for r in ended} & set.union(*leased(live))
    assert [r.id for r in ended if memory.place(r.directory).exists()] == []


def leased(workspace: Workspace) -> tuple[set[str], set[str], set[str]]:
    """Runs that hold workers, that have a place in the queue, that wait for workers."""
    def read(dask_scheduler):
        from workbench.train.ranks.leases import Leases

        found = Leases.of(dask_scheduler)
        return {lease.run for lease in found.held.values()}, set(found.places), set(found.wanted)

    return cluster.connect(workspace).run_on_scheduler(read)


def left_over(workspace: Workspace) -> list[str]:
    """Processes of a workspace that live though nothing should."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        try:
            ours = process.environ().get("WORKBENCH_ROOT") == str(workspace.root) and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            continue
        if ours:
            found.append(f"{process.pid} {' '.join(process.info['cmdline'] or ())[:200]}")
    return found


@pytest.fixture(scope="module")
def undisturbed(live) -> runs.Run:
    return runs.run(SPEC, live)


def at_step(run: runs.Run, step: int, after: int = 0) -> Event:
    """The event of a step's loss, once it has come."""
    for event in run.follow(after):
        if event.kind == "point" and event.name == "loss" and event.step >= step:
            return event
    raise AssertionError(f"{run} ended before step {step}: {run.failure}")


def ranks(run: runs.Run) -> list[dict]:
    """The ranks started last: rank, pid, worker."""
    return [e for e in run.events(kinds=["mark"]) if e.name == "ranks"][-1].data["ranks"]


def same(run: runs.Run, undisturbed: runs.Run) -> None:
    """It ended with the same files and told the same story as the undisturbed one."""
    run.wait(200)
    assert run.result["digest"] == undisturbed.result["digest"]
    for curve in ("loss", "bits_per_byte", "learning_rate", "gradient_norm"):
        assert run.curve(curve) == undisturbed.curve(curve)
    assert run.result["metrics"]["bits_per_byte"] == undisturbed.result["metrics"]["bits_per_byte"]


def gone(pid: int) -> None:
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("which", [0, 1])
def test_kill_of_a_rank(live, undisturbed, which):
    run = runs.submit(SPEC, live, again=True)
    at_step(run, 50)
    before = ranks(run)
    os.kill(before[which]["pid"], signal.SIGKILL)
    same(run, undisturbed)
    marks = {e.name: e for e in run.events(kinds=["mark"]) if e.name in ("restart", "resumed")}
    assert [e.name for e in run.events(kinds=["mark"])].count("restart") == 1 and run.entry.attempt == 1
    # The last checkpoint may have been at work when the rank died: no more than that is made twice.
    assert 0 <= marks["restart"].step - marks["resumed"].step < 2 * SPEC["every"]["checkpoint"]
    assert not {r["pid"] for r in before} & {r["pid"] for r in ranks(run)}
    for rank in before:
        gone(rank["pid"])


@soak
def test_kills_at_random_moments(live, undisturbed):
    """Three kills in one run: before the first checkpoint, between steps, in a checkpoint: wherever they fall."""
    chance = random.Random(os.environ.get("WORKBENCH_SEED", "train"))
    run = runs.submit(SPEC, live, again=True)
    after = 0
    for step in sorted(chance.sample(range(1, 120), 3)):
        after = at_step(run, step, after).seq
        time.sleep(chance.random() * 0.05)
        victim = chance.choice(ranks(run))["pid"]
        if psutil.pid_exists(victim):
            os.kill(victim, signal.SIGKILL)
    same(run, undisturbed)


def driver(run: runs.Run, live: Workspace) -> tuple[str, int]:
    """Address and pid of the worker that drives a run."""
    client = cluster.connect(live)
    address = next(a for a, keys in client.processing().items() if any(str(k).startswith(f"drive-{run.id}-") for k in keys))
    return address, client.run(os.getpid, workers=[address])[address]


@pytest.mark.parametrize("hardware", [{"strategy": "fsdp"}, pytest.param({"tensor": 2}, marks=soak)], ids=["fsdp", "tensor"])
def test_kill_of_a_rank_of_a_model_that_is_cut(live, hardware):
    spec = SPEC | {"name": "cut", "tokens": 45 * 512, "hardware": hardware}
    whole, run = runs.run(spec, live), runs.submit(spec, live, again=True)
    at_step(run, 30)
    os.kill(ranks(run)[1]["pid"], signal.SIGKILL)
    same(run, whole)
    assert [e.name for e in run.events(kinds=["mark"])].count("restart") == 1


@pytest.mark.parametrize("whose", ["the driver's", "the other"])
def test_kill_of_a_worker(live, undisturbed, whose):
    run = runs.submit(SPEC, live, again=True)
    at_step(run, 50)
    old, (address, pid) = ranks(run), driver(run, live)
    if whose == "the other":
        address, pid = next((a, p) for a, p in cluster.connect(live).run(os.getpid).items() if a != address)
    assert address in {r["worker"] for r in old}
    warm = {psutil.Process(r["pid"]).ppid() for r in old}
    os.kill(pid, signal.SIGKILL)
    same(run, undisturbed)
    assert run.entry.attempt == (2 if whose == "the driver's" else 1)
    assert all(psutil.pid_exists(p) for p in warm)  # the next worker took over what imports seconds long
    for rank in old:
        gone(rank["pid"])


def test_kill_of_the_scheduler(live, undisturbed):
    run = runs.submit(SPEC, live, again=True)
    at_step(run, 50)
    old = ranks(run)
    os.kill(processes.find(live, cluster.PROCESS).pid, signal.SIGKILL)
    same(run, undisturbed)  # whoever waits for it recovers it
    assert run.entry.attempt == 2
    for rank in old:
        gone(rank["pid"])


def test_two_runs_at_once_take_turns_and_the_second_one_says_whom_it_waits_for(live, undisturbed):
    first, second = (runs.submit(SPEC | {"name": f"turn-{n}"}, live) for n in range(2))
    for run in (first, second):
        run.wait(120)
        assert run.result["digest"] == undisturbed.result["digest"]
    waited = [e.data["text"] for r in (first, second) for e in r.events(kinds=["log"]) if "waiting for 2 workers" in e.data["text"]]
    assert all(first.id in w or second.id in w for w in waited)
    spans = [[e.at for e in r.events(kinds=["mark"]) if e.name in ("ranks", "checkpoint")] for r in (first, second)]
    assert spans[0][-1] < spans[1][0] or spans[1][-1] < spans[0][0]


def test_a_frozen_rank(live, undisturbed):
    run = runs.submit(SPEC, live, again=True)
    at_step(run, 50)
    before = ranks(run)
    os.kill(before[1]["pid"], signal.SIGSTOP)
    same(run, undisturbed)
    assert "rank 1 was frozen" in next(e for e in run.events(kinds=["mark"]) if e.name == "restart").data["why"]
    for rank in before:
        gone(rank["pid"])


@pytest.mark.parametrize("whose", ["the driver's", "the other"])
@soak
def test_a_frozen_worker(live, undisturbed, whose):
    run = runs.submit(SPEC, live, again=True)
    run.tell("pause")
    next(e for e in run.follow() if e.kind == "mark" and e.name == "paused")
    old, (address, pid) = ranks(run), driver(run, live)
    if whose == "the other":
        address, pid = next((a, p) for a, p in cluster.connect(live).run(os.getpid).items() if a != address)
    run.tell("on")
    os.kill(pid, signal.SIGSTOP)
    same(run, undisturbed)
    assert run.entry.attempt == (2 if whose == "the driver's" else 1)
    gone(pid)  # its nanny started another in its place
    for rank in old:
        gone(rank["pid"])


def test_freezing_and_kill_of_the_process_that_asked(live, undisturbed):
    code = ("import sys; from workbench import runs; from workbench.workspace import Workspace; import json\n"
            "run = runs.submit(json.loads(sys.argv[2]), Workspace(sys.argv[1]), again=True); print(run.id, flush=True)\n"
            "for event in run.follow(): pass")
    asking = subprocess.Popen([sys.executable, "-c", code, str(live.root), json.dumps(SPEC)], stdout=subprocess.PIPE, text=True)
    run = runs.attach(asking.stdout.readline().strip(), live)
    try:
        asking.send_signal(signal.SIGSTOP)
        at_step(run, 80)  # it goes on without whoever asked
    finally:
        asking.kill()
        asking.wait()
    same(run, undisturbed)
    assert run.entry.attempt == 1 and not any(e.name == "restart" for e in run.events(kinds=["mark"]))


def test_a_third_run_that_is_cancelled_while_it_waits_leaves_no_trace(live, undisturbed):
    first = runs.submit(SPEC, live, again=True)
    first.tell("pause")
    next(e for e in first.follow() if e.kind == "mark" and e.name == "paused")
    second, third = (runs.submit(SPEC | {"name": f"queued-{n}"}, live) for n in range(2))
    for run in (second, third):
        next(e for e in run.follow() if e.kind == "log" and "waiting for 2 workers" in e.data["text"])
    assert leased(live) == ({first.id}, {first.id, second.id, third.id}, {second.id, third.id})
    third.stop()
    third.wait(30, check=False)
    assert third.state == "stopped" and leased(live) == ({first.id}, {first.id, second.id}, {second.id})
    assert not (third.directory / "checkpoints").exists() and third.curve("loss") == []
    first.tell("on")
    for run in (first, second):
        run.wait(120)
        assert run.result["digest"] == undisturbed.result["digest"]


FED = '''
import os, signal, time
import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, TensorDataset


class Fed(pl.LightningDataModule):
    """Its batches come from a process of their own."""

    def train_dataloader(self):
        made = torch.Generator().manual_seed(1)
        x = torch.randn(161, 5, generator=made)
        return DataLoader(TensorDataset(x, x @ torch.arange(5.0).unsqueeze(1)), batch_size=4, shuffle=True, num_workers=1)


class Line(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.Dropout(0.1), torch.nn.Linear(16, 1))

    def training_step(self, batch, index):
        time.sleep(0.02)
        return torch.nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


class Waits(Line):
    """Steps behind the twelfth are slow until a file is there."""

    def __init__(self, gate):
        super().__init__()
        self.gate = gate

    def training_step(self, batch, index):
        if self.global_step > 12 and not os.path.exists(self.gate):
            time.sleep(0.2)
        return super().training_step(batch, index)


class KilledOnce(Line):
    """Whoever makes it first is killed, as by a kernel without memory."""

    def __init__(self, mark):
        super().__init__()
        if not os.path.exists(mark):
            open(mark, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
'''
"""Modules of a user's own: lie in the workspace, from where ranks import."""


def fed(name: str, module: str = "fed:Line", **options) -> dict:
    return {"word": "train", "name": name, "epochs": 4, "every": {"checkpoint": 5},
            "objective": {"kind": "module", "module": module, "data_module": "fed:Fed", "options": options}}


@pytest.fixture(scope="module")
def fed_undisturbed(live) -> runs.Run:
    (live.root / "fed.py").write_text(FED)
    return runs.run(fed("fed"), live)


@pytest.mark.parametrize("sign", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=soak)])
def test_kill_of_a_loader(live, fed_undisturbed, sign):
    run = runs.submit(fed("fed"), live, again=True)
    at_step(run, 12)
    before = ranks(run)
    loaders = [psutil.Process(r["pid"]).children() for r in before]
    assert [len(found) for found in loaders] == [1, 1]
    os.kill(loaders[1][0].pid, sign)
    run.wait(200)
    assert run.result["digest"] == fed_undisturbed.result["digest"] and run.curve("loss") == fed_undisturbed.curve("loss")
    told = [e.data["why"] for e in run.events(kinds=["mark"]) if e.name == "restart"]
    assert len(told) == 1 and "rank 1 lost a loader of its data" in told[0] and str(loaders[1][0].pid) in told[0]
    for pid in [r["pid"] for r in before] + [found[0].pid for found in loaders]:
        gone(pid)


def test_a_killed_rank_takes_its_frozen_loader_along(live, fed_undisturbed):
    run = runs.submit(fed("fed"), live, again=True)
    at_step(run, 12)
    rank = ranks(run)[0]["pid"]
    loader = psutil.Process(rank).children()[0]
    loader.suspend()
    os.kill(rank, signal.SIGKILL)
    run.wait(200)
    assert run.result["digest"] == fed_undisturbed.result["digest"]
    gone(loader.pid)


def test_kill_of_the_process_that_makes_what_is_read(live, fed_undisturbed, tmp_path):
    run = runs.submit(fed("once", "fed:KilledOnce", mark=str(tmp_path / "killed")), live)
    run.wait(200)
    assert (tmp_path / "killed").exists() and run.curve("loss") == fed_undisturbed.curve("loss")
    assert "was killed (SIGKILL) while what is read was made" in "".join(e.data["text"] for e in run.events(kinds=["log"]))


def test_a_full_disk_under_everything_stops_nothing_and_is_caught_up_with(fed_undisturbed, tmp_path):
    disk, gate = tmp_path / "disk", tmp_path / "gate"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(disk)]).returncode:
        pytest.skip("tmpfs can't be mounted here")
    place = Workspace(disk).open()
    try:
        (disk / "fed.py").write_text(FED)
        run = runs.submit(fed("fed", "fed:Waits", gate=str(gate)), place)
        told = at_step(run, 13).seq
        with contextlib.suppress(OSError), open(disk / "full", "wb", buffering=0) as filling:
            while True:
                filling.write(bytes(4096))
        time.sleep(3)  # slow steps, and the checkpoints due at some
        assert place.path("runs").exists() and [e for e in run.events(after=told) if e.kind == "point" and e.step > 20] == []
        (disk / "full").unlink()
        gate.touch()
        run.wait(100)
        assert run.curve("loss") == fed_undisturbed.curve("loss") and len(run.curve("loss")) == 84 and run.entry.attempt == 1
        assert logged(run, "no checkpoint since step") and logged(run, "the disk took nothing for")
    finally:
        gate.touch()
        runs.shut_down(place)
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.fixture
def in_haste(live) -> Iterator[Callable[..., None]]:
    """A function that makes drivers less patient; as they were in the end."""
    def put(link: float, ending: float, quiet: float, frozen: float) -> None:
        from workbench.train.ranks import gang, scheduler, watch

        watch.LINK, gang.ENDING, scheduler.QUIET, scheduler.FROZEN = link, ending, quiet, frozen

    from workbench.train.ranks import gang, scheduler, watch

    usual = (watch.LINK, gang.ENDING, scheduler.QUIET, scheduler.FROZEN)
    yield lambda *seconds: cluster.connect(live).run(put, *seconds)
    cluster.connect(live).run(put, *usual)


@pytest.mark.parametrize("seconds", [0.0, pytest.param(15.0, marks=soak)])
def test_a_scheduler_that_is_frozen_for_a_while(live, undisturbed, in_haste, seconds):
    if not seconds:
        in_haste(4.0, 1.0, 1.0, 60.0)
    run = runs.submit(SPEC, live, again=True)
    at_step(run, 50)
    old, holder = ranks(run), processes.find(live, cluster.PROCESS).pid
    os.kill(holder, signal.SIGSTOP)
    try:
        begin = time.monotonic()
        next(e for e in run.follow() if e.kind == "log" and "the scheduler says nothing" in e.data["text"])
        time.sleep(max(0.0, begin + seconds - time.monotonic()))
    finally:
        os.kill(holder, signal.SIGCONT)
    same(run, undisturbed)
    assert run.entry.attempt == 1 and "the scheduler is back after" in "".join(e.data["text"] for e in run.events(kinds=["log"]))
    for rank in old:
        gone(rank["pid"])


@soak
def test_a_scheduler_that_is_frozen_for_ever(live, undisturbed, in_haste):
    in_haste(4.0, 1.0, 1.0, 5.0)
    run = runs.submit(SPEC, live, again=True)
    at_step(run, 50)
    old, holder = ranks(run), processes.find(live, cluster.PROCESS).pid
    os.kill(holder, signal.SIGSTOP)
    same(run, undisturbed)
    assert run.entry.attempt == 2 and "the scheduler is frozen: it is ended" in "".join(e.data["text"] for e in run.events(kinds=["log"]))
    for pid in [holder, *(r["pid"] for r in old)]:
        gone(pid)


def logged(run: runs.Run, words: str) -> list[str]:
    return [e.data["text"] for e in run.events(kinds=["log"]) if words in e.data["text"]]


def in_mlflow(run: runs.Run) -> list[tuple[int, float]]:
    """The loss as MLflow holds it, once all that was left is recorded."""
    deadline = time.monotonic() + 120
    while unrecorded.waits(run.workspace, run.id):
        tracking.catch_up(run.workspace)
        assert time.monotonic() < deadline, "it is recorded by nobody"
        time.sleep(0.1)
    client = tracking.connect(run.workspace)
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT).experiment_id
    found, = client.search_runs([experiment], f"tags.`workbench.run` = '{run.id}'")
    assert found.info.status == "FINISHED" and found.data.tags["model"] == f"killed@{run.result['digest'][:12]}"
    return [(m.step, m.value) for m in client.get_metric_history(found.info.run_id, "loss")]


def test_an_mlflow_that_nobody_answers_stops_nothing_and_is_caught_up_with(live, undisturbed):
    settings = live.root / "workbench.toml"
    before = settings.read_text() if settings.exists() else None
    settings.write_text((before or "") + '\ntracking_uri = "http://127.0.0.1:9"\n')  # the port of "discard": nobody listens
    try:
        run = runs.submit(SPEC, live, again=True)
        same(run, undisturbed)
    finally:
        settings.unlink() if before is None else settings.write_text(before)
    assert len(logged(run, "not recorded in MLflow")) == 1 and run.entry.attempt == 1
    assert in_mlflow(run) == run.curve("loss")


@soak
def test_an_mlflow_whose_file_is_locked_stops_nothing_and_is_caught_up_with(live, undisturbed):
    run = runs.submit(SPEC, live, again=True)
    with contextlib.closing(sqlite3.connect(live.path("mlflow.db"), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        same(run, undisturbed)  # it ends while the lock is held
        other.execute("ROLLBACK")
    assert len(logged(run, "not recorded in MLflow")) == 1
    assert in_mlflow(run) == run.curve("loss")


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=soak) for n in range(1, 12))])
def test_anything_killed_at_any_moment(live, undisturbed, seed):
    chance = random.Random(f"{os.environ.get('WORKBENCH_SEED', '')}/{seed}")
    run = runs.submit(SPEC, live, again=True)
    killed, after = 0, 0
    for step in sorted(chance.sample(range(1, 130), 3)):
        after = at_step(run, step, after).seq
        time.sleep(chance.random() * 0.1)  # within a step, a checkpoint, a restart of what was killed before
        victims: list[Callable[[], int]] = [lambda: processes.find(live, cluster.PROCESS).pid, lambda: ranks(run)[0]["pid"],
                                            lambda: ranks(run)[1]["pid"], lambda: min(cluster.connect(live).run(os.getpid).values()),
                                            lambda: max(cluster.connect(live).run(os.getpid).values())]
        with contextlib.suppress(ProcessLookupError, AttributeError):  # it may have ended by itself, or not be back yet
            os.kill(chance.choice(victims)(), signal.SIGKILL)
            killed += 1
        run.recover()
    assert killed
    same(run, undisturbed)
