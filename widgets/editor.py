"""The spec as it is being edited: possibly not valid, with every step undoable, kept as a draft."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from workbench.errors import Problem, SpecError, StorageError
from workbench.spec import Spec, dump_yaml, parse_yaml, read_mapping
from workbench.storage import digest_json, write_atomic
from workbench.workspace import Workspace

from .form import describe

PAUSE = 1.0
"""Seconds within which changes of the same field are one step of undo."""


class Editor:
    """A mapping that wants to be a spec.

    Only what was said is in the mapping; what is missing has its default. ``problems`` is empty exactly where ``spec`` is not None.

    Parameters
    ----------
    kind : the class of the spec.
    value : path, YAML text, mapping or spec object to begin with; none: nothing was said yet.
    main, editors : see ``form.describe``.

    Examples
    --------
    >>> from workbench.train.spec import TrainSpec
    >>> editor = Editor(TrainSpec, {"data": "docs"})
    >>> editor.put(["model", "size"], "10M"); editor.spec.model.size
    '10M'
    >>> editor.undo(); editor.mapping
    {'data': 'docs'}
    """

    def __init__(self, kind: type[Spec], value: object = None, *, main: Sequence[str] = (), editors: dict[str, str] | None = None):
        self.kind, self.form = kind, describe(kind, main, editors)
        self.mapping: dict[str, Any] = {}
        self.spec: Spec | None = None
        self.problems: tuple[Problem, ...] = ()
        self._text: str | None = None
        self._past: list[dict[str, Any]] = []
        self._future: list[dict[str, Any]] = []
        self._last: tuple[Any, float] = (None, 0.0)
        self.changed: Callable[[], None] = lambda: None
        if value is not None:
            self._begin(value)
        self.base = copy.deepcopy(self.mapping)
        self._check()

    def _begin(self, value: object) -> None:
        try:
            spec = self.kind.load(value)
            self.mapping = _without(spec.changed(), "word")
        except SpecError:
            # What does not hold yet is shown with its problems; what is no mapping at all is an error at once.
            mapping, source = read_mapping(value, f"{self.kind.WORD} spec")
            if mapping.get("word", self.kind.WORD) != self.kind.WORD:
                raise SpecError.one("word", f"this is a {mapping['word']!r} spec; expected {self.kind.WORD!r}", source=source) from None
            self.mapping = _without(json.loads(json.dumps(mapping, default=str)), "word", "version" if mapping.get("version") == 1 else "")

    # Changes -----------------------------------------------------------------------------------------------------------------

    def put(self, path: Sequence[str | int], value: Any) -> None:
        """Set what stands at a path."""
        self._step(tuple(path))
        place = self._reach(path[:-1])
        if isinstance(place, list) and path[-1] == len(place):
            place.append(value)
        else:
            place[path[-1]] = value
        self._check()

    def reset(self, path: Sequence[str | int]) -> None:
        """Back to the default."""
        self._step(None)
        place = self._reach(path[:-1])
        if isinstance(place, dict):
            place.pop(path[-1], None)
            for end in range(len(path) - 1, 0, -1):  # a part that says nothing any more need not be said
                above = self._reach(path[:end - 1])
                if isinstance(above, dict) and above.get(path[end - 1]) == {}:
                    del above[path[end - 1]]
        self._check()

    def insert(self, path: Sequence[str | int], index: int, value: Any) -> None:
        """Put an item into a list."""
        self._step(None)
        self._reach(path, []).insert(index, value)
        self._check()

    def remove(self, path: Sequence[str | int], index: int) -> None:
        """Take an item out of a list."""
        self._step(None)
        del self._reach(path, [])[index]
        self._check()

    def move(self, path: Sequence[str | int], index: int, to: int) -> None:
        """Move an item of a list."""
        self._step(None)
        items = self._reach(path, [])
        items.insert(max(0, min(to, len(items) - 1)), items.pop(index))
        self._check()

    def write(self, text: str) -> None:
        """Take the spec from YAML text; broken text is kept as it is, and the mapping stays."""
        try:
            mapping = parse_yaml(text, "YAML")
            word = mapping.pop("word", self.kind.WORD)
            if word != self.kind.WORD:
                raise SpecError.one("word", f"this is a {str(word)!r} spec; expected {self.kind.WORD!r}")
            mapping = json.loads(json.dumps(mapping, default=str))
        except SpecError as error:
            self._text, self.spec, self.problems = text, None, error.problems
            self.changed()
            return
        self._step("yaml")
        self.mapping = _without(mapping, "version") if mapping.get("version") == 1 else mapping
        self._check(text)

    def replace(self, mapping: dict[str, Any]) -> None:
        """Take another mapping, as one step."""
        self._step(None)
        self.mapping = copy.deepcopy(mapping)
        self._check()

    def undo(self) -> None:
        """One step back."""
        if self._past:
            self._future.append(self.mapping)
            self.mapping, self._last = self._past.pop(), (None, 0.0)
            self._check()

    def redo(self) -> None:
        """One step forward again."""
        if self._future:
            self._past.append(self.mapping)
            self.mapping, self._last = self._future.pop(), (None, 0.0)
            self._check()

    def _step(self, what: Any) -> None:
        now = time.monotonic()
        if what is None or what != self._last[0] or now - self._last[1] > PAUSE:
            self._past.append(copy.deepcopy(self.mapping))
            del self._past[:-200]
        self._future.clear()
        self._last = (what, now)

    def _reach(self, path: Sequence[str | int], empty: Any = None) -> Any:
        """The mapping or list at a path; what was not said yet begins as its default."""
        place: Any = self.mapping
        for depth, key in enumerate(path):
            missing = isinstance(place, dict) and place.get(key) is None
            if missing:
                default = default_at(self.form, path[:depth + 1])
                last = depth + 1 == len(path)
                begun = default if isinstance(default, list) else empty if last and empty is not None else {}
                place[key] = copy.deepcopy(begun)
            place = place[key]
        return place

    def _check(self, text: str | None = None) -> None:
        self._text = text
        try:
            self.spec, self.problems = self.kind.check({"word": self.kind.WORD, **self.mapping}), ()
        except SpecError as error:
            self.spec, self.problems = None, error.problems
        self.changed()

    # What is shown -----------------------------------------------------------------------------------------------------------

    @property
    def yaml(self) -> str:
        """What was written, or what was said in the form as YAML."""
        return self._text if self._text is not None else dump_yaml({"word": self.kind.WORD, **self.mapping})

    def state(self) -> dict[str, Any]:
        """Everything that a page shows of it."""
        spec = self.spec
        return {"mapping": self.mapping, "problems": [{"path": p.path, "message": p.message} for p in self.problems], "yaml": self.yaml,
                "python": spec.to_python() if spec else "", "command": spec.to_command() if spec else "", "valid": spec is not None,
                "undo": len(self._past), "redo": len(self._future), "begun": bool(self.mapping)}


def default_at(form: dict[str, Any], path: Sequence[str | int]) -> Any:
    """The default of the field at a path, or None."""
    fields, field = form["fields"], None
    for key in path:
        if isinstance(key, int) or str(key).isdigit():
            field = field["of"] if field and field["kind"] == "list" else None
        else:
            field = next((f for f in fields if f["name"] == key), None)
        if field is None:
            return None
        fields = field.get("fields") or [f for v in field.get("variants", ()) for f in v["fields"]]
    return field["default"] if field else None


def _without(mapping: dict[str, Any], *names: str) -> dict[str, Any]:
    return {k: v for k, v in mapping.items() if k not in names}


class Drafts:
    """What was edited and not yet run, by the spec that it began from; kept in the workspace."""

    def __init__(self, workspace: Workspace, word: str, base: dict[str, Any]):
        self.path = workspace.path("drafts", f"{word}-{digest_json(base)[:16]}.json")
        self.base = base

    def read(self) -> tuple[dict[str, Any], float] | None:
        """(mapping, seconds since the epoch) of the draft, or None."""
        try:
            found = json.loads(self.path.read_text("utf-8"))
            return (found["mapping"], found["at"]) if isinstance(found["mapping"], dict) and found["mapping"] != self.base else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, mapping: dict[str, Any]) -> None:
        """Keep a mapping; one that says what the notebook says is no draft."""
        try:
            if mapping == self.base:
                self.path.unlink(missing_ok=True)
            else:
                write_atomic(self.path, json.dumps({"mapping": mapping, "at": time.time()}))
        except (OSError, StorageError):  # a workspace that can't be written keeps no drafts
            return
