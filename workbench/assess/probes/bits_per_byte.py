"""Bits a byte: how well a model predicts held-out text, beside what gzip and xz make of the same text."""

from __future__ import annotations

import gzip
import lzma
import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from ...errors import SourceError
from ..probe import Measure, Probe, excerpt

if TYPE_CHECKING:
    from ...dataset import Dataset
    from ...model import Model
    from ..subject import Subject

SHOWN = 5
"""Examples of either end."""
VARIANT = "held-out test records, each alone; windows of the model's context, by halves"


class BitsPerByte(Probe):
    """Bits that the model needs for a byte of held-out text; gzip's and xz's on the same text beside it."""

    LABEL: ClassVar[str] = "bits a byte on held-out text"
    probe: Literal["bits_per_byte"] = "bits_per_byte"
    max_kilobytes: int = Field(200, ge=1)
    """KB of held-out text measured"""

    def check(self, model: Model, data: Dataset) -> None:  # noqa: ARG002
        """A ratio over fewer than two records has no interval."""
        held_out = data.manifest["splits"]["test"]
        if held_out["records"] < 2 or not held_out["bytes"]:
            raise SourceError("the held-out split is too small to measure bits_per_byte on", where=data.reference,
                              received=f"{held_out['records']} records in test", allowed="2 records or more",
                              hint="Curate with a larger split.test, or add text")

    def measure(self, subject: Subject) -> Measure:
        """Cross-entropy over whole records, each token scored once (Gao et al., "The Pile", 2020, for the unit).

        Each record stands alone behind the mark that begins a document; a record that is measured to its end also
        pays for the end mark, as the compressors pay for a separator. Text longer than the model's context goes
        through windows of the full context that move on by half of it: what is scored there sees at least half a
        context. The interval is bootstrapped over records.
        """
        import numpy as np

        from ..intervals import ratio_interval
        from ..subject import END

        chosen = held_out(subject.records("test"), self.max_kilobytes * 1000)
        texts = [text for _, text, _ in chosen]
        sequences = [[END, *ids, *([END] if whole else [])]
                     for ids, (_, _, whole) in zip(subject.encode(texts), chosen, strict=True)]
        pieces = [(n, w) for n, s in enumerate(sequences) for w in windows(len(s), subject.context)]
        nats = np.zeros(len(sequences))
        scored = subject.predictions([sequences[n][start:stop] for n, (start, stop, _) in pieces])
        for (n, (start, _, first)), (surprisal, _) in zip(pieces, scored, strict=True):
            nats[n] += surprisal[first - start - 1:].sum()
        bits, sizes = nats / math.log(2), np.array([len(t.encode()) for t in texts], float)
        low, high = ratio_interval(bits, sizes, subject.seed_for("bits_per_byte"))
        whole = b"\0".join(t.encode() for t in texts)
        ranked = np.argsort(bits / sizes, kind="stable")
        shown = [(w, int(n)) for w, ns in (("hardest", ranked[:4:-1][:SHOWN]), ("easiest", ranked[:SHOWN])) for n in ns]
        packed = {"gzip": gzip.compress(whole, 9), "xz": lzma.compress(whole, preset=9 | lzma.PRESET_EXTREME)}
        return Measure(
            float(bits.sum() / sizes.sum()), low, high, len(texts), VARIANT, unit="bits a byte",
            beside={name: 8 * len(data) / float(sizes.sum()) for name, data in packed.items()},
            examples=tuple({"record": chosen[n][0]["id"], "which": which, "bits a byte": round(float(bits[n] / sizes[n]), 3),
                            "text": excerpt(texts[n])} for which, n in shown))


def held_out(records: list[dict], most: int) -> list[tuple[dict, str, bool]]:
    """Records up to ``most`` bytes in all: (record, text, whether it is whole); the last may be cut at a character."""
    chosen = []
    for record in records:
        data = record["text"].encode()
        text = data[:most].decode("utf-8", "ignore")
        if text:
            chosen.append((record, text, len(data) <= most))
        most -= len(data)
        if most <= 0:
            break
    return chosen


def windows(length: int, context: int) -> list[tuple[int, int, int]]:
    """Windows over a sequence so that each token but the first is scored once: (start, stop, first scored).

    A window holds at most ``context`` tokens to predict from and the one after them.

    Examples
    --------
    >>> windows(5, 4), windows(9, 4)
    ([(0, 5, 1)], [(0, 5, 1), (2, 7, 5), (4, 9, 7)])
    """
    found, first, step = [], 1, max(1, context // 2)
    while first < length:
        stop = min(length, context + 1 if first == 1 else first + step)
        found.append((max(0, stop - context - 1), stop, first))
        first = stop
    return found
