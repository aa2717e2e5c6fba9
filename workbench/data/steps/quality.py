"""Drop what is too short, too long, too repetitive or mostly symbols."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from ..spec import Quality
from . import Verdict

_LETTERS = bytes(c for c in range(128) if chr(c).isalnum() or chr(c).isspace())
_SYMBOL = re.compile(r"[^\w\s]|_")


def judge(step: Quality, text: str) -> Verdict:
    r"""The first rule that a text breaks; rules after Rae et al., "Scaling language models" (2021), A.1.1.

    Examples
    --------
    >>> judge(Quality(), "Too short.")[1:3]
    ('too short', '10 characters, at least 80')
    >>> judge(Quality(), "the same line\n" * 10)[1:3]
    ('repeated lines', '0.90 of the lines, at most 0.3')
    """
    size = len(text.strip())
    if size < step.min_characters:
        return Verdict(text, "too short", f"{size} characters, at least {step.min_characters}")
    if size > step.max_characters:
        return Verdict(text, "too long", f"{size} characters, at most {step.max_characters}")
    for measure, most, reason, what in ((symbols, step.max_symbols, "symbols", "of the characters"),
                                        (repeated_lines, step.max_repeated_lines, "repeated lines", "of the lines"),
                                        (repeated_words, step.max_repeated_words, "repeated words", "of the text is one phrase")):
        share = measure(text)
        if share > most:
            return Verdict(text, reason, f"{share:.2f} {what}, at most {most:g}")
    return Verdict(text)


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
