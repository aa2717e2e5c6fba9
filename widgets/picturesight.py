"""What a model of pictures sees: those of a step as the ranks read them, with their labels. Nothing is decoded, no torch."""

from __future__ import annotations

import base64
from typing import Any

from workbench import exhibits
from workbench.dataset import Dataset
from workbench.registry import Registry
from workbench.train.plan import planned
from workbench.train.reading import pixels
from workbench.train.reading.order import Order, Share
from workbench.train.spec import TrainSpec
from workbench.workspace import Workspace

SHOWN = {"image": 64, "clip": 16}
"""Pictures of a step that are sent to a page; clips move, and so many are enough."""
MOST_BYTES = 4 << 20
"""Of all of them together."""


def look(spec: TrainSpec, workspace: Workspace, *, step: int = 1, digest: str | None = None) -> dict[str, Any]:
    """The pictures that all ranks together take for a step, exactly as a training of this spec would.

    Parameters
    ----------
    step : counted from 1.
    digest : of the dataset version; none: what the spec's reference means now.

    Returns
    -------
    dict
        ``pictures`` (``rank``, ``number`` in the train split, ``url``, ``title``), ``total`` (all of the step), ``clips``,
        ``step``, ``steps``, ``ranks``, ``notes``.

    Raises
    ------
    SourceError
        Where the dataset holds no pictures that the objective takes.
    """
    registry = Registry(workspace)
    dataset = Dataset((registry.by_digest("dataset", digest) if digest else registry.resolve("dataset", spec.data)).path)
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
            "ranks": world, "notes": list(plan.said)}


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
