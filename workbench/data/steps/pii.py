"""Personal data: redacted where it stands, or the record set aside."""

from __future__ import annotations

from collections import Counter

from ...detect import pii
from ..spec import Pii
from . import Verdict


def judge(step: Pii, text: str) -> Verdict:
    """The text with ``<EMAIL>`` and the like in place of findings, or why it goes.

    Examples
    --------
    >>> judge(Pii(), "Mail ada@example.org").text
    'Mail <EMAIL>'
    >>> judge(Pii(action="drop"), "Mail ada@example.org")[1:3]
    ('personal data', '1 email')
    """
    redacted, found = pii.redact(text, step.kinds)
    if not found:
        return Verdict(text)
    counts = Counter(f.kind for f in found)
    if step.action == "drop":
        return Verdict(text, "personal data", ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items())))
    return Verdict(redacted, counts=counts)


def evidence(step: Pii, text: str, _reason: str) -> list[tuple[int, int, str]]:
    """Where personal data stands, and of which kind."""
    return [(f.start, f.end, f.kind) for f in pii.find(text, step.kinds)]
