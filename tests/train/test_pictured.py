"""Objectives of images on the real cluster: what they learn, that any ranks and any rest give the same, and what is kept."""

from __future__ import annotations

import json

import pytest
import torch

from workbench import pictures, runs
from workbench.cli.app import run_app
from workbench.errors import SourceError, SpecError
from workbench.model import Model
from workbench.train.state import checkpoints

DIGITS = {"word": "data", "name": "digits", "sources": [{"kind": "digits"}]}
KINDS = {"diffusion": {"objective": {"kind": "diffusion", "width": 8, "noise_steps": 50, "sample_steps": 4}, "epochs": 0.9},
         "gan": {"objective": {"kind": "gan", "width": 16, "latent": 8}, "epochs": 2, "learning_rate": 4e-3, "warmup": 5}}
STEPS = {"diffusion": 46, "gan": 102}


def spec(kind: str, **changes) -> dict:
    return {"word": "train", "data": "digits", **KINDS[kind], "batch": {"sequences": 16}, "hardware": {"threads": 1},
            "every": {"checkpoint": 10, "evaluate": 20, "sample": 60}, **changes}


@pytest.fixture(scope="module", params=sorted(KINDS))
def taught(request, live) -> runs.Run:
    """A run that has learned a little of the digits."""
    runs.submit(DIGITS, live, place="here").wait()
    return runs.run(spec(request.param), live)


def test_it_learns_shows_what_it_makes_and_keeps_a_model_that_makes_the_same(live, taught):
    kind = taught.spec.objective.kind
    metrics = taught.result["metrics"]
    steps = STEPS[kind]
    assert metrics["steps"] == steps and metrics["images"] == steps * 32
    measure = {"diffusion": "noise_error", "gan": "distance"}[kind]
    before = metrics[f"{measure}_before"]
    assert before == pytest.approx(1.0, rel=0.1) if kind == "diffusion" else before > 1  # noise that can't be told measures 1
    assert metrics[measure] < 0.75 * before and metrics["gain"]["high"] < 0
    samples = taught.events(kinds=("sample",))
    assert [e.step for e in samples] == [s for s in (0, 60, steps) if s <= steps] and {e.data["media"] for e in samples} == {"image/png"}
    drawn = [(taught.directory / e.data["file"]).read_bytes() for e in samples]
    assert pictures.pixels_of(drawn[-1]).std() > 20 and drawn[0] != drawn[-1]
    assert taught._repr_html_().count("data:image/png") == len(samples)

    model = Model.open(f"digits-{kind}", live)
    model.verify(taught.result["digest"])
    made = model.load().generate(6, seed=4)
    assert torch.equal(made, Model.open(f"digits-{kind}", live).load().generate(6, seed=4))
    assert torch.allclose(made[:2], model.load().generate(2, seed=4), atol=1e-5) and not torch.equal(made, model.load().generate(6, seed=5))
    assert made.shape == (6, 1, 8, 8) and made.abs().max() <= 1
    assert model.makes == "image" and "data:image/png" in model._repr_html_() and model.samples == drawn[-1]
    assert "digits" in model.card and metrics["height"] == metrics["width"] == 8


def test_one_rank_makes_what_two_make(live, taught):
    kind = taught.spec.objective.kind
    alone = runs.run(spec(kind, name=f"alone-{kind}", hardware={"ranks": 1, "threads": 1}, batch={"sequences": 16, "accumulate": 2}), live)
    assert alone.curve(taught.result["metrics"]["measure"])[0] == pytest.approx(taught.curve(taught.result["metrics"]["measure"])[0])
    for curve in ("loss", "gradient_norm"):
        pairs = list(zip(taught.curve(curve), alone.curve(curve), strict=True))
        assert len(pairs) == STEPS[kind] and all(a == pytest.approx(b, rel=1e-5, abs=1e-5) for a, b in pairs[:20]), curve


def test_a_stopped_run_goes_on_to_the_same_weights_and_curves(live, taught):
    kind = taught.spec.objective.kind
    run = runs.submit(spec(kind, name=f"rests-{kind}"), live)
    next(e for e in run.follow() if e.kind == "point" and e.name == "loss" and e.step >= 12)
    run.tell("pause")
    run.stop()
    assert run.wait(60, check=False).state == "stopped"
    assert 0 < checkpoints.step_of(checkpoints.listed(run.directory / "checkpoints")[0]) < STEPS[kind]
    run.resume().wait(120)
    assert run.result["digest"] == taught.result["digest"] and run.entry.attempt == 2
    assert run.curve("loss") == taught.curve("loss")


def test_what_measures_or_answers_in_text_says_that_it_takes_no_images(live, taught):
    model = taught.result["model"]
    with pytest.raises(SourceError, match="makes images, and probes measure text"):
        runs.submit({"word": "assess", "model": model}, live)
    with pytest.raises(SourceError, match="makes images, and an endpoint answers in text"):
        runs.submit({"word": "serve", "name": "e", "models": [{"model": model}]}, live)
    with pytest.raises(SourceError, match="only language models have a tokenizer"):
        Model.open(model, live).tokenizer()


def test_data_that_teach_no_images_are_refused_before_anything_starts(live, taught):
    kind = taught.spec.objective.kind
    with pytest.raises(SourceError, match=rf"can't teach a model of objective {kind}; received 'a dataset of texts'; expected images"):
        runs.submit(spec(kind, data="docs"), live)
    with pytest.raises(SpecError, match="brings its own; expected no model here"):
        runs.submit(spec(kind, model={"size": "10M"}), live)


def test_the_command_line_takes_an_objective_by_name(live, taught, capsys, monkeypatch):
    monkeypatch.chdir(live.root)
    kind = taught.spec.objective.kind
    with pytest.raises(SystemExit) as ended:
        run_app(["train", "digits", "--objective", kind, "--set", "objective.width=16", "--dry-run", "--json"])
    assert ended.value.code == 0
    said = json.loads(capsys.readouterr().out)["spec"]["objective"]
    assert (said["kind"], said["width"]) == (kind, 16)
