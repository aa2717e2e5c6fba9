"""Notes in time, whatever they were written in."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

from ..errors import SourceError

MOST = 50_000
"""Notes of the longest tune that is taken: a file of a few bytes may ask for more."""
LONGEST = 20_000
"""Beats of the longest tune that is taken, some three hours."""


class Note(NamedTuple):
    """A note: MIDI's number of its pitch (60 is the middle C), start and length in beats (quarter notes)."""

    pitch: int
    start: Fraction
    length: Fraction


class Tune(NamedTuple):
    """Notes by start and pitch, with what is needed to play and print them."""

    notes: tuple[Note, ...]
    metre: tuple[int, int] = (4, 4)
    tempo: float = 120.0
    """beats (quarter notes) a minute"""
    title: str = ""

    @property
    def beats(self) -> Fraction:
        """Where the last note ends."""
        return max((n.start + n.length for n in self.notes), default=Fraction(0))

    @property
    def seconds(self) -> float:
        return float(self.beats) * 60 / self.tempo


def settled(notes: Iterable[Note], name: str = "tune") -> tuple[Note, ...]:
    """Notes as an instrument can play them: by start and pitch, and no pitch struck twice at once.

    A note that is struck again while it sounds ends there; of two that begin together the longer stays.

    Raises
    ------
    SourceError
        Where it is longer than any tune.

    Examples
    --------
    >>> [n.length for n in settled([Note(60, Fraction(0), Fraction(4)), Note(60, Fraction(1), Fraction(1))])]
    [Fraction(1, 1), Fraction(1, 1)]
    """
    found: list[Note] = []
    last: dict[int, int] = {}
    for note in sorted(notes, key=lambda n: (n.start, n.pitch, -n.length)):
        before = last.get(note.pitch)
        if before is not None:
            other = found[before]
            if other.start == note.start:
                continue
            if other.start + other.length > note.start:
                found[before] = other._replace(length=note.start - other.start)
        last[note.pitch] = len(found)
        found.append(note)
    beats = max((n.start + n.length for n in found), default=Fraction(0))
    if len(found) > MOST or beats > LONGEST:
        raise SourceError("is longer than any tune", where=name, received=f"{len(found):,} notes, {float(beats):,.0f} beats",
                          allowed=f"{MOST:,} notes, {LONGEST:,} beats")
    return tuple(found)


def read_tune(form: str, text: str, *, lenient: bool = False) -> Tune:
    """A record's text as a tune: ``form`` is abc or midi (words of notes).

    Parameters
    ----------
    lenient : take what comes before the first fault, as of a model's words that end anywhere.
    """
    from .notation import read_abc
    from .tokens import read_tokens

    return read_abc(text, lenient=lenient) if form == "abc" else read_tokens(text, lenient=lenient)
