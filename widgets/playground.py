"""The playground's side of the kernel: questions asked, answers traced, marked and led back; and the code that asks from elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.endpoint import Endpoint
from workbench.errors import WorkbenchError
from workbench.registry import Registry
from workbench.serve.feedback import Feedback, Mark

from .asking import slow
from .table import segments

if TYPE_CHECKING:
    from .serve import ServePanel
    from .talk import Side

SHOWN = 20_000
"""Characters of a record that are shown."""


class Playground:
    """What a page asks of an endpoint beyond its state; a part of ``ServePanel``."""

    def ask_talk(self: ServePanel) -> list[dict[str, Any]]:
        """What was asked and answered in this session, the oldest first."""
        return [exchange.told() for exchange in list(self.talk.exchanges)]

    def ask_exchange(self: ServePanel, number: int) -> dict[str, Any]:
        """One of them."""
        return self.talk.find(number).told()

    def ask_question(self: ServePanel, prompt: str, models: list[str] | None = None, chat: int | None = None, **options: Any) -> int:
        """Put a prompt to the endpoint, or to versions of it side by side; the answers come by messages."""
        endpoint = Endpoint.open(self.name, self.workspace)
        return self.talk.ask(endpoint, models or [endpoint.name], prompt, chat=chat, **self.admit(options)).number

    def ask_hush(self: ServePanel, number: int | None = None) -> None:
        """Stop what is being answered."""
        self.talk.stop(number)

    @slow
    def ask_trace(self: ServePanel, number: int, side: int) -> dict[str, Any]:
        """Where the answer's words stand in the training text, and what made it: ``segments``, ``spans``, ``lineage``, ``missing``."""
        found = self._side(number, side)
        trace = Endpoint.open(self.name, self.workspace).trace(found.stream.id)
        spans = _apart(sorted((s for s in trace["spans"] if s["records"]), key=lambda s: -len(s["text"])))
        cut = segments(found.stream.text, [(*_words(s), "taught", str(n)) for n, s in enumerate(spans)], SHOWN)
        told = [{"text": s["text"][:400], "characters": len(s["text"]), "times": s["occurrences"],
                 "records": [{k: r[k] for k in ("id", "source", "locator")} for r in s["records"]]} for s in spans]
        return {"segments": cut, "spans": told, "lineage": self._lineage(trace), "missing": trace["missing"]}

    @slow
    def ask_record(self: ServePanel, number: int, side: int, record: str) -> dict[str, Any]:
        """A record that taught an answer, with the same words highlighted, as the reader takes it."""
        found = Endpoint.open(self.name, self.workspace).record(self._side(number, side).stream.id, record)
        dataset, text = found["dataset"], found["text"] or ""
        # The first of its words must be in sight, however far into a long record they stand.
        begin = max(0, found["spans"][0][0] - 2000) if found["spans"] else 0
        places = [_words({"start": a, "end": b, "text": text[a:b]}) for a, b in found["spans"]]
        spans = [(max(0, a - begin), b - begin, "taught", "") for a, b in places]
        cut = [*([{"text": "… "}] if begin else []), *segments(text[begin:], spans, SHOWN)]
        return {"title": found["locator"] or found["source"], "segments": cut,
                "facts": {"source": found["source"], "place": found["locator"], "dataset": f"{dataset['name']} v{dataset['version']}",
                          "split": found["split"], "record": found["id"], "characters": f"{len(text):,}"}}

    @slow
    def act_mark(self: ServePanel, number: int, side: int, mark: Mark, note: str = "", better: str | None = None) -> dict[str, Any]:
        """Say of an answer that it is right or wrong."""
        found = self._side(number, side)
        row = self.feedback.mark(found.stream.id, mark, note=note, better=better or None)
        found.mark = {"mark": row["mark"], "note": row["note"], "better": row["better"]}
        self.send({"marked": number, "side": side, "mark": found.mark})
        return found.mark

    @slow
    def act_unmark(self: ServePanel, number: int, side: int) -> None:
        """Take back what was said of an answer."""
        found = self._side(number, side)
        self.feedback.withdraw(found.stream.id)
        found.mark = None
        self.send({"marked": number, "side": side, "mark": None})

    @slow
    def ask_marks(self: ServePanel) -> dict[str, Any]:
        """What was said of this endpoint's answers, the newest first, and the file that holds it."""
        feedback: Feedback = self.feedback
        rows = [{**{k: r[k] for k in ("mark", "note", "at", "who")}, **{k: _beginning(r[k] or "") for k in ("prompt", "answer")}}
                for r in feedback.rows()[::-1][:100]]
        return {"rows": rows, "path": self.workspace.relative(feedback.path)}

    def ask_code(self: ServePanel, prompt: str = "Return the") -> dict[str, str]:
        """Small programs that ask this endpoint, to copy."""
        return Endpoint.open(self.name, self.workspace).client_programs(prompt[:2000])

    @slow
    def ask_open(self: ServePanel, kind: str, name: str) -> None:
        """Open the panel of something that an answer leads back to, below this one."""
        from . import panel_class

        if kind == "model":
            self.opened = [panel_class("assess")({"model": name}, workspace=self.workspace)]
        elif kind in ("run", "dataset"):
            word = "data" if kind == "dataset" else "train"
            self.opened = [panel_class(word)(run=name, workspace=self.workspace)]
        else:
            raise WorkbenchError(f"no panel shows a {kind[:40]!r}")

    def _side(self: ServePanel, number: int, side: int) -> Side:
        sides = self.talk.find(number).sides
        if not 0 <= side < len(sides):
            raise WorkbenchError("there is no such answer")
        return sides[side]

    def _lineage(self: ServePanel, trace: dict[str, Any]) -> list[dict[str, str]]:
        """Endpoint, model, run, dataset and sources of an answer; ``open`` names what a click shows, where it is there."""
        line: list[dict[str, str]] = [{"kind": "endpoint", "label": trace["endpoint"]}]
        model, dataset = trace["model"], trace["dataset"]
        if model:
            line.append({"kind": "model", "label": f"{model['name']} v{model['version']}", "open": f"{model['name']}@v{model['version']}"})
        if trace["run"]:
            line.append({"kind": "run", "label": trace["run"], "open": self._there(trace["run"])})
        if dataset:
            known = Registry(self.workspace).versions("dataset", dataset["name"])
            number = next((f" v{v.number}" for v in known if v.digest == dataset["digest"]), "")
            line.append({"kind": "dataset", "label": dataset["name"] + number, "open": self._there(dataset.get("run"))})
            for source in (dataset.get("sources") or [])[:3]:
                places = source.get("paths") or []
                line.append({"kind": "source", "label": ", ".join(map(str, places[:2])) or str(source.get("kind", ""))})
        return line

    def _there(self: ServePanel, run: str | None) -> str:
        """The id of a run that is recorded here, or an empty text."""
        from workbench.journal import Journal

        return run if run and any(e.id == run for e in Journal(self.workspace).entries(limit=100_000)) else ""


def _apart(spans: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of stretches that overlap, the one that stands first in the list."""
    kept: list[dict[str, Any]] = []
    for span in spans:
        if all(span["end"] <= k["start"] or span["start"] >= k["end"] for k in kept):
            kept.append(span)
    return kept


def _words(span: dict[str, Any]) -> tuple[int, int]:
    """Start and end of a stretch without the blanks around it."""
    text = span["text"]
    return span["start"] + len(text) - len(text.lstrip()), span["end"] - (len(text) - len(text.rstrip()))


def _beginning(text: str, most: int = 200) -> str:
    return text if len(text) <= most else text[:most] + "…"
