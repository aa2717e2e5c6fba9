"""ABC, the notation of folk tunes as plain text (standard 2.1, what one voice needs of it)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

from ..errors import SourceError
from .repeats import Mark, unfolded
from .tune import MOST, Note, Tune, settled

BARS = 5_000
"""Bar lines of the longest tune that is taken, repeats not played."""
SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_FIFTHS = {"C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5, "F": -1}
_MODES = {"maj": 0, "ion": 0, "": 0, "mix": -1, "dor": -2, "m": -3, "min": -3, "aeo": -3, "phr": -4, "loc": -5, "lyd": 1}
_ACCIDENTALS = {"^^": 2, "^": 1, "=": 0, "_": -1, "__": -2}
_NOTE = re.compile(r"(\^\^|\^|__|_|=)?([A-Ga-g])([,']*)(\d*)(/*)(\d*)")
_LENGTH = re.compile(r"(\d*)(/*)(\d*)")
_BAR = re.compile(r":*(?:\[\||\|+\]?):*|::+")
_ENDING = re.compile(r"[ \t]*\[?[ \t]*(\d(?:[,-]\d)*)")
_TUPLET = re.compile(r"\((\d)(?::(\d*))?(?::(\d*))?")
_FIELD = re.compile(r"([A-Za-z+]):(?![|:\]])[ \t]*(.*)")
_TUPLETS = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}
_IGNORED = " \t`.~HLMOPSTuvy)*;?@#$"


class Sound(NamedTuple):
    """Notes that begin together, or a rest where there are none: staff places, pitches, length in beats, whether it goes on."""

    places: tuple[int, ...]
    pitches: tuple[int, ...]
    length: Fraction
    tied: bool = False


def read_abc(text: str, *, name: str = "tune", lenient: bool = False) -> Tune:
    r"""The notes of one tune, repeats played.

    Parameters
    ----------
    name : what a fault calls it.
    lenient : take the notes before the first fault in the body, in place of an error.

    Raises
    ------
    SourceError
        Names the bar, the line and the character that can't be read.

    Examples
    --------
    >>> [(n.pitch, float(n.start), float(n.length)) for n in read_abc("X:1\nM:4/4\nL:1/4\nK:G\nF2 z ^c|]").notes]
    [(66, 0.0, 2.0), (73, 3.0, 1.0)]
    """
    reader = _Reader(name)
    try:
        reader.read(text)
    except SourceError:
        if not (lenient and reader.key is not None):
            raise
    try:
        notes = _placed(unfolded(reader.found))
    except OverflowError:
        raise SourceError("is longer than any tune", where=name, allowed=f"{MOST:,} notes with repeats played") from None
    return Tune(settled(notes, name), reader.metre or (4, 4), reader.tempo, reader.title)


def signature(key: str) -> dict[str, int] | None:
    """Letter -> accidental of a key's signature; None where it is no key.

    Examples
    --------
    >>> signature("Ador"), signature("Bb")
    ({'F': 1}, {'B': -1, 'E': -1})
    """
    key = re.split(r"(?:^|\s+)(?:clef|transpose|octave|middle|staff|treble|bass|%)", key.strip())[0].strip()
    if key in ("", "none"):
        return {}
    if key in ("HP", "Hp"):
        return {"F": 1, "C": 1}
    match = re.fullmatch(r"([A-G])([#b]?)\s*([A-Za-z]*)((?:\s+(?:\^\^|\^|__|_|=)[a-gA-G])*)", key)
    mode = _MODES.get(match[3].lower()[:3] if len(match[3]) > 1 else match[3].lower().replace("m", "min")) if match else None
    if match is None or mode is None:
        return None
    fifths = _FIFTHS[match[1]] + 7 * {"#": 1, "b": -1, "": 0}[match[2]] + mode
    if abs(fifths) > 7:
        return None
    signs = dict.fromkeys("FCGDAEB"[:max(fifths, 0)], 1) | dict.fromkeys("BEADGCF"[:max(-fifths, 0)], -1)
    for sign, letter in re.findall(r"(\^\^|\^|__|_|=)([a-gA-G])", match[4]):
        signs[letter.upper()] = _ACCIDENTALS[sign]
    return signs


@dataclass
class _Reader:
    """Reads line after line; ``found`` holds sounds and marks of repeats in the order of the text."""

    name: str
    found: list[Sound | Mark] = field(default_factory=list)
    metre: tuple[int, int] | None = None
    unit: Fraction | None = None
    tempo: float = 120.0
    title: str = ""
    key: dict[str, int] | None = None
    line: int = 0
    at: int = 0
    bar: int = 1
    marks: int = 0
    heard: bool = False
    """a sound since the last bar line"""
    signs: dict[int, int] = field(default_factory=dict)
    tuplet: list[Fraction] = field(default_factory=list)
    broken: Fraction | None = None
    voice: str | None = None
    began: bool = False

    def read(self, text: str) -> None:
        for self.line, line in enumerate(re.split(r"\r\n?|\n", text), 1):
            self.at = 0
            bare = re.sub(r"(?<!\\)%.*", "", line).rstrip().removesuffix("\\")
            if not bare.strip():
                if self.began and not line.strip():
                    break  # an empty line ends the tune
                continue
            info = _FIELD.fullmatch(bare)
            if info:
                self._field(*info.groups())
            elif self.key is None:
                raise self._fault("has no key yet", bare[:40], "header fields down to K:, the key")
            else:
                self.began = True
                self._music(bare)
        if self.key is None:
            raise self._fault("has no key", None, "a header that ends with K:, the key")

    def _field(self, letter: str, value: str) -> None:
        value = value.strip()
        if letter == "T":
            self.title = self.title or value
        elif letter == "M":
            self._metre(value)
        elif letter == "L":
            match = re.fullmatch(r"(\d{1,2})(?:/(\d{1,3}))?", value)
            if not match or not int(match[1]) or not int(match[2] or 1):
                raise self._fault("no length of a note", f"L:{value}", "L:1/8 and the like")
            self.unit = Fraction(int(match[1]), int(match[2] or 1)) * 4
        elif letter == "Q":
            self._tempo(value)
        elif letter == "K":
            signs = signature(value)
            if signs is None:
                raise self._fault("no such key", f"K:{value}", "C, F#m, Ador, Dmix and the like")
            self.key = signs
        elif letter == "V":
            voice = value.split()[0] if value else ""
            if self.voice not in (None, voice) and self.began:
                raise self._fault("holds several voices", f"V:{value}", "one voice")
            self.voice = voice

    def _metre(self, value: str) -> None:
        match = re.fullmatch(r"\(?(\d{1,2}(?:\+\d{1,2})*)\)?/(\d{1,2})", value)
        known = {"C": (4, 4), "C|": (2, 2), "none": (4, 4), "": (4, 4)}.get(value)
        if match and known is None:
            known = sum(map(int, match[1].split("+"))), int(match[2])
        if known is None or not 1 <= known[0] <= 64 or known[1] not in (1, 2, 4, 8, 16, 32, 64):
            raise self._fault("no such metre", f"M:{value}", "4/4, 6/8, C and the like")
        self.metre = known

    def _tempo(self, value: str) -> None:
        match = re.search(r"(?:(\d{1,2})/(\d{1,2})\s*=\s*)?(\d{1,3}(?:\.\d+)?)\s*(?:\"|$)", value)
        if not match:
            return  # a word such as "Allegro" alone
        beat = Fraction(int(match[1]), int(match[2]) or 1) * 4 if match[1] else Fraction(1)
        tempo = float(match[3]) * float(beat)
        if not 5 <= tempo <= 1000:
            raise self._fault("no tempo that can be played", f"Q:{value}", "5 to 1,000 quarter notes a minute")
        self.tempo = tempo

    @property
    def _length(self) -> Fraction:
        """The length that a bare letter has."""
        if self.unit is None:
            metre = self.metre or (4, 4)
            self.unit = Fraction(1, 4) if Fraction(*metre) < Fraction(3, 4) else Fraction(1, 2)
        return self.unit

    # A line of music ----------------------------------------------------------------------------------------------------

    def _music(self, line: str) -> None:
        while self.at < len(line):
            char = line[self.at]
            if char in "^_=" or char in "ABCDEFGabcdefg":
                self._sound([self._note(line)])
            elif char == "[" and (inline := re.compile(r"\[([A-Za-z]):([^\]]*)\]").match(line, self.at)):
                self._field(inline[1], inline[2])
                self.at = inline.end()
            elif char == "[" and self.at + 1 < len(line) and line[self.at + 1] in '^_=ABCDEFGabcdefg!"':
                self._chord(line)
            elif char in "zx":
                self.at += 1
                self._add(Sound((), (), self._scaled(self._factor(line) * self._length)))
            elif char in "ZX":
                self.at += 1
                bars = self._factor(line)
                self._add(Sound((), (), bars * 4 * Fraction(*(self.metre or (4, 4)))))
            elif char in "|:[]":
                self._bar(line)
            elif char == "(":
                self._tuplet(line)
            elif char in "<>":
                self._break(line)
            elif char == "-":
                self._tie()
                self.at += 1
            elif char in '"!+{':
                self._skip(line, {"{": "}"}.get(char, char))
            elif char == "&":
                raise self._fault("holds several voices", "&", "one voice")
            elif char in _IGNORED:
                self.at += 1
            else:
                raise self._fault("no sign of ABC", char, "notes A–G a–g, rests z, lengths, bar lines")

    def _note(self, line: str) -> tuple[int, int, Fraction]:
        """(place on the staff, pitch, length before tuplets) of the note here."""
        match = _NOTE.match(line, self.at)
        if match is None:
            raise self._fault("an accidental without a note", line[self.at:self.at + 4], "a letter A–G or a–g behind it")
        sign, letter, shift = match[1], match[2], match[3]
        octave = 5 + letter.islower() + shift.count("'") - shift.count(",")
        place = 7 * octave + "CDEFGAB".index(letter.upper())
        if sign:
            self.signs[place] = _ACCIDENTALS[sign]
        elif place not in self.signs and (before := self._sounding(place)) is not None:
            self.signs[place] = before - 12 * octave - SEMITONES[letter.upper()]
        pitch = 12 * octave + SEMITONES[letter.upper()] + self.signs.get(place, self.key.get(letter.upper(), 0))
        if not 0 <= pitch <= 127:
            raise self._fault("beyond what can be heard", match[0], "pitches from C,,,,, to g'''''")
        length = self._quotient(*match.group(4, 5, 6)) * self._length
        self.at = match.end()
        return place, pitch, length

    def _sounding(self, place: int) -> int | None:
        """The pitch of a note that is tied over to here from this place on the staff."""
        last = next((f for f in reversed(self.found) if isinstance(f, Sound)), None)
        return dict(zip(last.places, last.pitches, strict=True)).get(place) if last is not None and last.tied else None

    def _chord(self, line: str) -> None:
        self.at += 1
        notes, tied = [], False
        while self.at < len(line) and line[self.at] != "]":
            if line[self.at] in "- .~":
                tied |= line[self.at] == "-"
                self.at += 1
            elif line[self.at] in '!"':
                self._skip(line, line[self.at])
            elif line[self.at] in "^_=ABCDEFGabcdefg":
                notes.append(self._note(line))
            else:
                raise self._fault("no note of a chord", line[self.at], "notes up to ]")
        if self.at >= len(line) or not notes:
            raise self._fault("a chord that does not end", line[-10:], "]")
        self.at += 1
        factor = self._factor(line)
        self._sound([(place, pitch, length * factor) for place, pitch, length in notes])
        if tied:
            self._tie()

    def _sound(self, notes: list[tuple[int, int, Fraction]]) -> None:
        self._add(Sound(tuple(n[0] for n in notes), tuple(n[1] for n in notes), self._scaled(notes[0][2])))

    def _add(self, sound: Sound) -> None:
        self.found.append(sound)
        self.heard = True
        if len(self.found) > MOST:
            raise self._fault("is longer than any tune", None, f"{MOST:,} notes")

    def _scaled(self, length: Fraction) -> Fraction:
        """A length under the tuplet and the broken rhythm that it stands in."""
        if self.broken is not None:
            length, self.broken = length * self.broken, None
        return length * (self.tuplet.pop() if self.tuplet else 1)

    def _factor(self, line: str) -> Fraction:
        match = _LENGTH.match(line, self.at)
        self.at = match.end()
        return self._quotient(*match.groups())

    def _quotient(self, above: str, slashes: str, below: str) -> Fraction:
        top, bottom = int(above[:4] or 1), int(below[:4]) if below else 2 ** min(len(slashes), 8)
        if not top or not bottom or top > 256 or bottom > 256 or (below and len(slashes) != 1):
            raise self._fault("no length", f"{above}{slashes}{below}", "a number up to 256, /2, 3/2 and the like")
        return Fraction(top, bottom)

    def _bar(self, line: str) -> None:
        match = _BAR.match(line, self.at)
        bar = match[0] if match else ""
        if not bar and not (line[self.at] == "[" and _ENDING.match(line, self.at)):
            raise self._fault("no bar line", line[self.at:self.at + 3], "|, ||, |], |:, :|, :: or [1")
        self.at += len(bar)
        left, right = bar.startswith(":"), bar.endswith(":")
        self.marks += 1
        if self.marks > BARS:
            raise self._fault("is longer than any tune", None, f"{BARS:,} bars")
        if left:
            colons = len(bar) - len(bar.lstrip(":"))
            self.found.append(Mark("end", (2 if "|" not in bar else min(colons, 7) + 1,)))
        if right:
            self.found.append(Mark("start"))
        elif not left and ("||" in bar or "]" in bar or bar.startswith("[|")):
            self.found.append(Mark("section"))
        ending = _ENDING.match(line, self.at)
        if ending:
            numbers = [int(n) for part in ending[1].split(",") for n in _span(part)]
            self.found.append(Mark("ending", tuple(numbers)))
            self.at = ending.end()
        if bar:
            self.bar += self.heard
            self.heard = False
            self.signs.clear()

    def _tuplet(self, line: str) -> None:
        match = _TUPLET.match(line, self.at)
        if match is None:
            self.at += 1  # a slur
            return
        p = int(match[1])
        compound = (self.metre or (4, 4))[0] % 3 == 0 and (self.metre or (4, 4))[1] == 8
        q = int(match[2] or 0) or _TUPLETS.get(p, 3 if compound else 2)
        if p < 2:
            raise self._fault("no tuplet", match[0], "(3 and the like")
        self.tuplet = [Fraction(q, p)] * (int(match[3] or 0) or p)
        self.at = match.end()

    def _break(self, line: str) -> None:
        match = re.compile(r"<+|>+").match(line, self.at)
        depth = len(match[0])
        at = next((n for n in range(len(self.found) - 1, -1, -1) if isinstance(self.found[n], Sound)), None)
        if at is None or depth > 3:
            raise self._fault("no note to lengthen", match[0], "> or < between two notes")
        short = Fraction(1, 2 ** depth)
        mine, theirs = (2 - short, short) if match[0][0] == ">" else (short, 2 - short)
        self.found[at] = self.found[at]._replace(length=self.found[at].length * mine)
        self.broken = theirs
        self.at = match.end()

    def _tie(self) -> None:
        if self.found and isinstance(self.found[-1], Sound):
            self.found[-1] = self.found[-1]._replace(tied=True)

    def _skip(self, line: str, until: str) -> None:
        end = line.find(until, self.at + 1)
        if end < 0:
            raise self._fault("is opened and not closed", line[self.at:self.at + 12], f"{until} behind it")
        self.at = end + 1

    def _fault(self, what: str, received: object, allowed: str) -> SourceError:
        return SourceError(what, where=f"{self.name}, bar {self.bar}, line {self.line}, character {self.at + 1}", received=received,
                           allowed=allowed)


def _span(part: str) -> range:
    first, _, last = part.partition("-")
    return range(int(first), int(last or first) + 1)


def _placed(sounds: list[Sound]) -> list[Note]:
    """Sounds one after the other; a tied one goes on in the next of its pitch."""
    notes: list[Note] = []
    at, going = Fraction(0), {}
    for sound in sounds:
        here = {}
        for pitch in sound.pitches:
            if pitch in going:
                n = going[pitch]
                notes[n] = notes[n]._replace(length=notes[n].length + sound.length)
            else:
                n = len(notes)
                notes.append(Note(pitch, at, sound.length))
            here[pitch] = n
        going = here if sound.tied else {}
        at += sound.length
    return notes
