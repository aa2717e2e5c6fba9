"""Models by size, their tokenizers and their versions on disk."""

from __future__ import annotations

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import NotFoundError, SpecError, UnsafeFileError
from workbench.model import Model, learn_tokenizer, llama_config, load_weights, new_llama, refuse_pickles, save_tokenizer, write_model


@pytest.mark.parametrize(("size", "vocabulary", "least", "most"), [
    ("100K", 300, 90_000, 150_000), ("1M", 2048, 950_000, 1_150_000), ("10M", 2048, 9_000_000, 11_000_000)])
def test_sizes_are_what_their_names_say(size, vocabulary, least, most):
    from transformers import LlamaForCausalLM

    with torch.device("meta"):
        assert least <= LlamaForCausalLM(llama_config(size, vocabulary, 256)).num_parameters() <= most


def test_a_misspelt_size_names_the_near_one():
    with pytest.raises(SpecError, match="received '1MB'; expected one of 100K, 1M, 10M, 100M; did you mean \"1M\"?"):
        llama_config("1MB", 300, 64)


def test_the_same_seed_is_the_same_model_and_leaves_the_callers_chance_alone():
    config = llama_config("100K", 300, 64)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, two, other = new_llama(config, 1), new_llama(config, 1), new_llama(config, 2)
    assert torch.equal(torch.rand(3), expected)
    same = [torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True)]
    assert all(same) and not torch.equal(one.lm_head.weight, other.lm_head.weight)


TOKENIZER = learn_tokenizer(["the quick brown fox", "jumps over the lazy dog", "été – 東京"], 320)


@given(st.text(st.characters(exclude_categories=["Cs"])).filter(lambda t: "<|endoftext|>" not in t))
@settings(deadline=None, max_examples=200)
def test_any_text_comes_back_from_its_tokens(text):
    assert TOKENIZER.decode(TOKENIZER(text).input_ids) == text


def test_the_tokenizer_does_not_depend_on_the_order_of_texts(tmp_path):
    texts = [f"text number {n} says {n * n}" for n in range(200)]
    for name, given_texts in (("a", texts), ("b", texts[::-1])):
        save_tokenizer(learn_tokenizer(given_texts, 400), tmp_path / name)
    assert (tmp_path / "a" / "tokenizer.json").read_bytes() == (tmp_path / "b" / "tokenizer.json").read_bytes()


def test_a_chat_is_plain_text_to_a_base_model():
    chat = [{"role": "user", "content": "What is a heap?"}]
    assert TOKENIZER.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == "user: What is a heap?\nassistant:"


def test_a_version_is_found_by_name_number_and_digest(taught):
    model = Model.open("docs-lm", taught)
    assert Model.open("docs-lm@v1", taught) == Model.open(f"docs-lm@{model.digest[:8]}", taught) == model
    assert load_weights(model.path / "model.safetensors").keys() <= set(model.load().state_dict())
    with pytest.raises(NotFoundError, match='no model "docs-ln".*Did you mean "docs-lm"'):
        Model.open("docs-ln", taught)


def test_a_broken_save_leaves_no_version(workspace):
    def save(folder):
        (folder / "config.json").write_text("{}")
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError):
        write_model(workspace, "half", save, manifest={}, card="")
    assert list(workspace.path("models", "half").iterdir()) == []
    with pytest.raises(NotFoundError):
        Model.open("half", workspace)


@pytest.mark.parametrize("name", ["model.bin", "weights.pt", "model.safetensors", "weights"])
def test_a_pickle_is_refused_whatever_it_is_called(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(pickle.dumps({"w": 1}))
    with pytest.raises(UnsafeFileError, match="is not a safetensors file"):
        refuse_pickles(path)
    torch.save({"w": torch.ones(1)}, path)
    with pytest.raises(UnsafeFileError, match="is not a safetensors file"):
        load_weights(path)


def test_a_directory_with_pickled_weights_only_is_refused(tmp_path, workspace):
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(UnsafeFileError, match="only as a pickle"):
        refuse_pickles(tmp_path)
    with pytest.raises(UnsafeFileError):
        write_model(workspace, "pickled", lambda folder: torch.save({}, folder / "pytorch_model.bin"), manifest={}, card="")
