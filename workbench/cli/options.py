"""The options that several commands share, and ``--set``: dotted paths put into a spec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..spec import Spec

Set = Annotated[list[str] | None, typer.Option("--set", metavar="PATH=VALUE",
                                               help="Set a field of the spec, e.g. model.size=10M. May stand often.")]
Again = Annotated[bool, typer.Option("--again", help="Repeat the work even where it is done already.")]
Detach = Annotated[bool, typer.Option("--detach", help="Return at once; the run goes on by itself.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the spec, its inputs and an estimate; start nothing.")]


def examples(*lines: str) -> str:
    """The end of a command's help: lines that can be pasted, kept as they are."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def is_spec_file(text: str) -> bool:
    """True if an argument names a spec's file (or is YAML text) rather than data, a model or a dataset."""
    return text.endswith((".yaml", ".yml", ".json")) or "\n" in text


def parse_set(settings: Sequence[str] | None) -> dict[str, Any]:
    """``["model.size=10M"]`` as ``{"model.size": "10M"}``; values are YAML.

    Raises
    ------
    SpecError
        For a setting without ``=``.
    """
    from ..errors import Problem, SpecError
    from ..spec import parse_value

    found, problems = {}, []
    for setting in settings or ():
        path, sign, value = setting.partition("=")
        if not sign or not path.strip():
            problems.append(Problem("--set", f"received {setting!r}; expected PATH=VALUE, e.g. model.size=10M"))
        found[path.strip()] = parse_value(value)
    if problems:
        raise SpecError(problems, source="command line")
    return found


def swept(axes: Sequence[str] | None) -> dict[str, Any] | None:
    """A sweep over ``PATH=V1,V2`` (values) and ``PATH=LOW..HIGH`` (numbers between; over a hundredfold and more by their logarithm).

    Every combination where all are values, else TPE.

    Examples
    --------
    >>> swept(["seed=0,1", "model.size=100K,1M"])
    {'over': {'seed': [0, 1], 'model.size': ['100K', '1M']}, 'how': 'grid'}
    >>> swept(["learning_rate=1e-4..1e-1"])
    {'over': {'learning_rate': {'low': 0.0001, 'high': 0.1, 'log': True, 'integer': False}}, 'how': 'tpe'}

    Raises
    ------
    SpecError
        For one that says neither.
    """
    from ..errors import Problem, SpecError
    from ..spec import parse_value

    if not axes:
        return None
    over, problems = {}, []
    for axis in axes:
        path, _, values = axis.partition("=")
        low, span, high = values.partition("..")
        if span:
            ends = [parse_value(low), parse_value(high)]
            if all(isinstance(e, int | float) and not isinstance(e, bool) for e in ends):
                over[path.strip()] = {"low": ends[0], "high": ends[1], "log": ends[0] > 0 and ends[1] / ends[0] >= 100,
                                      "integer": all(isinstance(e, int) for e in ends)}
                continue
        elif values.strip():
            over[path.strip()] = [parse_value(v) for v in values.split(",")]
            continue
        problems.append(Problem("--sweep", f"received {axis!r}; expected PATH=V1,V2 or PATH=LOW..HIGH, e.g. learning_rate=1e-3..1e-2"))
    if problems:
        raise SpecError(problems, source="command line")
    return {"over": over, "how": "grid" if all(isinstance(v, list) for v in over.values()) else "tpe"}


def build(word: str, given: str | None, fields: Mapping[str, Any], settings: Sequence[str] | None) -> Spec:
    """A spec from a file (or none), what options say, and ``--set``, in this order.

    Raises
    ------
    SpecError
        With all problems at once.
    """
    from ..errors import SpecError
    from ..spec import spec_class

    cls, changes = spec_class(word), parse_set(settings)
    told = {k: v for k, v in fields.items() if v is not None}
    if given is not None:
        return cls.load(given).override({**told, **changes}, source=f"{given if len(given) < 80 else word}, with options")
    try:
        return cls.check({"word": word, **told}, source=f"{word} spec").override(changes)
    except SpecError:
        if not changes:
            raise
    # What lacks may be what --set gives: try with it, and tell the problems that are left.
    mapping: dict[str, Any] = {"word": word, **told}
    for path, value in changes.items():
        place = mapping
        *parents, last = path.split(".")
        for key in parents:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise SpecError.one(path, f"there is nothing to set below {key!r}", source=f"{word} spec")
        place[last] = value
    return cls.check(mapping, source=f"{word} spec")
