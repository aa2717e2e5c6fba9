"""What a training begins with is found, told from another, and refused before anything starts where it can't be trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from answered import base_in
from safetensors.torch import load_file, save_file

from workbench.errors import NotFoundError, SourceError, UnsafeFileError
from workbench.model import Model, load_pretrained, write_model
from workbench.train.objectives.tuned import adapted
from workbench.train.reading import base as bases
from workbench.workspace import Workspace


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return base_in(tmp_path_factory.mktemp("made") / "base")


@pytest.fixture
def folder(made, tmp_path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(made, tmp_path / "base"))


@pytest.fixture
def place(tmp_path) -> Workspace:
    return Workspace(tmp_path).open()


def changed(file: Path, **values) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_a_directory_is_found_from_the_workspace_and_by_its_whole_path(folder, place):
    assert bases.found("base", place).digest == bases.found(str(folder), place).digest
    assert bases.found("base", place).context == 64


def test_a_registered_version_goes_before_a_directory_of_its_name(folder, place):
    registered = write_model(place, "base", lambda out: shutil.copytree(folder, out, dirs_exist_ok=True), card="",
                             manifest={"parameters": 1, "dataset": {}, "metrics": {}, "spec": {}})
    found = bases.found("base@v1", place)
    assert found.digest == registered.digest and found.path == Model.open("base", place).path
    assert bases.again("base@v1", found.digest, place) == found


@pytest.mark.parametrize(("name", "change"), [("config.json", {"rope_theta": 5.0}), ("tokenizer_config.json", {"chat_template": "x"}),
                                              ("generation_config.json", {"eos_token_id": 3})])
def test_another_file_is_another_base(folder, place, name, change):
    before = bases.found("base", place)
    changed(folder / name, **change)
    assert bases.found("base", place).digest != before.digest
    with pytest.raises(SourceError, match="another base than when this was submitted"):
        bases.again("base", before.digest, place)


def test_other_weights_are_another_base(folder, place):
    before = bases.found("base", place).digest
    weights = load_file(folder / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert bases.found("base", place).digest != before


def test_an_unknown_base_is_told_both_ways(place):
    with pytest.raises(NotFoundError, match=r"objective.base: no base 'bse': neither a registered model nor a directory"):
        bases.found("bse", place)


def spoil_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def spoil_torn(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def spoil_head(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x09\0\0\0\0\0\0\0{not json}")


def spoil_index(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-00001.safetensors"}}))


def spoil_tokenizer(folder: Path) -> None:
    changed(folder / "config.json", vocab_size=100)


def spoil_kind(folder: Path) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({"model_type": "vit", "image_size": 224}))


@pytest.mark.parametrize(("spoil", "error", "said"), [
    (spoil_pickle, UnsafeFileError, "only as a pickle .pytorch_model.bin.*safetensors.torch.save_file"),
    (spoil_torn, SourceError, "weights that do not load: the file is torn.*Copy it again"),
    (spoil_head, SourceError, "weights that do not load: its header is broken"),
    (spoil_index, SourceError, "lacks a part of its weights.*model-00001"),
    (spoil_tokenizer, SourceError, r"tokenizer that does not fit its model; received 'token ids up to \d+'; expected ids below 100"),
    (spoil_kind, SourceError, "does not say how many tokens its model knows; received 'vit'"),
    (lambda folder: (folder / "tokenizer.json").unlink(), SourceError, "holds no tokenizer"),
    (lambda folder: (folder / "tokenizer.json").write_text("{}"), SourceError, "no tokenizer that loads"),
    (lambda folder: (folder / "config.json").write_text("{"), SourceError, "is no JSON"),
])
def test_what_is_no_base_is_refused_with_what_to_do(folder, place, spoil, error, said):
    spoil(folder)
    with pytest.raises(error, match=said):
        bases.found("base", place)


def without_a_layer(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def of_another_shape(folder: Path) -> None:
    changed(folder / "config.json", intermediate_size=200)


def of_no_known_kind(folder: Path) -> None:
    changed(folder / "config.json", model_type="mine", architectures=["Mine"], auto_map={"AutoModelForCausalLM": "mine.Mine"})
    (folder / "mine.py").write_text("raise SystemExit('code of a base was run')")


@pytest.mark.parametrize("spoil", [without_a_layer, of_another_shape, of_no_known_kind])
def test_weights_that_are_not_those_of_the_configuration_are_never_made_up(folder, spoil):
    spoil(folder)
    with pytest.raises(SourceError, match="holds weights that do not load"):
        load_pretrained(folder)


def test_a_template_is_the_bases_own_or_the_one_given(folder, place):
    base = bases.found("base", place)
    assert base.template() == base.template("plain") and "eos_token" in base.template()
    assert base.template("{{ messages }}") == "{{ messages }}"
    (folder / "chat_template.jinja").unlink()
    assert base.template() is None
    changed(folder / "tokenizer_config.json", chat_template=[{"name": "tool_use", "template": "a"}, {"name": "default", "template": "b"}])
    assert base.template() == "b"


def test_an_adapter_changes_nothing_at_first_and_is_the_same_for_a_seed(made):
    ids = torch.arange(1, 9)[None]
    adapter = {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": []}
    plain, first, second = load_pretrained(made), *(adapted(load_pretrained(made), adapter, 5) for _ in "12")
    assert torch.equal(plain(input_ids=ids).logits, first(input_ids=ids).logits)
    trained = {n: p for n, p in first.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 2 * 7 and all("lora_" in n for n in trained)
    assert all(torch.equal(p, dict(second.named_parameters())[n]) for n, p in trained.items())


def test_an_unknown_layer_to_adapt_is_refused_with_those_there_are(made):
    with pytest.raises(SourceError, match=r"objective.adapter.targets: no layers to adapt; received \['qkv'\].*down_proj, gate_proj"):
        adapted(load_pretrained(made), {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": ["qkv"]}, 0)
