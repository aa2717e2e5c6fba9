"""Chats as a base reads them: its template applied, each token marked as trained or not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ...errors import SourceError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Message = dict[str, str]
_MARKS = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
"""A template that says itself what an assistant writes."""


@dataclass(frozen=True)
class Turn:
    """A chat in tokens: ``trained`` is 1 for those that the assistant writes, the end of its turn with them."""

    ids: list[int]
    trained: list[int]
    merged: bool
    """a token lies over the border of question and answer: asked alone, the question is other tokens"""
    ended: int | None
    """the end mark behind the last answer; none: nothing tells the model to stop"""


class Template:
    """A tokenizer's chat template, applied for training.

    What the assistant writes is what the template says (``{% generation %}``); where it says nothing, what a chat up to an
    answer adds to the same chat up to the question, with the beginning that an answer gets when it is asked for.

    Parameters
    ----------
    begin : the model's own beginning mark, put before a chat where the template writes none: as serving does.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, begin: int | None = None):
        self.tokenizer = tokenizer
        self.begin = begin if begin == tokenizer.bos_token_id else None
        self.marks = bool(_MARKS.search(tokenizer.chat_template))

    @cached_property
    def special(self) -> frozenset[int]:
        """Ids that stand for no text."""
        return frozenset(i for i, t in self.tokenizer.added_tokens_decoder.items() if t.special)

    def asked(self, messages: Sequence[Message]) -> list[int]:
        """A question in tokens, up to where the assistant writes."""
        return self._begun(self._ids(self._text(messages, ask=True)))

    def turn(self, messages: Sequence[Message], answers: int = 0) -> Turn:
        """A chat in tokens.

        Parameters
        ----------
        answers : number of the message from which on answers are trained.

        Raises
        ------
        SourceError
            Where the template refuses the chat, or does not show what an assistant writes.
        """
        if self.marks and not answers:
            made = self._applied(messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
            ids, trained, merged = list(made["input_ids"]), list(made["assistant_masks"]), False
        else:
            ids, trained, merged = self._by_differences(messages, answers)
        whole = self._begun(ids)
        trained = [0] * (len(whole) - len(ids)) + trained
        last = max((n for n, t in enumerate(trained) if t), default=-1)
        return Turn(whole, trained, merged, whole[last] if last >= 0 and whole[last] in self.special else None)

    def _by_differences(self, messages: Sequence[Message], answers: int) -> tuple[list[int], list[int], bool]:
        text, spans = self._text(messages), []
        for n, message in enumerate(messages):
            if message["role"] == "assistant" and n >= answers:
                before, after = self._text(messages[:n], ask=True), self._text(messages[:n + 1])
                if not after.startswith(before) or not text.startswith(after):
                    raise SourceError("the chat template does not show what an assistant writes", where="objective.template",
                                      received=f"another beginning once an answer stands: {before[-60:]!r}",
                                      allowed="a template whose text for a question is the beginning of that with its answer",
                                      hint="Put {% generation %} and {% endgeneration %} around what the assistant writes, and give it "
                                           'as objective.template; or take objective.template="plain"')
                spans.append((len(before), len(after)))
        made = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids, trained, merged = list(made["input_ids"]), [0] * len(made["input_ids"]), False
        for begin, end in spans:
            own = [n for n, (a, b) in enumerate(made["offset_mapping"]) if b > begin and a < end]
            merged |= bool(own) and made["offset_mapping"][own[0]][0] < begin
            # What stands behind the end mark is never written by the model: its answer is over.
            mark = max((n for n in own if ids[n] in self.special), default=None)
            if mark is not None and not text[made["offset_mapping"][mark][1]:end].strip():
                own = [n for n in own if n <= mark]
            for n in own:
                trained[n] = 1
        return ids, trained, merged

    def _begun(self, ids: list[int]) -> list[int]:
        return ids if self.begin is None or ids[:1] == [self.begin] else [self.begin, *ids]

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _text(self, messages: Sequence[Message], ask: bool = False) -> str:
        return self._applied(messages, tokenize=False, add_generation_prompt=ask) if messages or ask else ""

    def _applied(self, messages: Sequence[Message], **options: Any) -> Any:
        from jinja2 import TemplateError

        try:
            return self.tokenizer.apply_chat_template([dict(m) for m in messages], **options)
        except TemplateError as error:
            raise SourceError("the chat template refuses a chat", where="objective.template", received=f"{error}"[:160],
                              allowed=f"roles {', '.join(m['role'] for m in messages)}",
                              hint="Curate the chats into the form that the base was made for, or give another objective.template"
                              ) from None
