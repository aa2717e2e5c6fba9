"""The data panel: sources, steps and split of a dataset; what was kept, what was dropped and why."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from workbench.errors import NotFoundError, SpecError
from workbench.registry import Registry
from workbench.runs import Run
from workbench.spec import Spec

from .asking import slow
from .panel import Panel
from .table import segments

if TYPE_CHECKING:
    import numpy as np

    from workbench.data.comparison import Comparison
    from workbench.data.inbox import Arrival
    from workbench.data.review import Review
    from workbench.data.spec import Quality

CHOICES = ("keep", "drop", "unsure")
"""What a person says of a record; each is a list of ids in the spec."""
PREVIEWED = 200


class DataPanel(Panel):
    """Makes datasets."""

    WORD: ClassVar[str] = "data"
    ABOUT: ClassVar[str] = "Makes a dataset: read from sources, cleaned in steps, split; whatever is dropped is kept aside with its reason."
    EXAMPLE: ClassVar[dict[str, Any]] = {"name": "python-docs", "sources": [{"kind": "python-docs", "max_megabytes": 1.0}]}
    MAIN: ClassVar[tuple[str, ...]] = ("name", "sources", "steps", "split")
    EDITORS: ClassVar[dict[str, str]] = {"sources": "data-sources", "steps": "data-steps", "keep": "data-chosen", "drop": "data-chosen",
                                         "unsure": "data-chosen"}
    MODULES: ClassVar[tuple[str, ...]] = ("data", "datareview")

    _review: Review | None = None
    _compared: Comparison | None = None
    _previewed: dict[str, Any] | None = None

    def next_step(self, run: Run) -> dict[str, Any] | None:
        from workbench.train.objectives.spec import begun

        return {"label": "Train on this dataset", "word": "train", "spec": begun(run.result["dataset"], run.output.form)}

    def same(self, spec: Spec, ran: dict[str, Any]) -> bool:
        """Steps that are off and notes make no other dataset."""
        try:
            return spec.digest() == type(spec).check(ran).digest()
        except SpecError:
            return False

    def close(self) -> None:
        for arrival in list(self._arrivals.values()):
            arrival.drop()
        if self._review is not None:
            self._review.close()
        super().close()

    def __init__(self, *arguments: Any, **known: Any):
        self._arrivals: dict[str, Arrival] = {}
        self._chosen: list[tuple[str, str | None]] = []
        self._moving: tuple[str, Any] = ("", None)
        self._moving_lock = threading.Lock()
        super().__init__(*arguments, **known)

    # Sources -------------------------------------------------------------------------------------------------------------------

    @slow
    def ask_guess(self, index: int) -> dict[str, Any]:
        """What the files of a source seem to be."""
        from workbench.data.guess import guess
        from workbench.data.spec import Files

        source = self.editor.mapping["sources"][index]
        try:
            return guess(Files.model_validate(source), self.workspace)
        except ValueError:
            return {"files": [], "problem": ""}  # the form says what is wrong with it

    @slow
    def act_listing(self, path: str = ".") -> dict[str, Any]:
        """A directory of the workspace or of home: not for visitors."""
        from workbench.data.inbox import listing

        return listing(self.workspace, path)

    def act_add(self, paths: Sequence[str] = (), kind: str = "files") -> None:
        """Add a source, and name the dataset after it where it has no name; one step of undo."""
        mapping = {**self.editor.mapping}
        sources = list(mapping.get("sources") or [])
        last = sources[-1] if sources else {}
        if kind != "files":
            sources.append({"kind": kind, **({"max_megabytes": 1.0} if kind == "python-docs" else {})})
        elif last.get("kind") == "files" and not last.get("text") and (not last.get("paths") or _format(last["paths"]) == _format(paths)):
            sources[-1] = {**last, "paths": list(dict.fromkeys([*(last.get("paths") or ()), *paths]))}
        else:
            sources.append({"kind": "files", "paths": list(paths)})
        if not mapping.get("name"):
            mapping = {"name": kind if kind != "files" else _name(paths[0]), **mapping}
        self.editor.replace({**mapping, "sources": sources})

    @slow
    def act_arrive(self, name: str, size: int) -> str:
        """A file is about to come; gives what to call it by."""
        from workbench.data.inbox import Arrival

        mark = secrets.token_hex(4)
        self._arrivals[mark] = Arrival(self.workspace, name, size)
        return mark

    @slow
    def act_piece(self, mark: str, offset: int, buffers: Sequence[Any]) -> int:
        """A piece of it; gives the bytes that are here."""
        return self._arrival(mark).take(offset, buffers[0])

    @slow
    def act_arrived(self, mark: str) -> str:
        """All of it is here: gives its path."""
        arrival = self._arrival(mark)
        del self._arrivals[mark]
        return arrival.keep()

    def act_forget(self, mark: str) -> None:
        """It will not come."""
        self._arrivals.pop(mark).drop()

    def _arrival(self, mark: str) -> Arrival:
        if mark not in self._arrivals:
            raise NotFoundError("this file is not on its way", hint="Send it again")
        return self._arrivals[mark]

    # Preview -------------------------------------------------------------------------------------------------------------------

    @slow
    def ask_preview(self, count: int = PREVIEWED) -> dict[str, Any]:
        """The first records through the steps, nothing written."""
        from workbench.data.preview import preview

        found = preview(self.spec, self.workspace, min(int(count), 1000))
        self._previewed = {**found, "spec": self.spec}
        return {k: found[k] for k in ("read", "kept", "steps")}

    def ask_previewed(self, index: int, show: str = "all", reason: str = "", by: str = "") -> dict[str, Any]:
        """One record of the preview: as it was read, what is marked in it, what becomes of it."""
        records = self._previewed["records"] if self._previewed else []
        found = [r for r in records if show == "all" or (show == "kept" and not r["reason"])
                 or (show == "dropped" and (r["step"], r["reason"]) == (by, reason))]
        if not 0 <= index < len(found):
            return {"total": len(found)}
        from workbench.data.evidence import differences, reason_spans

        record = found[index]
        text = record["text"] or ""
        told = {"total": len(found), "title": f"{record['source']}, {record['locator']}", "id": record["id"]}
        if record["reason"]:
            says = f"dropped by {record['step']}: {record['reason']}" + (f" ({record['detail']})" if record["detail"] else "")
            return {**told, "state": "dropped", "says": says, "segments": segments(text, reason_spans(self._previewed["spec"], record))}
        if record["before"] is None or text == record["before"]:
            return {**told, "state": "kept", "says": "kept as it is", "segments": segments(text, [])}
        was, now = differences(record["before"], text)
        return {**told, "state": "kept", "says": "kept, changed by the steps", "segments": segments(text, now),
                "twin": {"title": "as it was read", "segments": segments(record["before"], was)}}

    # What came out -------------------------------------------------------------------------------------------------------------

    def made(self, run: Run) -> dict[str, Any]:
        from workbench.data.review import Review
        from workbench.data.thresholds import histograms

        dataset = run.output
        review = Review(dataset, self.workspace)
        before, self._review, self._compared, self._moving = self._review, review, None, ("", None)
        if before is not None:
            before.close()
        counts = review.counts()
        drops = [{"code": code, "step": step, "reason": reason, "count": counts[code]}
                 for code, (step, reason) in enumerate(review.reasons) if code and counts[code]]
        order = list(dataset.manifest.get("drops") or {})
        drops.sort(key=lambda d: (order.index(d["step"]) if d["step"] in order else len(order), -d["count"]))
        step = next((s for s in review.spec.recipe().steps if s.step == "quality"), None)
        return {"name": dataset.name, "digest": dataset.digest, "reference": dataset.reference, "modality": dataset.modality,
                "kept": review.kept, "read": review.total, "drops": drops, "splits": dataset.manifest["splits"],
                "found": dataset.manifest.get("pii") or {}, "steps": [s.step for s in review.spec.recipe().steps],
                "histograms": histograms(review, step) if step else [], "card": dataset.card, "versions": self._versions(dataset.name)}

    def _versions(self, name: str) -> list[dict[str, Any]]:
        return [{"digest": v.digest, "number": v.number, "run": v.run, "created": v.created,
                 "records": sum(s["records"] for s in (v.meta.get("splits") or {}).values())}
                for v in Registry(self.workspace).versions("dataset", name)[:50]]

    @property
    def review(self) -> Review:
        """The version that is shown.

        Raises
        ------
        NotFoundError
            Before there is one.
        """
        if self._review is None:
            raise NotFoundError("there is no dataset to look into yet", hint="Run the spec first")
        return self._review

    def _choices(self, *names: str) -> list[str]:
        return [i for n in names for i in self.editor.mapping.get(n) or () if isinstance(i, str)]

    def _shown(self, show: str, code: int | None, split: str, bounds: dict[str, Any] | None) -> tuple[Review, str, np.ndarray | None]:
        """The review that holds what is asked for, a key for it, and its mask."""
        review, compared = self.review, self._compared
        if show in ("added", "removed", "changed"):
            if compared is None:
                raise NotFoundError("no version is compared", hint="Choose one under Compare")
            holder = compared.before if show == "removed" else compared.now
            return holder, f"{show} {compared.before.dataset.digest}", holder.only(getattr(compared, show))
        if show in ("hand", *CHOICES):
            ids = self._choices(*(("keep", "drop") if show == "hand" else (show,)))
            return review, f"{show} {hash(tuple(ids))}", review.only(review.rows_of(ids))
        if show == "moved":
            key, (goes, back) = self._moved(bounds)
            return review, f"moved {key}", goes | back
        return review, f"{show} {code} {split}", review.mask(show, code=code, split=split)

    @slow
    def ask_page(self, show: str = "all", code: int | None = None, split: str = "", bounds: dict[str, Any] | None = None,
                 **order: Any) -> dict[str, Any]:
        """A page of records."""
        review, key, mask = self._shown(show, code, split, bounds)
        found = review.page(mask, key=key, **{k: v for k, v in order.items() if k in ("start", "count", "sort", "descending", "text")})
        return {**found, "of": review.total}

    @slow
    def ask_record(self, index: int, show: str = "all", code: int | None = None, split: str = "", bounds: dict[str, Any] | None = None,
                   text: str = "", sort: str | None = None, descending: bool = False) -> dict[str, Any]:
        """One record as the reader shows it, by its place in the order asked."""
        from workbench.data.evidence import evidence

        review, key, mask = self._shown(show, code, split, bounds)
        numbers, total, _ = review.search(key, mask, text, sort, descending).wait(index, 1, 5)
        if not len(numbers):
            return {"total": total}
        record = review.row(int(numbers[0]))
        why, image = evidence(review, record), record["image"]
        told = {"total": total, "id": record["id"], "row": record["row"], "title": f"{record['source']}, {record['locator']}",
                "state": "dropped" if record["reason"] else "kept", "says": why["says"],
                "facts": {"length": f"{record['length']:,} characters", **{_label(k): f"{v:.2f}" for k, v in record["scores"].items()
                                                                          if k != "characters"}, "id": record["id"]}}
        if image is not None:
            told["facts"] = {"label": _name_of(record["label"], review.dataset.manifest.get("labels") or ()),
                             "size": f"{len(image):,} bytes", "id": record["id"]}
            return {**told, "segments": [], "picture": True}, [image]
        twin = why["twin"]
        if show == "changed" and self._compared is not None and (other := self._compared.other(record["row"])) is not None:
            from workbench.data.evidence import differences

            past = self._compared.before.row(other)
            mine, theirs = differences(record["text"], past["text"])
            why, twin = {**why, "spans": mine, "twin_spans": theirs}, {**past, "locator": f"{past['locator']}, in the other version"}
        found = _spans_of(record["text"] or "", text)
        told["segments"] = segments(record["text"] or "", [*why["spans"], *found])
        if twin is not None:
            state = "dropped" if twin["reason"] else "kept"
            told["twin"] = {"title": f"{twin['source']}, {twin['locator']} ({state})", "id": twin["id"],
                            "segments": segments(twin["text"] or "", why["twin_spans"])}
        if (sound := _sound(review.dataset.form, record["text"] or "")) is not None:
            return {**told, "sound": True}, [sound]
        return told

    # Bounds --------------------------------------------------------------------------------------------------------------------

    def _quality(self) -> tuple[int, Quality] | None:
        """The quality step that is on: its place among the steps, and itself as it is edited."""
        spec = self.editor.spec
        return next(((n, s) for n, s in enumerate(spec.steps) if s.step == "quality" and s.on), None) if spec else None

    def _moved(self, bounds: dict[str, Any] | None) -> tuple[str, tuple[np.ndarray, np.ndarray]]:
        from workbench.data.spec import Quality
        from workbench.data.thresholds import moved

        found = self._quality()
        step = found[1] if found else Quality()
        step = Quality.model_validate({**step.model_dump(), **(bounds or {})})
        fixed = self._choices("keep", "drop")
        key = f"{step.model_dump_json()} {hash(tuple(fixed))} {id(self._review)}"
        with self._moving_lock:
            if self._moving[0] != key:
                self._moving = key, moved(self.review, step, fixed)
            return self._moving

    @slow
    def ask_moved(self, bounds: dict[str, Any] | None = None) -> dict[str, Any]:
        """How many records other bounds would move, against the version shown."""
        if self._quality() is None or not self.review.scores:
            return {"goes": 0, "back": 0}
        _, (goes, back) = self._moved(bounds)
        return {"goes": int(goes.sum()), "back": int(back.sum())}

    def act_bound(self, field: str, value: float) -> None:
        """Write a bound into the spec."""
        found = self._quality()
        if found is None:
            raise NotFoundError("the spec has no quality step that is on", hint="Add one under Spec")
        self.editor.put(["steps", found[0], field], value)

    # Decisions -----------------------------------------------------------------------------------------------------------------

    def act_decide(self, record: str, choice: str | None) -> None:
        """What a person says of a record: ``keep``, ``drop``, ``unsure``, or nothing any more."""
        self._chosen.append((record, self._choice(record)))
        self._decide(record, choice)

    def act_undecide(self) -> dict[str, Any] | None:
        """Take the last decision back."""
        if not self._chosen:
            return None
        record, before = self._chosen.pop()
        self._decide(record, before)
        return {"id": record, "left": len(self._chosen)}

    def _choice(self, record: str) -> str | None:
        return next((c for c in CHOICES if record in (self.editor.mapping.get(c) or ())), None)

    def _decide(self, record: str, choice: str | None) -> None:
        mapping = {**self.editor.mapping}
        for name in CHOICES:
            ids = [i for i in mapping.get(name) or () if i != record] + ([record] if name == choice else [])
            if ids:
                mapping[name] = ids
            else:
                mapping.pop(name, None)
        if mapping != self.editor.mapping:
            self.editor.replace(mapping)

    # Versions ------------------------------------------------------------------------------------------------------------------

    @slow
    def ask_compare(self, digest: str) -> dict[str, int]:
        """Compare with another version of the dataset: records that came, went, or read otherwise."""
        from workbench.data.comparison import compare
        from workbench.data.review import Review
        from workbench.dataset import Dataset

        before = Review(Dataset.open(f"{self.review.dataset.name}@{digest}", self.workspace), self.workspace)
        self._compared = found = compare(self.review, before)
        return {"added": len(found.added), "removed": len(found.removed), "changed": len(found.changed)}

    @slow
    def act_version(self, digest: str) -> None:
        """Show the run that made another version."""
        run = next((v["run"] for v in self._versions(self.review.dataset.name) if v["digest"] == digest), None)
        if run is None:
            raise NotFoundError("nobody recorded which run made this version")
        self.attach(run)


def _format(paths: Sequence[str]) -> str:
    return Path(paths[0].lower().removesuffix(".gz")).suffix if paths else ""


def _name(path: str) -> str:
    """A name for a dataset after a file or directory, without the mark of its content."""
    import re

    stem = re.sub(r"-[0-9a-f]{8}$", "", Path(path).name.partition(".")[0]) or Path(path).parent.name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:64] or "dataset"


def _name_of(label: int | None, names: Sequence[str]) -> str:
    return "none" if label is None else names[label] if 0 <= label < len(names) else str(label)


def _sound(form: str, text: str) -> bytes | None:
    """A tune's sound, its first half minute; None where the record is no tune, or none that can be played."""
    from workbench.errors import SourceError
    from workbench.music import read_tune, wav

    if form not in ("abc", "midi"):
        return None
    try:
        return wav(read_tune(form, text), 30)
    except SourceError:
        return None


def _label(name: str) -> str:
    return name.replace("_", " ")


def _spans_of(text: str, wanted: str) -> list[tuple[int, int, str, str]]:
    """Where a text that was searched for stands."""
    if not wanted:
        return []
    whole = text.lower() if wanted == wanted.lower() else text
    found, at = [], whole.find(wanted)
    while at >= 0 and len(found) < 200:
        found.append((at, at + len(wanted), "found", ""))
        at = whole.find(wanted, at + len(wanted))
    return found if len(whole) == len(text) else []
