"""The training text as numbers: a tokenizer learned from it, and each split as one memory-mapped stream of ids."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..dataset import Dataset
from ..storage import staging
from ..workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

FORMAT = 2
"""Part of the cache's key: what changes when the numbers would."""
BYTES_A_TOKEN = 100
"""Bytes of training text that each token of the vocabulary must stand on."""
LEAST_VOCABULARY = 300
_CHUNK = 1024


def fitting_vocabulary(wanted: int, train_bytes: int) -> int:
    """The size of vocabulary that an amount of text can teach.

    Examples
    --------
    >>> fitting_vocabulary(2048, 8_000_000), fitting_vocabulary(2048, 60_000), fitting_vocabulary(2048, 500)
    (2048, 600, 300)
    """
    return min(wanted, max(LEAST_VOCABULARY, train_bytes // BYTES_A_TOKEN))


@dataclass(frozen=True)
class Tokens:
    """The streams of a dataset version under a vocabulary.

    Each document is followed by id 0, and the stream begins with it. ``tokenizer.json`` lies beside.
    """

    path: Path

    @cached_property
    def meta(self) -> dict[str, Any]:
        """Vocabulary, dtype, and for each split its tokens, documents and bytes."""
        return json.loads((self.path / "meta.json").read_text())

    @property
    def vocabulary(self) -> int:
        return self.meta["vocabulary"]

    def count(self, split: str) -> int:
        """Tokens of a split."""
        return self.meta["splits"][split]["tokens"]

    def stream(self, split: str) -> np.ndarray:
        """Ids of a split, memory-mapped, shape (tokens,)."""
        import numpy as np

        return np.memmap(self.path / f"{split}.bin", dtype=self.meta["dtype"], mode="r")

    def lengths(self) -> np.ndarray:
        """Bytes of text that each id stands for, shape (vocabulary,); 0 for the end of a document."""
        import numpy as np

        return np.asarray(self.meta["lengths"], dtype=np.int64)


def cached(workspace: Workspace, digest: str, vocabulary: int) -> Tokens | None:
    """The streams of a dataset digest, if they were made before."""
    found = Tokens(_folder(workspace, digest, vocabulary))
    return found if (found.path / "meta.json").exists() else None


def prepare(control: object, argument: dict[str, Any]) -> str:  # noqa: ARG001 - the signature of what a gang calls
    """Make the streams of a dataset (argument: root, dataset, vocabulary), in a process of the gang; returns their directory."""
    return str(make(Workspace(argument["root"]), Dataset(Path(argument["dataset"])), argument["vocabulary"]).path)


def make(workspace: Workspace, dataset: Dataset, vocabulary: int) -> Tokens:
    """Learn the tokenizer from the train split, encode the splits, commit both to the cache at once."""
    import numpy as np

    from ..model import learn_tokenizer, save_tokenizer

    final = _folder(workspace, dataset.digest, vocabulary)
    with staging(final.parent) as place:
        tokenizer = learn_tokenizer(dataset.texts("train"), vocabulary)
        save_tokenizer(tokenizer, place.path)
        # A text that spells the mark of a document's end means the letters: only a document's end is one.
        tokenizer.backend_tokenizer.encode_special_tokens = True
        dtype = np.uint16 if len(tokenizer) <= 1 << 16 else np.uint32
        splits = {}
        for split in ("train", "validation"):
            documents = tokens = size = 0
            with open(place / f"{split}.bin", "wb") as file:
                file.write(np.zeros(1, dtype).tobytes())
                for texts in _chunks(dataset.texts(split)):
                    encoded = tokenizer.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False)
                    # One id 0 behind each document: between two, and at the end.
                    packed = np.concatenate([part for e in encoded for part in (np.asarray(e.ids, dtype), np.zeros(1, dtype))])
                    file.write(packed.tobytes())
                    documents, tokens, size = documents + len(texts), tokens + len(packed), size + sum(len(t.encode()) for t in texts)
            splits[split] = {"documents": documents, "tokens": tokens + 1, "bytes": size}
        # In the byte-level alphabet each character of a token is one byte of text.
        names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        lengths = [0, *(len(n) for n in names[1:])]
        (place / "meta.json").write_text(json.dumps({"dataset": dataset.digest, "vocabulary": len(tokenizer), "dtype": np.dtype(dtype).name,
                                                     "splits": splits, "lengths": lengths}))
        return Tokens(place.commit(final))


def _chunks(texts: Iterator[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    for text in texts:
        chunk.append(text)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _folder(workspace: Workspace, digest: str, vocabulary: int) -> Path:
    return workspace.path("cache", "tokens", f"{digest}-{vocabulary}-{FORMAT}")
