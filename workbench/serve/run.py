"""A serve run: say what the endpoint is to be, see that its supervisor lives, wait until it answers."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

from .. import processes
from ..assessment import standing
from ..dataset import Dataset
from ..endpoint import Endpoint, process_name
from ..errors import PolicyError, RunFailedError, SpecError, WorkbenchError
from ..journal import Journal
from ..model import Model, refuse_pickles
from ..registry import Registry
from ..storage import write_atomic
from ..workspace import Workspace
from . import door
from .spec import ServeSpec
from .wanted import Wanted, WantedModel

if TYPE_CHECKING:
    from ..driver import RunContext

START_SECONDS = 180.0
"""Longest wait for an endpoint to answer."""
SUGGESTED = 4
"""Beginnings of prompts that are kept beside an endpoint."""


def inputs(spec: ServeSpec, workspace: Workspace) -> dict[str, str]:
    """Digests of the models; whatever must not be served is refused here.

    Raises
    ------
    NotFoundError, SpecError, UnsafeFileError, PolicyError
    """
    found: dict[str, str] = {}
    for share in spec.models:
        version = Registry(workspace).resolve("model", share.model)
        if version.digest in found.values():
            raise SpecError.one("models", f"{share.model} is a version that stands here already; expected each once with its weight")
        refuse_pickles(version.path)
        Model(version.path).refuse_unless_text("an endpoint answers in text")
        found[share.model] = version.digest
    if spec.token:
        workspace.secret(spec.token)
    door.check(workspace, spec.host, [(s.model.partition("@")[0], found[s.model]) for s in spec.models if s.weight > 0])
    return found


def estimate(spec: ServeSpec, workspace: Workspace) -> dict[str, Any]:
    """What it will take: its processes, and the seconds that the last endpoint took until it answered, where there was one."""
    told: dict[str, Any] = {"processes": 1 + spec.replicas * len(spec.models)}
    last = next(iter(Journal(workspace).entries(word="serve", states=("done",), limit=1)), None)
    if last is not None and last.started and last.ended:
        told["seconds"] = round(max(1.0, last.ended - last.started), 1)
    return told


def execute(spec: ServeSpec, run: RunContext) -> dict[str, Any]:
    """Bring the endpoint about; when that fails, what answered before goes on answering."""
    workspace, folder = run.workspace, run.workspace.path("endpoints", spec.name)
    models = [WantedModel(name=s.model.partition("@")[0], digest=run.inputs[s.model], weight=s.weight) for s in spec.models]
    verdicts = {f"{m.name}@{m.digest[:12]}": standing(workspace, m.digest) for m in models if m.weight > 0}
    warnings = [f"{reference} {verdict.words}" for reference, verdict in verdicts.items() if not verdict.passed]
    for words in warnings:
        run.log(words, "warning")
    if spec.token:
        write_atomic(folder / "token", workspace.secret(spec.token) + "\n", mode=0o600)
    else:
        workspace.token(folder / "token")
    wanted = Wanted(generation=f"{run.id}/{run.attempt}", run=run.id, models=tuple(models), replicas=spec.replicas, threads=spec.threads,
                    host=spec.host, port=spec.port, limits=spec.limits)
    before = processes.find(workspace, process_name(spec.name)) is not None
    try:
        wanted.write(folder)
        endpoint = _reach(spec.name, wanted, run)
    except BaseException:
        _go_back(spec.name, workspace, wanted, before=before)
        raise
    workspace.audit.append("endpoint", name=spec.name, host=spec.host, models=[m.model_dump(mode="json") for m in models])
    document = endpoint.document
    if document["note"]:
        run.log(document["note"], "warning")
    _index(models, run)
    _suggest(models, run, endpoint)
    return {"endpoint": spec.name, "address": endpoint.address, "metrics": endpoint.metrics_url, "token_file": str(endpoint.token_file),
            "models": [f"{m.name}@{m.digest[:12]}" for m in models], "port": document["port"], "note": document["note"],
            "verdicts": {reference: verdict.words for reference, verdict in verdicts.items()}, "warning": "; ".join(warnings) or None}


def _reach(name: str, wanted: Wanted, run: RunContext) -> Endpoint:
    """Wait until the supervisor says that the wanted state is reached; start one where none lives."""
    workspace, total = run.workspace, wanted.replicas * len(wanted.models)
    endpoint = Endpoint(workspace, name)
    refused = endpoint.folder / "refused.json"
    begin, starts = time.monotonic(), 0
    run.progress(0, total, "replicas", "start")
    while True:
        run.check_stop()
        if processes.find(workspace, process_name(name)) is None:
            if starts and refused.exists():
                _raise(_read(refused))
            if starts == 3:
                raise RunFailedError("the supervisor ended three times", where=workspace.path("logs", f"endpoint--{name}.log"))
            refused.unlink(missing_ok=True)
            with processes.lock(workspace, f"start-endpoint-{name}"):
                if processes.find(workspace, process_name(name)) is None:
                    processes.start(workspace, process_name(name), "workbench.serve.supervisor", name)
            starts += 1
        document = _read(endpoint.folder / "endpoint.json")
        if document.get("generation") == wanted.generation and endpoint.alive:
            run.progress(total, total, "replicas", "start")
            return endpoint
        problem = document.get("problem")
        if problem and problem["generation"] == wanted.generation:
            _raise(problem)
        if time.monotonic() - begin > START_SECONDS:
            raise RunFailedError(f"the endpoint did not answer within {START_SECONDS:g} s",
                                 where=workspace.path("logs", f"endpoint--{name}.log"))
        digests = {m.digest for m in wanted.models}
        ready = sum(r["state"] == "ready" and r["digest"] in digests for r in document.get("replicas", []))
        run.progress(min(ready, total - 1), total, "replicas", "start")
        time.sleep(0.05)


def _go_back(name: str, workspace: Workspace, wanted: Wanted, *, before: bool) -> None:
    """What answered before is wanted again; where nothing did, nothing stays."""
    endpoint = Endpoint(workspace, name)
    with contextlib.suppress(WorkbenchError):
        reached = _read(endpoint.folder / "endpoint.json").get("reached") if before else None
        if reached and reached["generation"] != wanted.generation:
            Wanted.model_validate(reached).write(endpoint.folder)
        elif not before:
            endpoint.stop()


def _index(models: list[WantedModel], run: RunContext) -> None:
    """Make the index that traces look spans up in, so that the first trace need not wait for it."""
    from ..detect.spans import index_for

    for model in models:
        try:
            source = Model(Registry(run.workspace).by_digest("model", model.digest).path).manifest.get("dataset")
            if source:
                index_for(run.workspace, f"{source['name']}@{source['digest']}")
        except WorkbenchError as error:
            run.log(f"answers of {model.name} will be traced without spans: {error}", "warning")


def _suggest(models: list[WantedModel], run: RunContext, endpoint: Endpoint) -> None:
    """Keep beginnings of held-out records beside the endpoint: what a person may ask who does not know the data."""
    found: list[str] = []
    for model in models:
        with contextlib.suppress(WorkbenchError, KeyError, OSError):
            source = Model(Registry(run.workspace).by_digest("model", model.digest).path).manifest["dataset"]
            dataset = Dataset.open(f"{source['name']}@{source['digest']}", run.workspace)
            found += dataset.beginnings(SUGGESTED)
    write_atomic(endpoint.folder / "suggestions.json", json.dumps(list(dict.fromkeys(found))[:SUGGESTED]))


def _raise(problem: dict[str, Any]) -> None:
    if problem["kind"] == "PolicyError":
        raise PolicyError(problem["what"])
    raise RunFailedError(problem["what"])


def _read(path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
