"""Tunes in the manner of folk tunes, made by rule: eight bars and eight bars, each played twice, with cadences; ABC."""

from __future__ import annotations

import random
from typing import NamedTuple

LETTERS = "CDEFGAB"
LOW, HIGH = 33, 49
"""The lowest and highest place on the staff, counted in letters: 35 is the middle C."""


class Dance(NamedTuple):
    """A kind of tune: its metre, eighths of a beat, rhythms of a bar and of a cadence in eighths, and its tempo."""

    name: str
    metre: str
    beat: int
    bars: tuple[tuple[int, ...], ...]
    ends: tuple[tuple[int, ...], ...]
    tempo: str


DANCES = (
    Dance("Reel", "4/4", 4, ((1,) * 8, (2, 1, 1, 1, 1, 1, 1), (2, 1, 1, 2, 1, 1), (1, 1, 1, 1, 2, 1, 1)), ((2, 2, 4), (1, 1, 2, 4)),
          "1/4=180"),
    Dance("Jig", "6/8", 3, ((1,) * 6, (2, 1, 1, 1, 1), (2, 1, 2, 1), (1, 1, 1, 2, 1)), ((2, 1, 3), (3, 3)), "3/8=110"),
    Dance("Waltz", "3/4", 2, ((2, 2, 2), (4, 2), (2, 1, 1, 2), (3, 1, 2), (2, 2, 1, 1)), ((6,), (4, 2)), "1/4=150"),
    Dance("Polka", "2/4", 2, ((1, 1, 1, 1), (2, 1, 1), (1, 1, 2)), ((2, 2), (1, 1, 2)), "1/4=120"),
    Dance("Slip Jig", "9/8", 3, ((2, 1, 2, 1, 2, 1), (1,) * 9, (2, 1, 1, 1, 1, 2, 1)), ((2, 1, 3, 3), (3, 3, 3)), "3/8=110"),
    Dance("March", "4/4", 2, ((2, 2, 2, 2), (3, 1, 2, 2), (2, 1, 1, 2, 2), (2, 2, 3, 1)), ((2, 2, 4), (4, 4)), "1/4=120"),
)
KEYS = ("D", "G", "A", "C", "F", "Em", "Am", "Bm", "Dm", "Ador", "Edor", "Ddor", "Amix", "Dmix")
CHORDS = {"major": ((0, 0, 3, 4, 0, 3, 4, 0), (0, 3, 0, 4, 0, 3, 4, 0), (0, 5, 3, 4, 0, 0, 4, 0)),
          "m": ((0, 3, 0, 4, 0, 5, 4, 0), (0, 0, 6, 4, 0, 3, 4, 0)), "dor": ((0, 0, 6, 6, 0, 3, 6, 0), (0, 6, 0, 6, 0, 0, 6, 0)),
          "mix": ((0, 0, 6, 6, 0, 3, 6, 0), (0, 3, 6, 4, 0, 6, 3, 0))}
"""mode -> roots of the chords of eight bars, as steps above the tonic; the fourth bar is left open, the eighth closes"""
WHOSE = ("Weaver's", "Miller's", "Ferryman's", "Piper's", "Widow's", "Shepherd's", "Tinker's", "Cooper's", "Carter's", "Drover's",
         "Lockkeeper's", "Beekeeper's", "Thatcher's", "Glazier's", "Potter's", "Sexton's")
WHAT = ("Gate", "Morning", "Farewell", "Daughter", "Lantern", "Garden", "Return", "Wager", "Ribbon", "Orchard", "Bridge", "Kettle",
        "Holiday", "Candle", "Fancy", "Hedge", "Stile", "Apron", "Well", "Corner")


def compose(number: int, seed: int = 0) -> str:
    """The tune of a number, the same each time.

    Examples
    --------
    >>> compose(1).splitlines()[0], compose(1) == compose(1), compose(1) == compose(2)
    ('X:1', True, False)
    """
    chance = random.Random(f"tune {seed} {number}")
    dance, key = chance.choice(DANCES), chance.choice(KEYS)
    tonic = 35 + LETTERS.index(key[0]) - (7 if key[0] in "AB" and chance.random() < 0.6 else 0)
    mode = key[1:] or "major"
    tune = _Tune(chance, dance, tonic, mode)
    first, end = tune.part(chance.choice((0, 2, 4)), None)
    second, _ = tune.part(chance.choice((4, 7)), end if chance.random() < 0.7 else None)
    body = "\n".join(line for part in (first, second) for line in (f"|: {' | '.join(part[:4])} |", f"{' | '.join(part[4:])} :|"))
    title = f"The {chance.choice(WHOSE)} {chance.choice(WHAT)}"
    return f"X:{number}\nT:{title}\nR:{dance.name}\nM:{dance.metre}\nL:1/8\nQ:{dance.tempo}\nK:{key}\n{body}\n"


class _Tune(NamedTuple):
    chance: random.Random
    dance: Dance
    tonic: int
    mode: str

    def part(self, height: int, end: list[str] | None) -> tuple[list[str], list[str]]:
        """Eight bars: a phrase left open, the phrase again and closed; gives its last two bars too, for another part to end with."""
        chords = self.chance.choice(CHORDS[self.mode])
        rhythms = [self.chance.choice(self.dance.bars) for _ in range(2)]
        place, bars = self.tonic + height, []
        for number in range(3):
            bar, place = self._bar(chords[number], rhythms[number % 2], place)
            bars.append(bar)
        half, place = self._bar(chords[3], self.chance.choice((rhythms[0], self.dance.ends[0])), place)
        if end is None:
            turn, place = self._bar(chords[6], rhythms[0], place)
            end = [turn, self._close(place)]
        return [*bars, half, *bars[:2], *end], end

    def _bar(self, root: int, rhythm: tuple[int, ...], place: int) -> tuple[str, int]:
        """A bar over a chord: its tones on the beats, steps between them; gives the place where it ends."""
        notes, at = [], 0
        for length in rhythm:
            if at % self.dance.beat == 0:
                near = sorted(self._tones(root), key=lambda p: abs(p - place) + 3 * (p == place))
                place = self.chance.choice(near[:3])
            else:
                place += self.chance.choice((1, 1, -1, -1, 2, -2))
                place = min(max(place, LOW), HIGH)
            notes.append((at, _letter(place, length)))
            at += length
        return self._beamed(notes), place

    def _close(self, place: int) -> str:
        """The last bar: down or up to the tonic that is near, by the leading note in a minor key."""
        rhythm = self.chance.choice(self.dance.ends)
        home = min((self.tonic, self.tonic + 7), key=lambda p: abs(p - place))
        ways = [[home + step for step in way] for way in ((2, 1), (1, -1), (4, 2), (-1, 1))]
        way = self.chance.choice(ways)[-(len(rhythm) - 1):] if len(rhythm) > 1 else []
        way = [home + 1] * (len(rhythm) - 1 - len(way)) + way
        notes, at = [], 0
        for step, length in zip([*way, home], rhythm, strict=True):
            raised = "^" if self.mode == "m" and (step - self.tonic) % 7 == 6 else ""
            notes.append((at, raised + _letter(step, length)))
            at += length
        return self._beamed(notes)

    def _tones(self, root: int) -> list[int]:
        return [p for p in range(LOW, HIGH + 1) if (p - self.tonic - root) % 7 in (0, 2, 4)]

    def _beamed(self, notes: list[tuple[int, str]]) -> str:
        """Notes of a beat stand together."""
        return "".join(" " * (at % self.dance.beat == 0 and at > 0) + note for at, note in notes)


def _letter(place: int, length: int) -> str:
    letter, octave = LETTERS[place % 7], place // 7
    name = letter + "," * (5 - octave) if octave < 6 else letter.lower() + "'" * (octave - 6)
    return name + (str(length) if length != 1 else "")
