"""What an endpoint was: its serve runs that came to their end, each with its versions pinned, to go back to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ..endpoint import Endpoint
from ..errors import NotFoundError, SpecError, WorkbenchError
from ..journal import Entry, Journal
from ..registry import Registry
from ..workspace import Workspace
from .spec import ServeSpec


@dataclass(frozen=True)
class Deployment:
    """A state that an endpoint was in: the run that brought it about, its spec as it was asked, and with every model's version named.

    ``again`` brings the same about once more: it is the spec as it was asked, unless a name in it means another version by now.
    """

    run: str
    at: float
    spec: ServeSpec
    again: ServeSpec

    @property
    def words(self) -> str:
        """Versions and their share: ``docs-lm@v2 90 %, docs-lm@v3 10 %``."""
        total = sum(s.weight for s in self.spec.models)
        return ", ".join(f"{s.model} {100 * s.weight / total:.3g} %" for s in sorted(self.spec.models, key=lambda s: -s.weight))

    @property
    def traffic(self) -> dict[str, float]:
        """Share of each version, by its reference."""
        total = sum(s.weight for s in self.spec.models)
        return {s.model: s.weight / total for s in self.spec.models}


def deployments(workspace: Workspace, name: str, *, limit: int = 20) -> list[Deployment]:
    """The states of an endpoint, the newest first; the first is what it is or last was.

    Versions that are registered no more are left out: nobody can go back to them.
    """
    done = [e for e in Journal(workspace).entries(word="serve", states=("done",)) if (e.result or {}).get("endpoint") == name]
    done.sort(key=lambda e: -(e.ended or e.submitted))
    known = (_known(workspace, e) for e in done)
    return list(islice((d for d in known if d is not None), limit))


def standing_deployment(workspace: Workspace, name: str) -> Deployment | None:
    """The deployment that an endpoint's supervisor reached last, or None."""
    try:
        run = Endpoint.open(name, workspace).document.get("run")
    except NotFoundError:
        return None
    known = deployments(workspace, name, limit=1000)
    return next((d for d in known if d.run == run), known[0] if known else None)


def previous(workspace: Workspace, name: str) -> Deployment | None:
    """What rolling back goes to: the newest state before the present one with other versions or other shares."""
    now = standing_deployment(workspace, name)
    if now is None:
        return None
    return next((d for d in deployments(workspace, name, limit=1000) if d.at < now.at and d.traffic != now.traffic), None)


def shifted(spec: ServeSpec, weights: Mapping[str, float]) -> ServeSpec:
    """The spec with other weights, by the reference of each model; versions that are not named keep theirs.

    Raises
    ------
    SpecError
        When no weight is above 0, and for a model that is not there.

    Examples
    --------
    >>> spec = ServeSpec(name="bot", models=({"model": "lm@v1"}, {"model": "lm@v2", "weight": 0}))
    >>> [s.weight for s in shifted(spec, {"lm@v1": 90, "lm@v2": 10}).models]
    [90.0, 10.0]
    """
    known = [s.model for s in spec.models]
    if unknown := [m for m in weights if m not in known]:
        raise SpecError.one("models", f"{unknown[0]!r} is not among the models; expected one of {', '.join(known)}", source="traffic")
    return _changed(spec, models=[{"model": s.model, "weight": weights.get(s.model, s.weight)} for s in spec.models])


def joined(spec: ServeSpec, model: str, share: float = 10) -> ServeSpec:
    """The spec with one model more, which takes ``share`` per cent of the traffic; the others keep theirs among themselves.

    Examples
    --------
    >>> spec = ServeSpec(name="bot", models=({"model": "lm@v1", "weight": 3}, {"model": "lm@v2", "weight": 1}))
    >>> {s.model: s.weight for s in joined(spec, "lm@v3", 20).models}
    {'lm@v1': 60.0, 'lm@v2': 20.0, 'lm@v3': 20.0}
    """
    total = sum(s.weight for s in spec.models)
    models = [{"model": s.model, "weight": round(s.weight / total * (100 - share), 6)} for s in spec.models]
    return _changed(spec, models=[*models, {"model": model, "weight": share}])


def without(spec: ServeSpec, model: str) -> ServeSpec:
    """The spec with one model less; its traffic goes to the others by their shares, or to all alike where they have none.

    Examples
    --------
    >>> spec = ServeSpec(name="bot", models=({"model": "lm@v1", "weight": 90}, {"model": "lm@v2", "weight": 10}))
    >>> [(s.model, s.weight) for s in without(spec, "lm@v2").models]
    [('lm@v1', 100.0)]
    """
    left = [s for s in spec.models if s.model != model]
    total = sum(s.weight for s in left)
    return _changed(spec, models=[{"model": s.model, "weight": round(100 * s.weight / total, 6) if total else 100} for s in left])


def scaled(spec: ServeSpec, replicas: int) -> ServeSpec:
    """The spec with another number of replicas for each version."""
    return _changed(spec, replicas=replicas)


def _changed(spec: ServeSpec, **fields: Any) -> ServeSpec:
    return ServeSpec.load({**spec.to_dict(), **fields})


def _known(workspace: Workspace, entry: Entry) -> Deployment | None:
    registry, models, same = Registry(workspace), [], True
    try:
        asked = ServeSpec.load(entry.spec)
        for share in asked.models:
            version = registry.resolve("model", f"{share.model.partition('@')[0]}@{entry.inputs[share.model]}")
            models.append({"model": f"{version.name}@v{version.number}", "weight": share.weight})
            same &= registry.resolve("model", share.model).digest == version.digest
    except (WorkbenchError, KeyError):
        return None
    pinned = _changed(asked, models=models)
    return Deployment(entry.id, entry.ended or entry.submitted, pinned, asked if same else pinned)
