"""Questions on Python's standard library with true answers, from signatures and docstrings: chats, or preferences beside a wrong answer."""

from __future__ import annotations

import ast
import re
import sysconfig
from collections import Counter, defaultdict
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, NamedTuple

from ...chats import written
from ...storage import digest_json
from ...workspace import Workspace
from ..fingerprints import digest_files
from ..spec import Questions
from . import Record, Unit, python_docs

MODALITY = "text"
_LEFT_OUT = ("antigravity", "distutils", "encodings", "ensurepip", "idlelib", "lib2to3", "ntpath", "pydoc_data", "this", "turtledemo",
             "venv", "site", "sre_", "nturl2path", "macosx")
_NAMES = {"posixpath": "os.path"}
"""Modules that people know by another name."""


class Pair(NamedTuple):
    """A question of a kind, its answer, and what it is about."""

    kind: str
    about: str
    question: str
    answer: str


def inputs(source: Questions, workspace: Workspace) -> dict[str, str]:
    """One digest over the names and bytes of the modules."""
    found = _modules()
    digests = digest_files(workspace, [path for _, path, _ in found])
    return {"questions": digest_json([[[name, digests[path]] for name, path, _ in found], source.preference])}


def form(source: Questions, _workspace: Workspace) -> str:
    """``chat``, or ``preference``."""
    return "preference" if source.preference else "chat"


def units(source: Questions, _workspace: Workspace) -> list[Unit]:
    """One: whether a name is in one module only is known when all are read."""
    weight = sum(size for _, _, size in _modules()) // 30
    return [Unit("questions", "", "questions", weight, {"count": source.count, "preference": source.preference})]


def read(unit: Unit) -> Iterator[Record]:
    """A record a question."""
    pairs = asked(unit.options["count"])
    others = defaultdict(list)
    for pair in pairs:
        others[pair.kind].append(pair)
    for pair in pairs:
        question = [{"role": "user", "content": pair.question}]
        answer = [{"role": "assistant", "content": pair.answer}]
        if not unit.options["preference"]:
            yield Record("questions", f"{pair.about}, {pair.kind}", written("chat", {"messages": question + answer}))
            continue
        kin = others[pair.kind]
        first = kin.index(pair)
        wrong = next((o.answer for n in range(1, len(kin)) if (o := kin[(first + n) % len(kin)]).answer != pair.answer), None)
        if wrong is not None:
            yield Record("questions", f"{pair.about}, {pair.kind}", written("preference", {
                "prompt": question, "chosen": answer, "rejected": [{"role": "assistant", "content": wrong}]}))


def most(_source: Questions) -> None:
    """No limit but the count."""


def asked(count: int) -> list[Pair]:
    """So many questions, in the order of a digest of their words; modules are read in the order of a digest of their names."""
    code: dict[str, bytes] = {}
    for name, path, _ in _modules():
        with open(path, "rb") as file:
            code[name] = file.read()
    holders = Counter(found for raw in code.values() for found in set(re.findall(rb"^(?:async )?(?:def|class) (\w+)", raw, re.MULTILINE)))
    pairs: dict[str, Pair] = {}
    for name, raw in code.items():
        if len(pairs) >= 1.5 * count:
            break
        try:
            tree = python_docs.parsed(python_docs.decoded(raw))
        except (SyntaxError, UnicodeDecodeError, ValueError):
            continue
        for inner, node in _public(tree):
            for pair in _about(name, inner, node, only=holders[inner.encode()] == 1):
                pairs.setdefault(pair.question, pair)
    return sorted(pairs.values(), key=lambda p: sha256(p.question.encode()).digest())[:count]


def _modules() -> list[tuple[str, str, int]]:
    """(name, path, bytes) of the public modules of the standard library, in the order of a digest of their names."""
    found = python_docs.below(sysconfig.get_path("stdlib"), "")
    return [(_NAMES.get(m.name, m.name), m.path, m.size) for m in sorted(found)
            if not m.name.startswith(_LEFT_OUT) and not any(part.startswith("_") for part in m.name.split("."))]


def _public(tree: ast.Module) -> Iterator[tuple[str, Any]]:
    """(name, node) of functions, classes and methods that have no underscore before them."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                yield from ((f"{node.name}.{n.name}", n) for n in node.body
                            if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) and not n.name.startswith("_"))


def _about(module: str, inner: str, node: Any, *, only: bool) -> Iterator[Pair]:
    whole = f"{module}.{inner}"
    a_class = isinstance(node, ast.ClassDef)
    kind = "class" if a_class else "method" if "." in inner else "function"
    purpose = _first_sentence(ast.get_docstring(node) or "")
    if purpose:
        wanted = f"is the class {whole} for" if a_class else f"does {whole} do"
        yield Pair("purpose", whole, f"In Python's standard library, what {wanted}?", purpose)
        if only and kind != "method":
            yield Pair("place", whole, f"Which module of Python's standard library holds the {kind} {inner}?",
                       f"The {kind} {inner} is in the module {module}.")
    if not a_class:
        bound = kind == "method" and not any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list)
        if any(isinstance(d, ast.Name) and d.id == "property" for d in node.decorator_list):
            return
        arguments = re.sub(r"^\w+(?:, )?", "", ast.unparse(node.args)) if bound else ast.unparse(node.args)
        if arguments.strip("/*, ") and len(arguments) <= 200:
            yield Pair("arguments", whole, f"Which arguments does {whole} of Python's standard library take?",
                       f"It is called as {inner.rpartition('.')[2]}({arguments}).")


def _first_sentence(docstring: str) -> str:
    r"""What a docstring says first, as one line; empty where it says too little or too much.

    Examples
    --------
    >>> _first_sentence("Wrap text to a width.  Tabs are\nexpanded.\n\nMore.")
    'Wrap text to a width.'
    """
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    sentence = re.split(r"(?<=[a-z)\]'\"`][.!?])\s+(?=[A-Z])", paragraph)[0]
    if not 20 <= len(sentence) <= 300 or not sentence[0].isupper() or len(sentence.split()) < 4 or re.match(r"[\w.]+\(", sentence):
        return ""
    return sentence if sentence[-1] in ".!?" else sentence.rstrip(":;,") + "."
