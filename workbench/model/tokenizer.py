"""The byte-level BPE of a model: learned from its training text, kept in the form that transformers reads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END = "<|endoftext|>"
"""Begins and ends every document; always id 0."""

CHAT = ("{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}"
        "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}")
"""A base model has no turns of its own: roles stand as words, so that a chat is plain text to it. The end mark behind an answer is
what fine-tuning teaches it to stop with."""


def learn_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE (Sennrich et al. 2016; bytes after Radford et al. 2019) learned from texts.

    Any text can be encoded, and decoding gives it back byte for byte. The result depends on the texts alone, not on
    their order or on the number of threads.

    Parameters
    ----------
    vocabulary : most tokens wanted, at least 257 (256 bytes and the end mark); little text yields fewer.

    Examples
    --------
    >>> tokenizer = learn_tokenizer(["a book, a look"], 300)
    >>> tokenizer.decode(tokenizer("a look").input_ids), tokenizer.eos_token_id
    ('a look', 0)
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=[END], show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    raw.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=END, eos_token=END, pad_token=END, chat_template=CHAT,
                                   clean_up_tokenization_spaces=False)


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: str | Path) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json`` into a directory."""
    tokenizer.save_pretrained(str(folder))
