"""Pretraining: a Llama that predicts the next token."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from ... import model as models
from ...errors import SourceError
from ...music import read_tune, wav
from ..objective import Objective, spaced
from ..reading.mixture import Mixture
from ..reading.tokens import Tokens
from ..reading.windows import Windows

SAMPLE_TOKENS = 40
TUNE_TOKENS = 120
"""Of a tune's beginning: some bars, which is what tells a tune from notes."""
TUNES = ("abc", "midi")
SECONDS = 10.0
"""Of a tune that is kept as sound."""


class Pretrain(Objective):
    """A Llama with random weights, trained on windows of the token stream."""

    @cached_property
    def tokens(self) -> Tokens:
        """The streams of the dataset."""
        return Tokens.told_of(self.plan)

    def reads(self) -> Windows | Mixture:
        return self.tokens.reading(self.plan["context"], self.plan["seed"])

    def fresh(self) -> torch.nn.Module:
        plan = self.plan
        return models.new_llama(models.llama_config(plan["size"], self.tokens.vocabulary, plan["context"]), plan["seed"])

    def loss(self, batch: torch.Tensor, model: torch.nn.Module | None = None, reduction: str = "mean") -> torch.Tensor:
        """Cross entropy of the next tokens, nats; ``batch`` has shape (sequences, context + 1)."""
        logits = (model or self.model)(input_ids=batch[:, :-1], use_cache=False).logits
        return cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten(), reduction=reduction)

    @torch.no_grad()
    def scores(self, most: int | None = None, model: torch.nn.Module | None = None) -> torch.Tensor:
        """Nats and bytes of each window of the validation split.

        The stream is cut into windows of ``context`` + 1 tokens that overlap by one; ranks take turns at them, and the
        ends of documents are predicted too but count no bytes.
        """
        context, stream = self.plan["context"], self.tokens.stream("validation")
        lengths = torch.from_numpy(self.tokens.lengths())
        starts = list(range(0, len(stream) - 1, context))
        starts = [starts[n] for n in spaced(len(starts), most)]
        model = model or self.model
        device = next(model.parameters()).device
        table = torch.zeros(len(starts), 2, dtype=torch.float64)
        training = model.training
        model.eval()
        at = self.rank
        for group in _alike([stream[s:s + context + 1] for s in starts[self.rank::self.world]], size=8):
            batch = torch.from_numpy(group.astype(np.int64))
            nats = self.loss(batch.to(device), model, "none").double().view(len(group), -1).sum(1).cpu()
            for one, size in zip(nats, lengths[batch[:, 1:]].sum(1), strict=True):
                table[at] = torch.stack([one, size.double()])
                at += self.world
        model.train(training)
        return self.together(table)

    @torch.no_grad()
    def shown(self, step: int, model: torch.nn.Module | None = None) -> list[dict[str, Any]]:
        """A continuation of each of the plan's prompts; of tunes also as they sound, as far as they can be read."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.tokens.path / "tokenizer.json"))
        model, found = model or self.model, []
        most = TUNE_TOKENS if self.tokens.form in TUNES else SAMPLE_TOKENS
        training = model.training
        model.eval()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.plan["seed"] * 1_000_003 + step)
            for prompt in self.plan["prompts"]:
                ids = [0, *tokenizer.encode(prompt, add_special_tokens=False).ids][-self.plan["context"] // 2:]
                given = torch.tensor([ids], device=model.device)
                made = model.generate(given, attention_mask=torch.ones_like(given), do_sample=True, temperature=0.8, top_k=50,
                                      max_new_tokens=min(most, self.plan["context"] - len(ids)), pad_token_id=0, eos_token_id=0)
                text = tokenizer.decode(made[0, len(ids):].tolist(), skip_special_tokens=True)
                found.append({"prompt": prompt, "text": text, **self._heard(prompt + text, len(found))})
        model.train(training)
        return found

    def _heard(self, text: str, number: int) -> dict[str, Any]:
        """What a tune sounds like up to its first fault, where there is a note before it."""
        if self.tokens.form not in TUNES:
            return {}
        try:
            tune = read_tune(self.tokens.form, text, lenient=True)
        except SourceError:
            return {}
        content = {"content": base64.b64encode(wav(tune, SECONDS)).decode()} if tune.notes else {}
        return content and {"media": "audio/wav", "number": number, **content}

    def save(self, out: Path) -> None:
        from transformers import PreTrainedTokenizerFast

        out.mkdir(parents=True, exist_ok=True)
        self.model.to("cpu").save_pretrained(out)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(self.tokens.path, local_files_only=True)
        tokenizer.model_max_length = self.plan["context"]
        models.save_tokenizer(tokenizer, out)


def _alike(windows: list[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Windows of one length stacked, ``size`` at most; the last of a stream is shorter and goes alone."""
    group: list[np.ndarray] = []
    for window in windows:
        if group and (len(group) == size or len(window) != len(group[0])):
            yield np.stack(group)
            group = []
        group.append(window)
    if group:
        yield np.stack(group)
