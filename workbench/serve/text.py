"""Text to tokens and, token by token, back: never half a character, never a piece of a stop sequence."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import WorkbenchError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Language:
    """The tokenizer of a model directory with its beginning, its ends and its chat template; loads no transformers."""

    def __init__(self, path: Path):
        from tokenizers import Tokenizer

        self.path = path
        self.tokenizer: Tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        config = _json(path / "config.json")
        ends = _json(path / "generation_config.json").get("eos_token_id", config.get("eos_token_id"))
        self.ends = frozenset([ends] if isinstance(ends, int) else ends or ())
        self._special = {i for i, t in self.tokenizer.get_added_tokens_decoder().items() if t.special}
        self._settings = _json(path / "tokenizer_config.json")
        mark = self._settings.get("bos_token")
        first = self.tokenizer.token_to_id(mark if isinstance(mark, str) else mark["content"]) if mark else None
        self.begin: int | None = first if first == config.get("bos_token_id") else None  # as fine-tuning reads it

    def tokens(self, text: str) -> list[int]:
        """A prompt as the model was trained to see it: the beginning mark once, then the text."""
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids if self.begin is None or ids[:1] == [self.begin] else [self.begin, *ids]

    @cached_property
    def size(self) -> int:
        """Number of tokens."""
        return self.tokenizer.get_vocab_size()

    @cached_property
    def _template(self) -> Any:
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        file = self.path / "chat_template.jinja"
        source = file.read_text("utf-8") if file.exists() else self._settings.get("chat_template")
        if not isinstance(source, str):
            return None
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = lambda value, **k: json.dumps(value, ensure_ascii=False, **k)
        environment.globals["raise_exception"] = _refuse
        # transformers' mark around what an assistant said, for training; to Jinja itself it is no word.
        source = re.sub(r"(\{%[-+]?\s*)(end)?generation(\s*[-+]?%\})", lambda m: m[1] + ("endif" if m[2] else "if true") + m[3], source)
        return environment.from_string(source)

    def chat(self, messages: Sequence[dict[str, str]]) -> str:
        """Messages as the model's template writes them, up to where the assistant goes on.

        Raises
        ------
        WorkbenchError
            When the model has no template, or the template refuses the messages.
        """
        from jinja2 import TemplateError

        if self._template is None:
            raise WorkbenchError("this model has no chat template", hint="Ask /v1/completions")
        marks = {k: v if isinstance(v, str) else v.get("content", "") for k, v in self._settings.items()
                 if k.endswith("_token") and isinstance(v, str | dict)}
        try:
            return self._template.render(messages=list(messages), add_generation_prompt=True, **marks)
        except TemplateError as error:
            raise WorkbenchError(f"the chat template refuses these messages: {error}") from None

    @cached_property
    def _bytes(self) -> list[bytes] | None:
        """Bytes of each token where the tokenizer is byte-level, else None."""
        decoder = json.loads(self.tokenizer.to_str()).get("decoder") or {}
        if decoder.get("type") != "ByteLevel":
            return None
        table = _byte_table()
        words = (self.tokenizer.id_to_token(i) or "" for i in range(self.size))
        return [bytes(table[c] for c in w) if all(c in table for c in w) else w.encode() for w in words]

    def writer(self, stops: Sequence[str] = ()) -> Writer:
        """Turns one answer's tokens to text."""
        pieces = _Bytes(self._bytes, self._special) if self._bytes is not None else _Window(self.tokenizer)
        return Writer(pieces, stops)


class Writer:
    """One answer's text as it grows; the pieces together are what decoding all tokens at once gives.

    Attributes
    ----------
    stopped : true once a stop sequence was met; the text ends before it.
    """

    def __init__(self, pieces: _Bytes | _Window, stops: Sequence[str]):
        self._pieces, self._stops, self._held = pieces, tuple(s for s in stops if s), ""
        self.stopped = False

    def add(self, token: int) -> str:
        """Text that is certain after one more token."""
        return self._pass(self._pieces.add(token), last=False)

    def finish(self) -> str:
        """What was held back, at the end of the answer."""
        return "" if self.stopped else self._pass(self._pieces.finish(), last=True)

    def _pass(self, text: str, *, last: bool) -> str:
        if not self._stops:
            return text
        text = self._held + text
        at = min((p for p in (text.find(s) for s in self._stops) if p >= 0), default=-1)
        if at >= 0:
            self.stopped, self._held = True, ""
            return text[:at]
        keep = 0 if last else max(_overlap(text, s) for s in self._stops)
        self._held = text[len(text) - keep:]
        return text[:len(text) - keep]


class _Bytes:
    """Byte-level tokens: each is some bytes, and UTF-8 is decoded as it comes."""

    def __init__(self, table: list[bytes], special: Iterable[int]):
        self._table, self._special = table, special
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token: int) -> str:
        known = token not in self._special and token < len(self._table)
        return self._decoder.decode(self._table[token]) if known else ""

    def finish(self) -> str:
        return self._decoder.decode(b"", True)


class _Window:
    """Any other tokenizer: the last tokens are decoded with and without the new one, and the difference is new."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer, self._tokens, self._from, self._said = tokenizer, [], 0, 0

    def add(self, token: int) -> str:
        self._tokens.append(token)
        return self._new(last=False)

    def finish(self) -> str:
        return self._new(last=True)

    def _new(self, *, last: bool) -> str:
        before = self._tokenizer.decode(self._tokens[self._from:self._said])
        now = self._tokenizer.decode(self._tokens[self._from:])
        if len(now) <= len(before) or (now.endswith("\ufffd") and not last):
            return ""
        self._from, self._said = self._said, len(self._tokens)
        return now[len(before):]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that is a beginning of ``stop``.

    >>> _overlap("to the en", "end")
    2
    """
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


def _byte_table() -> dict[str, int]:
    """The printable character that stands for each byte in a byte-level vocabulary (Radford et al. 2019)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in plain]
    return {**{chr(b): b for b in plain}, **{chr(256 + n): b for n, b in enumerate(others)}}


def _refuse(message: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8")) if path.exists() else {}
