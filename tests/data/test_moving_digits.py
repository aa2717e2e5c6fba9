"""Moving digits and pictures from files: what is stored is what other software sees, and pixels come out in one shape or not at all."""

from __future__ import annotations

import io
import json
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from workbench import pictures, runs
from workbench.data.sources import images, moving_digits
from workbench.data.spec import Images, MovingDigits
from workbench.errors import SourceError, SpecError


def read(module, source, workspace) -> list:
    return [r for u in module.units(source, workspace) for r in module.read(u)]


def frames(data: bytes) -> np.ndarray:
    """As Pillow plays it."""
    with Image.open(io.BytesIO(data)) as image:
        return np.stack([np.asarray(image.convert("L")) for n in range(image.n_frames) if image.seek(n) is None])


def test_each_clip_is_one_digit_that_moves_whole(workspace):
    truth = load_digits()
    known = {np.round(i * 255 / 16).astype(np.uint8).tobytes(): label for i, label in zip(truth.images, truth.target, strict=True)}
    found = read(moving_digits, MovingDigits(count=60), workspace)
    assert len(found) == 60 and len({r.image for r in found}) == 60
    for record in found:
        clip = frames(record.image)
        assert clip.shape == (8, 16, 16)
        places = []
        for frame in clip:
            windows = [(y, x) for y in range(9) for x in range(9)
                       if (part := frame[y:y + 8, x:x + 8]).sum() == frame.sum() and known.get(part.tobytes()) == record.label]
            assert windows, "the digit is not whole in the frame"
            places.append(windows[0])
        assert len(set(places)) > 3
        assert all(abs(a - b) <= 4 for one, two in pairwise(places) for a, b in zip(one, two, strict=True))
    assert [r.image for r in found] == [r.image for r in read(moving_digits, MovingDigits(count=60), workspace)]
    assert found[0].image != read(moving_digits, MovingDigits(count=1, seed=1), workspace)[0].image
    two = read(moving_digits, MovingDigits(count=3, digits=2, frames=3, size=20), workspace)
    assert frames(two[0].image).shape == (3, 20, 20) and two[0].label is None


def test_a_dataset_of_clips_says_its_shape_and_gives_pixels(workspace):
    run = runs.submit({"word": "data", "name": "moving", "sources": [{"kind": "moving-digits", "count": 40, "frames": 4}]}, workspace,
                      place="here")
    assert run.state == "done", run.failure
    dataset = run.output
    assert dataset.modality == dataset.form == "clip"
    assert [dataset.manifest[n] for n in ("frames", "height", "width", "channels")] == [4, 16, 16, 1]
    pixels = dataset.pixels("train")
    assert pixels.shape == (36, 1, 4, 16, 16) and pixels.dtype == np.float32 and (pixels.min(), pixels.max()) == (-1, 1)
    first = dataset.table("train", ["image", "label"]).to_pylist()[0]
    assert np.array_equal(pixels[0, 0], frames(first["image"]).astype(np.float32) / np.float32(127.5) - 1) and 0 <= first["label"] <= 9
    html = dataset._repr_html_()
    assert html.count("<img") == 8 and html.count("data:image/png;base64,") == 8
    with pytest.raises(SourceError, match="holds no chats; received 'records of form clip'"):
        dataset.chats("train")


def test_digits_give_pixels(workspace):
    run = runs.submit({"word": "data", "name": "digits", "sources": [{"kind": "digits"}]}, workspace, place="here")
    pixels = run.output.pixels("test")
    assert pixels.shape == (90, 1, 8, 8) and (pixels.min(), pixels.max()) == (-1, 1)


@pytest.fixture
def photos(workspace):
    chance = np.random.default_rng(0)
    for name, size, mode in (("cats/a.png", (12, 9), "RGB"), ("cats/b.jpg", (16, 16), "RGB"), ("dogs/c.png", (9, 12), "L"),
                             ("dogs/d.gif", (8, 8), "P"), ("dogs/e.webp", (10, 10), "RGBA")):
        path = workspace.root / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (size[1], size[0]) if mode in ("L", "P") else (size[1], size[0], len(mode))
        image = Image.fromarray(chance.integers(0, 255, shape).astype(np.uint8))
        (image.convert("P") if mode == "P" else image).save(path)
    (workspace.root / "photos" / "dogs" / "broken.png").write_bytes(b"\x89PNG no picture")
    (workspace.root / "photos" / ".thumbs").mkdir()
    (workspace.root / "photos" / ".thumbs" / "x.png").write_bytes(b"x")
    return workspace


def test_pictures_from_directories_are_labelled_by_them(photos):
    source = Images(paths=("photos",))
    found = {r.source: r for r in read(images, source, photos)}
    assert {n: (r.label, r.reason) for n, r in found.items()} == {
        "photos/cats/a.png": (0, ""), "photos/cats/b.jpg": (0, ""), "photos/dogs/broken.png": (1, "no picture"),
        "photos/dogs/c.png": (1, ""), "photos/dogs/d.gif": (1, ""), "photos/dogs/e.webp": (1, "")}
    assert images.facts(source, photos) == {"labels": ["cats", "dogs"]} and list(images.inputs(source, photos)) == sorted(found)
    assert found["photos/cats/b.jpg"].image == (photos.root / "photos/cats/b.jpg").read_bytes()
    alone = read(images, Images(paths=("photos/cats/*.png",)), photos)
    assert [r.label for r in alone] == [None]
    with pytest.raises(SourceError, match="photos/none: there is no picture.*end in .png, .jpg"):
        images.inputs(Images(paths=("photos/none",)), photos)


def test_pictures_of_one_size_are_one_array_and_of_several_are_refused(photos):
    split = {"validation": 0, "test": 0}
    as_they_are = runs.submit({"word": "data", "name": "p", "split": split, "sources": [{"kind": "images", "paths": ["photos"]}]}, photos,
                              place="here").output
    assert as_they_are.manifest["labels"] == ["cats", "dogs"] and as_they_are.manifest["drops"] == {"read": {"no picture": 1}}
    words = r"several shapes; received '1 of \d+ × \d+.*, colour.*12 × 9, grey.*expected one shape for all.*size: 32"
    with pytest.raises(SourceError, match=words):
        as_they_are.pixels("train")
    assert "cats" in as_they_are._repr_html_() and "data:image/jpeg" in as_they_are._repr_html_()
    for colour, channels in (("grey", 1), ("rgb", 3)):
        fitted = runs.submit({"word": "data", "name": "p", "split": split, "sources": [{
            "kind": "images", "paths": ["photos"], "size": 8, "colour": colour}]}, photos, place="here").output
        assert fitted.pixels("train").shape == (5, channels, 8, 8) and fitted.pixels("test").shape[0] == 0


def test_what_does_not_go_together_is_refused(photos):
    def sources(*kinds):
        return {"word": "data", "name": "x", "sources": list(kinds)}

    for spec, kind, words in (
            (sources({"kind": "digits"}, {"kind": "moving-digits"}), SourceError, "images and clips can't be records of one dataset"),
            (sources({"kind": "images", "paths": ["photos/cats", "photos/dogs"]}, {"kind": "images", "paths": ["photos/dogs/c.png"]}),
             SourceError, "named by two sources"),
            (sources({"kind": "moving-digits", "size": 8}), SpecError, "size")):
        with pytest.raises(kind, match=words):
            runs.submit(spec, photos)
    assert runs.listed(photos) == []


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_kind_of_png_and_jpeg_gives_grey_or_colour(mode):
    grey = np.linspace(0, 255, 24).astype(np.uint8).reshape(4, 6)
    image = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    out = io.BytesIO()
    image.save(out, "TIFF" if mode == "CMYK" else "PNG")
    found = pictures.pixels_of(out.getvalue())
    assert found.shape == (1, 1 if mode in ("1", "L", "LA", "I;16") else 3, 4, 6)
    if mode != "1":
        assert np.abs(found[0].astype(int) - grey).max() <= 1


def test_drawn_pixels_are_what_is_read_again():
    chance = np.random.default_rng(1)
    for shape in ((1, 5, 7), (3, 5, 7), (1, 4, 5, 7), (3, 2, 5, 7)):
        pixels = (chance.integers(0, 256, shape) / np.float32(127.5) - 1).astype(np.float32)
        again = pictures.batch([pictures.drawn(pixels)], where="x", clips=len(shape) == 4)
        assert again.shape == (1, *shape) and np.abs(again[0] - pixels).max() < 1e-6
    with pytest.raises(SourceError, match="no picture"):
        pictures.pixels_of(json.dumps({}).encode())
