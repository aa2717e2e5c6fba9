"""ABC: what the signs of one voice mean, and what is said where something can't be read."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from workbench.errors import SourceError
from workbench.music import read_abc


def heard(body: str, key: str = "C", header: str = "M:4/4\nL:1/8\n") -> list[tuple[int, float, float]]:
    return [(n.pitch, float(n.start), float(n.length)) for n in read_abc(f"X:1\nT:t\n{header}K:{key}\n{body}").notes]


def pitches(body: str, key: str = "C", header: str = "M:4/4\nL:1/8\n") -> list[int]:
    return [p for p, *_ in heard(body, key, header)]


@pytest.mark.parametrize(("body", "key", "expected"), [
    ("C c c' C,", "C", [60, 72, 84, 48]), ("F c f", "G", [66, 72, 78]), ("B e A", "Eb", [70, 75, 68]), ("c f g", "F#m", [73, 78, 80]),
    ("c f g", "Ador", [72, 78, 79]), ("c g", "Amix", [73, 79]), ("b e", "F lydian", [83, 76]), ("f", "Ephr", [77]), ("F", "HP", [66]),
    ("^F F|F =f", "C", [66, 66, 65, 77]),  # an accidental holds for its bar and its octave
    ("^c' c", "C", [85, 72]), ("__B ^^f", "C", [69, 79]), ("f", "D =f", [77]), ("C[K:D]F", "C", [60, 66]),
    ("^c8-|c8|c8", "C", [73, 72]),  # a tie carries it over the bar line, once
    ("{gf}e ~d .c \"Am\"B !trill!A (GF)", "C", [76, 74, 72, 71, 69, 67, 65]), ("C2 % D2\nw: la la\r\nE2", "C", [60, 64]),
    ("f", "D clef=bass", [78]), ("f", "clef=bass", [77]), ("[!1!C!3!\"x\"E]", "C", [60, 64])])
def test_pitches(body, key, expected):
    assert pitches(body, key) == expected


@pytest.mark.parametrize(("body", "expected"), [
    ("C2 C/ C// C3/2 C/4", [1, .25, .125, .75, .125]), ("A>B c<d e>>f", [.75, .25, .25, .75, .875, .125]),
    ("(3ABc d", [1 / 3] * 3 + [.5]), ("(3:2:2d2e f", [2 / 3, 1 / 3, .5]), ("A4-A4|B", [4, .5])])
def test_lengths(body, expected):
    assert [length for *_, length in heard(body)] == pytest.approx(expected)


def test_rests_and_chords_take_their_time():
    assert heard("z2 A2 x2 B2|Z2|C") == [(69, 1, 1), (71, 3, 1), (60, 12, .5)]
    assert heard("[CE]2 [CE]4-|[CG]2") == [(60, 0, 1), (64, 0, 1), (60, 1, 3), (64, 1, 2), (67, 3, 1)]


@pytest.mark.parametrize(("body", "played"), [
    ("|:C|D:|E|", "CDCDE"), ("C|D:|E:|", "CDCDEE"), ("|:C|1D:|2E|]", "CDCE"), ("|:C|[1 D:|[2 E|]", "CDCE"), ("|:C::D:|", "CCDD"),
    ("|:C|1,3 D:|2 E:|4 F|]", "CDCECDCF"), ("C||D:|E|", "CDDE"), ("|:C||D:|E", "CDCDE"), ("|:C|1D:|2E|:F:|", "CDCEFF"),
    ("|:C\n|D:|\n|:E:|", "CDCDEE"), ("C|1D|", "CD"), ("|::CD::|E", "CDCDCDE")])
def test_repeats_are_played(body, played):
    assert pitches(body) == pitches(" ".join(played))


def test_what_the_header_says():
    tune = read_abc("% a comment\nX:7\nT:The Gate\nT:another name\nC:nobody\nM:6/8\nQ:3/8=80\nK:D\nA2 B|\n\nignored: the tune has ended")
    assert (tune.title, tune.metre, tune.tempo, [n.pitch for n in tune.notes]) == ("The Gate", (6, 8), 120.0, [69, 71])
    assert float(tune.notes[0].length) == 1.0 and tune.seconds == 0.75
    assert float(read_abc("M:2/4\nK:C\nC").notes[0].length) == .25 and float(read_abc("K:C\nC").notes[0].length) == .5


@pytest.mark.parametrize(("text", "words"), [
    ("X:1\nK:C\nCDE|FG&A|", "bar 2, line 3, character 7: holds several voices"),
    ("X:1\nK:Q\nC", "bar 1, line 2, .*no such key; received 'K:Q'"),
    ("X:1\nK:C\nC|D|E\nFG}", "bar 3, line 4, character 3: no sign of ABC; received '}'"), ("C D E", "line 1.*has no key yet"),
    ("X:1\nT:x\n", "has no key;"), ('X:1\nK:C\n"Am', "character 1: is opened and not closed"), ("X:1\nM:4/5\nK:C\nC", "no such metre"),
    ("X:1\nL:1\\8\nK:C\nC", "no length of a note"), ("X:1\nK:C\nC0", "no length; received '0'"), ("X:1\nK:C\n^|", "an accidental without"),
    ("X:1\nK:C\n[CE", "chord that does not end"), ("X:1\nK:C\nc'''''", "beyond what can be heard"), ("X:1\nK:C\n>C", "no note to lengthen"),
    ("X:1\nK:C\nV:1\nC\nV:2\nE", "line 5.*several voices")])
def test_a_fault_says_where_it_stands(text, words):
    with pytest.raises(SourceError, match=words):
        read_abc(text)


def test_what_a_model_wrote_is_taken_up_to_its_first_fault():
    assert [n.pitch for n in read_abc("X:1\nK:C\n|:CD:|E !", lenient=True).notes] == [60, 62, 60, 62, 64]
    with pytest.raises(SourceError, match="has no key"):
        read_abc("X:1\nno", lenient=True)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="ABCabc|:[]1239/(<>-^_=,' z\n{}\"!", max_size=80))
@example("|:" + "C:|1" * 40)
@example("C[M:0/4]D")
@example("[Q:1/0=90]C")
def test_whatever_is_written_is_read_or_refused(body):
    try:
        tune = read_abc(f"X:1\nK:C\n{body}")
    except SourceError:
        return
    assert all(0 <= n.pitch <= 127 and n.length > 0 and n.start >= 0 for n in tune.notes)


def test_a_small_file_that_asks_for_a_long_tune_is_refused_soon():
    begin = time.monotonic()
    for body in ("|:" + "C" * 30_000 + ":|" + "|:D:|" * 20_000, "C:|1" * 20_000, "C" * 60_000):
        with pytest.raises(SourceError, match="longer than any tune"):
            read_abc(f"X:1\nK:C\n{body}")
    assert time.monotonic() - begin < 60  # for ever is what it must not take
