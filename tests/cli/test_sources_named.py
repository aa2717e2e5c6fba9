"""What `workbench data WHAT` takes WHAT for: a source that is built in, pictures, or files of text."""

from __future__ import annotations

import json

import pytest

from workbench.pictures import png


@pytest.mark.parametrize("kind", ["moving-digits", "tunes", "questions"])
def test_sources_that_are_built_in_are_taken_by_name(cli_here, place, kind):
    told = json.loads(cli_here("data", kind, "--dry-run", "--json", cwd=place).stdout)
    assert told["spec"]["name"] == kind and [s["kind"] for s in told["spec"]["sources"]] == [kind] and list(told["inputs"]) == [kind]


def test_pictures_and_directories_of_pictures_are_images(cli_here, place):
    for name in ("cats/a.png", "dogs/b.png"):
        (place / "shots" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "shots" / name).write_bytes(png(bytes(4), 2, 2))
    (place / "mixed").mkdir()
    (place / "mixed" / "a.png").write_bytes(png(bytes(4), 2, 2))
    (place / "mixed" / "a.txt").write_text("A text of some length that is about the picture beside it.")
    for what, kind, paths in (("shots", "images", ["shots"]), ("shots/cats/*.png", "images", ["shots/cats/*.png"]),
                              ("mixed", "files", ["mixed"])):
        told = json.loads(cli_here("data", what, "--name", "x", "--dry-run", "--json", cwd=place).stdout)
        assert [(s["kind"], s["paths"]) for s in told["spec"]["sources"]] == [(kind, paths)]
