"""A run of train: from a dataset version to a model version, by coupled ranks on Dask workers."""

from __future__ import annotations

import importlib
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..dataset import Dataset
from ..errors import ClusterError, SpecError, StorageError
from ..events import Events
from ..registry import Registry
from ..workspace import Workspace
from . import devices
from .cost import Rates, refuse_unpriced
from .objectives import KINDS
from .ranks.agreement import accepted  # noqa: F401 - what ``Run.tell`` asks for
from .spec import TrainSpec
from .state import checkpoints
from .state.branch import branched, branched_at
from .trials import STUDY, of_all, refuse_values

if TYPE_CHECKING:
    from distributed import Client

    from ..driver import RunContext
    from ..journal import Entry
    from ..tracking import Tracker
    from .plan import Plan
    from .ranks.gang import Gang

DRY_RUN = "workbench.train.fit:dry_run"
PROMPTS = 3
"""Beginnings that a model continues as it learns, where its spec names none."""
SWEEP = "workbench.sweep"
"""MLflow's tag of a sweep and of its trials: the sweep's run."""
HELD_OUT = {"bits_per_byte": "held_out_bytes"}
"""What the weight of a measure is called in a model's metrics."""


def inputs(spec: TrainSpec, workspace: Workspace) -> dict[str, str]:
    """Digests of the dataset and of what else the objective reads; refuses what can't be trained on.

    Raises
    ------
    NotFoundError, SourceError, SpecError
    """
    devices.refuse(spec)
    found: dict[str, str] = {}
    dataset = None
    if spec.data is not None:
        version = Registry(workspace).resolve("dataset", spec.data)
        found["data"], dataset = version.digest, Dataset(version.path)
    found |= _material(spec).refuse(spec, workspace, dataset)
    if spec.start is not None:
        found |= branched(spec, workspace, found)
    refuse_unpriced(spec, workspace.settings)
    if spec.sweep is not None:
        refuse_values(spec)
    cluster = workspace.settings.cluster
    ranks = spec.hardware.min_ranks or spec.hardware.ranks
    if cluster.most is not None and ranks > cluster.most:
        raise SpecError.one("hardware.ranks", f"received {ranks}, one a worker, and the {cluster.kind} cluster has "
                            f"{cluster.most}; expected {cluster.most} or fewer, or set {'maximum' if cluster.grows else 'workers'} = "
                            f"{ranks} under [cluster] in workbench.toml")
    return found


def warm(client: Client) -> None:
    """Let each worker, also one that comes later, begin to keep a warm forkserver; returns at once."""
    from .ranks.host import RankHost

    client.register_plugin(RankHost())


def execute(spec: TrainSpec, run: RunContext) -> dict[str, Any]:
    """Tokenise, train over the ranks until it is done whatever dies meanwhile, register the model."""
    if spec.sweep is not None:
        from .sweep import sweep

        with _tracked(spec, run, {SWEEP: run.id}) as tracker:
            return sweep(spec, run, tracker)
    from ..runs import Run
    from .plan import planned
    from .ranks.gang import Gang
    from .recorder import Recorder
    from .restart import end_frozen, told_before, train

    workspace, material = run.workspace, _material(spec)
    dataset = _dataset(workspace, run.inputs)
    logs = run.directory / "logs"
    with Gang(_client(run), spec.hardware.ranks, run=run.id, attempt=run.attempt, logs=logs, threads=spec.hardware.threads,
              minimum=spec.hardware.min_ranks, maximum=_most(spec), frozen=lambda: end_frozen(run)) as gang:
        made = _prepared(spec, workspace, dataset, gang, run)
        plan = planned(spec, made.count("train"), material.prompts(dataset, PROMPTS))
        if run.attempt == 1:
            material.refuse_nothing(plan, made, dataset)
            for line in (*plan.said, *notes_of(made)):
                run.log(line)
        told = plan.to_dict() | told_before(run) | {
            "world": spec.hardware.ranks, "group": True, **made.told(), "keep": spec.keep.model_dump(), "start": spec.start,
            "branch": branched_at(run.inputs, plan.steps), "directory": str(run.directory),
            "checkpoints": str(run.directory / "checkpoints"), "out": str(run.directory / "model")}
        tags = ({"dataset": dataset.reference} if dataset else {}) | _part_of(run)
        with _tracked(spec, run, tags) as tracker:
            recorder = Recorder(run, tracker, told)
            try:
                reached = train(gang, told, recorder, run)
                recorder.end(reached["value"])  # None: a module of one's own may measure nothing
            finally:
                recorder.close(logs)
            metrics = {plan.unit: plan.trained, "steps": plan.steps, "loss": recorder.loss, "measure": plan.measure,
                       plan.measure: reached["value"], **reached.get("beside", {}), **_gain(recorder.before(), reached["windows"], plan),
                       HELD_OUT.get(plan.measure, "held_out"): int(reached["weight"]),
                       "seconds": round(Run(workspace, run.id).worked, 3), **made.metrics(), "ranks": told["world"],
                       "memory": reached["memory"], **{k: round(v, 6) for k, v in recorder.meter.spent.items()}}
            model = _register(spec, run, dataset, told, metrics, reached["parameters"])
            tracker.end({"model": model.reference})
    if not checkpoints.prune(run.directory / "checkpoints", last=0, best=spec.keep.best, every=spec.keep.every):
        shutil.rmtree(run.directory / "checkpoints", ignore_errors=True)
    shutil.rmtree(run.directory / "model", ignore_errors=True)
    return {"model": spec.model_name, "digest": model.digest, "metrics": metrics, "parameters": reached["parameters"]}


def estimate(spec: TrainSpec, workspace: Workspace) -> dict[str, Any]:
    """What a run would take: one trial step in each rank, on the workers that would train; remembered for specs alike. Of a sweep, what
    all of its trials would.

    Returns
    -------
    dict
        ``seconds``, ``memory`` (bytes), ``step_seconds``, ``steps``, ``tokens``, ``trial_seconds`` (what finding out took),
        ``notes``; of a sweep also ``trials`` and ``together``.

    Raises
    ------
    ClusterError
        Where the workers are at work for others.
    """
    import uuid

    from .. import cluster
    from . import estimate as trials
    from .plan import planned
    from .ranks.gang import Gang
    from .sweep import cores_a_worker

    read = inputs(spec, workspace)
    dataset = _dataset(workspace, read)
    name, begin = f"estimate-{uuid.uuid4().hex[:6]}", time.monotonic()
    client = cluster.connect(workspace)
    threads = spec.hardware.threads or (cores_a_worker(client) if spec.sweep is not None else None)
    with Gang(client, spec.hardware.ranks, run=name, attempt=1, logs=workspace.path("logs", "estimate"), threads=threads) as gang:
        gang.claim(say=_not_for_others)
        made = _made(spec, workspace, dataset, gang, read, None)
        plan = planned(spec, made.count("train"))
        told = plan.to_dict() | {"world": spec.hardware.ranks, **made.told()}
        said = trials.whole(gang.call(DRY_RUN, told), told) | {"trial_seconds": time.monotonic() - begin}
    said = trials.with_cost(said, Rates.of(workspace.settings))
    trials.remember(workspace, spec, told, said)
    notes = [*plan.said, *notes_of(made), *filter(None, [said.get("short")])]
    return of_all(spec, said | {"notes": notes}, workspace.settings.cluster.most)


def remembered(spec: TrainSpec, workspace: Workspace) -> dict[str, Any]:
    """What ``estimate`` found for steps like these before; empty where it never did. Costs no trial."""
    from . import estimate as trials
    from .plan import planned

    read = inputs(spec, workspace)
    found = _material(spec).found(spec, workspace, _dataset(workspace, read), read)
    known = trials.remembered(workspace, spec, planned(spec, found.count("train"))) if found else {}
    return of_all(spec, trials.with_cost(known, Rates.of(workspace.settings)), workspace.settings.cluster.most) if known else {}


def kept(workspace: Workspace, entry: Entry) -> dict[str, Any] | None:
    """The last checkpoint of a run that did not come to its end: what ``Run.resume`` goes on from."""
    if (workspace.path("runs", entry.id, STUDY)).exists():
        return {"step": 0, "words": "with the trials that are left"}
    found = checkpoints.listed(workspace.path("runs", entry.id, "checkpoints"))
    if not found:
        return None
    step = checkpoints.step_of(found[0])
    return {"step": step, "words": f"from step {step:,}"}


def at_stake(workspace: Workspace, entry: Entry) -> str:
    """What a run loses that ends at once, in words."""
    if workspace.path("runs", entry.id, STUDY).exists():
        return "the steps of its trials since the last checkpoint of each"
    found = checkpoints.listed(workspace.path("runs", entry.id, "checkpoints"))
    last = Events(workspace).last(entry.id, "progress")
    reached = int(last.data["done"]) if last is not None and last.data.get("unit") == "steps" else 0
    if not found:
        return f"all {reached:,} steps: there is no checkpoint yet" if reached else "nothing: no step is made yet"
    step = checkpoints.step_of(found[0])
    return f"{max(0, reached - step):,} steps since the checkpoint of step {step:,}, and the one at work"


def _not_for_others(said: str) -> None:
    if "held by" in said:
        raise ClusterError("no trial now: the workers are at work", received=said.partition("held by ")[2],
                           hint="Ask again when it has ended, or run: it waits its turn")


def _gain(before: list[list[float]] | None, after: list[list[float]], plan: Plan) -> dict[str, Any]:
    from .gain import gained

    if before is None or len(before) != len(after):
        return {}
    found = gained(before, after, plan.scale)
    return {f"{plan.measure}_before": found["before"], "gain": found}


def _most(spec: TrainSpec) -> int | None:
    """Ranks that a run takes at most: each needs a chunk of every step."""
    most = spec.hardware.max_ranks
    return most and max(spec.hardware.ranks, min(most, spec.hardware.ranks * spec.batch.accumulate))


def notes_of(made: Any) -> list[str]:
    """What a material says of itself once it is made, in sentences."""
    return made.notes() if hasattr(made, "notes") else []


def _tracked(spec: TrainSpec, run: RunContext, tags: dict[str, str]) -> Tracker:
    """The run's record in MLflow."""
    from ..tracking import Tracker

    return Tracker(run.workspace, run.id, spec.model_name, params=_flat(spec.to_dict()), tags=tags,
                   say=lambda text: run.log(text, "warning"))


def _part_of(run: RunContext) -> dict[str, str]:
    """The tag by which a sweep's trials are found; none for a run that somebody asked for alone."""
    parts = [e.data["of"] for e in Events(run.workspace).tail(run.id, kinds=("mark",)) if e.name == "part"]
    return {SWEEP: parts[-1]} if parts else {}


def _material(spec: TrainSpec):
    """The module that makes what a spec's objective reads."""
    return importlib.import_module(KINDS[spec.objective.kind].material)


def _dataset(workspace: Workspace, inputs: Mapping[str, str]) -> Dataset | None:
    return Dataset(Registry(workspace).by_digest("dataset", inputs["data"]).path) if "data" in inputs else None


def _client(run: RunContext) -> Client:
    from .. import cluster

    return run.client or cluster.connect(run.workspace)


def _prepared(spec: TrainSpec, workspace: Workspace, dataset: Dataset | None, gang: Gang, run: RunContext):
    """What the objective reads; whatever dies while it is made, it is made again."""
    from .ranks.gang import RankLost
    from .restart import MOST_RESTARTS

    tried = 0
    while True:
        gang.claim(run.check_stop, run.log, patience=workspace.settings.cluster.PATIENCE)
        try:
            return _made(spec, workspace, dataset, gang, run.inputs, run)
        except RankLost as lost:
            run.check_current()
            tried += 1
            if tried > MOST_RESTARTS:
                raise StorageError("what is read could not be made: its process was lost again and again", where=run.id, received=str(lost),
                                   hint=f"Too little memory ends a process without a word. What it said is in {gang.logs}") from lost
            run.mark("restart", why=str(lost), step=0, ranks=list(lost.ranks))
            run.log(f"{lost} while what is read was made: making it again", "warning")


def _made(spec: TrainSpec, workspace: Workspace, dataset: Dataset | None, gang: Gang, inputs: Mapping[str, str], run: RunContext | None):
    """What the objective reads, from the cache, or made in a process of the gang."""
    material = _material(spec)
    found = material.found(spec, workspace, dataset, inputs)
    if found:
        return found
    if run:
        run.progress(0, 1, "splits", label=material.MAKING)
        for line in material.said(spec, dataset):
            run.log(line)
    gang.call(f"{material.__name__}:prepare", {"root": str(workspace.root), "dataset": str(dataset.path) if dataset else None,
                                               "spec": spec.to_dict(), "inputs": dict(inputs)},
              ranks=1, check=run.check_stop if run else lambda: None,
              patience=spec.hardware.hang_seconds if spec.objective.kind == "module" else None)  # code of the user's may hang
    if run:
        run.progress(1, 1, "splits", label=material.MAKING)
    return material.found(spec, workspace, dataset, inputs)


def _register(spec: TrainSpec, run: RunContext, dataset: Dataset, told: dict[str, Any], metrics: dict[str, Any], parameters: int):
    from ..model import write_model
    from .card import draft

    made = Path(told["out"])

    def save(folder: Path) -> None:
        shutil.copytree(made, folder, dirs_exist_ok=True, copy_function=shutil.copyfile)

    write = getattr(_material(spec), "card", draft)  # what is no model of ours says something else of itself
    card = write(spec, dataset, run=run.id, parameters=parameters, metrics=metrics, plan=told)
    return write_model(run.workspace, spec.model_name, save, card=card, run=run.id, manifest={
        "parameters": parameters, "dataset": {"name": dataset.name, "digest": dataset.digest} if dataset else None,
        "metrics": metrics, "spec": spec.to_dict()})


def _flat(mapping: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
