"""Specs: validated, frozen, versioned descriptions of what is wanted; YAML in and out without loss."""

from __future__ import annotations

import os
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import Problem, SpecError, near
from .storage import digest_json

# word -> where its spec class lives; imported only when that word is asked for.
WORDS = {
    "data": "workbench.data.spec:DataSpec",
    "train": "workbench.train.spec:TrainSpec",
    "assess": "workbench.assess.spec:AssessSpec",
    "serve": "workbench.serve.spec:ServeSpec",
    "monitor": "workbench.monitor.spec:MonitorSpec",
    "pipeline": "workbench.pipeline.spec:PipelineSpec",
}

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
                            description="letters, digits, '.', '_' and '-', at most 64")]
Reference = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}(@[A-Za-z0-9._-]{1,64})?$",
                                 description="a name, or name@version, name@alias, name@digest")]

Bytes = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)? ?([kMGT]i?)?B$", description="a size such as 32GB or 512MiB")]


class Part(BaseModel):
    """A group of fields inside a spec: frozen, and no field it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False,
                              use_attribute_docstrings=True, validate_by_name=True, validate_by_alias=True, protected_namespaces=())


def bytes_of(size: str) -> int:
    """The number of a size.

    Examples
    --------
    >>> bytes_of("2GB"), bytes_of("1.5 MiB")
    (2000000000, 1572864)
    """
    number, unit = re.fullmatch(r"([0-9.]+) ?(\w+)", size).groups()
    return int(float(number) * (1024 if "i" in unit else 1000) ** " kMGT".index(unit[0] if unit != "B" else " "))


S = TypeVar("S", bound="Spec")


class Spec(Part):
    """Base of the six specs.

    A subclass sets ``word`` as a ``Literal`` field, so that any mapping or YAML says what it is.

    Examples
    --------
    >>> from workbench.data.spec import DataSpec
    >>> spec = DataSpec.load("{word: data, name: notes, sources: [{kind: python-docs}]}")
    >>> DataSpec.load(spec.to_yaml()) == spec
    True
    """

    WORD: ClassVar[str] = ""
    version: Literal[1] = 1
    """format of this spec; a newer one needs a newer workbench"""

    @classmethod
    def load(cls: type[S], value: object, *, source: str | None = None) -> S:
        """A spec from a path, YAML text, a mapping or an object of this class.

        Raises
        ------
        SpecError
            With all problems at once.
        """
        if isinstance(value, cls):
            return value
        mapping, source = read_mapping(value, source or f"{cls.WORD} spec")
        word = mapping.get("word", cls.WORD)
        if word != cls.WORD:
            raise SpecError.one("word", f"this is a {word!r} spec; expected {cls.WORD!r}", source=source)
        return cls.check(mapping, source=source)

    @classmethod
    def check(cls: type[S], mapping: Mapping[str, Any], *, source: str = "spec") -> S:
        """Validate a mapping; every problem is told with its path, what came, what is allowed."""
        found = mapping.get("version", 1)
        if isinstance(found, int) and found > 1:
            raise SpecError.one("version", f"received {found}, and this workbench reads up to 1; install a newer one",
                                source=source)
        try:
            return cls.model_validate(dict(mapping))
        except ValidationError as error:
            raise SpecError(problems(cls, error), source=source) from None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, word and version first: what papermill may be given."""
        dumped = self.model_dump(mode="json", by_alias=True)
        return {"word": dumped.pop("word", self.WORD), "version": dumped.pop("version"), **dumped}

    def changed(self) -> dict[str, Any]:
        """Only the fields that differ from their defaults (and the word)."""
        defaults = {n: f.get_default(call_default_factory=True) for n, f in type(self).model_fields.items()}
        changed = {n for n in defaults if getattr(self, n) != defaults[n]}
        return {"word": self.WORD, **self.model_dump(mode="json", by_alias=True, include=changed)}

    def to_yaml(self) -> str:
        """The whole spec as YAML."""
        return dump_yaml(self.to_dict())

    def to_python(self) -> str:
        """An expression that builds this spec."""
        return f"from workbench import {type(self).__name__}\n\nspec = {type(self).__name__}.load({self.changed()!r})"

    def to_command(self) -> str:
        """A shell line that runs this spec."""
        import shlex

        flat = " ".join(f"--set {shlex.quote(f'{k}={_flow(v)}')}" for k, v in self.changed().items() if k != "word")
        return f"workbench {self.WORD} {flat}".rstrip()

    def digest(self) -> str:
        """SHA-256 over the canonical JSON of all fields."""
        return digest_json(self.to_dict())

    def override(self: S, settings: Mapping[str, Any], *, source: str = "--set") -> S:
        """A copy with dotted paths replaced, validated anew: ``{"model.size": "10M"}``."""
        mapping = self.to_dict()
        for path, value in settings.items():
            place: Any = mapping
            *parents, last = path.split(".")
            for key in parents:
                place = _below(place, key, path, source)
            if isinstance(place, dict):
                place[last] = value
            elif isinstance(place, list) and last.isdigit() and int(last) < len(place):
                place[int(last)] = value
            else:
                raise SpecError.one(path, _nothing(place, parents[-1], last), source=source)
        return type(self).check(mapping, source=source)


def _below(place: Any, key: str, path: str, source: str) -> Any:
    """The mapping or list under a key; one that is not there yet is begun."""
    if isinstance(place, dict):
        if place.get(key) is None:
            place[key] = {}
        return place[key]
    if isinstance(place, list) and key.isdigit() and int(key) < len(place):
        return place[int(key)]
    raise SpecError.one(path, _nothing(place, path, key), source=source)


def _nothing(place: Any, parent: str, key: str) -> str:
    if isinstance(place, list):
        return f"received {key!r} as a place in a list of {len(place)}; expected a number from 0 to {len(place) - 1}"
    return f"there is nothing to set below {parent!r}"


def spec_class(word: str) -> type[Spec]:
    """The spec class of one of the six words."""
    import importlib

    if word not in WORDS:
        close = near(word, WORDS)
        raise SpecError.one("word", f"received {word!r}; expected one of {', '.join(WORDS)}"
                            + (f'; did you mean "{close}"?' if close else ""))
    module, _, name = WORDS[word].partition(":")
    return getattr(importlib.import_module(module), name)


def load_spec(value: object, *, word: str | None = None, source: str | None = None) -> Spec:
    """A spec of any word from a path, YAML text, a mapping or a spec object."""
    if isinstance(value, Spec):
        return value
    mapping, source = read_mapping(value, source or "spec")
    named = mapping.get("word", word)
    if named is None:
        raise SpecError.one("word", f"is missing; expected one of {', '.join(WORDS)}", source=source)
    return spec_class(named).load(mapping, source=source)


def read_mapping(value: object, source: str) -> tuple[dict[str, Any], str]:
    """The mapping behind a path, YAML text or mapping, with the name to use in errors."""
    if isinstance(value, Mapping):
        return dict(value), source
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True), source
    if (path := spec_path(value)) is not None:
        try:
            return parse_yaml(path.read_text("utf-8"), str(path)), str(path)
        except OSError as error:
            raise SpecError.one("", f"can't be read: {error.strerror}; expected a YAML file", source=str(path)) from None
    if isinstance(value, str):
        return parse_yaml(value, source), source
    raise SpecError.one("", f"received {type(value).__name__}; expected a path, YAML text, a mapping or a spec", source=source)


def spec_path(value: object) -> Path | None:
    """The path, where a value given as a spec is one.

    Examples
    --------
    >>> spec_path("train.yaml"), spec_path("word: train"), spec_path({"word": "train"})
    (PosixPath('train.yaml'), None, None)
    """
    if isinstance(value, os.PathLike) or (isinstance(value, str) and "\n" not in value and re.search(r"\.(ya?ml|json)$", value.strip())):
        return Path(value).expanduser()
    return None


def parse_yaml(text: str, source: str = "spec") -> dict[str, Any]:
    """YAML 1.2 text to a mapping; duplicate keys and other shapes are refused."""
    try:
        loaded = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise SpecError.one("", f"{at}{getattr(error, 'problem', None) or error}; expected YAML", source=source) from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise SpecError.one("", f"received {type(loaded).__name__} {str(loaded)[:80]!r}; expected a mapping of fields",
                            source=source)
    return loaded


def dump_yaml(mapping: Mapping[str, Any]) -> str:
    """A mapping as YAML that ``parse_yaml`` reads back without loss, in its own order."""
    return yaml.dump(dict(mapping), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def parse_value(text: str) -> Any:
    """One value as YAML, for ``--set name=value``."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError:
        return text


class _Loader(yaml.SafeLoader):
    """YAML 1.2 core booleans and floats: ``no`` and ``on`` stay text, ``3e-4`` is a number."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes whatever the loader above would not read back as text."""

    def represent_text(self, text: str) -> yaml.Node:
        # Line ends that are not "\n" come back from single quotes as spaces: escaped, they stay.
        return self.represent_scalar("tag:yaml.org,2002:str", text, '"' if re.search("[\r\x85\u2028\u2029]", text) else None)


_FLOAT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$")
_RESOLVERS = [("tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
              ("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789")),
              ("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789")),
              ("tag:yaml.org,2002:null", re.compile(r"^(~|null|Null|NULL|)$"), ["~", "n", "N", ""])]
for _class in (_Loader, _Dumper):
    _class.yaml_implicit_resolvers = {}
    for _tag, _pattern, _first in _RESOLVERS:
        _class.add_implicit_resolver(_tag, _pattern, _first)
_Dumper.add_representer(str, _Dumper.represent_text)
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))


def _flow(value: Any) -> str:
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**9)
    return text.strip().removesuffix("\n...").strip()


def problems(cls: type[BaseModel], error: ValidationError) -> list[Problem]:
    """Every fault of a validation in the workbench's words."""
    found = error.errors(include_url=False)
    # A tuple whose items are faulty is also "too short" to pydantic: that says nothing new.
    inner = {e["loc"][:n] for e in found for n in range(1, len(e["loc"]))}
    return [_problem(cls, e) for e in found if not (e["type"] == "too_short" and e["loc"] in inner)]


def _problem(cls: type[BaseModel], error: dict[str, Any]) -> Problem:
    location, context, kind = error["loc"], error.get("ctx") or {}, error["type"]
    path = ".".join(_walk(cls, location)[1])
    shown = repr(error.get("input"))
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    if kind == "extra_forbidden":
        fields = sorted({f.alias or n for o in _walk(cls, location[:-1])[0] for n, f in o.model_fields.items()})
        close = near(str(location[-1]), fields)
        return Problem(path, "unknown field" + (f'; did you mean "{close}"?' if close else "")
                       + f" Allowed: {', '.join(fields)}" * bool(fields))
    if kind == "missing":
        return Problem(path, "is missing")
    if kind == "literal_error":
        allowed = context.get("expected", "")
        close = near(str(error.get("input")), re.findall(r"'([^']*)'", allowed))
        return Problem(path, f"received {shown}; expected {allowed}" + (f'; did you mean "{close}"?' if close else ""))
    if kind == "union_tag_invalid":
        allowed = str(context.get("expected_tags", ""))
        close = near(str(context.get("tag")), re.findall(r"'([^']*)'", allowed))
        return Problem(path, f"received {str(context.get('tag'))!r}; expected one of {allowed}"
                       + (f'; did you mean "{close}"?' if close else ""))
    if kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        sign, bound = {"greater_than": (">", "gt"), "greater_than_equal": ("≥", "ge"),
                       "less_than": ("<", "lt"), "less_than_equal": ("≤", "le")}[kind]
        return Problem(path, f"received {shown}; expected a number {sign} {context.get(bound)}")
    if kind in ("too_short", "too_long") and context.get("field_type") != "Set":
        least, most = context.get("min_length"), context.get("max_length")
        bound, count = ("at least", least) if kind == "too_short" else ("at most", most)
        return Problem(path, f"received {shown}; expected {bound} {count} {'item' if count == 1 else 'items'}")
    return Problem(path, f"received {shown}; {error['msg'][:1].lower()}{error['msg'][1:]}")


def _walk(cls: type[BaseModel], location: tuple) -> tuple[list[type[BaseModel]], list[str]]:
    """The parts that stand at a location, and the location without the tags that pydantic puts into it."""
    options, path = [cls], []
    for key in location:
        fields = [o.model_fields[key].annotation for o in options if key in o.model_fields]
        tagged = [o for o in options if any(f.default == key for f in o.model_fields.values())]
        if isinstance(key, str) and tagged and len(options) > 1:
            options = tagged
            continue
        path.append(str(key))
        options = [m for f in fields for m in _parts(f)] if fields else options if isinstance(key, int) else []
    return options, path


def _parts(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for a in typing.get_args(annotation) for m in _parts(a)]
