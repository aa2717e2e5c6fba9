"""The training text as numbers: a tokenizer learned from it, and each split as one memory-mapped stream of ids."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...dataset import Dataset
from ...errors import SourceError
from ...registry import Registry
from ...spec import bytes_of
from ...storage import digest_json, staging
from ...workspace import Workspace
from ..spec import TrainSpec

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedTokenizerFast

    from ..plan import Plan
    from .mixture import Mixture
    from .windows import Windows

FORMAT = 2
"""Part of the cache's key: what changes when the numbers would."""
BYTES_A_TOKEN = 100
"""Bytes of training text that each token of the vocabulary must stand on."""
LEAST_VOCABULARY = 300
MIX = "mix:"
"""Before the reference of a dataset that is mixed in, among a run's inputs."""
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
    url: str | None = None
    """where the train split lies, if not here"""
    limit: int = 0
    """bytes of it that are kept here"""
    mixed: tuple[tuple[Path, float], ...] = ()
    """streams that are read beside it, with their weights"""

    @classmethod
    def told_of(cls, plan: dict[str, Any]) -> Tokens:
        """What ``told`` told."""
        return cls(Path(plan["tokens"]), plan.get("stream"), plan.get("stream_limit", 0),
                   tuple((Path(p), w) for p, w in plan.get("mixed", ())))

    @cached_property
    def meta(self) -> dict[str, Any]:
        """Vocabulary, dtype, and for each split its tokens, documents and bytes."""
        return json.loads((self.path / "meta.json").read_text())

    @property
    def vocabulary(self) -> int:
        return self.meta["vocabulary"]

    def count(self, split: str) -> int:
        """Tokens of a split, over all that is mixed."""
        beside = sum(Tokens(p).count(split) for p, _ in self.mixed) if split == "train" else 0
        return self.meta["splits"][split]["tokens"] + beside

    @property
    def form(self) -> str:
        """What a document is: ``text``, ``chat``, ``abc``, ``midi`` …"""
        return self.meta.get("form", "text")

    def stream(self, split: str) -> np.ndarray:
        """Ids of a split, memory-mapped or fetched, shape (tokens,)."""
        import numpy as np

        if split == "train" and self.url is not None:
            from .streaming import Streamed

            return Streamed(self.url, self.path.name, self.path.parent.parent / "streams", self.limit)
        return np.memmap(self.path / f"{split}.bin", dtype=self.meta["dtype"], mode="r")

    def sources(self) -> list[Tokens]:
        """What is read, as it lies here: these, and those that are mixed in, in the order of ``Mixture``."""
        return [replace(self, mixed=(), url=None), *(Tokens(p) for p, _ in self.mixed)]

    def told(self) -> dict[str, Any]:
        """What each rank must know of it."""
        return {"tokens": str(self.path), "stream": self.url, "stream_limit": self.limit, "mixed": [[str(p), w] for p, w in self.mixed]}

    def reading(self, context: int, seed: int) -> Windows | Mixture:
        """What a training reads of it."""
        from .mixture import Mixture
        from .windows import Windows

        own = Windows(self.stream("train"), context=context, seed=seed)
        if not self.mixed:
            return own
        others = [Windows(Tokens(p).stream("train"), context=context, seed=seed) for p, _ in self.mixed]
        return Mixture([own, *others], [1.0, *(w for _, w in self.mixed)], seed)

    def metrics(self) -> dict[str, Any]:
        """What a model's manifest says of it."""
        return {"text_bytes": self.meta["splits"]["train"]["bytes"], "vocabulary": self.vocabulary}

    def lengths(self) -> np.ndarray:
        """Bytes of text that each id stands for, shape (vocabulary,); 0 for the end of a document."""
        import numpy as np

        return np.asarray(self.meta["lengths"], dtype=np.int64)


def refuse(spec: TrainSpec, workspace: Workspace, dataset: Dataset) -> dict[str, str]:
    """Raise where a dataset can't be pretrained on; the digests of those that are mixed with it.

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
    further = {}
    for reference in spec.objective.mix:
        other = Dataset(Registry(workspace).resolve("dataset", reference).path)
        if other.modality != "text":
            raise SourceError("holds images, and this objective trains on text", where=other.reference, received=other.modality,
                              allowed="a dataset of text")
        further[f"{MIX}{reference}"] = other.digest
    return further


def cached(workspace: Workspace, digest: str, vocabulary: int) -> Tokens | None:
    """The streams of a dataset digest, if they were made before."""
    found = Tokens(_folder(workspace, digest, vocabulary))
    return found if (found.path / "meta.json").exists() else None


def found(spec: TrainSpec, workspace: Workspace, dataset: Dataset, inputs: Mapping[str, str]) -> Tokens | None:
    """What a spec reads of a dataset, if it was made before."""
    own = cached(workspace, dataset.digest, vocabulary_of(spec, dataset))
    if own is None:
        return None
    if spec.objective.mix:
        paths = [(_beside(own, inputs[f"{MIX}{r}"]), w) for r, w in spec.objective.mix.items()]
        return replace(own, mixed=tuple(paths)) if all((p / "meta.json").exists() for p, _ in paths) else None
    if spec.objective.stream is not None:
        away = replace(own, url=spec.objective.stream, limit=bytes_of(spec.objective.stream_cache))
        return away if (own.path / _written(spec.objective.stream)).exists() else None
    return own


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
    spec, dataset = TrainSpec.load(argument["spec"]), Dataset(Path(argument["dataset"]))
    return str(made(spec, Workspace(argument["root"]), dataset, argument["inputs"]).path)


def made(spec: TrainSpec, workspace: Workspace, dataset: Dataset, inputs: Mapping[str, str]) -> Tokens:
    """What a spec reads of a dataset: its streams, those that are mixed in, and where it says so the stream at its URL."""
    vocabulary = vocabulary_of(spec, dataset)
    own = cached(workspace, dataset.digest, vocabulary) or make(workspace, dataset, vocabulary)
    for reference in spec.objective.mix:
        digest = inputs[f"{MIX}{reference}"]
        if not (_beside(own, digest) / "meta.json").exists():
            _make_beside(own, Dataset(Registry(workspace).by_digest("dataset", digest).path))
    if spec.objective.stream is not None:
        from .streaming import published

        published(own.stream("train"), spec.objective.stream, own.path.name)
        (own.path / _written(spec.objective.stream)).touch()
    return found(spec, workspace, dataset, inputs)


def make(workspace: Workspace, dataset: Dataset, vocabulary: int) -> Tokens:
    """Learn the tokenizer from the train split, encode the splits, commit both to the cache at once."""
    from ...model import learn_tokenizer, save_tokenizer

    final = _folder(workspace, dataset.digest, vocabulary)
    with staging(final.parent) as place:
        tokenizer = learn_tokenizer(dataset.texts("train"), vocabulary)
        save_tokenizer(tokenizer, place.path)
        # A text that spells the mark of a document's end means the letters: only a document's end is one.
        tokenizer.backend_tokenizer.encode_special_tokens = True
        splits = {split: _encoded(dataset, split, tokenizer, place / f"{split}.bin") for split in ("train", "validation")}
        # In the byte-level alphabet each character of a token is one byte of text.
        names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        lengths = [0, *(len(n) for n in names[1:])]
        (place / "meta.json").write_text(json.dumps({"dataset": dataset.digest, "form": dataset.form, "vocabulary": len(tokenizer),
                                                     "dtype": _dtype(tokenizer), "splits": splits, "lengths": lengths}))
        return Tokens(place.commit(final))


def _make_beside(own: Tokens, dataset: Dataset) -> None:
    """Encode another dataset's train split with the tokenizer of the one that it is mixed with."""
    from transformers import PreTrainedTokenizerFast

    final = _beside(own, dataset.digest)
    with staging(final.parent) as place:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(own.path, local_files_only=True)
        tokenizer.backend_tokenizer.encode_special_tokens = True
        counted = _encoded(dataset, "train", tokenizer, place / "train.bin")
        (place / "meta.json").write_text(json.dumps({"dataset": dataset.digest, "form": dataset.form, "vocabulary": own.vocabulary,
                                                     "dtype": _dtype(tokenizer), "splits": {"train": counted}}))
        place.commit(final)


def _encoded(dataset: Dataset, split: str, tokenizer: PreTrainedTokenizerFast, file: Path) -> dict[str, int]:
    """Write a split's ids; what was written."""
    import numpy as np

    documents, tokens, size, dtype = 0, 1, 0, np.dtype(_dtype(tokenizer))
    with open(file, "wb") as out:
        out.write(np.zeros(1, dtype).tobytes())
        for texts in _chunks(dataset.texts(split)):
            encoded = tokenizer.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False)
            # One id 0 behind each document: between two, and at the end.
            packed = np.concatenate([part for e in encoded for part in (np.asarray(e.ids, dtype), np.zeros(1, dtype))])
            out.write(packed.tobytes())
            documents, tokens, size = documents + len(texts), tokens + len(packed), size + sum(len(t.encode()) for t in texts)
    return {"documents": documents, "tokens": tokens, "bytes": size}


def _dtype(tokenizer: PreTrainedTokenizerFast) -> str:
    return "uint16" if len(tokenizer) <= 1 << 16 else "uint32"


def _beside(own: Tokens, digest: str) -> Path:
    return own.path.with_name(f"{own.path.name}-{digest}")


def _written(url: str) -> str:
    """The mark beside the tokens that says that they were written to a URL."""
    return f"at-{digest_json(url)[:16]}"


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
