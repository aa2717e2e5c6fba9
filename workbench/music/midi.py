"""Standard MIDI files from and to notes."""

from __future__ import annotations

import contextlib
import io
import math
from collections import defaultdict
from fractions import Fraction

from ..errors import SourceError
from .tune import Note, Tune, settled

TICKS = 480
"""Ticks a beat, where nothing shorter is needed."""
DRUMS = 9


def write_midi(tune: Tune, *, program: int = 0) -> bytes:
    """A file of format 0, one track; ticks are as fine as the notes need, so that reading it gives the same notes.

    Examples
    --------
    >>> write_midi(Tune((Note(60, Fraction(0), Fraction(1)),)))[:4]
    b'MThd'
    """
    import mido

    ticks = math.lcm(TICKS, *{d for n in tune.notes for d in (n.start.denominator, n.length.denominator)})
    ticks = ticks if ticks < 1 << 15 else TICKS
    file = mido.MidiFile(type=0, ticks_per_beat=ticks, charset="utf-8")
    track = mido.MidiTrack([mido.MetaMessage("track_name", name=tune.title), mido.MetaMessage("set_tempo", tempo=round(6e7 / tune.tempo)),
                            mido.MetaMessage("time_signature", numerator=tune.metre[0], denominator=tune.metre[1]),
                            mido.Message("program_change", program=program)])
    events = []
    for note in tune.notes:
        start, end = round(note.start * ticks), round((note.start + note.length) * ticks)
        events += [(start, 1, note.pitch), (max(end, start + 1), 0, note.pitch)]
    at = 0
    for tick, on, pitch in sorted(events):  # what ends does so before what begins at the same time
        track.append(mido.Message("note_on", note=pitch, velocity=80 if on else 0, time=tick - at))
        at = tick
    file.tracks.append(track)
    out = io.BytesIO()
    file.save(file=out)
    return out.getvalue()


def read_midi(data: bytes, *, name: str = "tune") -> Tune:
    """The notes of all tracks and channels, drums left out; tempo and metre are the first that it says.

    Raises
    ------
    SourceError
        Where it is no MIDI file, is cut off, or counts time in seconds of film.
    """
    import mido

    if data[:4] != b"MThd":
        raise SourceError("is no MIDI file", where=name, received=data[:8], allowed="a file that begins with MThd")
    stream = io.BytesIO(data)
    try:
        file = mido.MidiFile(file=stream, charset="latin-1")
        if file.type == 2 or not 0 < file.ticks_per_beat < 1 << 15:
            raise SourceError("is a kind of MIDI file that has no common time", where=name,
                              received=f"type {file.type}, {file.ticks_per_beat} ticks a beat", allowed="types 0 and 1, ticks in a beat")
        notes, told = _notes(file)
    except (OSError, EOFError, ValueError, IndexError, KeyError, TypeError, AttributeError, mido.KeySignatureError) as error:
        raise SourceError("is a damaged MIDI file", where=f"{name}, byte {stream.tell()}", received=str(error) or type(error).__name__,
                          hint="Copy it again") from None
    return Tune(settled(notes, name), told.get("metre", (4, 4)), told.get("tempo", 120.0), told.get("title", ""))


def _notes(file) -> tuple[list[Note], dict]:
    notes, told = [], {}
    for track in file.tracks:
        at, sounding = 0, defaultdict(list)
        for message in track:
            at += message.time
            if message.type in ("note_on", "note_off") and message.channel != DRUMS:
                key = message.channel, message.note
                if message.type == "note_on" and message.velocity:
                    sounding[key].append(at)
                elif sounding[key]:
                    _end(notes, key[1], sounding[key].pop(0), at, file.ticks_per_beat)
            elif message.type == "set_tempo" and message.tempo:
                told.setdefault("tempo", round(6e7 / message.tempo, 2))
            elif message.type == "time_signature":
                told.setdefault("metre", (message.numerator, message.denominator))
            elif message.type == "track_name" and message.name.strip():
                told.setdefault("title", _decoded(message.name))
        for (_, pitch), starts in sounding.items():  # never ended: they end with the track
            for start in starts:
                _end(notes, pitch, start, at, file.ticks_per_beat)
    return notes, told


def _end(notes: list[Note], pitch: int, start: int, end: int, ticks: int) -> None:
    if end > start:
        notes.append(Note(pitch, Fraction(start, ticks), Fraction(end - start, ticks)))


def _decoded(name: str) -> str:
    with contextlib.suppress(UnicodeError):
        return name.encode("latin-1").decode("utf-8")
    return name
