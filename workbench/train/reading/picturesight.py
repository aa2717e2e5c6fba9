"""What a model of pictures sees: those of a step as the ranks read them, with their labels. Nothing is decoded, no torch."""

from __future__ import annotations

import base64
from typing import Any

from ... import exhibits, pictures
from ...dataset import Dataset
from ...workspace import Workspace
from ..plan import planned
from ..spec import TrainSpec
from . import pixels
from .order import Order, Share

SHOWN = {"image": 64, "clip": 16}
"""Pictures of a step that are sent to a page; clips move, and so many are enough."""
MOST_BYTES = 4 << 20
"""Of all of them together."""
ACROSS, SIDE, GAP = 16, 48, 2
"""Pictures of a line of the sheet, the pixels that a smaller one is drawn with, and those between two."""


def first_batch(spec: TrainSpec, workspace: Workspace, dataset: Dataset, *, step: int) -> dict[str, Any]:
    """What ``sight.first_batch`` tells, of pictures.

    Returns
    -------
    dict
        ``pictures`` (``rank``, ``number`` in the train split, ``url``, ``title``), ``total`` (all of the step), ``clips``,
        ``step``, ``steps``, ``ranks``, ``dataset``, ``notes``.

    Raises
    ------
    SourceError
        Where the dataset holds no pictures that the objective takes.
    """
    pixels.refuse(spec, workspace, dataset)
    count = dataset.manifest["splits"]["train"]["records"]
    plan, order, world = planned(spec, count), Order(count, spec.seed), spec.hardware.ranks
    step = min(max(1, step), plan.steps)
    read = [[order.at(n)[1] for n in _positions(Share(plan.sequences, plan.chunks, rank, world), step)] for rank in range(world)]
    most = max(1, SHOWN[dataset.modality] // world)
    told = [(rank, number) for rank, numbers in enumerate(read) for number in numbers[:most]]
    rows = dataset.table("train", ["image", "label", "locator"]).take([number for _, number in told]).to_pylist()
    shown, room = [], MOST_BYTES
    for (rank, number), row in zip(told, rows, strict=True):
        room -= len(row["image"])
        if room >= 0 or not shown:
            url = f"data:{exhibits.media_of(row['image'])};base64,{base64.b64encode(row['image']).decode()}"
            shown.append({"rank": rank, "number": number, "url": url, "title": _title(row, dataset.manifest.get("labels") or ())})
    return {"pictures": shown, "total": sum(map(len, read)), "clips": dataset.modality == "clip", "step": step, "steps": plan.steps,
            "ranks": world, "dataset": dataset.reference, "notes": list(plan.said)}


def sheet(seen: dict[str, Any]) -> bytes:
    """The pictures that ``first_batch`` found as one PNG, of clips an animated one: each rank begins a line.

    Raises
    ------
    SourceError
        Where shapes differ: a training would be refused.
    """
    import numpy as np

    found = [base64.b64decode(p["url"].partition(",")[2]) for p in seen["pictures"]]
    shown = pictures.batch(found, where=seen["dataset"], clips=seen["clips"])
    ranks, lines = [p["rank"] for p in seen["pictures"]], []
    for rank in sorted(set(ranks)):
        mine = shown[[n for n, r in enumerate(ranks) if r == rank]]
        lines += [mine[n:n + ACROSS] for n in range(0, len(mine), ACROSS)]
    larger = max(1, SIDE // max(shown.shape[-2:]))
    height, width = (larger * n + GAP for n in shown.shape[-2:])
    whole = np.zeros((*shown.shape[1:-2], len(lines) * height + GAP, max(map(len, lines)) * width + GAP), np.float32)
    for row, line in enumerate(lines):
        for column, picture in enumerate(line):
            drawn = picture.repeat(larger, -2).repeat(larger, -1)
            whole[..., row * height + GAP:(row + 1) * height, column * width + GAP:(column + 1) * width] = drawn
    return pictures.drawn(whole)


def _positions(share: Share, step: int) -> list[int]:
    found: list[int] = []
    for number in range((step - 1) * share.accumulate, step * share.accumulate):
        _, positions, weight = share.batch(number)
        found += positions if weight else []
    return found


def _title(row: dict[str, Any], names: Any) -> str:
    """The label of a picture by its name; of one without, where it is from."""
    label = row["label"]
    return str(row["locator"]) if label is None else str(names[label]) if 0 <= label < len(names) else str(label)
