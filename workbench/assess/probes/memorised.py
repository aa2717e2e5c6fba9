"""Memorisation: how many training passages a model carries on word for word."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from ...errors import SourceError, SpecError
from ..probe import Measure, Probe, excerpt

if TYPE_CHECKING:
    from ...dataset import Dataset
    from ...model import Model
    from ..subject import Subject

LEAST = 10
"""Passages of either kind below which a share says nothing."""
SHOWN = 20
"""Examples: what was repeated whole, then what came nearest to it."""


class Memorised(Probe):
    """Share of training passages whose next tokens the model repeats word for word (Carlini et al. 2023)."""

    LABEL: ClassVar[str] = "memorised passages"
    probe: Literal["memorised"] = "memorised"
    prompt_tokens: int = Field(32, ge=1)
    continuation_tokens: int = Field(32, ge=1)
    passages: int = Field(200, ge=10)
    """passages tried, of training and of held-out text each"""

    def check(self, model: Model, data: Dataset) -> None:
        """Prompt and continuation must fit the model's context; a passage takes a byte a token at least."""
        context = json.loads((model.path / "config.json").read_text("utf-8")).get("max_position_embeddings")
        length = self.prompt_tokens + self.continuation_tokens
        if context and length > context:
            raise SpecError.one("probes.memorised", f"prompt_tokens and continuation_tokens are {length} together; expected {context} "
                                "or fewer, the model's context")
        for split in ("train", "test"):
            found = data.manifest["splits"][split]
            if found["bytes"] < LEAST * length:
                raise _too_small(data, split, f"{found['bytes']:,} bytes in {found['records']} records", LEAST * length)

    def measure(self, subject: Subject) -> Measure:
        """Greedy continuation equal to the passage, for training and, as a control, for held-out text.

        After Carlini et al., "Quantifying memorization across neural language models" (2023). A model continues a
        passage greedily exactly if each of its tokens is the likeliest after the passage up to it, so one look at the
        passage tells. What held-out text scores is what anybody could guess.
        """
        from ...detect.pii import redact
        from ..intervals import share_interval
        from ..subject import END

        counts, repeated, examples = {}, {}, []
        for split in ("train", "test"):
            passages = self._passages(subject, split)
            if len(passages) < LEAST:
                raise _too_small(subject.data, split, f"{len(passages)} passages", None)
            found = subject.predictions([[END, *tokens] for _, tokens in passages], part=(int(split == "test"), 2))
            runs = [_leading(greedy[self.prompt_tokens:]) for _, greedy in found]
            whole = [n for n, run in enumerate(runs) if run == self.continuation_tokens]
            counts[split], repeated[split] = (len(whole), len(passages)), sum(runs) / len(runs)
            if split == "train":
                for n in sorted((n for n, run in enumerate(runs) if run), key=lambda n: -runs[n])[:SHOWN]:
                    record, tokens = passages[n]
                    cut = self.prompt_tokens + runs[n]
                    pieces = {"prompt": tokens[:self.prompt_tokens], "repeated": tokens[self.prompt_tokens:cut], "goes on": tokens[cut:]}
                    said = {k: excerpt(redact(subject.decode(v))[0], 300) for k, v in pieces.items()}
                    examples.append({"record": record["id"], "source": excerpt(record["source"]), "tokens repeated": runs[n], **said})
        hits, tries = counts["train"]
        low, high = share_interval(hits, tries)
        return Measure(
            hits / tries, low, high, tries, f"{self.prompt_tokens} tokens in, {self.continuation_tokens} greedy out, training passages",
            unit="share of passages", examples=tuple(examples),
            beside={"held-out": counts["test"][0] / counts["test"][1], "mean tokens repeated": repeated["train"],
                    "mean tokens repeated, held-out": repeated["test"]})

    def _passages(self, subject: Subject, split: str) -> list[tuple[dict[str, Any], list[int]]]:
        """Passages that do not overlap, one a record as long as there are records, then second ones, and so on."""
        length, random = self.prompt_tokens + self.continuation_tokens, subject.random("passages", split)
        rounds: list[list[tuple[dict[str, Any], list[int]]]] = []
        records = subject.records(split)
        for start in range(0, len(records), 256):
            part = records[start:start + 256]
            for record, ids in zip(part, subject.encode(r["text"] for r in part), strict=True):
                fit = len(ids) // length
                offset = int(random.integers(len(ids) - fit * length + 1))
                for n, piece in enumerate(random.permutation(fit).tolist()):
                    if n == len(rounds):
                        rounds.append([])
                    rounds[n].append((record, ids[offset + piece * length:offset + (piece + 1) * length]))
            if rounds and len(rounds[0]) >= self.passages:
                break
        return [passage for part in rounds for passage in part][:self.passages]


def _leading(hits: Any) -> int:
    """Hits before the first miss."""
    return len(hits) if hits.all() else int(hits.argmin())


def _too_small(data: Dataset, split: str, received: str, least: int | None) -> SourceError:
    name = "held-out split" if split == "test" else "training split"
    return SourceError(f"the {name} is too small to measure memorised on", where=data.reference, received=received,
                       allowed=f"{LEAST} passages or more" + (f", {least:,} bytes" if least else ""),
                       hint="Curate with a larger split.test, add text, or ask for shorter passages" if split == "test"
                       else "Add text, or ask for shorter passages")
