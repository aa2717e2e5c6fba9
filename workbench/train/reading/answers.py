"""Chats and preferences as numbers: the base's template applied, tokenised once, kept with what of each is trained."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...dataset import Dataset
from ...errors import SourceError
from ...storage import digest_file, digest_json, staging
from ...workspace import Workspace
from .. import devices
from ..spec import TrainSpec
from . import base as bases
from .order import Order
from .turns import Template

if TYPE_CHECKING:
    import numpy as np
    import torch

    from ..plan import Plan

FORMAT = 1
"""Part of the cache's key: what changes when the numbers would."""
FORMS = {"sft": "chat", "dpo": "preference"}
"""What a dataset must hold, by objective."""
IGNORED = -100
"""Target of a place that is not trained."""
MAKING = "tokenising"
"""What making it is called."""


@dataclass(frozen=True)
class Answers:
    """The chats (or pairs) of a dataset version as a base reads them.

    A sample is one sequence, or two: chosen and rejected. Samples that would train nothing are left out.
    """

    path: Path
    base: dict[str, str]
    """reference, path and digest of the base"""

    @cached_property
    def meta(self) -> dict[str, Any]:
        """Context, sequences a sample, template, end mark, and for each split its counts."""
        return json.loads((self.path / "meta.json").read_text("utf-8"))

    def count(self, split: str) -> int:
        """Samples of a split.

        Raises
        ------
        SourceError
            Where no token of an answer would be trained, or measured.
        """
        counts = self.meta["splits"][split]
        if not counts["trained"]:
            raise SourceError("the first batch trains no token of an answer" if split == "train" else "no answer is held out to measure on",
                              where=self.meta["dataset"],
                              received=f"{counts['records']:,} records in {split}, none with a token of an assistant's turn within "
                                       f"{self.meta['context']:,} tokens",
                              allowed="chats with an assistant's turn",
                              hint="Look at the roles of the chats, at objective.context (longer chats are cut at the end) and at the chat "
                                   "template: what it makes of a chat is what is trained")
        return counts["samples"]

    def split(self, name: str) -> Split:
        """The numbers of a split, memory-mapped."""
        return Split(self.path / name, self.meta["sequences"])

    def told(self) -> dict[str, Any]:
        """What each rank must know of it; the base may see less at once than the spec allows."""
        return {"answers": str(self.path), "base": self.base, "context": self.meta["context"]}

    def metrics(self) -> dict[str, Any]:
        """What a model's manifest says of it."""
        train = self.meta["splits"]["train"]
        return {"base": {k: self.base[k] for k in ("reference", "digest")}, "answer_tokens": train["trained"],
                "cut": train["cut"], "left_out": train["left_out"]}

    def notes(self) -> list[str]:
        """What to know of how the records met the base, in sentences."""
        meta, train, lines = self.meta, self.meta["splits"]["train"], []
        if meta["context"] < meta["wanted"]:
            lines.append(f"a context of {meta['context']:,} tokens instead of {meta['wanted']:,}: the base sees no more")
        if train["cut"]:
            lines.append(f"{train['cut']:,} of {train['records']:,} records are cut at {meta['context']:,} tokens")
        if train["left_out"]:
            lines.append(f"{train['left_out']:,} of {train['records']:,} records train nothing and are left out: no answer stands in "
                         "them, or only behind the cut")
        if train["merged"]:
            lines.append(f"in {train['merged']:,} records a token lies over the border of question and answer: asked alone, the question "
                         "is other tokens")
        if train["samples"] and not train["ended"]:
            lines.append("the template writes no end mark behind an answer, so that the model learns no end: "
                         'objective.template="plain" has one')
        return lines


class Split:
    """Sequences of a split: ids with marks, one behind the other; what is known of each beside."""

    def __init__(self, path: Path, sequences: int):
        self.path, self.sequences = path, sequences

    def __getattr__(self, name: str) -> np.ndarray:
        """``ids``, ``trained`` (a token), ``ends``, ``lengths`` (as read), ``weights`` (trained tokens), ``cut`` (a sequence), ``rows``
        (records, a sample), ``reference`` (a sequence).
        """
        import numpy as np

        file = self.path / f"{name}.npy"
        if name.startswith("_") or not file.exists():
            raise AttributeError(name)
        found = np.load(file, mmap_mode="r")
        setattr(self, name, found)
        return found

    def sequence(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids and marks of a sequence, as far as it is read: nothing behind its last trained token is."""
        begin = int(self.ends[number - 1]) if number else 0
        end = begin + int(self.lengths[number])
        return self.ids[begin:end], self.trained[begin:end]

    def of(self, samples: Sequence[int]) -> list[int]:
        """Numbers of the sequences that samples are: the first of each, then the second."""
        return [s * self.sequences + n for n in range(self.sequences) for s in samples]

    def rows_of(self, samples: Sequence[int]) -> np.ndarray:
        """Ids and marks of samples, shape (sequences, longest, 2), zeros to the right."""
        import numpy as np

        found = [self.sequence(n) for n in self.of(samples)]
        rows = np.zeros((len(found), max(len(i) for i, _ in found), 2), np.int64)
        for row, (ids, trained) in zip(rows, found, strict=True):
            row[:len(ids), 0], row[:len(ids), 1] = ids, trained
        return rows

    def batch(self, samples: Sequence[int], scale: float = 1.0) -> dict[str, Any]:
        """Samples as tensors.

        Returns
        -------
        dict
            ``ids`` (sequences, longest - 1), ``columns`` (places at which any sequence is trained), ``targets`` (sequences, columns),
            the next id there or ``IGNORED``; ``scale``; ``reference`` where it is known.
        """
        import numpy as np
        import torch

        rows = self.rows_of(samples)
        targets = np.where(rows[:, 1:, 1] > 0, rows[:, 1:, 0], IGNORED)
        columns = np.flatnonzero((targets != IGNORED).any(0))
        made = {"ids": torch.from_numpy(np.ascontiguousarray(rows[:, :-1, 0])), "columns": torch.from_numpy(columns),
                "targets": torch.from_numpy(np.ascontiguousarray(targets[:, columns])), "scale": scale}
        if self.sequences == 2:
            reference = np.asarray(self.reference[self.of(samples)]) if (self.path / "reference.npy").exists() else None
            made["reference"] = None if reference is None else torch.from_numpy(reference)
        return made


class Samples:
    """What a training reads of a split, by position."""

    def __init__(self, split: Split, count: int, seed: int):
        self.split, self.count, self.order = split, count, Order(count, seed)

    def named(self, positions: Sequence[int]) -> list[int]:
        """Numbers of the samples at positions."""
        return [self.order.at(n)[1] for n in positions]

    def rows(self, positions: Sequence[int]) -> np.ndarray:
        """Ids and marks at positions, shape (sequences, longest, 2), int64."""
        return self.split.rows_of(self.named(positions))

    def batch(self, positions: Sequence[int], whole: range | None = None) -> dict[str, torch.Tensor | float]:
        """The same as tensors. ``scale`` makes of a sum over tokens this batch's part of the mean over all trained tokens of the
        step: the mean over batches and ranks, as ``order.Share`` weighs them, is the step's.
        """
        whole = whole or range(positions[0], positions[0] + len(positions))
        weights = self.split.weights
        trained = sum(int(weights[n]) for n in self.split.of(self.named(whole)))
        return self.split.batch(self.named(positions), len(whole) / len(positions) / max(1, trained))


def refuse(spec: TrainSpec, workspace: Workspace, dataset: Dataset) -> dict[str, str]:
    """Raise where a base or a dataset can't be trained on; the base's digest is a further input.

    Raises
    ------
    NotFoundError, SourceError, UnsafeFileError
    """
    objective, form = spec.objective, FORMS[spec.objective.kind]
    if dataset.form != form:
        raise SourceError(f"holds no {form}s", where=dataset.reference, received=f"records of form {dataset.form}",
                          allowed=f"records of form {form} for objective {objective.kind}",
                          hint="Rows with messages, each with role and content, are chats; with chosen and rejected, preferences")
    if not dataset.manifest["splits"]["validation"]["records"]:
        raise SourceError("holds nothing out to measure on", where=dataset.reference, received="0 records in validation",
                          allowed="one or more", hint="Curate with a larger split.validation, or add data")
    base = bases.found(objective.base, workspace)
    devices.refuse_base(spec, base)
    if base.template(objective.template) is None:
        raise SourceError("has no chat template: what is a question and what an answer?", where=base.path, received=objective.base,
                          allowed="chat_template.jinja, or chat_template in tokenizer_config.json",
                          hint='Set objective.template="plain" (role: words, and the end mark behind an answer), or to a template in Jinja')
    return {"base": base.digest}


def found(spec: TrainSpec, workspace: Workspace, dataset: Dataset, inputs: dict[str, str]) -> Answers | None:
    """What a spec reads of a dataset, if it was made before."""
    base = bases.again(spec.objective.base, inputs["base"], workspace)
    folder = _folder(spec, workspace, dataset, base)
    return Answers(folder, base.told()) if (folder / "meta.json").exists() else None


def said(spec: TrainSpec, dataset: Dataset) -> list[str]:  # noqa: ARG001 - what is otherwise is known once it is made: ``refuse_nothing``
    """What is otherwise than the spec says, in sentences."""
    return []


def prompts(dataset: Dataset, most: int) -> tuple[str, ...]:
    """Questions for the model to answer, where the spec names none."""
    return tuple(dataset.beginnings(most))


def refuse_nothing(plan: Plan | None, made: Answers, dataset: Dataset) -> None:  # noqa: ARG001 - the signature of every material
    """Raise where nothing of an answer would be trained or measured."""
    for split in ("train", "validation"):
        made.count(split)


def prepare(control: object, argument: dict[str, Any]) -> str:  # noqa: ARG001 - the signature of what a gang calls
    """Make what a spec reads (argument: root, dataset, spec, inputs), in a process of the gang; returns its directory."""
    workspace, spec = Workspace(argument["root"]), TrainSpec.load(argument["spec"])
    base = bases.again(spec.objective.base, argument["inputs"]["base"], workspace)
    return str(make(spec, workspace, Dataset(Path(argument["dataset"])), base).path)


def make(spec: TrainSpec, workspace: Workspace, dataset: Dataset, base: bases.Base) -> Answers:
    """Apply the template to every record, tokenise, commit to the cache at once."""
    import numpy as np

    final, objective = _folder(spec, workspace, dataset, base), spec.objective
    tokenizer = base.tokenizer(objective.template)
    template = Template(tokenizer, base.config.get("bos_token_id"))
    context = min(objective.context, base.context or objective.context)
    with staging(final.parent) as place:
        splits, ends = {}, Counter()
        for split in ("train", "validation"):
            (place / split).mkdir()
            made = _Made(context)
            for number, turns in enumerate(_turns(objective.kind, template, dataset, split)):
                made.add(number, turns)
                ends.update(t.ended for t in turns if t.ended is not None)
            made.write(place / split, np.uint16 if len(tokenizer) <= 1 << 16 else np.uint32)
            splits[split] = dict(made.counts)
        end = ends.most_common(1)[0][0] if ends else None
        meta = {"dataset": dataset.reference, "base": base.digest, "context": context, "wanted": objective.context,
                "sequences": 2 if objective.kind == "dpo" else 1, "template": tokenizer.chat_template, "end": end, "splits": splits}
        if objective.kind == "dpo" and all(s["samples"] for s in splits.values()):
            from ..objectives.dpo import write_reference

            write_reference(base.path, Split(place / "train", 2), spec.hardware.accelerator, spec.hardware.precision)
            write_reference(base.path, Split(place / "validation", 2), spec.hardware.accelerator)
        (place / "meta.json").write_text(json.dumps(meta), "utf-8")
        return Answers(place.commit(final), base.told())


def _turns(kind: str, template: Template, dataset: Dataset, split: str) -> Iterator[list[Any]]:
    """The sequences of each record."""
    if kind == "sft":
        for chat in dataset.chats(split):
            yield [template.turn(chat["messages"])]
    else:
        for pair in dataset.preferences(split):
            yield [template.turn([*pair["prompt"], *pair[side]], len(pair["prompt"])) for side in ("chosen", "rejected")]


class _Made:
    """Sequences as they are gathered."""

    def __init__(self, context: int):
        self.context, self.counts = context, Counter(records=0, samples=0, cut=0, left_out=0, merged=0, ended=0, tokens=0, trained=0)
        self.ids: list[Any] = []
        self.trained: list[Any] = []
        self.known: dict[str, list[int]] = {"ends": [], "lengths": [], "weights": [], "cut": [], "rows": []}

    def add(self, number: int, turns: list[Any]) -> None:
        """One record, as one sequence or two; one that trains nothing is only counted."""
        import numpy as np

        cut = [len(t.ids) > self.context for t in turns]
        marks = [np.asarray(t.trained[:self.context], np.uint8) for t in turns]
        self.counts["records"] += 1
        self.counts["cut"] += any(cut)
        # The first token of a sequence is given, never predicted.
        if not all(m[1:].any() for m in marks):
            self.counts["left_out"] += 1
            return
        self.counts["samples"] += 1
        self.counts["merged"] += any(t.merged for t in turns)
        self.counts["ended"] += all(t.ended is not None for t in turns)
        self.known["rows"].append(number)
        for turn, mark, short in zip(turns, marks, cut, strict=True):
            weight = int(mark[1:].sum())
            self.ids.append(np.asarray(turn.ids[:self.context]))
            self.trained.append(mark)
            self.counts["tokens"] += len(mark)
            self.counts["trained"] += weight
            for name, value in (("ends", self.counts["tokens"]), ("lengths", int(np.flatnonzero(mark)[-1]) + 1), ("weights", weight),
                                ("cut", int(short))):
                self.known[name].append(value)

    def write(self, folder: Path, dtype: Any) -> None:
        import numpy as np

        np.save(folder / "ids.npy", np.concatenate(self.ids).astype(dtype) if self.ids else np.zeros(0, dtype))
        np.save(folder / "trained.npy", np.concatenate(self.trained) if self.trained else np.zeros(0, np.uint8))
        for name, values in self.known.items():
            np.save(folder / f"{name}.npy", np.asarray(values, np.int64))


def _folder(spec: TrainSpec, workspace: Workspace, dataset: Dataset, base: bases.Base) -> Path:
    objective = spec.objective
    key = [objective.kind, objective.context, base.context, base.config.get("bos_token_id"), base.template(objective.template),
           digest_file(base.path / "tokenizer.json")]
    if objective.kind == "dpo":  # what the base itself says of each answer is kept too
        key += [base.digest, spec.hardware.accelerator, spec.hardware.precision]
    return workspace.path("cache", "answers", f"{dataset.digest}-{digest_json(key)[:20]}-{FORMAT}")
