"""The training text as numbers: a tokenizer learned from it, and each split as one memory-mapped stream of ids."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..dataset import Dataset
from ..errors import SourceError
from ..storage import staging
from ..workspace import Workspace
from .spec import TrainSpec

if TYPE_CHECKING:
    import numpy as np

    from .plan import Plan

FORMAT = 2
"""Part of the cache's key: what changes when the numbers would."""
BYTES_A_TOKEN = 100
"""Bytes of training text that each token of the vocabulary must stand on."""
LEAST_VOCABULARY = 300
LEAST_HELD_OUT = 200
"""Bytes of validation text below which bits a byte says nothing."""
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

    @property
    def form(self) -> str:
        """What a document is: ``text``, ``chat``, ``abc``, ``midi`` …"""
        return self.meta.get("form", "text")

    def stream(self, split: str) -> np.ndarray:
        """Ids of a split, memory-mapped, shape (tokens,)."""
        import numpy as np

        return np.memmap(self.path / f"{split}.bin", dtype=self.meta["dtype"], mode="r")

    def told(self) -> dict[str, Any]:
        """What each rank must know of it."""
        return {"tokens": str(self.path)}

    def metrics(self) -> dict[str, Any]:
        """What a model's manifest says of it."""
        return {"text_bytes": self.meta["splits"]["train"]["bytes"], "vocabulary": self.vocabulary}

    def lengths(self) -> np.ndarray:
        """Bytes of text that each id stands for, shape (vocabulary,); 0 for the end of a document."""
        import numpy as np

        return np.asarray(self.meta["lengths"], dtype=np.int64)


def refuse(spec: TrainSpec, workspace: Workspace, dataset: Dataset) -> dict[str, str]:  # noqa: ARG001 - what every material is asked
    """Raise where a dataset can't be pretrained on; no further inputs.

    Raises
    ------
    SourceError
    """
    if dataset.modality != "text":
        raise SourceError("holds images, and this objective trains on text", where=dataset.reference, received=dataset.modality,
                          allowed="a dataset of text")
    train, held_out = dataset.manifest["splits"]["train"], dataset.manifest["splits"]["validation"]
    if held_out["bytes"] < LEAST_HELD_OUT:
        raise SourceError("has too little held-out text to measure on", where=dataset.reference,
                          received=f"{held_out['records']} records, {held_out['bytes']:,} bytes in validation",
                          allowed=f"{LEAST_HELD_OUT} bytes or more",
                          hint="Curate with a larger split.validation, or add text")
    # A token is a byte at least, so this much is certain before anything is tokenised.
    most = train["bytes"] + train["records"] + 1
    if most < 2 * spec.model.context + 1:
        raise SourceError("is too little text to train on", where=dataset.reference, received=f"{train['bytes']:,} bytes",
                          allowed=f"more than {2 * spec.model.context:,} tokens for a context of {spec.model.context}",
                          hint="Add text, or set a smaller model.context")
    return {}


def cached(workspace: Workspace, digest: str, vocabulary: int) -> Tokens | None:
    """The streams of a dataset digest, if they were made before."""
    found = Tokens(_folder(workspace, digest, vocabulary))
    return found if (found.path / "meta.json").exists() else None


def found(spec: TrainSpec, workspace: Workspace, dataset: Dataset, inputs: dict[str, str]) -> Tokens | None:  # noqa: ARG001
    """What a spec reads of a dataset, if it was made before."""
    return cached(workspace, dataset.digest, vocabulary_of(spec, dataset))


MAKING = "tokenising"
"""What making it is called."""


def said(spec: TrainSpec, dataset: Dataset) -> list[str]:
    """What is otherwise than the spec says, in sentences."""
    wanted = vocabulary_of(spec, dataset)
    if wanted == spec.model.vocabulary:
        return []
    return [f"a vocabulary of {wanted} tokens instead of {spec.model.vocabulary}: there is little text"]


def prompts(dataset: Dataset, most: int) -> tuple[str, ...]:
    """Beginnings for the model to continue, where the spec names none."""
    return tuple(dataset.beginnings(most))


def refuse_nothing(plan: Plan, made: Tokens, dataset: Dataset) -> None:
    """Raise where the first step would train no token of text."""
    from .sight import refuse_nothing as refuse_empty

    refuse_empty(plan, made, plan.ranks, dataset)


def vocabulary_of(spec: TrainSpec, dataset: Dataset) -> int:
    """The size of vocabulary that a spec gets from a dataset."""
    return fitting_vocabulary(spec.model.vocabulary, dataset.manifest["splits"]["train"]["bytes"])


def prepare(control: object, argument: dict[str, Any]) -> str:  # noqa: ARG001 - the signature of what a gang calls
    """Make what a spec reads (argument: root, dataset, spec, inputs), in a process of the gang; returns its directory."""
    dataset = Dataset(Path(argument["dataset"]))
    return str(make(Workspace(argument["root"]), dataset, vocabulary_of(TrainSpec.load(argument["spec"]), dataset)).path)


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
        (place / "meta.json").write_text(json.dumps({"dataset": dataset.digest, "form": dataset.form, "vocabulary": len(tokenizer),
                                                     "dtype": np.dtype(dtype).name, "splits": splits, "lengths": lengths}))
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
