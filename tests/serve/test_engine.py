"""Engines against transformers: the same logits, whoever joins and leaves; what can't be computed rightly is refused."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from workbench.errors import UnsafeFileError, WorkbenchError
from workbench.serve.engine import load_engine

FORMS = {"plain": {}, "grouped": {"num_key_value_heads": 2}, "untied": {"tie_word_embeddings": False}, "wide": {"head_dim": 24},
         "theta": {"rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}}}


def made(folder, **changes):
    config = LlamaConfig(**{"vocab_size": 90, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
                            "intermediate_size": 96, "max_position_embeddings": 48, "tie_word_embeddings": True, **changes})
    torch.manual_seed(1)
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_logits_are_those_of_transformers_whoever_joins_and_leaves(form, tmp_path):
    model = made(tmp_path, **FORMS[form])
    engine = load_engine(tmp_path, slots=4)
    generator = torch.Generator().manual_seed(2)
    rows = [torch.randint(90, (n,), generator=generator).tolist() for n in (5, 1, 11)]

    def check(logits, held):
        want = torch.stack([model(torch.tensor([r])).logits[0, -1] for r in held])
        torch.testing.assert_close(logits, want, rtol=1e-4, atol=1e-5)
        assert logits.argmax(-1).tolist() == want.argmax(-1).tolist()

    check(engine.add(rows), rows)
    for step in range(30):
        tokens = torch.randint(90, (len(rows),), generator=generator).tolist()
        rows = [[*r, t] for r, t in zip(rows, tokens, strict=True)]
        check(engine.step(tokens), rows)
        if step == 9:  # the first leaves, the last takes its row
            engine.remove(0)
            rows = [rows[-1], *rows[1:-1]]
        if step == 19:
            new = [torch.randint(90, (n,), generator=generator).tolist() for n in (3, 7)]
            check(engine.add(new), new)
            rows += new


def test_a_row_can_fill_the_context(tmp_path):
    model = made(tmp_path)
    engine, row = load_engine(tmp_path, slots=1), list(range(40))
    engine.add([row])
    for token in range(8):
        logits = engine.step([token])
        row.append(token)
    with torch.no_grad():
        torch.testing.assert_close(logits[0], model(torch.tensor([row])).logits[0, -1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("changes", "words"), [
    ({"model_type": "gpt2"}, "no engine computes this kind"), ({"hidden_act": "gelu"}, "hidden_act"),
    ({"attention_bias": True}, "attention_bias"),
    ({"mlp_bias": True}, "mlp_bias"), ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8}}, "rope_type"),
    ({"num_hidden_layers": 3}, "a weight is missing")])
def test_what_would_be_computed_wrongly_is_refused(changes, words, tmp_path):
    made(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(WorkbenchError, match=words):
        load_engine(tmp_path, slots=1)


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    made(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WorkbenchError, match="NaN"):
        load_engine(tmp_path, slots=1)


def test_a_pickle_is_refused_and_never_opened(tmp_path):
    made(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n")
    with pytest.raises(UnsafeFileError, match="pytorch_model.bin"):
        load_engine(tmp_path, slots=1)
    (tmp_path / "model.safetensors").write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(UnsafeFileError, match="no safetensors file|not a safetensors file"):
        load_engine(tmp_path, slots=1)
