"""Unicode NFC, one kind of line end, no control characters, no space at line ends."""

from __future__ import annotations

import re
import unicodedata

from ..spec import Normalise
from . import Verdict

_LINE_END = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
"""Where ``str.splitlines`` would split."""
_CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x1f\x7f-\x9f]")
_TRAILING = re.compile(r"[^\S\n]+(?=\n|\Z)")


def judge(_step: Normalise, text: str) -> Verdict:
    r"""The normalised text; normalising it again changes nothing.

    Examples
    --------
    >>> judge(Normalise(), "cafe\u0301 \r\nau lait\x00").text
    'café\nau lait'
    """
    text = _CONTROL.sub("", _LINE_END.sub("\n", text))
    text = _TRAILING.sub("", unicodedata.normalize("NFC", text))
    return Verdict(text) if text.strip() else Verdict(text, "nothing left", "only spaces and control characters")
