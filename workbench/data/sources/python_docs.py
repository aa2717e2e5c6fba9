"""Docstrings and comments of the standard library and of installed packages, read without importing them."""

from __future__ import annotations

import ast
import contextlib
import importlib.metadata
import importlib.util
import os
import re
import sysconfig
import threading
import warnings
from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256
from itertools import groupby
from typing import NamedTuple

from ...errors import NotFoundError, SourceError
from ...storage import digest_json
from ...workspace import Workspace
from ..fingerprints import digest_files
from ..spec import PythonDocs
from . import Record, Unit

MODALITY = "text"
REACH = 12
"""Bytes of source looked at for each byte of text wanted; a fifth to a quarter of source code is prose."""
_PARSING = threading.Lock()
_SKIPPED = {"__pycache__", "test", "tests", "testing", "idle_test", "site-packages", "dist-packages"}
_PIECE = re.compile(
    r'''"""(?:[^"\\]|\\.|"(?!""))*"""|\'\'\'(?:[^'\\]|\\.|'(?!\'\'))*\'\'\'|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*\'|(#[^\n]*)''',
    re.DOTALL)
"""A string, or a comment as the first group: a # inside a string begins none."""
_ABOUT_CODE = re.compile(r"#\s*(?:type:|noqa|pragma|pylint|mypy|fmt:|isort|ruff|-\*-|!/)")


def inputs(source: PythonDocs, workspace: Workspace) -> dict[str, str]:
    """One digest over the names and bytes of the files that may be read."""
    found = _modules(source)
    digests = digest_files(workspace, [m.path for m in found])
    return {"python-docs": digest_json([[m.name, digests[m.path]] for m in found])}


def units(source: PythonDocs, _workspace: Workspace) -> list[Unit]:
    """A module each, in the order of a digest of their names: a small share is spread over all packages."""
    return [Unit("python-docs", m.path, m.name, m.size) for m in _modules(source)]


def most(source: PythonDocs) -> int:
    """``max_megabytes`` of text."""
    return int(source.max_megabytes * 1e6)


def read(unit: Unit) -> Iterator[Record]:
    """Each docstring, and each comment that fills two lines or more, at its module, object and line."""
    with open(unit.path, "rb") as file:
        raw = file.read()
    try:
        code = decoded(raw)
        tree = parsed(code)
    except (SyntaxError, UnicodeDecodeError, ValueError, RecursionError, MemoryError) as error:
        yield Record("python-docs", unit.name, text="", reason="not readable as Python", detail=f"{unit.name}: {error}")
        return
    objects = list(_objects(tree))
    places = [(line, ".".join(filter(None, (unit.name, o.name))), text) for o in objects for line, text in o.docstring]
    places += [(line, _inside(unit.name, objects, line) + ", comment", text) for line, text in comments(code)]
    for line, place, text in sorted(places):
        record = Record("python-docs", f"{place}, line {line}", text)
        try:
            text.encode()
        except UnicodeEncodeError as error:  # "\ud800" written as an escape is legal Python and no text
            readable = text.encode("utf-8", "replace").decode()
            record = record._replace(text=readable, reason="invalid Unicode", detail=f"line {line}: {error}")
        if text.strip():
            yield record


def comments(code: str) -> list[tuple[int, str]]:
    r"""Comments that fill two lines or more of their own, without their marks: (first line, text).

    Finds what ``tokenize`` finds, some fifty times faster.

    Examples
    --------
    >>> comments("x = '# no'\n# Sorted, so that\n# it can be searched.\n")
    [(2, 'Sorted, so that\nit can be searched.')]
    """
    if "#" not in code:
        return []
    whole = []
    line, at = 1, 0
    for match in _PIECE.finditer(code):
        if match.lastindex:
            start = match.start()
            line += code.count("\n", at, start)
            at = start
            indent = start - code.rfind("\n", 0, start) - 1
            if (code[start - indent:start].isspace() or not indent) and not _ABOUT_CODE.match(match.group()):
                whole.append((line, indent, match.group()))
    found = []
    for _, group in groupby(enumerate(whole), key=lambda pair: (pair[1][0] - pair[0], pair[1][1])):
        block = [entry for _, entry in group]
        if len(block) > 1:
            text = "\n".join(re.sub(r"^#+:? ?", "", text).rstrip() for _, _, text in block).strip("\n")
            if text.strip():
                found.append((block[0][0], text))
    return found


# --- which modules ---------------------------------------------------------------------------------------------------


class _Module(NamedTuple):
    order: str
    name: str
    path: str
    size: int


def _modules(source: PythonDocs) -> list[_Module]:
    """The modules that may be read, in order; reading ends among them."""
    stdlib = sysconfig.get_path("stdlib")
    if not os.path.isdir(stdlib):
        raise SourceError("the standard library lies in no directory", where="python-docs", received=stdlib)
    found = list(below(stdlib, ""))
    for package in sorted(set(source.packages) or _own_packages()):
        found += _package(package)
    unique = {m.path: m for m in found}
    chosen, room = [], REACH * source.max_megabytes * 1e6
    for module in sorted(unique.values()):
        chosen.append(module)
        room -= module.size
        if room <= 0:
            break
    return chosen


def below(folder: str, prefix: str) -> Iterator[_Module]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                name = prefix + entry.name[:-3]
                name = name.removesuffix(".__init__") if prefix else name
                yield _Module(sha256(name.encode()).hexdigest(), name, entry.path, entry.stat().st_size)
            elif entry.name.isidentifier() and entry.name not in _SKIPPED and entry.is_dir(follow_symlinks=False):
                yield from below(entry.path, f"{prefix}{entry.name}.")


def _package(name: str) -> list[_Module]:
    for top in (name, *_tops(name)):
        found = importlib.util.find_spec(top) if top.isidentifier() else None
        if found and found.submodule_search_locations:
            return [m for folder in found.submodule_search_locations if os.path.isdir(folder) for m in below(folder, f"{top}.")]
        if found and found.origin and found.origin.endswith(".py"):
            return [_Module(sha256(top.encode()).hexdigest(), top, found.origin, os.stat(found.origin).st_size)]
    installed = {d.metadata["Name"] for d in importlib.metadata.distributions()}
    raise NotFoundError.of("installed Python package", name, installed)


@lru_cache(maxsize=1)
def _own_packages() -> tuple[str, ...]:
    """Top-level names of what the workbench requires."""
    try:
        wanted = importlib.metadata.requires("genai-workbench") or []
    except importlib.metadata.PackageNotFoundError:
        wanted = ["numpy", "torch", "transformers"]
    names = {re.match(r"[A-Za-z0-9._-]+", line).group() for line in wanted if "extra ==" not in line}
    return tuple(sorted({top for name in names for top in _tops(name) if importlib.util.find_spec(top)}))


def _tops(distribution: str) -> list[str]:
    """What a distribution installs to be imported."""
    try:
        listing = importlib.metadata.distribution(distribution).read_text("RECORD") or ""
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return []
    return sorted(set(re.findall(r"^([A-Za-z]\w*)(?:/__init__)?\.py,", listing, re.MULTILINE)))


# --- what a module says ----------------------------------------------------------------------------------------------


class _Object(NamedTuple):
    name: str
    first: int
    last: int
    docstring: list[tuple[int, str]]


def _objects(tree: ast.Module) -> Iterator[_Object]:
    """The module, its classes and functions, each with its docstring if it has one."""
    waiting: list[tuple[str, ast.AST]] = [("", tree)]
    while waiting:
        name, node = waiting.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            yield _Object(name, getattr(node, "lineno", 1), getattr(node, "end_lineno", None) or 1 << 60,
                          [(node.body[0].lineno, text)] if text else [])
            name += "." if name else ""
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            for child in getattr(node, part, None) or ():
                if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    waiting.append((name + child.name, child))
                elif hasattr(child, "body"):
                    waiting.append((name, child))


def _inside(module: str, objects: list[_Object], line: int) -> str:
    """The innermost object around a line."""
    around = [o for o in objects if o.first <= line <= o.last]
    name = max(around, key=lambda o: o.first).name if around else ""
    return f"{module}.{name}" if name else module


def parsed(code: str) -> ast.Module:
    """The tree of some code, by one thread at a time, and tried again: Python 3.11 counts the depth of trees for all threads in one
    place, and says now and then that it went wrong (cpython issue 106905).
    """
    with _PARSING, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SyntaxWarnings are for the authors of that code
        for _ in range(3):
            with contextlib.suppress(SystemError):
                return ast.parse(code)
        return ast.parse(code)


def decoded(raw: bytes) -> str:
    if not re.match(rb"(?:\xef\xbb\xbf)?(?:[^\n]*\n)?[ \t\f]*#.*coding[:=]", raw[:300]):
        return raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    return importlib.util.decode_source(raw)
