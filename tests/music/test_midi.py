"""MIDI files and words of notes: what goes in comes out, and other people's files are read."""

from __future__ import annotations

import io
from fractions import Fraction

import mido
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import SourceError
from workbench.music import Note, Tune, read_abc, read_midi, read_tokens, wav, write_midi, write_tokens
from workbench.music.folk import compose
from workbench.music.tune import settled

parts = st.builds(Fraction, st.integers(0, 1500), st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 27, 32]))
notes = st.lists(st.builds(Note, st.integers(0, 127), parts, parts.filter(bool)), max_size=25)
steps = st.integers(0, 400).map(lambda n: Fraction(n, 12))
gridded = st.lists(st.builds(Note, st.integers(0, 127), steps, steps.filter(bool)), max_size=25)


@settings(max_examples=60, deadline=None)
@given(notes, st.sampled_from([(4, 4), (6, 8), (9, 8), (2, 2)]),
       st.text(st.characters(blacklist_categories=["Cs", "Cc", "Z"]), max_size=12))
def test_any_notes_come_back_from_a_midi_file(notes, metre, title):
    tune = Tune(settled(notes), metre, 90.0, title)
    assert read_midi(write_midi(tune)) == tune


@pytest.mark.parametrize("number", range(1, 40, 3))
def test_abc_to_notes_to_midi_and_words_and_back_is_the_same_tune(number):
    tune = read_abc(compose(number))
    assert len(tune.notes) > 40
    assert read_midi(write_midi(tune)) == tune._replace(tempo=pytest.approx(tune.tempo, abs=.01))
    assert read_tokens(write_tokens(tune)).notes == tune.notes


@settings(max_examples=60, deadline=None)
@given(gridded)
def test_any_notes_on_the_grid_come_back_from_words(notes):
    tune = Tune(settled(notes))
    assert read_tokens(write_tokens(tune)) == tune


def test_a_file_of_several_tracks_with_drums_and_open_notes():
    file = mido.MidiFile(type=1, ticks_per_beat=96)
    file.tracks.append(mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=600_000), mido.MetaMessage("time_signature", numerator=3)]))
    file.tracks.append(mido.MidiTrack([mido.Message("note_on", note=60, velocity=9), mido.Message("note_off", note=60, time=96),
                                      mido.Message("note_on", note=62, velocity=9), mido.Message("note_on", note=62, velocity=0, time=48)]))
    file.tracks.append(mido.MidiTrack([mido.Message("note_on", channel=9, note=36, velocity=9, time=10), mido.Message(
        "note_on", channel=1, note=40, velocity=9, time=38), mido.MetaMessage("end_of_track", time=96)]))
    out = io.BytesIO()
    file.save(file=out)
    tune = read_midi(out.getvalue())
    assert tune.tempo == 100 and tune.metre == (3, 4)
    assert tune.notes == (Note(60, Fraction(0), Fraction(1)), Note(40, Fraction(1, 2), Fraction(1)), Note(62, Fraction(1), Fraction(1, 2)))


def test_a_few_bytes_that_ask_for_hours_are_refused():
    track = mido.MidiTrack([mido.Message("note_on", note=60, velocity=9), mido.Message("note_off", note=60, time=(1 << 28) - 1)])
    file = mido.MidiFile(ticks_per_beat=96)
    file.tracks.append(track)
    out = io.BytesIO()
    file.save(file=out)
    with pytest.raises(SourceError, match="2,796,203 beats.; expected 50,000 notes, 20,000 beats"):
        read_midi(out.getvalue())


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_damaged_file_is_read_or_refused(data):
    good = bytearray(write_midi(read_abc("X:1\nK:C\nCDEF|GABc|")))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(4, len(good) - 1))] = data.draw(st.integers(0, 255))
    file = bytes(good[:data.draw(st.integers(4, len(good)))])
    try:
        tune = read_midi(file)
    except SourceError:
        return
    assert all(0 <= n.pitch <= 127 and n.length > 0 for n in tune.notes)


@pytest.mark.parametrize(("text", "words"), [
    ("m4/4 n60 d12 x9", "bar 1, character 14: no word for a note; received 'x9'"),
    ("n60 n62 d12", "character 5: the note before has no duration"), ("n128 d1", "n0 to n127"), ("d12", "a duration without a note"),
    ("n60 d48 b60 n1 d1", "bar 2, character 9: before the beginning; received .b60.; expected at most b48"),
    ("m4/3", "no such metre"), ("n60 d48 n60 d0", "a duration without a note")])
def test_words_that_are_no_notes_are_named_with_their_place(text, words):
    with pytest.raises(SourceError, match=words):
        read_tokens(text)


def test_words_of_a_model_are_taken_up_to_the_first_fault():
    assert [n.pitch for n in read_tokens("n60 d12 n62 d12 n64 n65", lenient=True).notes] == [60, 62]


def test_a_tune_sounds_at_its_pitches():
    import wave

    import numpy as np

    with wave.open(io.BytesIO(wav(read_abc("X:1\nL:1/4\nQ:1/4=60\nK:C\nA a")))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(float)
    assert len(sound) == pytest.approx(2.3 * 16_000, abs=2) and 20_000 < abs(sound).max() <= 32_767
    for second, pitch in ((0, 440), (1, 880)):
        part = sound[int((second + .05) * 16_000):int((second + .95) * 16_000)]
        assert np.fft.rfftfreq(len(part), 1 / 16_000)[np.abs(np.fft.rfft(part)).argmax()] == pytest.approx(pitch, abs=2)
    assert len(wav(read_abc("X:1\nK:C\nC8|C8|C8"), 1.0)) == 44 + 32_000
    assert len(wav(Tune(()))) > 44
