"""The pipeline panel: the graph of its steps with live state, what each would do and why, the failing cell, the report."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import traitlets

from workbench.drawing import ago, duration, table, when
from workbench.errors import WorkbenchError
from workbench.events import Event, Events
from workbench.journal import ENDED, Journal
from workbench.pipeline.board import Board, Standing
from workbench.pipeline.cache import Cache, explain
from workbench.pipeline.graph import Graph
from workbench.pipeline.notebook import OTHER, Notebook, plain, source
from workbench.runs import Run
from workbench.spec import dump_yaml

from . import watch
from .panel import Panel, slow

SIGNS = {"waiting": ("○", "waiting"), "running": ("●", "running"), "cached": ("◆", "found, not repeated"), "done": ("✓", "done"),
         "failed": ("✕", "failed"), "skipped": ("–", "skipped"), "stopped": ("■", "stopped")}
PLANS = {"cached": ("◆", "found"), "redo": ("●", "to be done"), "waits": ("○", "depends")}
MOST = 4_000_000
"""Bytes of a report that is opened in place."""
LONG = 4_000
"""Characters of a cell's source that travel."""
LEFT_OUT = {".workbench", ".git", ".venv", "node_modules", ".ipynb_checkpoints", "__pycache__"}


class PipelinePanel(Panel):
    """Runs notebooks in the order of their needs."""

    WORD: ClassVar[str] = "pipeline"
    ABOUT: ClassVar[str] = ("Runs notebooks in the order of their needs, each with its spec; does again only what changed, and writes a "
                            "report of what came out.")
    EXAMPLE: ClassVar[dict[str, Any]] = {"name": "mine", "steps": [{"name": "data", "notebook": "1-data.ipynb"}]}
    MAIN: ClassVar[tuple[str, ...]] = ("name", "steps")
    EDITORS: ClassVar[dict[str, str]] = {"steps.*.needs": "pipelineneeds"}
    MODULES: ClassVar[tuple[str, ...]] = ("pipelinegraph", "pipeline")

    graph = traitlets.List().tag(sync=True)
    """the steps of the run shown: node, needs, column, state, sign, words …"""

    def __init__(self, *arguments: Any, **known: Any):
        self._board: Board | None = None
        self._folding = threading.Lock()
        self._last: dict[str, float] = {}
        self._read: tuple[Any, Notebook | None] = (None, None)
        super().__init__(*arguments, **known)

    # Live ----------------------------------------------------------------------------------------------------------------------

    def attach(self, run: Run | str) -> None:
        with self._folding:
            self._board = None
        super().attach(run)
        run = self.watch.run
        try:
            board = Board(run.spec)
        except WorkbenchError:  # a run of another workbench
            board = Board()
        board.take(Events(self.workspace).tail(run.id, kinds=("mark",), limit=100_000))
        cache = Cache(self.workspace)
        self._last = {n: r.seconds for n in board.steps if (r := cache.latest(self.watch.entry.name, n))}
        with self._folding:
            self._board = board
        self._draw()
        self._attend()

    def alive(self, fresh: dict[str, Any], events: list[Event]) -> None:  # noqa: ARG002 - a pipeline has no curves
        self._draw()
        if any(e.kind in ("mark", "state") for e in events):
            self._attend()

    def _draw(self) -> None:
        with self._folding:
            if self._board is None or self.watch is None:
                return
            # Read here and not taken as told: at the end of a run its last marks count before the feed comes round.
            self._board.take(self.watch.feed.events.tail(self.watch.run.id, after=self._board.seen, kinds=("mark",)))
            self._board.settle(self.watch.entry.state)
            nodes = [self._node(step) for step in self._board.steps.values()]
        if nodes != self.graph:
            self.graph = nodes

    def _node(self, step: Standing) -> dict[str, Any]:
        sign, word = SIGNS[step.state]
        share, words = None, ""
        if step.state == "running":
            progress = watch.said(Run(self.workspace, step.runs[-1]).progress) if step.runs else None
            parts = [f"cell {step.cell} of {step.of}"] if step.cell else []
            if progress and progress["share"] is not None and progress["share"] < 1:
                share = round(progress["share"], 3)
                parts = [f"{100 * share:.0f} %"] + ([f"{duration(max(0, progress['left']))} left"] if progress.get("left") else [])
            elif step.cell and step.of:
                share = round((step.cell - 1) / step.of, 3)
            words = " · ".join(parts) or "begins"
        elif step.state == "done" and step.seconds is not None:
            words = f"took {duration(step.seconds)}"
        elif step.state == "cached" and step.seconds is not None:
            words = f"saved {duration(step.seconds)}"
        elif step.state == "waiting":
            words = f"took {duration(self._last[step.node])} before" if step.node in self._last else ""
        elif step.state == "failed" and step.error and step.error.get("cell"):
            words = f"in code cell {step.error['cell']}"
        return {"node": step.node, "needs": step.needs, "column": step.column, "word": step.word, "title": step.title, "state": step.state,
                "sign": sign, "stateword": word, "words": words, "share": share, "why": step.why}

    def _ended(self) -> None:
        super()._ended()
        self._draw()
        self._attend()

    def needs(self) -> dict[str, Any] | None:
        """While other steps go on, a failed one is spoken of already."""
        board = getattr(self, "_board", None)
        failing = board.failing if board else None
        return None if failing is None else {"level": "error", "text": told(failing), "action": {"label": "Open", "tab": "live"}}

    def _attend(self) -> None:
        super()._attend()
        board = getattr(self, "_board", None)
        if board and board.failing and self.attention.get("level") == "error" and self.attention["action"].get("tab") == "results":
            self.attention = {**self.attention, "text": told(board.failing), "action": {"label": "Open", "tab": "live"}}

    # Results -------------------------------------------------------------------------------------------------------------------

    def made(self, run: Run) -> dict[str, Any]:
        steps = [{"node": name, "state": s["state"], "sign": SIGNS[s["state"]][0], "word": SIGNS[s["state"]][1], "why": s["why"],
                  "took": duration(s["seconds"]) if s["seconds"] is not None else "–", "run": s.get("run"),
                  "products": [f"{p['kind']} {p['name']}" + (f"@{p['digest'][:12]}" if p.get("digest") else "") for p in s["products"]]}
                 for name, s in run.result["steps"].items()]
        return {"steps": steps, "report": run.result["report"], "found": sum(s["state"] == "cached" for s in steps)}

    def next_step(self, run: Run) -> dict[str, Any] | None:
        for step in run.result["steps"].values():
            result = step.get("result") or {}
            if "endpoint" in result and step.get("run"):
                return {"label": "Try the endpoint", "word": "serve", "spec": Journal(self.workspace).get(step["run"]).spec}
        return None

    def pictured(self, run: Run) -> Any:
        """The still picture says what the Results say: each step, how it stands, what it made."""
        if run.state == "done":
            rows = [[s["node"], f"{s['sign']} {s['word']}", s["took"], ", ".join(s["products"]), s["why"]] for s in self.made(run)["steps"]]
        else:
            rows = [[n["node"], f"{n['sign']} {n['stateword']}", n["words"], "", n["why"]] for n in self.graph]
        return table(["step", "state", "took", "made", "why"], rows, "Steps")

    # What the page asks --------------------------------------------------------------------------------------------------------

    def act_example(self) -> None:
        """Begin with the notebooks that are here, each after the one before it."""
        found = self._notebooks()
        steps, taken = [], set()
        for path in found[:12]:
            name = "-".join(p for p in Path(path).stem.replace(" ", "-").split("-") if not p.isdigit()) or Path(path).stem
            name = name if name not in taken else f"{name}-{len(taken) + 1}"
            taken.add(name)
            steps.append({"name": name, "notebook": path, **({"needs": [steps[-1]["name"]]} if steps else {})})
        self.editor.replace({"name": "mine", "steps": steps} if steps else self.EXAMPLE)

    def ask_names(self, kind: str, text: str = "", most: int = 30) -> list[dict[str, str]]:
        """Notebooks beside the pipeline's file, for the searchable list."""
        if kind != "notebook":
            return super().ask_names(kind, text, most)
        asked = text.lower().strip()
        found = self._notebooks()
        near = [n for n in found if asked in n.lower()] if asked and text not in found else found
        return [{"value": n, "note": ""} for n in near[:most]]

    @slow
    def ask_explain(self) -> list[dict[str, Any]]:
        """What a run would do with each step, and why; nothing starts."""
        spec = self.spec
        graph = Graph(spec.steps)
        depth, cache, shown = graph.depth(), Cache(self.workspace), []
        for plan in explain(spec, self.workspace):
            sign, word = PLANS[plan.state]
            last = plan.record or cache.latest(spec.name, plan.step)
            took = duration(last.seconds) if last else ""
            words = f"saves {took}" if plan.state == "cached" else f"took {took} before" if took else "not made yet"
            shown.append({"node": plan.step, "needs": list(graph.needs(plan.step)), "column": depth[plan.step], "state": plan.state,
                          "sign": sign, "stateword": word, "words": words, "share": None, "why": plan.why})
        return shown

    @slow
    def ask_step(self, node: str) -> dict[str, Any]:
        """A step of the run shown: why it stands as it does, its notebook cell by cell, its run, its error."""
        board = self._board
        step = board.steps.get(node) if board else None
        if step is None:
            raise WorkbenchError(f'the run has no step "{node}"')
        run, folder = self.watch.run, self.watch.run.directory
        number = next((i for i, s in enumerate(run.spec.steps, 1) if s.name == node), 0)
        paths = [folder / f"{number}-{node}.ipynb", folder / f".{number}-{node}.part.ipynb", self._folder(run) / step.notebook]
        cells, shown = [], None
        for path in paths:
            try:
                cells, shown = _cells(self._notebook(path), step, executed=path.parent == folder), path
                break
            except (WorkbenchError, ValueError, OSError):  # not there yet, or being written
                continue
        of = {}
        if step.runs:
            entry = Journal(self.workspace).get(step.runs[-1])
            progress = watch.said(Run(self.workspace, entry.id).progress)
            of = {"run": entry.id, "word": entry.word, "name": entry.name, "state": entry.state, "sign": watch.SIGNS.get(entry.state, ""),
                  "text": progress["text"] if progress and entry.state not in ENDED else ""}
        error = step.error and {"what": step.error.get("what", ""), "cell": step.error.get("cell"), "kind": step.error.get("kind", ""),
                                "source": str(step.error.get("source") or "")[:LONG],
                                "traceback": str(step.error.get("traceback") or "")[-20_000:]}
        begun = f"since {when(step.begun)}" if step.begun and step.state == "running" else ""
        return {**self._node(step), "begun": begun, "notebook": step.notebook, "file": self.workspace.relative(shown) if shown else "",
                "cells": cells, "of": of, "error": error, "spec": self._step_spec(run, node)}

    @slow
    def ask_report(self) -> dict[str, Any]:
        """The report of the run shown, whole where it is not too large."""
        path = self.watch.run.directory / "report.html" if self.watch is not None else None
        if path is None or not path.exists():
            return {"html": None, "words": "The report is written when the run ends." if path else "There is no run yet."}
        size = path.stat().st_size
        told_ = {"path": self.workspace.relative(path), "bytes": size, "name": f"{self.watch.entry.name}-report.html"}
        if size > MOST:
            return {**told_, "html": None, "words": f"It has {size / 1e6:.1f} MB: open the file."}
        return {**told_, "html": path.read_text("utf-8", "replace")}

    def ask_history(self) -> list[dict[str, Any]]:
        """Runs of this pipeline, the newest first."""
        name = self.watch.entry.name if self.watch is not None else str(self.editor.mapping.get("name") or "")
        entries = [e for e in Journal(self.workspace).entries(word="pipeline", limit=200) if e.name == name][:20]
        shown = []
        for entry in entries:
            steps = (entry.result or {}).get("steps", {})
            counts = [f"{sum(s['state'] == k for s in steps.values())} {w}" for k, w in (("done", "done"), ("cached", "found"))]
            took = duration(entry.ended - entry.started) if entry.ended and entry.started else ""
            shown.append({"run": entry.id, "state": entry.state, "sign": watch.SIGNS.get(entry.state, ""), "when": ago(entry.submitted),
                          "at": when(entry.submitted), "took": took, "steps": ", ".join(counts) if steps else "",
                          "what": str((entry.failure or {}).get("what") or "").split("\n")[0][:200],
                          "shown": self.watch is not None and entry.id == self.watch.run.id})
        return shown

    @slow
    def act_show(self, run: str) -> None:
        """Show an earlier run of this pipeline."""
        self.attach(run)

    @slow
    def act_open(self, run: str) -> None:
        """Open the panel of a step's run below this one."""
        from . import panel_class

        word = Journal(self.workspace).get(run).word
        self.opened = [panel_class(word)(run=run, workspace=self.workspace)]

    # Inside --------------------------------------------------------------------------------------------------------------------

    def _folder(self, run: Run | None = None) -> Path:
        folder = run.spec.folder if run is not None else str(self.editor.mapping.get("folder") or ".")
        return (self.workspace.root / folder).resolve()

    def _notebook(self, path: Path) -> Notebook:
        """A notebook, read again only where its file changed."""
        about = path.stat()
        key = (path, about.st_mtime_ns, about.st_size)
        if self._read[0] != key:
            self._read = (key, Notebook(path))
        return self._read[1]

    def _notebooks(self) -> list[str]:
        folder, found = self._folder(), []
        end = time.monotonic() + 0.5
        for place, folders, files in os.walk(folder):
            folders[:] = sorted(f for f in folders if f not in LEFT_OUT)
            depth = len(Path(place).relative_to(folder).parts)
            if depth >= 3:
                folders.clear()
            found += [(Path(place) / f).relative_to(folder).as_posix() for f in sorted(files) if f.endswith(".ipynb")]
            if len(found) > 500 or time.monotonic() > end:
                break
        return found

    def _step_spec(self, run: Run, node: str) -> str:
        given = next((s.spec for s in run.spec.steps if s.name == node), None)
        return dump_yaml(given) if isinstance(given, dict) else given or "the notebook's own"


def _cells(notebook: Notebook, step: Standing, *, executed: bool) -> list[dict[str, Any]]:
    """The cells of a notebook, with how far each came."""
    shown, code = [], 0
    for number, cell in enumerate(notebook.document["cells"], 1):
        about = cell.get("metadata", {})
        put_in = bool(set(about.get("tags", ())) & set(OTHER))
        if put_in and "papermill-error-cell-tag" in about.get("tags", ()):
            continue
        is_code = cell.get("cell_type") == "code"
        code += is_code and not put_in
        status = (about.get("papermill") or {}).get("status") if executed else None
        state = {"completed": "done", "failed": "failed", "running": "running"}.get(status or "", "waiting")
        if step.state == "running" and step.cell is not None:
            state = "running" if number == step.cell else "done" if number < step.cell else "waiting"
        if any(o.get("output_type") == "error" for o in cell.get("outputs", ())):
            state = "failed"
        if not is_code:
            state = "waiting"
        seconds = (about.get("papermill") or {}).get("duration")
        text = "".join(plain("".join(o["text"])) for o in cell.get("outputs", ()) if o.get("output_type") == "stream")
        shown.append({"number": number, "code": code if is_code and not put_in else None, "kind": "code" if is_code else "text",
                      "putin": put_in, "source": source(cell)[:LONG], "state": state, "sign": SIGNS[state][0],
                      "took": duration(seconds) if isinstance(seconds, int | float) and is_code else "", "said": text[-1000:]})
    return shown


def told(step: Standing) -> str:
    """A failed step in a line."""
    error = step.error or {}
    what = str(error.get("what") or step.why)
    cell = f" in cell {error['cell']}" if error.get("cell") else ""
    what = what.partition(": ")[2] if cell else what
    return f"step {step.node} failed{cell}: {(what.splitlines() or [''])[0][:200]}"
