"""What the model sees: the batches that a training takes, token by token, with what is trained and where records are cut.

No torch here: ``look`` works it out in a process of its own, so that whoever asks stays light.
"""

from __future__ import annotations

import codecs
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ...dataset import Dataset
from ...errors import Problem, SourceError, SpecError, WorkbenchError
from ...registry import Registry
from ...workspace import Workspace
from ..objectives import KINDS
from ..plan import Plan, planned
from ..spec import TrainSpec
from . import chatsight, ownsight, picturesight
from . import tokens as streams
from .answers import FORMS
from .order import Share
from .tokens import Tokens
from .windows import digest_rows

if TYPE_CHECKING:
    import numpy as np

SHOWN = 8
"""Sequences that are told token by token; the counts are of all."""
PATIENCE = 600


def first_batch(spec: TrainSpec, workspace: Workspace, *, step: int = 1, most: int = SHOWN, digest: str | None = None) -> dict[str, Any]:
    """What all ranks together take for a step, exactly as a training of this spec would.

    Parameters
    ----------
    step : counted from 1.
    most : sequences that are told token by token.
    digest : of the dataset version; none: what the spec's reference means now.

    Returns
    -------
    dict
        ``tokens``, ``trained``, ``records``, ``cut`` (counts over all sequences), ``sequences`` (``ranks`` that read it, ``start`` in
        the stream, ``texts``, ``trained`` and ``ends`` a token, ``dataset`` it is of, ``records`` with where they begin and end and
        whether they are cut there), ``total`` (sequences), ``digests`` (of each rank's batches), ``notes`` (what differs from the spec).
        Of pictures what ``picturesight.first_batch`` tells; of a module of one's own, whose code it runs, what ``ownsight.first_batch``
        does.

    Raises
    ------
    SourceError
        Where no token of text would be trained.
    """
    registry, kind, dataset = Registry(workspace), spec.objective.kind, None
    if digest or spec.data:  # a module of one's own may bring its data
        dataset = Dataset((registry.by_digest("dataset", digest) if digest else registry.resolve("dataset", spec.data)).path)
    if kind == "module":
        return ownsight.first_batch(spec, workspace, dataset)
    if kind in FORMS:
        return chatsight.first_batch(spec, workspace, dataset, step=step, most=most)
    if not KINDS[kind].streams:
        return picturesight.first_batch(spec, workspace, dataset, step=step)
    streams.refuse(spec, workspace, dataset)
    inputs = _inputs(spec, registry)
    found = streams.found(spec, workspace, dataset, inputs) or streams.made(spec, workspace, dataset, inputs)
    plan = planned(spec, found.count("train"))
    groups = spec.hardware.groups
    batches = batches_of(plan, found, len(groups), min(max(1, step), plan.steps))
    counted = _counted(batches, found)
    if not counted["text"]:
        raise nothing_trained(dataset)
    pieces, sources, said = _pieces(found), [dataset, *_mixed(spec, registry)], []
    for batch in batches:
        for source, start, row in list(batch.samples())[:max(0, most - len(said))]:
            said.append({"ranks": groups[batch.reader], "start": start, "texts": pieces.texts(row), "trained": [0] + [1] * (len(row) - 1),
                         "dataset": sources[source].reference, "ends": [n for n, i in enumerate(row) if i == 0],
                         "records": _records(found.sources()[source], start, row)})
    _name(said, {d.reference: d for d in sources})
    return {"step": min(max(1, step), plan.steps), "steps": plan.steps, "ranks": spec.hardware.ranks, "context": plan.context,
            "vocabulary": found.vocabulary, "dataset": dataset.reference, "total": sum(len(b.starts) for b in batches),
            "tokens": counted["tokens"], "trained": counted["trained"], "records": counted["records"], "cut": counted["cut"],
            "sequences": said,
            "digests": {str(r): [digest_rows(b.rows) for b in batches if b.reader == n] for n, ranks in enumerate(groups) for r in ranks},
            "notes": list(plan.said)}


def _inputs(spec: TrainSpec, registry: Registry) -> dict[str, str]:
    """Digests of the datasets that are mixed in."""
    return {f"{streams.MIX}{r}": registry.resolve("dataset", r).digest for r in spec.objective.mix}


def _mixed(spec: TrainSpec, registry: Registry) -> list[Dataset]:
    return [Dataset(registry.resolve("dataset", reference).path) for reference in spec.objective.mix]


class Batch(NamedTuple):
    """What a rank takes at once, or the ranks of a tensor-parallel group together."""

    reader: int
    sources: list[int]
    """which of the streams that are mixed each row is of"""
    starts: list[int]
    """where in its stream each begins"""
    rows: np.ndarray
    """ids"""

    def samples(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """Source, place and ids of each row."""
        return zip(self.sources, self.starts, self.rows, strict=True)


def batches_of(plan: Plan, tokens: Tokens, readers: int, step: int) -> list[Batch]:
    """The batches that make a step, reader by reader."""
    found, windows = [], tokens.reading(plan.context, plan.seed)
    for reader in range(readers):
        share = Share(plan.sequences, plan.chunks, reader, readers)
        for number in range((step - 1) * share.accumulate, step * share.accumulate):
            _, positions, weight = share.batch(number)
            found += [Batch(reader, windows.sources_of(positions), windows.named(positions), windows.rows(positions))] if weight else []
    return found


def refuse_nothing(plan: Plan, tokens: Tokens, readers: int, dataset: Dataset) -> None:
    """Raise where the first step would train no token of text."""
    if not any((batch.rows[:, 1:] != 0).any() for batch in batches_of(plan, tokens, readers, 1)):
        raise nothing_trained(dataset)


def nothing_trained(dataset: Dataset) -> SourceError:
    """The error for a batch that holds nothing to learn."""
    return SourceError("the first batch trains no token of text", where=dataset.reference,
                       received="ends of records and nothing between them", allowed="text in the train split",
                       hint="Look at the dataset's records: their text is empty")


def _counted(batches: list[Batch], tokens: Tokens) -> dict[str, int]:
    whole, cut, seen, counts, streams = set(), set(), 0, {"trained": 0, "text": 0}, tokens.sources()
    for batch in batches:
        seen += batch.rows.size
        counts["trained"] += batch.rows[:, 1:].size
        counts["text"] += int((batch.rows[:, 1:] != 0).sum())
        for source, start, row in batch.samples():
            for record in _records(streams[source], start, row):
                whole.add((source, record["number"]))
                if record["begins"] == "cut" or record["ends"] == "cut":
                    cut.add((source, record["number"]))
    return {"tokens": seen, **counts, "records": len(whole), "cut": len(cut)}


def _records(tokens: Tokens, start: int, row: np.ndarray) -> list[dict[str, Any]]:
    """Pieces of records in a window: first and last token, which record, and whether it is whole at either end."""
    import numpy as np

    stream, found = tokens.stream("train"), []
    ends = [n for n, i in enumerate(row) if i == 0]
    first = 0
    # The stream begins with the mark that follows each record: so many marks before a place, so many records less one.
    number = int(np.count_nonzero(stream[:start] == 0)) - 1
    for end in [*ends, len(row)]:
        number += first > 0 and row[first - 1] == 0
        if end > first:
            whole_before = first > 0 or start == 0 or stream[start - 1] == 0
            whole_after = end < len(row) or start + end >= len(stream) or stream[start + end] == 0
            found.append({"number": int(number), "first": first, "last": end - 1, "begins": "whole" if whole_before else "cut",
                          "ends": "whole" if whole_after else "cut"})
        first = end + 1
    return found


def _name(said: list[dict[str, Any]], datasets: dict[str, Dataset]) -> None:
    """Say where each record that is shown comes from; of several datasets, from which of them too."""
    for reference, dataset in datasets.items():
        records = [r for s in said if s["dataset"] == reference for r in s["records"]]
        wanted = sorted({r["number"] for r in records})
        if not wanted:  # of what is mixed in, nothing may be among what is shown
            continue
        table = dataset.table("train", ["id", "source", "locator"]).take(wanted).to_pylist()
        named = dict(zip(wanted, table, strict=True))
        for record in records:
            record.update({k: str(v)[:200] for k, v in named[record["number"]].items()})
            if len(datasets) > 1:
                record["source"] = f"{reference}: {record['source']}"


class _Pieces:
    """The text of tokens: bytes are put together to characters over the borders of tokens."""

    def __init__(self, names: list[str]):
        # The byte-level alphabet (Radford et al. 2019): bytes that print stand for themselves, the others for 256 and up.
        plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
        shifted = [b for b in range(256) if b not in plain]
        alphabet = {chr(b): b for b in plain} | {chr(256 + n): b for n, b in enumerate(shifted)}
        self.bytes = [b""] + [bytes(alphabet[c] for c in name) for name in names[1:]]

    def texts(self, row: np.ndarray) -> list[str]:
        """Text of each token; a character of several tokens stands at its last."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        found = [decoder.decode(self.bytes[i]) for i in row]
        found[-1] += decoder.decode(b"", True)
        return found


def _pieces(tokens: Tokens) -> _Pieces:
    vocabulary = json.loads((tokens.path / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    return _Pieces([name for name, _ in sorted(vocabulary.items(), key=lambda item: item[1])])


def look(spec: TrainSpec, workspace: Workspace, *, step: int = 1, digest: str | None = None) -> dict[str, Any]:
    """``first_batch``, worked out in a process of its own: text that is not tokenised yet takes a while and memory, and the code of a
    user's own module may do whatever it likes.
    """
    asked = json.dumps({"root": str(workspace.root), "spec": spec.to_dict(), "step": step, "digest": digest})
    where = spec.objective.module if spec.objective.kind == "module" else spec.data
    try:
        done = subprocess.run([sys.executable, "-m", "workbench.train.reading.sight"], input=asked, capture_output=True, text=True,
                              timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise SourceError(f"gave no first batch within {PATIENCE} s", where=where) from None
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise WorkbenchError("the first batch could not be worked out", where=where, received=done.stderr.strip()[-300:]) from None
    if "problems" in answer:
        raise SpecError([Problem(*p) for p in answer["problems"]])
    if "error" in answer:
        raise SourceError(**answer["error"])
    return answer


def _main() -> None:
    asked = json.loads(sys.stdin.read())
    answers = os.dup(1)
    os.dup2(2, 1)  # what a user's module prints is no part of the answer
    try:
        found = first_batch(TrainSpec.load(asked["spec"]), Workspace(asked["root"]).open(), step=asked["step"], digest=asked["digest"])
    except SpecError as error:
        found = {"problems": [[p.path, p.message] for p in error.problems]}
    except WorkbenchError as error:
        found = {"error": {"what": error.what, "where": None if error.where is None else str(error.where), "received": error.received,
                           "allowed": error.allowed, "hint": error.hint}}
    with os.fdopen(answers, "w", encoding="utf-8") as out:
        json.dump(found, out, default=str)


if __name__ == "__main__":
    _main()
