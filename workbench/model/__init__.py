"""Model versions: safetensors, configuration, tokenizer, card; loaded without running any code of theirs."""

from .llama import llama_config, new_llama
from .pretrained import load_pretrained
from .tokenizer import learn_tokenizer, save_tokenizer
from .version import Model, write_model
from .weights import load_weights, refuse_pickles, save_weights

__all__ = ["Model", "learn_tokenizer", "llama_config", "load_pretrained", "load_weights", "new_llama", "refuse_pickles", "save_tokenizer",
           "save_weights", "write_model"]
