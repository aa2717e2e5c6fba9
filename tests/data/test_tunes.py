"""Tunes as a dataset: the project's own, and from files in ABC and MIDI."""

from __future__ import annotations

import base64
import io
import re
import wave

import pytest

from workbench import runs
from workbench.data.guess import guess
from workbench.data.sources import files, tunes
from workbench.data.spec import Files, Tunes
from workbench.errors import SourceError
from workbench.exhibits import tune_html
from workbench.music import read_abc, read_tokens, write_midi
from workbench.music.folk import compose


def test_tunes_are_each_another_and_each_of_eight_bars_twice():
    texts = [compose(n) for n in range(1, 401)]
    assert len({t.partition("\nK:")[2] for t in texts}) == 400
    assert len({t.split("\nM:")[1][:3] for t in texts}) >= 5 and len({t.split("\nK:")[1].split("\n")[0] for t in texts}) > 10
    for text in texts[::10]:
        tune = read_abc(text)
        assert tune.beats == 32 * 4 * tune.metre[0] / tune.metre[1]
        assert text.count(":|") == text.count("|:") == 2 and re.sub(r"[^|]", "", text.split("\nK:")[1]).count("|") == 18
        ends = [n.pitch % 12 for n in tune.notes if n.start + n.length == tune.beats]
        tonic = re.search(r"\nK:([A-G])", text)[1]
        assert ends == [{"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}[tonic]]


@pytest.mark.parametrize("form", ["abc", "midi"])
def test_a_dataset_of_tunes_plays(workspace, form):
    run = runs.submit({"word": "data", "name": "tunes", "sources": [{"kind": "tunes", "count": 60, "form": form}]}, workspace, place="here")
    assert run.state == "done", run.failure
    dataset = run.output
    assert dataset.form == form and dataset.modality == "text" and dataset.manifest["drops"] == {}
    assert sum(run.result["splits"].values()) == 60
    read = read_abc if form == "abc" else read_tokens
    assert all(len(read(text).notes) > 40 for text in dataset.texts("train"))
    assert all(text.startswith(("X:", "m")) for text in dataset.beginnings(3))
    with pytest.raises(SourceError, match=f"holds no pictures; received 'records of form {form}'; expected images or clips"):
        dataset.pixels("train")
    html = dataset._repr_html_()
    sound = base64.b64decode(re.search(r"<audio controls [^>]*data:audio/wav;base64,([^\"]+)", html)[1])
    with wave.open(io.BytesIO(sound)) as file:
        assert 5 < file.getnframes() / file.getframerate() <= 10
    other = runs.submit({"word": "data", "name": "tunes", "sources": [{"kind": "tunes", "count": 60, "form": form, "seed": 1}]}, workspace,
                        place="here")
    assert other.output.digest != dataset.digest
    assert tunes.inputs(Tunes(count=60), workspace) != tunes.inputs(Tunes(count=61), workspace)


def test_abc_and_midi_files_are_sources(workspace):
    book = "% a book\n\n" + "\n".join(compose(n) + "Z:ada@example.org\n" for n in (1, 2)) + "\nX:3\nK:C\nCDE&F\n\nX:4\nK:C\nz4|\n"
    (workspace.root / "book.abc").write_text(book)
    for n in (1, 2, 5):
        (workspace.root / f"{n}.mid").write_bytes(write_midi(read_abc(compose(n))))
    (workspace.root / "cut.mid").write_bytes(write_midi(read_abc(compose(1)))[:60])
    (workspace.root / "no.mid").write_bytes(b"no")
    found = [r for u in files.units(Files(paths=("book.abc",)), workspace) for r in files.read(u)]
    begins = [n for n, line in enumerate(book.split("\n"), 1) if line.startswith("X:")]
    reasons = ("", "", "no ABC that can be played", "no notes")
    assert [(r.locator, r.reason) for r in found] == [(f"X:{n}, line {begins[n - 1]}", reasons[n - 1]) for n in (1, 2, 3, 4)]
    assert "bar 1, line 3, character 4: holds several voices" in found[2].detail
    midi = {r.source: r for u in files.units(Files(paths=("*.mid",)), workspace) for r in files.read(u)}
    assert {n: r.reason for n, r in midi.items()} == {"1.mid": "", "2.mid": "", "5.mid": "", "cut.mid": "no MIDI that can be played",
                                                     "no.mid": "no MIDI that can be played"}
    assert read_tokens(midi["5.mid"].text).notes == read_abc(compose(5)).notes
    assert files.form(Files(paths=("book.abc",)), workspace) == "abc" and files.form(Files(paths=("1.mid",)), workspace) == "midi"
    as_words = [r.text for u in files.units(Files(paths=("book.abc",), form="midi"), workspace) for r in files.read(u) if not r.reason]
    assert as_words == [midi["1.mid"].text, midi["2.mid"].text]
    with pytest.raises(SourceError, match="several forms; received '1.mid holds midi, book.abc holds abc'"):
        files.inputs(Files(paths=("book.abc", "1.mid")), workspace)
    seen = guess(Files(paths=("book.abc",)), workspace)["files"][0]
    assert (seen["format"], seen["form"], seen["records"]) == ("abc", "abc", 4)
    split = {"validation": 0, "test": 0}
    kept = runs.submit({"word": "data", "name": "book", "sources": [{"kind": "files", "paths": ["book.abc"]}], "split": split}, workspace,
                       place="here").output
    assert kept.form == "abc" and kept.manifest["drops"] == {"read": {"no ABC that can be played": 1, "no notes": 1}}
    assert [t.count("Z:<EMAIL>") for t in kept.texts("train")] == [1, 1] and kept.manifest["pii"] == {"email": 2}


def test_what_a_model_wrote_is_drawn_with_its_fault():
    html = tune_html("abc", "X:1\nT:<b>\nK:C\nCDEF|GAB}c|")
    assert "<audio" in html and "no sign of ABC" in html and "<b>" not in html and "&lt;b&gt;" in html
    assert "<audio" not in tune_html("abc", "no music") and "<audio" not in tune_html("midi", "x1")
