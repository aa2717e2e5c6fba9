"""Why a record is where it is, shown in its text: the place of the reason, its twin, what was redacted."""

from __future__ import annotations

import difflib
import re
from typing import Any

from .review import Review
from .spec import DataSpec
from .steps import step_module

TWIN = re.compile(r"\b(?:of|as) ([0-9a-f]{16})\b")
REDACTED = re.compile(r"<(EMAIL|PHONE|IBAN|CARD)>")
WORDS = 4_000
"""Words of the longest texts that are compared word by word."""

Span = tuple[int, int, str, str]


def evidence(review: Review, record: dict[str, Any]) -> dict[str, Any]:
    """What ``says`` in a line why, ``spans`` (start, end, kind, label), and the ``twin`` of a duplicate with ``twin_spans``."""
    text, spec = record["text"] or "", review.spec.recipe()
    if record["reason"]:
        says = f"{record['step']}: {record['reason']}" + (f" ({record['detail']})" if record["detail"] else "")
        other = TWIN.search(record["detail"] or "")
        if other and record["step"].endswith("duplicates"):
            rows = review.rows_of([other[1]])
            if len(rows):
                twin = review.row(int(rows[0]))
                mine, theirs = differences(text, twin["text"] or "")
                return {"says": says, "spans": mine, "twin": twin, "twin_spans": theirs}
        return {"says": says, "spans": reason_spans(spec, record), "twin": None, "twin_spans": []}
    redacts = any(s.step == "pii" and s.action == "redact" for s in spec.steps)
    spans = [(m.start(), m.end(), "redacted", "redacted") for m in REDACTED.finditer(text)] if redacts else []
    says = f"kept in {record['split']}" + (f", {len(spans)} redaction{'s' * (len(spans) != 1)}" if spans else "")
    return {"says": says, "spans": spans, "twin": None, "twin_spans": []}


def reason_spans(spec: DataSpec, record: dict[str, Any]) -> list[Span]:
    """Where the reason stands in a dropped record, where its step can point at it."""
    step = next((s for s in spec.recipe().steps if s.step == record["step"]), None)
    point = getattr(step_module(step.step), "evidence", None) if step is not None else None
    return [(a, b, "reason", label) for a, b, label in point(step, record["text"] or "", record["reason"])] if point else []


def differences(one: str, other: str) -> tuple[list[Span], list[Span]]:
    """Spans of what stands in one of two texts only.

    Examples
    --------
    >>> differences("the river runs", "the river ran")
    ([(10, 14, 'differs', '')], [(10, 13, 'differs', '')])
    """
    words = [[(m.group(), m.start(), m.end()) for m in re.finditer(r"\S+", t)] for t in (one, other)]
    if max(map(len, words)) > WORDS:
        return [], []
    matcher = difflib.SequenceMatcher(None, [w for w, _, _ in words[0]], [w for w, _, _ in words[1]], autojunk=False)
    found: tuple[list[Span], list[Span]] = ([], [])
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag != "equal":
            for spans, side, first, last in ((found[0], words[0], a, b), (found[1], words[1], c, d)):
                if last > first:
                    spans.append((side[first][1], side[last - 1][2], "differs", ""))
    return found
