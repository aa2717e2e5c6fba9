"""The subject of an assessment: a model and its data, with the two things that probes ask of a model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ..dataset import Dataset
from ..errors import SourceError
from ..model import Model
from ..workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

END = 0
"""The token that begins and ends every document."""
_LOGITS = 2**21  # numbers of one batch's logits: 8 MB, which stay in the cache


@dataclass(frozen=True)
class Subject:
    """A model, the data that it is held against, and the seed from which all that is random follows."""

    workspace: Workspace
    model: Model
    data: Dataset
    seed: int
    pause: Callable[[float], None] = lambda _: None
    """called between batches with the share of the work that is done: it may raise, so that a stop is heard while a probe is at work"""

    @cached_property
    def network(self) -> PreTrainedModel:
        """The model's network, in evaluation mode."""
        return self.model.load()

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The model's tokenizer."""
        return self.model.tokenizer()

    @property
    def context(self) -> int:
        """Tokens that the model sees at once."""
        return self.network.config.max_position_embeddings

    def random(self, *purpose: str) -> np.random.Generator:
        """Random numbers of their own for each purpose."""
        import numpy as np

        return np.random.default_rng(self.seed_for(*purpose))

    def seed_for(self, *purpose: str) -> int:
        """A seed of its own for each purpose."""
        return int.from_bytes(hashlib.sha256(repr((self.seed, purpose)).encode()).digest()[:7])

    def records(self, split: str) -> list[dict[str, str]]:
        """Records of a split (id, text, source, locator) in an order drawn by the seed.

        The order rests on ids alone, so it is the same however the shards lie.
        """
        rows = self.data.table(split, ["id", "text", "source", "locator"]).to_pylist()
        rows = sorted((r for r in rows if r["text"]), key=lambda r: r["id"])
        return [rows[n] for n in self.random("records", split).permutation(len(rows))]

    def encode(self, texts: Iterable[str]) -> list[list[int]]:
        """Tokens of each text, without end marks."""
        texts = list(texts)
        return self.tokenizer(texts, add_special_tokens=False, verbose=False).input_ids if texts else []

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens; an end mark becomes a line end."""
        pieces: list[list[int]] = [[]]
        for token in tokens:
            if token == END:
                pieces.append([])
            else:
                pieces[-1].append(int(token))
        return "\n".join(self.tokenizer.decode(p) for p in pieces)

    def predictions(self, sequences: Sequence[Sequence[int]], *, part: tuple[int, int] = (0, 1)) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each sequence of n tokens, of its tokens 1 to n - 1: surprisal, and whether each was the likeliest.

        Parameters
        ----------
        sequences : at most ``context + 1`` tokens each; they may differ in length.
        part : which of how many equal parts of a probe's work this is, for its progress.

        Returns
        -------
        list of (surprisal in nats, float64 of shape (n - 1,); greedy, bool of shape (n - 1,))

        Raises
        ------
        SourceError
            When the model gives probabilities that are not finite.
        """
        import torch

        order = sorted(range(len(sequences)), key=lambda n: len(sequences[n]))
        room = max(1, _LOGITS // self.network.config.vocab_size)
        found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        while order:
            self.pause((part[0] + len(found) / len(sequences)) / part[1])
            # Like lengths together; the longest are last, and padding stands where no causal model looks.
            width = len(sequences[order[-1]]) - 1
            count = max(1, min(room // max(width, 1), len(order)))
            rows, order = order[-count:], order[:-count]
            batch = torch.zeros(len(rows), width + 1, dtype=torch.long)
            for place, n in enumerate(rows):
                batch[place, :len(sequences[n])] = torch.as_tensor(sequences[n])
            with torch.inference_mode():
                logits = self.network(input_ids=batch[:, :-1], use_cache=False).logits.float()
                surprisal = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="none")
                surprisal, greedy = surprisal.view(len(rows), -1), logits.argmax(-1) == batch[:, 1:]
            if not torch.isfinite(logits).all():
                raise self._not_finite()
            for place, n in enumerate(rows):
                size = len(sequences[n]) - 1
                found[n] = surprisal[place, :size].double().numpy(), greedy[place, :size].numpy()
        return [found[n] for n in range(len(sequences))]

    def sample(self, count: int, tokens: int, *purpose: str, temperature: float = 1.0) -> list[str]:
        """Free texts: ``count`` of them, each of ``tokens`` tokens drawn after the mark that begins a document."""
        import torch

        generator = torch.Generator().manual_seed(self.seed_for("sample", *purpose))
        texts = []
        with torch.inference_mode():
            for start in range(0, count, 128):
                step = torch.full((min(128, count - start), 1), END)
                drawn, cache = [], None
                for place in range(tokens):
                    self.pause((start * tokens + len(step) * place) / (count * tokens))
                    out = self.network(input_ids=step, past_key_values=cache, use_cache=True)
                    cache, logits = out.past_key_values, out.logits[:, -1].float()
                    if not torch.isfinite(logits).all():
                        raise self._not_finite()
                    step = torch.multinomial(torch.softmax(logits / temperature, -1), 1, generator=generator)
                    drawn.append(step)
                texts += [self.decode(row) for row in torch.cat(drawn, 1).tolist()]
        return texts

    def _not_finite(self) -> SourceError:
        return SourceError("gives probabilities that are not finite: its weights hold NaN or infinity", where=self.model.reference,
                           hint="Train it anew with a smaller learning rate")
