"""A model of tunes: pretrained on notes as text, and heard as it learns."""

from __future__ import annotations

import io
import wave

import pytest

from workbench import runs
from workbench.music import read_tune


@pytest.mark.parametrize(("form", "tokens"), [("abc", 60_000), ("midi", 15_000)])
def test_a_model_of_tunes_is_heard_as_it_learns(live, form, tokens):
    runs.submit({"word": "data", "name": form, "sources": [{"kind": "tunes", "count": 150, "form": form}]}, live, place="here").wait()
    run = runs.run({"word": "train", "data": form, "model": {"size": "100K", "vocabulary": 300, "context": 128},
                    "tokens": tokens, "hardware": {"threads": 1}, "batch": {"sequences": 4}, "every": {"sample": 1000}}, live)
    metrics = run.result["metrics"]
    assert metrics["bits_per_byte"] < 0.55 * metrics["bits_per_byte_before"]
    last = [e for e in run.events(kinds=("sample",)) if e.step == metrics["steps"]]
    heard = [e for e in last if e.data.get("media") == "audio/wav"]
    assert len(last) == 3 and heard and len({e.data["file"] for e in heard}) == len(heard)
    for event in heard:
        tune = read_tune(form, event.data["prompt"] + event.data["text"], lenient=True)
        with wave.open(io.BytesIO((run.directory / event.data["file"]).read_bytes())) as sound:
            seconds = sound.getnframes() / sound.getframerate()
        assert tune.notes and seconds == pytest.approx(min(tune.seconds + 0.3, 10.0), abs=0.01)
    assert run._repr_html_().count("<audio") >= min(len(heard), 3)
