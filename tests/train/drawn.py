"""Datasets of small drawn pictures."""

from __future__ import annotations

from workbench import pictures
from workbench.dataset import Dataset, drop_schema, record_id, record_schema, write_dataset
from workbench.workspace import Workspace


class Drawn:
    """A workspace with datasets of small pictures: a bar that lies (label 0) or stands (label 1)."""

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self.dataset = self.make("dots", [8] * 32)

    def make(self, name: str, sizes: list[int]) -> Dataset:
        """A picture for each size, every fourth held out."""
        import numpy as np
        import pyarrow as pa

        records = []
        for n, size in enumerate(sizes):
            pixels = np.full((1, size, size), -1, np.float32)
            pixels[0, (n // 2) % size] = 1
            image = pictures.drawn(pixels if n % 2 else pixels.transpose(0, 2, 1))
            identity = record_id(name, str(n), image)
            records.append({"id": identity, "image": image, "label": n % 2, "source": name, "locator": str(n), "cluster": identity,
                            "split": "train" if n % 4 else "validation"})
        return write_dataset(self.workspace, name, pa.Table.from_pylist(records, schema=record_schema()), drop_schema().empty_table(),
                             card="", manifest={"modality": "image", "drops": {}, "parents": {}, "read": len(records)})
