"""The form of a spec, described from its own fields: what a page needs to draw and fill it in."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Union

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from workbench.spec import Name, Reference, Spec

# The last word of a field's name says its unit, unless the field says it itself.
UNITS = {"megabytes": "MB", "kilobytes": "kB", "seconds": "s", "interval": "s", "lasts": "s", "tokens": "tokens", "context": "tokens",
         "vocabulary": "tokens", "characters": "characters", "warmup": "steps", "checkpoint": "steps", "evaluate": "steps",
         "sample": "steps", "ranks": "processes", "threads": "threads", "sequences": "sequences", "passages": "passages",
         "generations": "generations"}
REFERS = {"data": "dataset", "dataset": "dataset", "model": "model", "base": "model"}
MAIN = 5
"""Fields that stand open; the rest is under "More"."""


def describe(spec: type[Spec], main: Sequence[str] = (), editors: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The form of a spec class: ``{"help", "fields": [field, …]}``.

    Parameters
    ----------
    main : names of the fields that stand open, in their order; none: what is required, then the first of the spec.
    editors : names of better editors by the dotted path of a field, ``*`` for the items of a list: ``{"sources.*.paths": "files"}``.
        A spec may say the same itself with ``Field(json_schema_extra={"editor": …})``.

    Each field is a mapping with ``name``, ``label``, ``kind`` (text, number, switch, choice, part, union, list, map, any),
    ``help``, ``unit``, ``default``, ``required``, ``optional``, ``main``, and what its kind needs: ``choices``, ``min``,
    ``max``, ``integer``, ``pattern``, ``fields`` (part), ``tag`` and ``variants`` (union), ``of`` (list), ``refers`` (names what exists).

    Examples
    --------
    >>> from workbench.train.spec import TrainSpec
    >>> {f["name"]: f["kind"] for f in describe(TrainSpec)["fields"]}["learning_rate"]
    'number'
    """
    fields = _fields(spec)
    named = {f["name"]: f for f in fields}
    first = [named[n] for n in main if n in named] or [f for f in fields if f["required"]]
    order = [*first, *(f for f in fields if f not in first)]
    for number, field in enumerate(order):
        field["main"] = number < (len(first) if main else max(MAIN, len(first)))
    for path, editor in (editors or {}).items():
        for field in _below(order, path.split(".")):
            field["editor"] = editor
    return {"help": _doc(spec), "fields": order}


def _below(fields: Iterable[dict[str, Any]], path: list[str]) -> list[dict[str, Any]]:
    """The fields that a path means, in every variant that has them."""
    found = [f for f in fields if f["name"] == path[0]]
    for field in list(found) if len(path) > 1 else ():
        found.remove(field)
        rest = path[1:]
        inner = field
        if rest[0] == "*" and field["kind"] == "list":
            inner, rest = field["of"], rest[1:]
            if not rest:
                found.append(inner)
                continue
        parts = inner.get("fields") or [f for v in inner.get("variants", ()) for f in v["fields"]]
        found += _below(parts, rest)
    return found


def _fields(part: type[BaseModel], given: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The fields of a part; ``given`` are the defaults that the field around it sets."""
    found = []
    for name, info in part.model_fields.items():
        if name in ("word", "version") or _only(info.annotation) is not None:
            continue
        field = _field(info.alias or name, info)
        if given and field["name"] in given:
            field["default"] = given[field["name"]]
            field["required"] = False
        found.append(field)
    return found


def _field(name: str, info: FieldInfo) -> dict[str, Any]:
    default = info.get_default(call_default_factory=True)
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    field: dict[str, Any] = {"name": name, "label": extra.get("label") or name.replace("_", " "), "help": info.description or "",
                             "required": default is PydanticUndefined,
                             "default": None if default is PydanticUndefined else to_jsonable_python(default, by_alias=True)}
    field |= _kind(info.annotation, info.metadata, name, field["default"], info.discriminator)
    if "unit" not in field and field["kind"] == "number" and (unit := UNITS.get(name.rsplit("_", 1)[-1])):
        field["unit"] = unit
    return field | {k: v for k, v in extra.items() if k in ("editor", "unit", "refers", "label", "choices")}


def _kind(annotation: Any, metadata: Any = (), name: str = "", default: Any = None, discriminator: Any = None) -> dict[str, Any]:
    """Kind of a field and what that kind needs."""
    limits = _limits(metadata)
    while typing.get_origin(annotation) is typing.Annotated:
        inner, *more = typing.get_args(annotation)
        for one in more:
            if isinstance(one, FieldInfo):
                discriminator = discriminator or one.discriminator
                limits = _limits(one.metadata) | limits
            else:
                limits = _limits([one]) | limits
        annotation = inner
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        options = [a for a in arguments if a is not type(None)]
        optional = len(options) < len(arguments)
        if len(options) == 1:
            return _kind(options[0], metadata, name, default, discriminator) | {"optional": optional}
        if discriminator and all(_part(o) for o in options):
            return {"kind": "union", "tag": discriminator, "variants": [_variant(o, discriminator) for o in options], "optional": optional}
        return {"kind": "any", "optional": optional}
    if origin is Literal:
        return {"kind": "choice", "choices": list(arguments)}
    if _part(annotation):
        given = default if isinstance(default, dict) else None
        return {"kind": "part", "fields": _fields(annotation, given), "about": _doc(annotation)}
    if origin in (tuple, list, set, frozenset):
        item = {"name": "", "label": name.replace("_", " ").rstrip("s"), "help": "", "required": True, "default": None}
        return {"kind": "list", "of": item | _kind(arguments[0], (), name), **limits}
    if origin is dict and all(a is str for a in arguments):
        return {"kind": "map"}
    if annotation is bool:
        return {"kind": "switch"}
    if annotation in (int, float):
        return {"kind": "number", "integer": annotation is int, **limits}
    if annotation is str:
        refers = REFERS.get(name) if limits.get("pattern") == _pattern(Reference) or name == "base" else None
        return {"kind": "text", **limits, **({"refers": refers} if refers else {})}
    return {"kind": "any"}


def _variant(part: type[BaseModel], tag: str) -> dict[str, Any]:
    value = _only(part.model_fields[tag].annotation)
    return {"value": value, "label": str(value).replace("_", " ").replace("-", " "), "help": _doc(part), "fields": _fields(part)}


def _limits(metadata: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in metadata or ():
        if isinstance(one, FieldInfo):
            found |= _limits(one.metadata)
        for name, key in (("ge", "min"), ("gt", "above"), ("le", "max"), ("lt", "below"), ("pattern", "pattern"), ("min_length", "least")):
            value = getattr(one, name, None)
            if value is not None:
                found[key] = value
    return found


def _pattern(annotation: Any) -> str | None:
    return _limits(typing.get_args(annotation)[1:]).get("pattern")


def _only(annotation: Any) -> Any:
    """The value of a literal with one value, or None."""
    arguments = typing.get_args(annotation) if typing.get_origin(annotation) is Literal else ()
    return arguments[0] if len(arguments) == 1 else None


def _part(annotation: Any) -> bool:
    return inspect.isclass(annotation) and issubclass(annotation, BaseModel)


def _doc(part: type) -> str:
    return inspect.getdoc(part).partition("\n\n")[0].replace("\n", " ") if part.__doc__ else ""


NAME = _pattern(Name)
"""Pattern of a name, for fields that make one."""
