"""The first batch of a fine-tuning, token by token: the template applied, what of it is trained, where a chat is cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...dataset import Dataset
from ...workspace import Workspace
from ..plan import planned
from ..spec import TrainSpec
from . import answers
from . import base as bases
from .answers import Samples
from .order import Share
from .windows import digest_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SIDES = {1: ("",), 2: ("chosen: ", "rejected: ")}


def first_batch(spec: TrainSpec, workspace: Workspace, dataset: Dataset, *, step: int, most: int) -> dict[str, Any]:
    """What ``sight.first_batch`` tells, of chats or pairs; ``start`` is the number of a sample.

    Raises
    ------
    NotFoundError, SourceError, UnsafeFileError
        Where a training of this spec would be refused.
    """
    inputs = answers.refuse(spec, workspace, dataset)
    base = bases.again(spec.objective.base, inputs["base"], workspace)
    made = answers.found(spec, workspace, dataset, inputs) or answers.make(spec, workspace, dataset, base)
    answers.refuse_nothing(None, made, dataset)
    plan = planned(spec, made.count("train"))
    split, step = made.split("train"), min(max(1, step), plan.steps)
    tokenizer, samples = base.tokenizer(spec.objective.template), Samples(made.split("train"), made.count("train"), spec.seed)
    groups = spec.hardware.groups
    batches = [(ranks, positions) for n, ranks in enumerate(groups) for positions in _batches(plan, n, len(groups), step)]
    taken = [(ranks, side, sample) for ranks, positions in batches for sample in samples.named(positions)
             for side in range(split.sequences)]
    said = []
    for ranks, side, sample in taken[:most]:
        number = sample * split.sequences + side
        ids, trained = split.sequence(number)
        said.append({"ranks": ranks, "start": sample, "texts": texts(tokenizer, ids.tolist()), "trained": trained.tolist(), "ends": [],
                     "records": [{"number": int(split.rows[sample]), "first": 0, "last": len(ids) - 1, "begins": "whole",
                                  "ends": "cut" if split.cut[number] else "whole", "side": SIDES[split.sequences][side]}]})
    _name(said, dataset)
    numbers = [s * split.sequences + side for _, side, s in taken]
    return {"step": step, "steps": plan.steps, "ranks": spec.hardware.ranks, "context": made.meta["context"], "vocabulary": len(tokenizer),
            "dataset": dataset.reference, "base": base.reference, "template": made.meta["template"], "total": len(taken),
            "tokens": sum(int(split.lengths[n]) for n in numbers), "trained": sum(int(split.weights[n]) for n in numbers),
            "records": len({s for _, _, s in taken}), "cut": len({s for (_, _, s), n in zip(taken, numbers, strict=True) if split.cut[n]}),
            "sequences": said, "notes": [*plan.said, *made.notes()],
            "digests": {str(r): [digest_rows(samples.rows(p)) for ranks, p in batches if r in ranks] for r in range(spec.hardware.ranks)}}


def texts(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> list[str]:
    """Text of each token; a character of several tokens stands at its last."""
    from tokenizers.decoders import DecodeStream

    stream = DecodeStream(skip_special_tokens=False)
    return [stream.step(tokenizer.backend_tokenizer, i) or "" for i in ids]


def _batches(plan: Any, reader: int, readers: int, step: int) -> list[list[int]]:
    share = Share(plan.sequences, plan.chunks, reader, readers)
    made = (share.batch(n) for n in range((step - 1) * share.accumulate, step * share.accumulate))
    return [positions for _, positions, weight in made if weight]


def _name(said: list[dict[str, Any]], dataset: Dataset) -> None:
    """Say where each record that is shown comes from, and which of its answers it is."""
    wanted = sorted({r["number"] for s in said for r in s["records"]})
    table = dataset.table("train", ["id", "source", "locator"]).take(wanted).to_pylist()
    named = dict(zip(wanted, table, strict=True))
    for sequence in said:
        for record in sequence["records"]:
            side = record.pop("side")
            record.update({k: str(v)[:200] for k, v in named[record["number"]].items()})
            record["locator"] = side + record["locator"]
