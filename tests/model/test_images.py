"""Models of images on disk: what is written comes back, and what does not fit is told."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from workbench import pictures
from workbench.errors import SpecError, StorageError, UnsafeFileError
from workbench.model import Model, write_model
from workbench.model.dcgan import Generator
from workbench.model.diffuser import Diffuser
from workbench.model.images import grid, load_images, save_images

SIZES = {"channels": 3, "height": 8, "width": 12}
MODELS = {"gan": lambda: Generator({**SIZES, "latent": 4, "base": 4}),
          "diffusion": lambda: Diffuser({**SIZES, "frames": 0, "labels": 3, "base": 8, "noise_steps": 20, "sample_steps": 3}),
          "clips": lambda: Diffuser({**SIZES, "frames": 4, "labels": 0, "base": 8, "noise_steps": 20, "sample_steps": 3})}


@pytest.fixture(params=sorted(MODELS))
def model(request):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        made = MODELS[request.param]()
        for parameter in made.parameters():  # also those that begin as zero
            torch.nn.init.normal_(parameter, 0, 0.2)
    return made.eval()


def test_what_was_written_makes_the_same(model, tmp_path, workspace):
    def save(folder):
        save_images(model, folder, samples=grid(model.generate(4).numpy(), 2))

    made = write_model(workspace, "made", save, card="# made\n", manifest={"parameters": 1, "metrics": {}, "spec": {}})
    made.verify()
    again = Model.open("made", workspace).load()
    assert torch.equal(again.generate(3, seed=9), model.generate(3, seed=9)) and not again.training
    shape = (3, 4, 8, 12) if model.config["frames"] else (3, 8, 12)
    assert again.generate(0).shape == (0, *shape) and again.generate(2).shape == (2, *shape)
    assert len(pictures.pixels_of(made.samples)) == (model.config["frames"] or 1)
    (made.path / "config.json").write_text(json.dumps({**model.config, "base": 16}))
    with pytest.raises(StorageError, match="does not match its digest"):
        made.verify()
    with pytest.raises(StorageError, match="holds other weights than its configuration says"):
        load_images(made.path)


def test_each_picture_depends_on_seed_and_number_alone(model):
    assert torch.allclose(model.generate(5, seed=2)[:2], model.generate(2, seed=2), atol=1e-5)
    assert not torch.allclose(model.generate(2, seed=2), model.generate(2, seed=3), atol=1e-2)


def test_only_labels_that_were_learned_can_be_asked_for(model):
    known = model.config["labels"]
    with pytest.raises(SpecError, match="expected a label from 0 to 2" if known else "learned no labels"):
        model.generate(2, label=3)
    if known:
        assert not torch.allclose(model.generate(1, label=0), model.generate(1, label=2), atol=1e-3)


def test_pickles_are_not_opened(model, tmp_path):
    save_images(model, tmp_path)
    torch.save(model.state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(UnsafeFileError):
        load_images(tmp_path)


def test_a_grid_lays_pictures_side_by_side():
    made = np.stack([np.full((1, 2, 2), n / 2 - 1, np.float32) for n in range(5)])
    found = pictures.pixels_of(grid(made, 3))[0, 0]
    assert found.shape == (5, 8) and found[0, ::3].tolist() == [0, 64, 128] and found[3, ::3].tolist() == [191, 255, 0]
    assert not found[2].any() and not found[:, 2].any()
