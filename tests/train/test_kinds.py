"""A base of any kind that transformers knows is taught, written, and served: not Llamas alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from answered import asked, chat_data
from transformers import AutoConfig, AutoModelForCausalLM

from workbench import runs
from workbench.model import learn_tokenizer, save_tokenizer
from workbench.serve.engine import load_engine
from workbench.serve.text import Language

SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128,
         "head_dim": 16, "max_position_embeddings": 64}
KINDS = {
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64},  # its layers are no nn.Linear
    "qwen3": SIZES,
    "gemma3_text": {**SIZES, "sliding_window": 16, "query_pre_attn_scalar": 16},
}
soak = pytest.mark.skipif(not os.environ.get("WORKBENCH_SOAK"), reason="as the first one: set WORKBENCH_SOAK=1")


def base_of(kind: str, folder: Path) -> Path:
    """A directory with a base of random weights; whether it begins texts with a mark is its tokenizer's to say."""
    tokenizer = learn_tokenizer((m["content"] for messages in asked() for m in messages), 330)
    if kind == "qwen3":
        tokenizer.bos_token = None
    torch.manual_seed(3)
    config = AutoConfig.for_model(kind, **KINDS[kind], vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=0, pad_token_id=0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def colours(live):
    return chat_data(live, "kinds")


@pytest.mark.parametrize("kind", ["gpt2", *(pytest.param(k, marks=soak) for k in KINDS if k != "gpt2")])
def test_all_weights_then_an_adapter_learn_to_answer_and_an_endpoint_answers_so(kind, live, colours, tmp_path):
    chat_data(live, "kinds-hued", answer="{}, I say.")
    first = answers(live, kind, "kinds", base_of(kind, tmp_path / "base"), None)
    answers(live, kind, "kinds-hued", first, {"rank": 16, "alpha": 64})


def answers(live, kind, data, base, adapter):
    run = runs.run({"word": "train", "data": data, "name": f"{data}-{kind}", "epochs": 25, "learning_rate": 1e-2,
                    "every": {"checkpoint": 100, "evaluate": 100, "sample": 1000}, "prompts": ["What colour is sky?"],
                    "objective": {"kind": "sft", "base": str(base), "adapter": adapter, "context": 64}}, live)
    metrics, model = run.result["metrics"], run.output
    assert metrics["answer_loss"] < 0.5 * metrics["answer_loss_before"]
    *_, before, shown = [e.data["text"] for e in run.events(kinds=["sample"])]
    language, engine = Language(model.path), load_engine(model.path, slots=1)
    assert language.begin == (None if kind == "qwen3" else 0)
    ids = language.tokens(language.chat([{"role": "user", "content": "What colour is sky?"}]))
    logits = engine.add([ids])
    torch.testing.assert_close(logits, model.load()(torch.tensor([ids])).logits[:, -1], rtol=1e-3, atol=1e-3)
    said = []
    while (token := int(logits.argmax())) not in language.ends and len(said) < 20:
        said.append(token)
        logits = engine.step([token])
    assert language.tokenizer.decode(said) == shown != before
    return model.reference
