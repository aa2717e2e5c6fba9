"""A run of train: from a dataset version to a model version, by coupled ranks on Dask workers."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..dataset import Dataset
from ..errors import ClusterError, SourceError, SpecError, StorageError
from ..registry import Registry
from ..workspace import Workspace
from .spec import TrainSpec

if TYPE_CHECKING:
    from distributed import Client

    from ..driver import RunContext
    from ..journal import Entry
    from .gang import Gang

FIT = "workbench.train.objectives.pretrain:fit"
DRY_RUN = "workbench.train.objectives.pretrain:dry_run"
PROMPTS = 3
"""Beginnings that a model continues as it learns, where its spec names none."""
PREPARE = "workbench.train.tokens:prepare"
MOST_RESTARTS = 3
"""Restarts without a step's progress between them after which a run fails: then it is no accident any more."""
LEAST_HELD_OUT = 200
"""Bytes of validation text below which bits a byte says nothing."""


def inputs(spec: TrainSpec, workspace: Workspace) -> dict[str, str]:
    """The dataset's digest; refuses what can't be trained on.

    Raises
    ------
    NotFoundError, SourceError, SpecError
    """
    version = Registry(workspace).resolve("dataset", spec.data)
    dataset = Dataset(version.path)
    if dataset.modality != "text":
        raise SourceError("holds images, and this objective trains on text", where=dataset.reference, received=dataset.modality,
                          allowed="a dataset of text")
    train, held_out = dataset.manifest["splits"]["train"], dataset.manifest["splits"]["validation"]
    if held_out["bytes"] < LEAST_HELD_OUT:
        raise SourceError("has too little held-out text to measure on", where=dataset.reference,
                          received=f"{held_out['records']} records, {held_out['bytes']:,} bytes in validation",
                          allowed=f"{LEAST_HELD_OUT} bytes or more",
                          hint="Curate with a larger split.validation, or add text")
    # A token is a byte at least, so this much is certain before anything is tokenised.
    most = train["bytes"] + train["records"] + 1
    if most < 2 * spec.model.context + 1:
        raise SourceError("is too little text to train on", where=dataset.reference, received=f"{train['bytes']:,} bytes",
                          allowed=f"more than {2 * spec.model.context:,} tokens for a context of {spec.model.context}",
                          hint="Add text, or set a smaller model.context")
    cluster = workspace.settings.cluster
    if cluster.most is not None and spec.hardware.ranks > cluster.most:
        raise SpecError.one("hardware.ranks", f"received {spec.hardware.ranks}, one a worker, and the {cluster.kind} cluster has "
                            f"{cluster.most}; expected {cluster.most} or fewer, or set {'maximum' if cluster.grows else 'workers'} = "
                            f"{spec.hardware.ranks} under [cluster] in workbench.toml")
    return {"data": version.digest}


def warm(client: Client) -> None:
    """Let each worker, also one that comes later, begin to keep a warm forkserver; returns at once."""
    from .host import RankHost

    client.register_plugin(RankHost())


def execute(spec: TrainSpec, run: RunContext) -> dict[str, Any]:
    """Tokenise, train over the ranks until it is done whatever dies meanwhile, register the model."""
    from ..runs import Run
    from ..tracking import Tracker
    from .gang import Gang
    from .plan import planned
    from .recorder import Recorder
    from .sight import refuse_nothing

    workspace = run.workspace
    dataset = Dataset(Registry(workspace).by_digest("dataset", run.inputs["data"]).path)
    logs = run.directory / "logs"
    with Gang(_client(run), spec.hardware.ranks, run=run.id, attempt=run.attempt, logs=logs, threads=spec.hardware.threads) as gang:
        gang.claim(run.check_stop, run.log, patience=workspace.settings.cluster.PATIENCE)
        tokens = _tokens(spec, workspace, dataset, gang, run)
        plan = planned(spec, tokens.count("train"), dataset.beginnings(PROMPTS))
        if run.attempt == 1:
            refuse_nothing(plan, tokens, spec.hardware.ranks, dataset)
            for line in plan.said:
                run.log(line)
        told = plan.to_dict() | {"world": spec.hardware.ranks, "group": True, "tokens": str(tokens.path),
                                 "checkpoints": str(run.directory / "checkpoints"), "out": str(run.directory / "model")}
        with Tracker(workspace, run.id, spec.model_name, params=_flat(spec.to_dict()), tags={"dataset": dataset.reference}) as tracker:
            recorder = Recorder(run, tracker, told)
            reached = _train(gang, told, recorder, run)
            recorder.end(reached["bits_per_byte"])
            metrics = {"tokens": plan.trained, "steps": plan.steps, "loss": recorder.loss, "bits_per_byte": reached["bits_per_byte"],
                       **_gain(recorder.before(), reached["windows"]),
                       "held_out_bytes": int(reached["bytes"]), "seconds": round(Run(workspace, run.id).worked, 3),
                       "text_bytes": tokens.meta["splits"]["train"]["bytes"], "vocabulary": tokens.vocabulary, "ranks": told["world"],
                       "memory": reached["memory"]}
            model = _register(spec, run, dataset, told, metrics, reached["parameters"])
            tracker.end({"model": model.reference})
    shutil.rmtree(run.directory / "checkpoints", ignore_errors=True)
    shutil.rmtree(run.directory / "model", ignore_errors=True)
    return {"model": spec.model_name, "digest": model.digest, "metrics": metrics, "parameters": reached["parameters"]}


def estimate(spec: TrainSpec, workspace: Workspace) -> dict[str, Any]:
    """What a run would take: one trial step in each rank, on the workers that would train; remembered for specs alike.

    Returns
    -------
    dict
        ``seconds``, ``memory`` (bytes), ``step_seconds``, ``steps``, ``tokens``, ``trial_seconds`` (what finding out took),
        ``notes``.

    Raises
    ------
    ClusterError
        Where the workers are at work for others.
    """
    import uuid

    from .. import cluster
    from . import estimate as trials
    from .gang import Gang
    from .plan import planned

    dataset = Dataset(Registry(workspace).by_digest("dataset", inputs(spec, workspace)["data"]).path)
    name, begin = f"estimate-{uuid.uuid4().hex[:6]}", time.monotonic()
    with Gang(cluster.connect(workspace), spec.hardware.ranks, run=name, attempt=1, logs=workspace.path("logs", "estimate"),
              threads=spec.hardware.threads) as gang:
        gang.claim(say=_not_for_others)
        tokens = _tokens(spec, workspace, dataset, gang, None)
        plan = planned(spec, tokens.count("train"))
        told = plan.to_dict() | {"world": spec.hardware.ranks, "tokens": str(tokens.path)}
        said = trials.whole(gang.call(DRY_RUN, told), told) | {"trial_seconds": time.monotonic() - begin}
    trials.remember(workspace, spec, told, said)
    return said | {"notes": list(plan.said)}


def remembered(spec: TrainSpec, workspace: Workspace) -> dict[str, Any]:
    """What ``estimate`` found for steps like these before; empty where it never did. Costs no trial."""
    from . import estimate as trials
    from . import tokens
    from .plan import planned

    dataset = Dataset(Registry(workspace).resolve("dataset", spec.data).path)
    found = tokens.cached(workspace, dataset.digest, tokens.fitting_vocabulary(spec.model.vocabulary,
                                                                               dataset.manifest["splits"]["train"]["bytes"]))
    return trials.remembered(workspace, spec, planned(spec, found.count("train"))) if found else {}


def kept(workspace: Workspace, entry: Entry) -> dict[str, Any] | None:
    """The last checkpoint of a run that did not come to its end: what ``Run.resume`` goes on from."""
    from . import checkpoints

    found = checkpoints.listed(workspace.path("runs", entry.id, "checkpoints"))
    if not found:
        return None
    step = checkpoints.step_of(found[0])
    return {"step": step, "words": f"from step {step:,}"}


def _not_for_others(said: str) -> None:
    if "held by" in said:
        raise ClusterError("no trial now: the workers are at work", received=said.partition("held by ")[2],
                           hint="Ask again when it has ended, or run: it waits its turn")


def _gain(before: list[list[float]] | None, after: list[list[float]]) -> dict[str, Any]:
    from .gain import gained

    if before is None or len(before) != len(after):
        return {}
    found = gained(before, after)
    return {"bits_per_byte_before": found["before"], "gain": found}


def _client(run: RunContext) -> Client:
    from .. import cluster

    return run.client or cluster.connect(run.workspace)


def _tokens(spec: TrainSpec, workspace: Workspace, dataset: Dataset, gang: Gang, run: RunContext | None):
    from . import tokens

    wanted = tokens.fitting_vocabulary(spec.model.vocabulary, dataset.manifest["splits"]["train"]["bytes"])
    found = tokens.cached(workspace, dataset.digest, wanted)
    if found:
        return found
    if run:
        run.progress(0, 1, "splits", label="tokenising")
        if wanted < spec.model.vocabulary:
            run.log(f"a vocabulary of {wanted} tokens instead of {spec.model.vocabulary}: there is little text")
    made = gang.call(PREPARE, {"root": str(workspace.root), "dataset": str(dataset.path), "vocabulary": wanted},
                     ranks=1, check=run.check_stop if run else lambda: None)
    if run:
        run.progress(1, 1, "splits", label="tokenising")
    return tokens.Tokens(Path(made[0]))


def _train(gang: Gang, told: dict[str, Any], recorder, run: RunContext) -> dict[str, Any]:
    """Call the ranks until they are done; what a dead rank or worker costs is the way back to the last checkpoint."""
    from . import checkpoints
    from .gang import RankError, RankLost

    folder = Path(told["checkpoints"])
    fruitless, began_at = 0, -1
    if not checkpoints.listed(folder):
        _take_over(run, folder)
    while True:
        run.check_stop()
        gang.claim(run.check_stop, run.log, patience=run.workspace.settings.cluster.PATIENCE)
        path, broken = checkpoints.newest(folder)
        for bad in broken:
            run.log(f"checkpoint {bad.name} is broken: going on from the one before it", "warning")
            bad.unlink(missing_ok=True)
        step = checkpoints.step_of(path) if path else 0
        fruitless = fruitless + 1 if step == began_at else 0
        began_at = step
        if step:
            run.log(f"goes on from step {step}")
            run.mark("resumed", step=step)
        try:
            asked = told | {"checkpoint": str(path) if path else None, "before": recorder.before() is None}
            results = gang.call(FIT, asked, stop=run.stopping, on_message=recorder.take)
        except RankLost as lost:
            run.check_current()
            recorder.lost(str(lost), lost.ranks)
            if fruitless >= MOST_RESTARTS:
                raise StorageError("ranks were lost again and again without a step between", where=run.id, received=str(lost),
                                   hint="Too little memory ends a rank without a word: lower batch.sequences. What they said is "
                                   f"in {gang.logs}") from lost
            continue
        except RankError as error:
            error.place = f"rank {error.cause.get('rank')}, step {error.cause.get('step', 0):,}"
            error.hint = error.hint or _what_next(error.cause)
            if error.cause["kind"] == "DivergedError":
                shutil.rmtree(folder, ignore_errors=True)
            raise
        if results[0]["stopped"] and not run.stopping.is_set():
            run.log(f"a worker is about to end: a checkpoint at step {results[0]['step']:,}, and on with those that are left")
            run.mark("notice", step=results[0]["step"])
            continue
        if results[0]["stopped"]:
            run.log(f"stopped after step {results[0]['step']}: workbench resume {run.id} goes on from there")
            run.mark("frozen", step=results[0]["step"], ranks=[r["step"] for r in results])
            run.stopping.set()
            run.check_stop()
        return results[0] | {"memory": sum(r["memory"] for r in results)}


def _what_next(cause: dict[str, Any]) -> str | None:
    """What to do about an error that nobody foresaw."""
    if cause["kind"] in ("OutOfMemoryError", "MemoryError") or "out of memory" in cause["what"]:
        return "Lower batch.sequences and raise batch.accumulate by as much: a step is the same, and takes less memory"
    return None


def _take_over(run: RunContext, folder: Path) -> None:
    """Begin with the last checkpoint of the same training, if the run before this one was stopped or failed."""
    from ..journal import ENDED, Journal
    from . import checkpoints
    from .recorder import BEFORE

    if any(e.name == "afresh" for e in Journal(run.workspace).events.tail(run.id, kinds=("mark",))):
        return
    ended = Journal(run.workspace).entries(word="train", states=ENDED)
    before = next((e for e in ended if e.key == run.entry.key and e.id != run.id), None)
    if before is None or before.state == "done":
        return
    path, _ = checkpoints.newest(run.workspace.path("runs", before.id, "checkpoints"))
    if path:
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{path.name}"
        shutil.copyfile(path, partial)
        partial.rename(folder / path.name)
        scored = run.workspace.path("runs", before.id, BEFORE)
        if scored.exists():
            shutil.copyfile(scored, run.directory / BEFORE)
        run.log(f"goes on where {before.id} ended")


def _register(spec: TrainSpec, run: RunContext, dataset: Dataset, told: dict[str, Any], metrics: dict[str, Any], parameters: int):
    from ..model import write_model
    from .card import draft

    made = Path(told["out"])

    def save(folder: Path) -> None:
        for file in sorted(made.iterdir()):
            shutil.copyfile(file, folder / file.name)

    card = draft(spec, dataset, run=run.id, parameters=parameters, metrics=metrics, plan=told)
    return write_model(run.workspace, spec.model_name, save, card=card, run=run.id, manifest={
        "parameters": parameters, "dataset": {"name": dataset.name, "digest": dataset.digest}, "metrics": metrics, "spec": spec.to_dict()})


def _flat(mapping: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
