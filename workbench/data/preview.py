"""The first records taken through the steps, without making a version: what a spec would do, before it is run."""

from __future__ import annotations

import itertools
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..dataset import record_id
from ..workspace import Workspace
from . import forms, partition
from .sources import Record, form_of, source_module
from .spec import DataSpec
from .steps import judging, step_module

COUNT = 200
"""Records taken, of all sources together."""


def preview(spec: DataSpec, workspace: Workspace, count: int = COUNT) -> dict[str, Any]:
    """The first records of each source through the steps that are on, in this process.

    Steps that compare records compare these only: in the whole they find more. Nothing is written but to a temporary directory.

    Returns
    -------
    ``read``, ``kept``; ``steps``: a mapping each with ``step``, ``reasons`` (reason -> records) and ``found``; ``records``: a mapping each
    with ``id``, ``source``, ``locator``, ``before``, ``text``, ``step``, ``reason`` and ``detail`` (empty where it is kept).
    """
    import pyarrow as pa

    spec, share = spec.recipe(), max(1, count // len(spec.sources))
    form = form_of(spec, workspace)
    rows, steps = [], [_Told("read")]
    for record in itertools.chain.from_iterable(itertools.islice(_records(s, workspace), share) for s in spec.sources):
        content = record.image if record.image is not None else (record.text or "").encode()
        row = {"id": record_id(record.source, record.locator, content), "text": record.text, "image": record.image, "label": record.label,
               "source": record.source, "locator": record.locator, "unit": 0, "original": record.text, "step": "", "reason": "",
               "detail": ""}
        rows.append(row)
        steps[0].tell(row, "read", record.reason, record.detail, ())
    for row in rows:
        steps[0].tell(row, "by hand", "dropped by hand" if row["id"] in spec.drop else "", "", ())
    for step in spec.steps:
        told, left = _Told(step.step), [r for r in rows if not r["reason"]]
        judge = judging(step, workspace.root)
        if judge is not None:
            judge = forms.fitted(judge, step.step, form)
            for row in (r for r in left if r["text"] is not None):
                verdict = judge(row["text"])
                if not told.tell(row, step.step, verdict.reason, verdict.detail, spec.keep) and not verdict.reason:
                    row["text"] = verdict.text
                    told.found.update(verdict.counts)
        elif left:
            with tempfile.TemporaryDirectory(prefix="workbench-preview-") as folder:
                module = step_module(step.step)
                module.sketch(step, forms.marked(pa.Table.from_pylist(left, partition.working_schema()), form), Path(folder))
                gone = module.decide(step, [Path(folder)], frozenset(spec.keep))
            for row in left:
                told.tell(row, step.step, *gone.get(row["id"], ("", "")), spec.keep)
        steps.append(told)
    shown = [{"id": r["id"], "source": r["source"], "locator": r["locator"], "before": forms.readable(form, r["original"]),
              "text": forms.readable(form, r["text"]),
              "step": r["step"], "reason": r["reason"], "detail": r["detail"], "image": r["image"] is not None} for r in rows]
    return {"read": len(rows), "kept": sum(not r["reason"] for r in rows), "records": shown,
            "steps": [{"step": s.step, "reasons": dict(s.reasons), "found": dict(s.found)} for s in steps if s.step != "read" or s.reasons]}


def _records(source: Any, workspace: Workspace) -> Iterator[Record]:
    module = source_module(source.kind)
    for unit in module.units(source, workspace):
        yield from module.read(unit)


class _Told:
    """What one step did to the records."""

    def __init__(self, step: str):
        self.step, self.reasons, self.found = step, Counter(), Counter()

    def tell(self, row: dict[str, Any], step: str, reason: str, detail: str, keep: Any) -> bool:
        """True where the record goes."""
        if not reason or row["reason"] or row["id"] in keep:
            return False
        row.update(step=step, reason=reason, detail=detail, text=row["original"])
        self.reasons[reason] += 1
        return True
