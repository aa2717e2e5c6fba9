"""The front end of a panel: small ES modules under ``static/`` put together into the one text that an anywidget takes."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "static"
BASE = ("element", "theme", "axis", "chart", "table", "reader", "fields", "form", "code", "live", "results", "panel")
"""Modules of every panel, each after those that it imports; a panel's own come before ``panel``."""

_IMPORT = re.compile(r"^import\b[^;]*;[ \t]*\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|let|class)\b)", re.MULTILINE)
_COMMENT = re.compile(r"^[ \t]*//.*\n", re.MULTILINE)
_REMARK = re.compile(r"/\*.*?\*/", re.DOTALL)
_BLANK = re.compile(r"\s*([{};,])\s*|(?<=[\w-])(:)\s+")  # beside these it says nothing; no string of ours holds them: tested
_TOP = re.compile(r"^(?:export )?(?:async )?(?:function|const|let|class)\s+([A-Za-z_$][\w$]*)", re.MULTILINE)


def order(*own: str) -> list[str]:
    """The modules of a panel, in the order of the text."""
    base = [m for m in BASE if (FOLDER / f"{m}.js").exists()]
    return [*base[:-1], *own, base[-1]]


def script(*own: str) -> str:
    """The text of a panel with modules of its own; names at the top level are shared by all, so each is unique."""
    return page(*order(*own))


@cache
def page(*modules: str) -> str:
    """The text of exactly these modules, each after those that it imports."""
    parts = []
    for name in modules:
        text = (FOLDER / f"{name}.js").read_text("utf-8")
        text = _COMMENT.sub("", _EXPORT.sub("", _IMPORT.sub("", text)))
        parts.append("\n".join(line.lstrip() for line in text.splitlines() if line.strip()))  # no template spans lines: tested
    return "\n".join(parts)


@cache
def style(*own: str) -> str:
    """The style sheet: the theme, then what the panel's own modules add."""
    files = [FOLDER / "theme.css", *(FOLDER / f"{m}.css" for m in own)]
    text = "\n".join(f.read_text("utf-8") for f in files if f.exists())
    return _BLANK.sub(r"\1\2", _REMARK.sub("", text)).replace(";}", "}").replace("}", "}\n")


def names(module: str) -> list[str]:
    """What a module declares at its top level."""
    return _TOP.findall((FOLDER / f"{module}.js").read_text("utf-8"))
