"""Drop what is too short, too long, too repetitive or mostly symbols."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from ..spec import Quality
from . import Verdict

_LETTERS = bytes(c for c in range(128) if chr(c).isalnum() or chr(c).isspace())
_SYMBOL = re.compile(r"[^\w\s]|_")


BOUNDS = {"min_characters": "characters", "max_characters": "characters", "max_symbols": "symbols",
          "max_repeated_lines": "repeated_lines", "max_repeated_words": "repeated_words"}
"""bound in the spec -> what is measured for it, in the order in which a text is judged"""
REASONS = {"min_characters": "too short", "max_characters": "too long", "max_symbols": "symbols",
           "max_repeated_lines": "repeated lines", "max_repeated_words": "repeated words"}
_SHARES = {"symbols": "of the characters", "repeated_lines": "of the lines", "repeated_words": "of the text is one phrase"}


def judge(step: Quality, text: str) -> Verdict:
    r"""The first rule that a text breaks; rules after Rae et al., "Scaling language models" (2021), A.1.1.

    Examples
    --------
    >>> judge(Quality(), "Too short.")[1:3]
    ('too short', '10 characters, at least 80')
    >>> judge(Quality(), "the same line\n" * 10)[1:3]
    ('repeated lines', '0.90 of the lines, at most 0.3')
    """
    scores = measure(text)
    for bound, name in BOUNDS.items():
        score, limit = scores[name], getattr(step, bound)
        if (score < limit) if bound == "min_characters" else (score > limit):
            detail = (f"{score} characters, at {'least' if bound == 'min_characters' else 'most'} {limit}" if name == "characters"
                      else f"{score:.2f} {_SHARES[name]}, at most {limit:g}")
            return Verdict(text, REASONS[bound], detail, scores=scores)
    return Verdict(text, scores=scores)


def measure(text: str) -> dict[str, float]:
    """All that the bounds are for: characters, and shares from 0 to 1."""
    return {"characters": len(text.strip()), "symbols": symbols(text), "repeated_lines": repeated_lines(text),
            "repeated_words": repeated_words(text)}


def evidence(step: Quality, text: str, reason: str) -> list[tuple[int, int, str]]:
    r"""Where in a text the reason stands.

    Examples
    --------
    >>> evidence(Quality(), "a line\nanother\na line", "repeated lines")
    [(15, 21, 'stood before')]
    """
    if reason == "too long":
        return [(step.max_characters, len(text), "beyond the bound")]
    if reason == "symbols":
        return [(m.start(), m.end(), "") for m in re.finditer(r"(?:[^\w\s]|_)+", text)]
    if reason == "repeated lines":
        found, seen, at = [], set(), 0
        for line in text.split("\n"):
            bare = line.strip()
            if bare and bare in seen:
                found.append((at, at + len(line), "stood before"))
            seen.add(bare)
            at += len(line) + 1
        return found
    if reason == "repeated words":
        words = [(m.group(), m.start(), m.end()) for m in re.finditer(r"\S+", text)]
        names = [w for w, _, _ in words]
        counts = Counter(zip(names, names[1:], names[2:], strict=False))
        phrase = max(counts, key=lambda p: (counts[p], len(" ".join(p))), default=None)
        return [(words[n][1], words[n + 2][2], "") for n in range(len(words) - 2) if tuple(names[n:n + 3]) == phrase]
    return []


def symbols(text: str) -> float:
    """Share of characters that are neither letters, digits nor spaces; a mark belongs to its letter.

    Examples
    --------
    >>> symbols("a+b=c"), symbols("नमस्ते दुनिया")
    (0.4, 0.0)
    """
    if text.isascii():
        found = len(text.encode().translate(None, _LETTERS))
    else:
        found = sum(unicodedata.category(c) not in ("Mn", "Mc", "Me", "Cf") for c in _SYMBOL.findall(text))
    return found / max(len(text), 1)


def repeated_lines(text: str) -> float:
    """Share of lines that stood before; empty lines are not counted."""
    lines = [line for part in text.split("\n") if (line := part.strip())]
    return 1 - len(set(lines)) / len(lines) if lines else 0.0


def repeated_words(text: str) -> float:
    """Share of the text's characters that its commonest 3-word phrase fills; a phrase that stands once repeats nothing.

    Examples
    --------
    >>> repeated_words("one two three four"), round(repeated_words("buy it now " * 20), 2)
    (0.0, 0.91)
    """
    words = text.split()
    if len(words) < 4:
        return 0.0
    counts = Counter(zip(words, words[1:], words[2:], strict=False))
    most = max(counts.values())
    if most == 1:
        return 0.0
    longest = max(len(" ".join(phrase)) for phrase, n in counts.items() if n == most)
    return min(1.0, most * longest / len(text))
