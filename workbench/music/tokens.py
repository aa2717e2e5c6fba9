"""Notes as words, so that a language model of text learns them: ``m4/4 q120 n62 d12 n64 d6``."""

from __future__ import annotations

import re
from fractions import Fraction

from ..errors import SourceError
from .tune import MOST, Note, Tune, settled

STEPS = 12
"""Steps of a beat: sixteenths and triplets have whole numbers of them."""
LONGEST = 16 * STEPS
"""Steps of the longest word; what is longer is said in several."""
_WORD = re.compile(r"n(\d{1,3})|([drb])(\d{1,3})|q(\d{1,4})|m(\d{1,2})/(\d{1,2})")


def write_tokens(tune: Tune) -> str:
    """Words of a tune: metre, tempo, then ``n`` and ``d`` for each note's pitch and duration in steps.

    A note begins where the one before ended. ``r`` goes that many steps on before it, ``b`` that many back, so that any notes can be
    said. What lies between steps is moved to the nearest.

    Examples
    --------
    >>> write_tokens(Tune((Note(60, Fraction(0), Fraction(1)), Note(64, Fraction(0), Fraction(1)), Note(62, Fraction(2), Fraction(1, 2)))))
    'm4/4 q120 n60 d12 b12 n64 d12 r12 n62 d6'
    """
    words = [f"m{tune.metre[0]}/{tune.metre[1]}", f"q{min(max(round(tune.tempo), 5), 1000)}"]
    at = 0
    for note in tune.notes:
        start = round(note.start * STEPS)
        length = max(1, round((note.start + note.length) * STEPS) - start)
        words += [*_steps("r" if start > at else "b", abs(start - at)), f"n{note.pitch}", *_steps("d", length)]
        at = start + length
    return " ".join(words)


def read_tokens(text: str, *, name: str = "tune", lenient: bool = False) -> Tune:
    """The tune that words say.

    Parameters
    ----------
    lenient : take what comes before the first fault, in place of an error.

    Raises
    ------
    SourceError
        Names the bar and the character of the word that can't be read.
    """
    metre, tempo, at, pitch = (4, 4), 120.0, 0, None
    notes: list[Note] = []

    def fault(what: str, match: re.Match, allowed: str) -> SourceError:
        bar = int(Fraction(at, STEPS) / (4 * Fraction(*metre))) + 1
        return SourceError(what, where=f"{name}, bar {bar}, character {match.start() + 1}", received=match[0], allowed=allowed)

    try:
        for match in re.finditer(r"\S+", text):
            word = _WORD.fullmatch(match[0])
            if word is None:
                raise fault("no word for a note", match, "n60, d12, r6, b6, q120 or m4/4")
            if word[1]:
                if int(word[1]) > 127:
                    raise fault("beyond what can be heard", match, "n0 to n127")
                if pitch is not None:
                    raise fault("the note before has no duration", match, f"d after n{pitch}")
                pitch = int(word[1])
            elif word[2] == "d":
                at = _lengthen(notes, pitch, at, int(word[3]), match, fault)
                pitch = None
            elif pitch is not None:
                raise fault("the note before has no duration", match, f"d after n{pitch}")
            elif word[2]:
                if word[2] == "b" and int(word[3]) > at:
                    raise fault("before the beginning", match, f"at most b{at}")
                at += int(word[3]) * (1 if word[2] == "r" else -1)
            elif word[4]:
                tempo = float(min(max(int(word[4]), 5), 1000))
            elif not int(word[5]) or int(word[6]) not in (1, 2, 4, 8, 16, 32, 64):
                raise fault("no such metre", match, "m4/4, m6/8 and the like")
            else:
                metre = int(word[5]), int(word[6])
    except SourceError:
        if not lenient:
            raise
    return Tune(settled(notes, name), metre, tempo)


def _lengthen(notes: list[Note], pitch: int | None, at: int, steps: int, match: re.Match, fault) -> int:
    """A note of a pitch, or the last one made longer where a second ``d`` follows; gives where it ends."""
    if not steps or (pitch is None and not notes):
        raise fault("a duration without a note", match, "n60 d12")
    if len(notes) >= MOST:
        raise fault("is longer than any tune", match, f"{MOST:,} notes")
    if pitch is not None:
        notes.append(Note(pitch, Fraction(at, STEPS), Fraction(steps, STEPS)))
    else:
        notes[-1] = notes[-1]._replace(length=notes[-1].length + Fraction(steps, STEPS))
    return at + steps


def _steps(letter: str, steps: int) -> list[str]:
    return [f"{letter}{LONGEST}"] * (steps // LONGEST) + ([f"{letter}{steps % LONGEST}"] if steps % LONGEST else [])
