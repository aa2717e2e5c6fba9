"""Llama-form language models by size: a transformers configuration and random weights from a seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import SpecError, near
from .weights import no_bars

if TYPE_CHECKING:
    from transformers import LlamaConfig, LlamaForCausalLM

# name: hidden size, layers, heads, heads of keys and values, size of the feed-forward layer
SIZES = {
    "100K": (64, 2, 4, 4, 160),
    "1M": (128, 4, 4, 4, 344),
    "10M": (320, 7, 5, 5, 864),
    "100M": (768, 12, 12, 12, 2048),
}
"""Sizes by name: parameters, roughly, with a vocabulary of 2,048 (100M: of 16,384)."""


def llama_config(size: str, vocabulary: int, context: int) -> LlamaConfig:
    """The configuration of a size (Touvron et al., "LLaMA", 2023): RMSNorm, rotary positions, SwiGLU, tied head.

    Parameters
    ----------
    vocabulary : number of tokens; id 0 begins and ends every document.
    context : tokens that the model sees at once.

    Raises
    ------
    SpecError
        For a size that has no name here.
    """
    from transformers import LlamaConfig

    if size not in SIZES:
        close = near(size, SIZES)
        raise SpecError.one("model.size", f"received {size!r}; expected one of {', '.join(SIZES)}"
                            + (f'; did you mean "{close}"?' if close else ""))
    hidden, layers, heads, kv_heads, inner = SIZES[size]
    return LlamaConfig(vocab_size=vocabulary, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
                       num_key_value_heads=kv_heads, intermediate_size=inner, max_position_embeddings=context, rms_norm_eps=1e-5,
                       tie_word_embeddings=True, bos_token_id=0, eos_token_id=0, pad_token_id=0, attention_bias=False,
                       mlp_bias=False, use_cache=True)


def new_llama(config: LlamaConfig, seed: int) -> LlamaForCausalLM:
    """A model with random weights, the same for the same seed; the caller's random state is left as it was.

    Weights are normal with deviation 0.02; those that write into the residual stream are scaled by
    1/sqrt(2 layers) (Radford et al., "Language models are unsupervised multitask learners", 2019).
    """
    import torch
    from transformers import LlamaForCausalLM

    no_bars()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.dim() > 1:
                    inward = name.endswith(("o_proj.weight", "down_proj.weight"))
                    scale = 0.02 / (2 * config.num_hidden_layers) ** 0.5 if inward else 0.02
                    parameter.normal_(0.0, scale, generator=generator)
    model.generation_config.update(bos_token_id=0, eos_token_id=0, pad_token_id=0)
    return model
