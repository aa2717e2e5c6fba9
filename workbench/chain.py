"""The chain of the latest work, from dataset to endpoint, and the one thing to do next."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from . import processes
from .assessment import standing
from .dataset import Dataset
from .drawing import number, size
from .endpoint import Endpoint
from .errors import NotFoundError, WorkbenchError
from .journal import ENDED, Entry, Journal
from .model import Model
from .registry import Kind, Registry, Version
from .train.objectives.spec import begun
from .workspace import Workspace

LinkKind = Literal["dataset", "model", "assessment", "endpoint"]
MADE_BY: dict[LinkKind, str] = {"dataset": "data", "model": "train", "assessment": "assess", "endpoint": "serve"}
"""The word that makes each link."""
_WORDS = {"missing": "not yet", "done": "ready", "pass": "may be deployed", "fail": "must not be deployed", "up": "answering",
          "down": "not answering"}


@dataclass(frozen=True)
class Link:
    """One link: what it is called, how it stands and its headline number.

    ``state`` is that of a run where one makes it or failed to, ``done`` for a version, ``pass`` or ``fail`` for an
    assessment, ``up`` or ``down`` for an endpoint, ``missing`` where there is nothing yet.
    """

    kind: LinkKind
    state: str = "missing"
    name: str = ""
    version: str = ""
    digest: str = ""
    figure: str = ""
    at: float | None = None
    run: str | None = None
    """the run that made it, makes it or failed to"""

    @property
    def word(self) -> str:
        return MADE_BY[self.kind]

    @property
    def words(self) -> str:
        """Its state in words."""
        return _WORDS.get(self.state, self.state)

    @property
    def there(self) -> bool:
        """True if it exists, however it stands."""
        return self.state in ("done", "pass", "fail", "up", "down")


@dataclass(frozen=True)
class Step:
    """The one thing to do next: a spec to begin with, or a run to look at."""

    label: str
    why: str
    word: str
    spec: dict[str, Any] | None = None
    run: str | None = None


@dataclass(frozen=True)
class Chain:
    """Four links, each made from the one before, and the next step (None in an empty workspace).

    Examples
    --------
    >>> import tempfile
    >>> chain = read_chain(Workspace(tempfile.mkdtemp()).open())
    >>> [link.state for link in chain.links], chain.next
    (['missing', 'missing', 'missing', 'missing'], None)
    """

    links: tuple[Link, ...]
    next: Step | None

    @property
    def empty(self) -> bool:
        return all(link.state == "missing" for link in self.links)

    @property
    def runs(self) -> list[str]:
        """Ids of the runs that made it, in order."""
        return [link.run for link in self.links if link.there and link.run]

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"links": [{**asdict(link), "word": link.word, "words": link.words, "there": link.there} for link in self.links],
                "next": asdict(self.next) if self.next else None, "runs": self.runs}


def read_chain(workspace: Workspace) -> Chain:
    """The chain that the newest work belongs to, read from the records as they stand."""
    return _Reader(workspace).chain()


class _Reader:
    def __init__(self, workspace: Workspace):
        self.workspace, self.registry, self.journal = workspace, Registry(workspace), Journal(workspace)
        self.active = [e for e in self.journal.entries(states=("queued", "running", "stopping"), limit=100) if e.word in MADE_BY.values()]

    def chain(self) -> Chain:
        found = self._around(self._newest())
        links = (self._dataset(found), self._model(found), self._assessment(found), self._endpoint(found))
        return Chain(links, self._next(links))

    # Which chain -----------------------------------------------------------------------------------------------------------------

    def _newest(self) -> tuple[str, Any] | None:
        """The newest of what is at work, what was made and what answers."""
        options: list[tuple[float, str, Any]] = [(e.submitted, "entry", e) for e in self.active]
        for kind in ("dataset", "model", "assessment"):
            versions = self.registry.versions(kind)
            if versions:
                options.append((versions[0].created, kind, versions[0]))
        for endpoint in Endpoint.listed(self.workspace):
            with contextlib.suppress(WorkbenchError, KeyError):
                options.append((self._deployed(endpoint), "endpoint", endpoint))
        if not options:
            last = next((e for e in self.journal.entries(limit=50) if e.word in MADE_BY.values()), None)
            return ("entry", last) if last else None
        return max(options, key=lambda o: o[0])[1:]

    def _deployed(self, endpoint: Endpoint) -> float:
        document = endpoint.document
        with contextlib.suppress(NotFoundError):
            return max(document["started"], self.journal.get(document["run"]).submitted)
        return document["started"]

    def _around(self, focus: tuple[str, Any] | None) -> dict[str, Any]:
        """What stands before and after the newest thing: versions, an endpoint, and runs (``making``) of links that are not there."""
        found: dict[str, Any] = {"dataset": None, "model": None, "assessment": None, "endpoint": None, "making": {}}
        if focus is None:
            return found
        kind, thing = focus
        if kind == "entry":
            self._from_run(found, thing)
        else:
            found[kind] = thing
        if found["endpoint"] is not None:
            shares = found["endpoint"].document.get("models") or [{}]
            found["model"] = self._by_digest("model", max(shares, key=lambda s: s.get("weight", 0)).get("digest"))
        if found["assessment"] is not None:
            found["model"] = self._by_digest("model", found["assessment"].meta.get("model"))
        if found["model"] is not None:
            found["dataset"] = self._by_digest("dataset", (found["model"].meta.get("dataset") or {}).get("digest"))
        elif found["dataset"] is not None and "model" not in found["making"]:
            found["model"] = self._newest_of("model", lambda v: (v.meta.get("dataset") or {}).get("digest") == found["dataset"].digest)
        model = found["model"]
        if model is not None:
            found["assessment"] = found["assessment"] or self._newest_of("assessment", lambda v: v.meta.get("model") == model.digest)
            found["endpoint"] = found["endpoint"] or self._serving(model.digest)
        self._attempts(found)
        return found

    def _from_run(self, found: dict[str, Any], entry: Entry) -> None:
        kind = next(k for k, word in MADE_BY.items() if word == entry.word)
        found["making"][kind] = entry
        reads = {"train": ("dataset", entry.spec.get("data")), "assess": ("model", entry.spec.get("model")),
                 "serve": ("model", _first_model(entry.spec))}.get(entry.word)
        if reads and isinstance(reads[1], str):
            with contextlib.suppress(WorkbenchError):
                found[reads[0]] = self.registry.resolve(reads[0], reads[1])

    def _attempts(self, found: dict[str, Any]) -> None:
        """For a link that is not there or is made anew: the newest run that makes or was to make it from the link before."""
        before = {"model": "dataset", "assessment": "model", "endpoint": "model"}
        for kind, origin in before.items():
            made = found[origin]
            if kind in found["making"] or made is None:
                continue
            for entry in self.journal.entries(word=MADE_BY[kind], limit=20):
                read = {"train": entry.spec.get("data"), "assess": entry.spec.get("model"), "serve": _first_model(entry.spec)}[entry.word]
                if str(read).partition("@")[0] != made.name or entry.submitted < made.created:
                    continue
                if entry.state not in ENDED or (found[kind] is None and entry.state in ("failed", "stopped")):
                    found["making"][kind] = entry
                break

    def _by_digest(self, kind: Kind, digest: str | None) -> Version | None:
        with contextlib.suppress(NotFoundError):
            return self.registry.by_digest(kind, digest) if digest else None
        return None

    def _newest_of(self, kind: Kind, fits: Any) -> Version | None:
        return next((v for v in self.registry.versions(kind) if fits(v)), None)

    def _serving(self, digest: str) -> Endpoint | None:
        serving = []
        for endpoint in Endpoint.listed(self.workspace):
            with contextlib.suppress(WorkbenchError):
                if any(m.get("digest") == digest for m in endpoint.document.get("models") or []):
                    serving.append(endpoint)
        return max(serving, key=lambda e: (e.alive, self._deployed(e)), default=None)

    # Its links -------------------------------------------------------------------------------------------------------------------

    def _making(self, found: dict[str, Any], kind: LinkKind) -> Link | None:
        entry: Entry | None = found["making"].get(kind)
        if entry is None or entry.state == "done":
            return None
        return Link(kind, entry.state, entry.name, at=entry.ended or entry.started or entry.submitted, run=entry.id)

    def _version(self, kind: LinkKind, version: Version, state: str, figure: str) -> Link:
        return Link(kind, state, version.name, f"v{version.number}", version.digest, figure, version.created, version.run)

    def _dataset(self, found: dict[str, Any]) -> Link:
        version = found["dataset"]
        if version is None:
            return self._making(found, "dataset") or Link("dataset")
        splits = (version.meta.get("splits") or {}).values()
        text = sum(s.get("bytes", 0) for s in splits)
        figure = f"{sum(s.get('records', 0) for s in splits):,} records" + (f" · {size(text)}" if text else "")
        return self._version("dataset", version, "done", figure)

    def _model(self, found: dict[str, Any]) -> Link:
        making, version = self._making(found, "model"), found["model"]
        if making or version is None:
            return making or Link("model")
        manifest: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            manifest = json.loads((version.path / "manifest.json").read_text("utf-8"))
        metrics, parts = manifest.get("metrics") or {}, []
        if manifest.get("parameters"):
            parts.append(f"{_rough(manifest['parameters'])} parameters")
        if isinstance(metrics.get("bits_per_byte"), int | float):
            parts.append(f"{number(float(metrics['bits_per_byte']))} bits/byte")
        return self._version("model", version, "done", " · ".join(parts))

    def _assessment(self, found: dict[str, Any]) -> Link:
        making, version, model = self._making(found, "assessment"), found["assessment"], found["model"]
        if making or version is None or model is None:
            return making or Link("assessment")
        verdict = standing(self.workspace, model.digest)
        met = sum(j.status in ("pass", "waived") for j in verdict.judgements)
        return self._version("assessment", version, "pass" if verdict.passed else "fail", f"{met} of {len(verdict.judgements)} rules met")

    def _endpoint(self, found: dict[str, Any]) -> Link:
        making, endpoint = self._making(found, "endpoint"), found["endpoint"]
        if making or endpoint is None:
            return making or Link("endpoint")
        document, alive = endpoint.document, endpoint.alive
        ready = sum(r.get("state") == "ready" for r in document.get("replicas") or [])
        figure = f"{document['url'].removeprefix('http://')} · {ready} replica{'s' * (ready != 1)}" if alive else ""
        return Link("endpoint", "up" if alive else "down", endpoint.name, "", "", figure, document["started"], document.get("run"))

    # What next -------------------------------------------------------------------------------------------------------------------

    def _next(self, links: tuple[Link, ...]) -> Step | None:
        dataset, model, assessment, endpoint = links
        if all(link.state == "missing" for link in links):
            return None
        for link in links:
            if link.state in ("queued", "running", "stopping"):
                return Step(f"Watch the {link.kind} being made", f"{link.name} is {link.state}", link.word, run=link.run)
            if link.state in ("failed", "stopped"):
                label, why = ("See what failed", "failed") if link.state == "failed" else ("Go on with it", "was stopped")
                return Step(label, f"The run of {link.name} {why}", link.word, run=link.run)
        if model.state == "missing":
            form = Dataset(self._by_digest("dataset", dataset.digest).path).form
            return Step("Train on this dataset", f"No model has learned from {dataset.name} yet", "train",
                        begun(self._ref("dataset", dataset), form))
        named = self._ref("model", model)
        if assessment.state == "missing" and endpoint.state == "missing" and (makes := self._makes(model)) != "text":
            what = "is a module of your own" if makes == "module" else f"makes {makes}s"
            return Step("See what came of it", f"{model.name} {what}: nothing is left to do", "train", run=model.run) if model.run else None
        if assessment.state == "missing":
            return Step("Assess this model", f"Nobody has measured {model.name} yet", "assess", {"model": named})
        if assessment.state == "fail":
            return Step("See what speaks against it", f"{model.name} must not be deployed as it is", "assess",
                        None if assessment.run else {"model": named}, assessment.run)
        if endpoint.state in ("missing", "down"):
            name = endpoint.name or model.name
            return Step("Deploy this model", f"{model.name} may be deployed and does not answer yet", "serve",
                        {"name": name, "models": [{"model": named}]})
        if not watched(self.workspace):
            return Step("Watch this endpoint", f"Nobody is told when {endpoint.name} fails", "monitor", {"name": "monitor"})
        return Step("Ask it something", f"{endpoint.name} answers", "serve", None if endpoint.run else {"name": endpoint.name, "models": [
            {"model": named}]}, endpoint.run)

    def _makes(self, link: Link) -> str:
        version = self._by_digest("model", link.digest)
        return Model(version.path).makes if version else "text"

    def _ref(self, kind: Kind, link: Link) -> str:
        """A name where it means this very version, else name and version."""
        newest = self.registry.versions(kind, link.name)
        return link.name if newest and newest[0].digest == link.digest else f"{link.name}@{link.version}"


def watched(workspace: Workspace) -> bool:
    """True while some monitor works."""
    folder = workspace.path("monitors")
    return folder.is_dir() and any(processes.find(workspace, f"monitor/{p.parent.name}") for p in folder.glob("*/wanted.json"))


def _first_model(spec: dict[str, Any]) -> str:
    shares = spec.get("models") or [{}]
    return str(max(shares, key=lambda s: s.get("weight", 100)).get("model", ""))


def _rough(count: int) -> str:
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return str(count)
