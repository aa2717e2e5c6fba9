"""The training pictures as numbers: each split as one memory-mapped array of pixels, with labels beside. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...dataset import Dataset
from ...errors import SourceError
from ...storage import staging
from ...workspace import Workspace
from ..spec import TrainSpec
from .order import Order

if TYPE_CHECKING:
    import numpy as np

    from ..plan import Plan

FORMAT = 1
"""Part of the cache's key: what changes when the numbers would."""
MAKING = "reading pictures"
LEAST = {"train": 8, "validation": 2}
"""Pictures of a split below which nothing is learned or measured."""
SMALLEST, LARGEST = 4, 256
"""Pixels of a side."""
MOST_LABELS = 1000


@dataclass(frozen=True)
class Pixels:
    """The pictures of a dataset version, uint8, (n, channels, height, width), clips (n, channels, frames, height, width)."""

    path: Path

    @cached_property
    def meta(self) -> dict[str, Any]:
        """Shape of a picture, pictures of each split, number of labels."""
        return json.loads((self.path / "meta.json").read_text())

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, of clips frames, height, width."""
        return tuple(self.meta["shape"])

    @property
    def labels(self) -> int:
        """How many labels there are: 0 to this less one; 0 where not every picture has one."""
        return self.meta["labels"]

    @property
    def sizes(self) -> dict[str, int]:
        """What a network must know of the pictures."""
        channels, *frames, height, width = self.shape
        return {"channels": channels, "frames": frames[0] if frames else 0, "height": height, "width": width}

    def count(self, split: str) -> int:
        """Pictures of a split."""
        return self.meta["splits"][split]

    def raw(self, split: str) -> np.ndarray:
        """Bytes of a split's pixels, memory-mapped."""
        import numpy as np

        return np.load(self.path / f"{split}.npy", mmap_mode="r")

    def label(self, split: str) -> np.ndarray:
        """Labels of a split, int64; -1: none."""
        import numpy as np

        return np.load(self.path / f"{split}-labels.npy")

    def told(self) -> dict[str, Any]:
        """What each rank must know of it."""
        return {"pixels": str(self.path)}

    def metrics(self) -> dict[str, Any]:
        """What the manifest of a model says of it."""
        return {**{k: v for k, v in self.sizes.items() if v}, "labels": self.labels}


class Pictures:
    """What a training reads of them: each picture once an epoch, in a seeded order.

    A subclass says what a batch is, with ``pixels`` of it and what it draws at random by position.
    """

    def __init__(self, pixels: Pixels, seed: int):
        self.raw, self.labels = pixels.raw("train"), pixels.label("train")
        self.count, self.seed = len(self.raw), seed
        self.order = Order(self.count, seed)

    def named(self, positions: Sequence[int]) -> list[int]:
        """Numbers of the pictures at positions, in the order of the train split."""
        return [self.order.at(n)[1] for n in positions]

    def rows(self, positions: Sequence[int]) -> np.ndarray:
        """Bytes of the pictures at positions."""
        return self.raw[self.named(positions)]


def floats(raw: np.ndarray) -> np.ndarray:
    """Bytes as float32 in [-1, 1].

    Examples
    --------
    >>> import numpy as np
    >>> floats(np.array([0, 255], np.uint8)).tolist()
    [-1.0, 1.0]
    """
    import numpy as np

    return raw.astype(np.float32) / np.float32(127.5) - np.float32(1)


def refuse(spec: TrainSpec, workspace: Workspace, dataset: Dataset | None) -> dict[str, str]:  # noqa: ARG001 - the signature of a material
    """Check, without reading a picture, that a dataset may teach what the spec wants; there are no further inputs.

    Raises
    ------
    SourceError
        For texts, for clips where images are made, and for too few pictures to learn from or to measure on.
    """
    wanted, kind = (("image",) if spec.objective.kind == "gan" else ("image", "clip")), spec.objective.kind
    if dataset.modality not in wanted:
        raise SourceError(f"can't teach a model of objective {kind}", where=dataset.reference, received=f"a dataset of {dataset.form}s",
                          allowed=" or ".join(f"{w}s" for w in wanted),
                          hint="workbench data digits makes one of images" if dataset.modality != "clip" else
                          "Clips are learned with objective.kind=diffusion")
    for split, least in LEAST.items():
        held = dataset.manifest["splits"].get(split, {}).get("records", 0)
        if held < least:
            doing = "train" if split == "train" else "measure"
            raise SourceError(f"holds too few {dataset.modality}s to {doing} on", where=dataset.reference,
                              received=f"{held:,} in the {split} split", allowed=f"{least:,} or more",
                              hint="Add some" if split == "train" else "Set split.validation higher, or add some")
    return {}


def found(spec: TrainSpec, workspace: Workspace, dataset: Dataset, inputs: dict[str, str]) -> Pixels | None:  # noqa: ARG001
    """The pixels of a dataset, if they were made before."""
    made = Pixels(_folder(workspace, dataset))
    return made if (made.path / "meta.json").exists() else None


def prepare(control: object, argument: dict[str, Any]) -> str:  # noqa: ARG001 - the signature of what a gang calls
    """Make what a spec reads (argument: root, dataset, spec, inputs), in a process of the gang; returns its directory."""
    return str(make(Workspace(argument["root"]), Dataset(Path(argument["dataset"]))).path)


def make(workspace: Workspace, dataset: Dataset) -> Pixels:
    """Decode the pictures of both splits and commit them to the cache at once.

    Raises
    ------
    SourceError
        Where shapes differ, or are none that a network halves and doubles.
    """
    import numpy as np

    final, splits, shape, known = _folder(workspace, dataset), {}, None, []
    with staging(final.parent) as place:
        for split in ("train", "validation"):
            pixels = dataset.pixels(split)
            if shape is None:
                shape = pixels.shape[1:]
                _fits(shape, dataset)
            elif pixels.shape[1:] != shape:
                raise SourceError("holds pictures of several shapes", where=dataset.reference, allowed="one shape for all",
                                  received=f"{shape} to train on, {pixels.shape[1:]} in the {split} split",
                                  hint="Read them at one size: sources: [{kind: images, size: 32, colour: grey, …}]")
            labels = [-1 if x is None else x for x in dataset.table(split, ["label"])["label"].to_pylist()]
            np.save(place / f"{split}.npy", ((pixels + 1) * 127.5).round().astype(np.uint8))
            np.save(place / f"{split}-labels.npy", np.asarray(labels, np.int64))
            splits[split], known = len(pixels), known + labels
        whole = min(known) >= 0 and max(known) < MOST_LABELS
        (place / "meta.json").write_text(json.dumps({"dataset": dataset.digest, "shape": shape, "splits": splits,
                                                     "labels": max(known) + 1 if whole else 0}))
        return Pixels(place.commit(final))


def said(spec: TrainSpec, dataset: Dataset) -> list[str]:  # noqa: ARG001 - the signature of a material
    """What is otherwise than the spec says: nothing."""
    return []


def prompts(dataset: Dataset, most: int) -> tuple[str, ...]:  # noqa: ARG001 - the signature of a material
    """Pictures begin with no words."""
    return ()


def refuse_nothing(plan: Plan, made: Pixels, dataset: Dataset) -> None:
    """Every picture has something to learn."""


def _fits(shape: tuple[int, ...], dataset: Dataset) -> None:
    *_, height, width = shape
    if height % 2 or width % 2 or not SMALLEST <= min(height, width) <= max(height, width) <= LARGEST:
        near = min(max(SMALLEST, max(height, width) // 2 * 2), LARGEST)
        raise SourceError("holds pictures of a size that can't be halved and doubled", where=dataset.reference,
                          received=f"{height} × {width} pixels", allowed=f"even sides from {SMALLEST} to {LARGEST} pixels",
                          hint=f"Read them at another size: sources: [{{kind: images, size: {near}, …}}]")


def _folder(workspace: Workspace, dataset: Dataset) -> Path:
    return workspace.path("cache", "pixels", f"{dataset.digest}-{FORMAT}")
