"""Engines against transformers: the same logits, whoever joins and leaves; what can't be computed rightly is refused."""

from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from workbench.errors import UnsafeFileError, WorkbenchError
from workbench.serve.engine import load_engine
from workbench.serve.engines.causal import CausalEngine
from workbench.serve.engines.llama import LlamaEngine

FORMS = {"plain": {}, "grouped": {"num_key_value_heads": 2}, "untied": {"tie_word_embeddings": False}, "wide": {"head_dim": 24},
         "theta": {"rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}}}

SIZES = {"vocab_size": 90, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
         "intermediate_size": 96, "max_position_embeddings": 48, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
OTHERS = {
    "gpt2": {"vocab_size": 90, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 48},
    "opt": {"ffn_dim": 96, "word_embed_proj_dim": 64}, "bloom": {"n_layer": 2, "n_head": 4}, "gpt_neox": {},
    "mistral": {"sliding_window": 6}, "mixtral": {"num_local_experts": 3}, "qwen2": {}, "qwen3": {"head_dim": 16}, "phi3": {}, "olmo2": {},
    "gemma2": {"head_dim": 16, "sliding_window": 6, "query_pre_attn_scalar": 16},
    "gemma3_text": {"head_dim": 16, "sliding_window": 6, "query_pre_attn_scalar": 16},
    "llama": {"attention_bias": True, "mlp_bias": True, "hidden_act": "gelu",
              "rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                  "original_max_position_embeddings": 24}},
}
OFTEN = ("gpt2", "mistral", "qwen3", "gemma3_text", "llama")


def made(folder, **changes):
    config = LlamaConfig(**{"vocab_size": 90, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
                            "intermediate_size": 96, "max_position_embeddings": 48, "tie_word_embeddings": True, **changes})
    torch.manual_seed(1)
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(folder)
    return model


def other(folder, kind):
    """A model that is no plain Llama; its sizes under whatever names."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SIZES, **OTHERS[kind]}), dtype=torch.float32).eval()
    for parameter in model.parameters():  # with what initialisation leaves at zero or one, too
        parameter.data += 0.02 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return model


soak = pytest.mark.skipif(not os.environ.get("WORKBENCH_SOAK"), reason="one more of many: set WORKBENCH_SOAK=1")


@pytest.mark.parametrize("form", [*FORMS, *(k if k in OFTEN else pytest.param(k, marks=soak) for k in OTHERS)])
@torch.no_grad()
def test_logits_are_those_of_transformers_whoever_joins_and_leaves(form, tmp_path):
    model = made(tmp_path, **FORMS[form]) if form in FORMS else other(tmp_path, form)
    engine = load_engine(tmp_path, slots=4)
    assert type(engine) is (LlamaEngine if form in FORMS else CausalEngine) and engine.context == 48
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
    ({"model_type": None}, "no engine computes this kind of model.*no model_type"), ({"model_type": "qwen3"}, "not those of its"),
    ({"model_type": "mine"}, "a language model that transformers knows"), ({"attention_bias": True}, "missing or of another shape: .*bias"),
    ({"num_hidden_layers": 3}, "a weight is missing")])
def test_what_would_be_computed_wrongly_is_refused(changes, words, tmp_path):
    made(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(WorkbenchError, match=words):
        load_engine(tmp_path, slots=1)


def test_a_model_that_keeps_more_than_keys_and_values_is_refused(tmp_path):
    config = AutoConfig.for_model("mamba", vocab_size=90, hidden_size=32, num_hidden_layers=1, state_size=4)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(WorkbenchError, match="no engine computes this kind of model.*mamba"):
        load_engine(tmp_path, slots=1)


@pytest.mark.parametrize("changes", [{}, {"attention_bias": True}])
def test_weights_that_are_no_numbers_are_refused(changes, tmp_path):
    made(tmp_path, **changes)
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
