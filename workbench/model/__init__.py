"""Model versions: safetensors, configuration, tokenizer, card; loaded without running any code of theirs."""

from .version import Model, write_model
from .weights import load_weights, refuse_pickles, save_weights

__all__ = ["Model", "load_weights", "refuse_pickles", "save_weights", "write_model"]
