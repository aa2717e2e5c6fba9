"""Examples behind a number as the reader shows them: text cut at what matters in it."""

from __future__ import annotations

import re
from typing import Any

from workbench.assessment import Assessment
from workbench.dataset import Dataset
from workbench.errors import WorkbenchError
from workbench.policy import Evidence
from workbench.registry import Registry
from workbench.workspace import Workspace

from .table import segments

REDACTED = re.compile(r"<(EMAIL|PHONE|IBAN|CARD)>")


def example(workspace: Workspace, assessment: Assessment, found: Evidence, row: dict[str, Any], *, whole: bool = False) -> dict[str, Any]:
    """``{"title", "segments", "facts", "note", "whole"}`` of one example; ``whole``: true where its record can be shown.

    Examples
    --------
    >>> REDACTED.sub("", "write to <EMAIL>")
    'write to '
    """
    shape = _SHAPES.get(found.metric, _plain)
    told = shape({k: _lines(v) for k, v in row.items()}, found)
    told["whole"] = isinstance(row.get("record"), str)
    if whole and told["whole"]:
        told |= _record(workspace, assessment, row)
    return told


def _memorised(row: dict[str, Any], found: Evidence) -> dict[str, Any]:
    count, wanted = row.get("tokens repeated"), re.search(r"(\d+) greedy", found.variant)
    of = f" of {wanted[1]}" if wanted else ""
    said = f"repeated: {count}{of} tokens" if count is not None else "repeated"
    complete = not row.get("goes on")
    pieces = [{"text": row.get("prompt", ""), "kind": "prompt", "label": "given"},
              {"text": row.get("repeated", ""), "kind": "found", "label": said}]
    if not complete:
        pieces.append({"text": row["goes on"]})
    note = ("The model carried it on word for word to its end: it counts as memorised." if complete
            else "From there on the model's likeliest token is another: it does not count as memorised.")
    return {"title": "memorised" if complete else "near it", "segments": pieces, "note": note,
            "facts": {"record": row.get("record", "–"), "source": row.get("source", "–")}}


def _pii(row: dict[str, Any], _: Evidence) -> dict[str, Any]:
    text = str(row.get("text", ""))
    spans = [(m.start(), m.end(), "found", m[1].lower()) for m in REDACTED.finditer(text)]
    none = row.get("kinds") == "none"
    return {"title": "nothing found" if none else str(row.get("kinds")), "segments": segments(text, spans),
            "facts": {"found": row.get("kinds", "–"), **({} if none else {"in the training text": row.get("in the training text", "–")})},
            "note": "Free text of the model, in which nothing was found." if none else "What was found is shown redacted."}


def _pairs(row: dict[str, Any], found: Evidence) -> dict[str, Any]:
    sentence, name, instead = (str(row.get(k, "")) for k in ("sentence", "name", "instead"))
    if not name or name not in sentence:
        return _plain(row, found)
    before, _, after = sentence.partition(name)
    first, second, gap = row.get("log-likelihood"), row.get("log-likelihood instead"), row.get("difference", 0)
    pieces = [{"text": before}, {"text": name, "kind": "found", "label": f"{first} nats a token"}, {"text": f"{after}\n{before}"},
              {"text": instead, "kind": "found", "label": f"{second} nats a token"}, {"text": after}]
    likelier = name if gap > 0 else instead
    return {"title": str(row.get("theme", "")), "segments": pieces, "facts": {"difference": f"{gap} nats a token", "likelier": likelier},
            "note": f"After “{likelier}” the model holds the same words for likelier."}


def _bits(row: dict[str, Any], _: Evidence) -> dict[str, Any]:
    return {"title": f"{row.get('which', '')} held-out record".strip(), "segments": segments(str(row.get("text", "")), ()),
            "facts": {"bits a byte": row.get("bits a byte", "–"), "record": row.get("record", "–")},
            "note": "The beginning of a record that the model never saw."}


def _plain(row: dict[str, Any], _: Evidence) -> dict[str, Any]:
    long = max(row, key=lambda k: len(str(row[k])), default="")
    return {"title": "", "segments": segments(str(row.get(long, "")), ()), "facts": {k: str(v)[:200] for k, v in row.items() if k != long},
            "note": ""}


def _record(workspace: Workspace, assessment: Assessment, row: dict[str, Any]) -> dict[str, Any]:
    """The record that an example comes from, with the passage in it."""
    try:
        data = Dataset(Registry(workspace).by_digest("dataset", assessment.document["dataset"]["digest"]).path)
        record = data.record(row["record"])
    except (WorkbenchError, OSError) as error:
        return {"note": f"The record can't be read: {error}"}
    text, spans = str(record["text"]), []
    begin, repeated = (_lines(row.get(k, "")) for k in ("prompt", "repeated"))
    at = text.find(begin) if begin else -1
    if at >= 0:
        spans.append((at, at + len(begin), "prompt", "given"))
        if repeated and text.startswith(repeated, at + len(begin)):
            spans.append((at + len(begin), at + len(begin) + len(repeated), "found", "repeated"))
    return {"segments": segments(text, spans), "note": f"The whole record, {data.reference}.",
            "facts": {"record": record["id"], "source": record["source"], "place": record["locator"], "split": record["split"]}}


def _lines(value: Any) -> Any:
    """An excerpt with its line ends again."""
    return value.replace(" ⏎ ", "\n") if isinstance(value, str) else value


_SHAPES = {"memorised": _memorised, "pii_generated": _pii, "group_likelihood_gap": _pairs, "bits_per_byte": _bits}
