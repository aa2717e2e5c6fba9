"""A function of the user's own: text in, text out, or None where the record goes."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

from ...errors import NotFoundError, SourceError
from ...workspace import Workspace
from ..fingerprints import digest_files
from ..spec import Function
from . import Verdict


def inputs(step: Function, workspace: Workspace) -> dict[str, str]:
    """The digest of the file that holds the function; what it imports in turn is not looked at."""
    path = str(_path(step, workspace.root))
    bind(step, workspace.root)
    return {f"function {step.function}": digest_files(workspace, [path])[path]}


def bind(step: Function, root: Path) -> Callable[[str], Verdict]:
    """What judges a text; the module is read anew, since a worker outlives many versions of it."""
    path, (module_name, _, name) = _path(step, root), step.function.partition(":")
    spec = importlib.util.spec_from_file_location(module_name.rpartition(".")[2], path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise SourceError("the module of this step can't be imported", where=path, received=f"{type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise NotFoundError.of(f"function in {path.name}", name, [n for n, v in vars(module).items() if callable(v)])

    def judge(text: str) -> Verdict:
        try:
            told = function(text, **step.options)
        except Exception as error:
            raise SourceError("the function of this step failed", where=step.function, received=f"{type(error).__name__}: {error}",
                              hint=f"It was given: {text[:80]!r}") from error
        if told is not None and not isinstance(told, str):
            raise SourceError("the function of this step gave no text", where=step.function, received=told, allowed="str, or None to drop")
        return Verdict(text, "by function", step.function) if told is None else Verdict(told)

    return judge


def _path(step: Function, root: Path) -> Path:
    name = step.function.partition(":")[0]
    own = root.joinpath(*name.split(".")).with_suffix(".py")
    if own.is_file():
        return own
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    if found is None or not found.origin or not found.origin.endswith(".py"):
        raise SourceError("there is no such module", where=step.function, allowed=f"{own}, or an installed module")
    return Path(found.origin)
