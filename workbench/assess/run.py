"""A run of assess: each probe a task of its own, their evidence held against the policy, and the model card."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..assessment import workspace_policy, write_assessment
from ..dataset import Dataset
from ..driver import Stopped
from ..errors import NotFoundError, SourceError, WorkbenchError
from ..events import Events
from ..journal import Journal
from ..model import Model
from ..policy import Evidence, Policy, Verdict, judge
from ..registry import Registry
from ..storage import digest_json, write_atomic
from ..tracking import Tracker
from ..workspace import Workspace
from .card import model_card
from .probes import KINDS
from .spec import AssessSpec

if TYPE_CHECKING:
    from ..driver import RunContext


def inputs(spec: AssessSpec, workspace: Workspace) -> dict[str, str]:
    """Digests of model, dataset and policy (its waivers too); refuses what can't be assessed.

    Raises
    ------
    NotFoundError, SourceError, SpecError
    """
    registry = Registry(workspace)
    model = Model(registry.resolve("model", spec.model).path)
    model.refuse_unless_text("probes measure text")
    if spec.data:
        data = Dataset(registry.resolve("dataset", spec.data).path)
    else:
        taught = model.manifest.get("dataset") or {}
        if not taught:
            raise NotFoundError("does not say which dataset taught it", where=model.reference, hint="Name one: --data NAME")
        data = Dataset(registry.by_digest("dataset", taught["digest"]).path)
    if data.modality != "text":
        raise SourceError("holds images, and a language model is measured on text", where=data.reference, received=data.modality,
                          allowed="a dataset of text")
    for probe in spec.probes:
        probe.check(model, data)
    policy = spec.policy or workspace_policy(workspace)
    return {"model": model.digest, "data": data.digest, "policy": digest_json(policy.model_dump(mode="json"))}


def estimate(spec: AssessSpec, workspace: Workspace) -> dict[str, Any]:
    """What it will take: as long as the last assessment did by as many probes, in proportion to the model's parameters.

    Without an earlier one only the number of probes is known.
    """
    registry, size = Registry(workspace), 0
    with contextlib.suppress(WorkbenchError, KeyError, TypeError):
        size = Model(registry.resolve("model", spec.model).path).manifest["parameters"]
    for entry in Journal(workspace).entries(word="assess", states=("done",), limit=20):
        with contextlib.suppress(WorkbenchError, KeyError, TypeError, ZeroDivisionError):
            before = Model(registry.resolve("model", entry.spec["model"]).path).manifest["parameters"]
            probes = len(entry.spec.get("probes") or spec.probes)
            if entry.started and entry.ended and size:
                seconds = (entry.ended - entry.started) * size / before * len(spec.probes) / probes
                return {"seconds": round(max(1.0, seconds), 1), "probes": len(spec.probes)}
    return {"probes": len(spec.probes)}


def execute(spec: AssessSpec, run: RunContext) -> dict[str, Any]:
    """Measure, judge, write the card, commit."""
    workspace, registry = run.workspace, Registry(run.workspace)
    model = Model(registry.by_digest("model", run.inputs["model"]).path)
    data = Dataset(registry.by_digest("dataset", run.inputs["data"]).path)
    policy = spec.policy or workspace_policy(workspace)
    run.log(f"{model.reference} ({model.manifest['parameters']:,} parameters) on {data.reference}, by {len(spec.probes)} probes")
    if data.digest != (model.manifest.get("dataset") or {}).get("digest"):
        run.log(f"{data.reference} is not what taught {model.reference}: rules about its own data will find no evidence", level="warning")
    items = [{"root": str(workspace.root), "run": run.id, "number": n, "probe": p.model_dump(mode="json"), "model": str(model.path),
              "data": str(data.path), "policy": policy.digest(), "seed": spec.seed} for n, p in enumerate(spec.probes)]
    evidence = [Evidence(**{**e, "examples": tuple(e["examples"])}) for e in run.map(measure, items, label="probes", unit="probes")]
    return _conclude(spec, run, model, data, policy, evidence)


def _conclude(spec: AssessSpec, run: RunContext, model: Model, data: Dataset, policy: Policy, evidence: list[Evidence]) -> dict[str, Any]:
    taught = (model.manifest.get("dataset") or {}).get("digest")
    verdict = judge(policy, evidence, model=model.digest, dataset=taught, now=time.time())
    card = model_card(model, data, evidence, verdict)
    assessment = write_assessment(
        run.workspace, spec.name or model.name, model={"name": model.name, "digest": model.digest}, taught=taught,
        dataset={"name": data.name, "digest": data.digest}, policy=policy, evidence=evidence, card=card, run=run.id)
    _record(spec, run, model, evidence, verdict, card)
    for found in evidence:
        run.point(found.metric, 0, found.value)
    run.mark("verdict", passed=verdict.passed, words=verdict.words)
    run.log(f"{model.reference} {verdict.words}", level="info" if verdict.passed else "warning")
    return {"assessment": assessment.name, "digest": assessment.digest, "passed": verdict.passed, "words": verdict.words}


def measure(item: dict[str, Any]) -> dict[str, Any]:
    """Evidence of one probe, as JSON: what a task does.

    It is kept beside the run, so that a run that is taken up again measures nothing twice.
    """
    workspace = Workspace(item["root"])
    kept = workspace.path("runs", item["run"], f"probe-{item['number']}.json")
    if kept.exists():
        return json.loads(kept.read_text("utf-8"))
    from .subject import Subject

    begin, events = time.monotonic(), Events(workspace)
    probe = KINDS[item["probe"]["probe"]].model_validate(item["probe"])
    events.append(item["run"], "probe", name=probe.probe, value=0.0, state="running")
    model, data = Model(workspace.root / item["model"]), Dataset(workspace.root / item["data"])
    with _one_thread():
        found = probe.measure(Subject(workspace, model, data, item["seed"], _pause(workspace, item["run"], probe.probe)))
    evidence = {"metric": probe.probe, **asdict(found), "model": model.digest, "dataset": data.digest, "policy": item["policy"],
                "at": round(time.time(), 3)}
    write_atomic(kept, json.dumps(evidence))
    beside = ", ".join(f"{k} {v:.4g}" for k, v in (found.beside or {}).items())
    told = {"value": found.value, "low": found.low, "high": found.high, "unit": found.unit, "sample": found.sample}
    events.append(item["run"], "probe", name=probe.probe, value=1.0, state="done", found=told)
    events.append(item["run"], "log", name="info", text=(
        f"{probe.probe} {found.value:.4g} [{found.low:.4g}, {found.high:.4g}] {found.unit}, {found.sample} samples"
        + f" ({beside})" * bool(beside) + f", in {time.monotonic() - begin:.1f} s"))
    return evidence


def _pause(workspace: Workspace, run_id: str, probe: str) -> Callable[[float], None]:
    """What a probe calls between batches: tells how far it is, and hears of a stop that its own task is not told of."""
    journal, events, asked = Journal(workspace), Events(workspace), time.monotonic()

    def pause(share: float) -> None:
        nonlocal asked
        if time.monotonic() - asked > 0.5:
            asked = time.monotonic()
            events.append(run_id, "probe", name=probe, value=share, state="running")
            if journal.get(run_id).state in ("stopping", "stopped"):
                raise Stopped(run_id)

    return pause


def _record(spec: AssessSpec, run: RunContext, model: Model, evidence: list[Evidence], verdict: Verdict, card: str) -> None:
    """Measures, verdict and card as MLflow keeps them."""
    name = spec.name or model.name
    with Tracker(run.workspace, run.id, f"{name} assessed", params={"model": model.reference, "seed": spec.seed},
                 tags={"workbench.word": "assess", "workbench.model": model.digest}) as tracker:
        for e in evidence:
            numbers = {"": e.value, ".low": e.low, ".high": e.high, ".sample": e.sample}
            tracker.log((e.metric + end, 0, value, e.at) for end, value in numbers.items())
        tracker.text("card.md", card)
        tracker.end({"workbench.passed": str(verdict.passed), "workbench.verdict": verdict.words})


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Sums come out the same on every machine's number of cores, and tasks side by side share them."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
