"""digits: every picture of scikit-learn's, as a PNG that other software reads."""

from __future__ import annotations

import io

import numpy as np

from workbench.data.sources import digits
from workbench.data.spec import Digits


def test_the_pictures_are_scikit_learns(workspace):
    from PIL import Image
    from sklearn.datasets import load_digits

    truth = load_digits()
    [unit] = digits.units(Digits(), workspace)
    records = list(digits.read(unit))
    assert [r.label for r in records] == truth.target.tolist()
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(r.image))) for r in records])
    assert pixels.dtype == np.uint8 and np.array_equal(pixels, np.round(truth.images * 255 / 16))
    assert len({r.locator for r in records}) == 1797


def test_the_input_is_the_table(workspace):
    assert list(digits.inputs(Digits(), workspace)) == ["digits"]
