"""A language model from a directory in Hugging Face's form, of any kind that transformers knows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..errors import SourceError
from .weights import no_bars, refuse_pickles

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_pretrained(path: str | os.PathLike) -> PreTrainedModel:
    """The model in single precision, on the CPU; no code of its own is run, and none of its weights is made up.

    Raises
    ------
    UnsafeFileError
        Where its weights are offered as a pickle.
    SourceError
        Where they don't load, or are not those that its configuration asks for.
    """
    import torch
    from transformers import AutoModelForCausalLM

    refuse_pickles(path)
    no_bars()
    try:
        model, told = AutoModelForCausalLM.from_pretrained(path, use_safetensors=True, trust_remote_code=False, local_files_only=True,
                                                           dtype=torch.float32, output_loading_info=True)
    except Exception as error:  # noqa: BLE001 - the libraries raise what they please for what they can't read
        raise SourceError("holds weights that do not load", where=path, received=f"{type(error).__name__}: {error}"[:180],
                          allowed="a language model that transformers knows, with weights in safetensors") from None
    unlike = [str(k) for k in (*told["missing_keys"], *told.get("mismatched_keys", ()))]
    if unlike:
        raise SourceError("holds weights that do not load: they are not those of its configuration", where=path,
                          received=f"missing or of another shape: {', '.join(sorted(unlike)[:3])}", allowed="weights for each parameter of "
                          f"{type(model).__name__}", hint="Take config.json and the weights of one model")
    return model
