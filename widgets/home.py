"""Home: where somebody begins, and what somebody meets who comes back."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
import uuid
from functools import cache
from typing import Any, ClassVar

import anywidget
import traitlets
from ipywidgets import widget_serialization

from workbench import runs
from workbench.chain import read_chain
from workbench.drawing import Markup, ago, duration, frame, head, table_html
from workbench.driver import SILENCE
from workbench.errors import NotFoundError, WorkbenchError
from workbench.events import Event
from workbench.journal import Entry
from workbench.outlook import KINDS, Outlook, told
from workbench.registry import Registry
from workbench.workspace import Workspace

from . import assembly, panel_class
from .asking import Asked, Reply, slow
from .feed import Feed
from .still import Still, framed
from .watch import SIGNS, said

MOST_OPEN = 6
"""Panels that stand open below Home at most; the oldest makes room."""
LOOKING = 30.0
"""Seconds for which a page counts as looked at since it last said so."""
WHOLE = 3.0
"""Seconds between looks at everything where no event tells of a change."""


class Home(Still, anywidget.AnyWidget):
    """The workspace at a glance, and the door to every panel.

    Parameters
    ----------
    workspace : where it looks; none: the one found from here upwards.

    Examples
    --------
    >>> Home()  # doctest: +SKIP
    """

    MODULES: ClassVar[tuple[str, ...]] = ("element", "home")

    about = traitlets.Dict().tag(sync=True)
    now = traitlets.Dict().tag(sync=True)
    """``empty``, ``needs``, ``ended``, ``running``, ``services``, ``chain``"""
    opened = traitlets.List().tag(sync=True, **widget_serialization)

    _asked, _answer = Asked._asked, Asked._answer  # a page asks Home as it asks a panel, with other questions

    def __init__(self, workspace: Workspace | str | os.PathLike | None = None):
        kind = type(self)
        if "_esm" not in kind.__dict__:
            kind._esm, kind._css = assembly.page(*kind.MODULES), assembly.style("home")
        self._lock = threading.RLock()
        self.workspace = Workspace.find(workspace)
        self.readonly = os.environ.get("WORKBENCH_READ_ONLY", "") not in ("", "0")
        self.outlook = Outlook(self.workspace)
        self._since = self.outlook.looked()
        self._looked = self._whole = time.monotonic()
        self._panels: dict[str, Any] = {}
        self._drawn: dict[tuple, dict[str, Any]] = {}
        super().__init__()
        if hasattr(self.comm, "_reply_subshell_for"):  # as in Panel: a page is answered while a cell runs
            self.comm._reply_subshell_for = lambda _, named: named
        self.about = {"id": uuid.uuid4().hex[:12], "word": "home", "title": "Home", "readonly": self.readonly, "icons": icons(),
                      "workspace": self.workspace.root.name, "root": str(self.workspace.root), "kinds": list(KINDS)}
        self.on_msg(self._asked)
        self._look()
        feed = Feed.of(self.workspace)
        self._listener = feed.listen(self._hear)

    def close(self) -> None:
        """End Home and the panels below it; what runs goes on."""
        if getattr(self, "_listener", None) is not None:
            self._listener.leave()
        for panel in list(getattr(self, "_panels", {}).values()):
            panel.close()
        super().close()

    # What it shows ---------------------------------------------------------------------------------------------------------------

    def _hear(self, events: list[Event]) -> None:
        """On the feed's thread. Nobody looks: nothing is read."""
        if time.monotonic() - self._looked > LOOKING:
            return
        if any(e.kind in ("state", "alert") for e in events) or time.monotonic() - self._whole > WHOLE:
            self._look()
        elif self.now.get("running"):
            self._show({**self.now, "running": self._running()})

    def _look(self) -> None:
        self._whole = time.monotonic()
        outlook, chain = self.outlook, read_chain(self.workspace)
        running = self._running()
        needs = [{"id": n.id, "level": n.level, "text": n.text, "at": n.at, "label": n.label, "open": n.open, "dismissable": n.dismissable}
                 for n in outlook.needs()]
        shown = {n["open"].get("run") for n in needs}
        ended = [] if self._since is None else [{"run": e.id, "state": e.state, "sign": SIGNS[e.state], "text": told(e).rpartition(",")[0],
                                                 "at": e.ended} for e in outlook.ended_since(self._since) if e.id not in shown]
        services = [{"kind": s.kind, "name": s.name, "run": s.id, "at": s.at} for s in outlook.services()]
        before = self.now.get("chain")
        known = {"chain": {**chain.to_dict(), "pictures": self._pictures(chain)}, "needs": needs, "ended": ended[:6], "running": running,
                 "services": services, "empty": chain.empty and not (needs or running or services or self._anything())}
        self._show(known)
        if before is not None and before != known["chain"]:
            self._picture()

    def _show(self, known: dict[str, Any]) -> None:
        if known != self.now:
            self.now = known

    def _anything(self) -> bool:
        return self.outlook.find(count=0)[1] > 0

    def _running(self) -> list[dict[str, Any]]:
        return [self._row(*one) for one in self.outlook.at_work()]

    def _row(self, entry: Entry, progress: dict[str, Any] | None, silence: float) -> dict[str, Any]:
        lost = entry.state in ("running", "stopping") and silence > 1.5 * SILENCE
        state = "lost" if lost else entry.state
        words = {"queued": "waits for a worker", "lost": f"no sign of life for {duration(silence)}"}.get(state, "")
        return {"run": entry.id, "word": entry.word, "name": entry.name, "state": state, "sign": SIGNS[state], "words": words,
                "progress": None if lost else said(progress), "since": entry.started or entry.submitted}

    def _pictures(self, chain: Any) -> dict[str, Any]:
        """A small picture for each link: the share that was kept, the loss as it fell, which rules are met."""
        found: dict[str, Any] = {}
        for link in chain.links:
            key = (link.kind, link.digest, link.state)
            if link.there and key in self._drawn:
                found[link.kind] = self._drawn[key]
            elif link.there and link.digest:
                with contextlib.suppress(WorkbenchError, OSError, ValueError, KeyError):
                    found[link.kind] = self._drawn[key] = getattr(self, f"_draw_{link.kind}")(link)
        return found

    def _draw_dataset(self, link: Any) -> dict[str, Any]:
        from workbench.dataset import Dataset

        manifest = Dataset(Registry(self.workspace).by_digest("dataset", link.digest).path).manifest
        kept, read = sum(s["records"] for s in manifest["splits"].values()), manifest.get("read") or 0
        return {"share": kept / read, "title": f"{kept:,} of {read:,} records kept"} if read else {}

    def _draw_model(self, link: Any) -> dict[str, Any]:
        points = runs.attach(link.run, self.workspace).curve("loss") if link.run else []
        values = [v for _, v in points if v == v]
        step = max(1, len(values) // 48)
        thin = [sum(values[i:i + step]) / len(values[i:i + step]) for i in range(0, len(values), step)]
        return {"line": [round(v, 4) for v in thin], "title": f"loss {thin[0]:.3g} → {thin[-1]:.3g}"} if len(values) > 1 else {}

    def _draw_assessment(self, link: Any) -> dict[str, Any]:
        from workbench.assessment import standing

        digest = Registry(self.workspace).by_digest("assessment", link.digest).meta["model"]
        judged = standing(self.workspace, digest).judgements
        return {"dots": [{"status": j.status, "title": f"{j.rule.metric.replace('_', ' ')}: {j.status}"} for j in judged]}

    # What a page asks ------------------------------------------------------------------------------------------------------------

    def ask_look(self) -> None:
        """A page is looked at: said by it every few seconds while it is."""
        away = time.monotonic() - self._looked > LOOKING
        self._looked = time.monotonic()
        if away:
            self._since = self.outlook.looked()
            self._look()
        if not self.readonly:
            self.outlook.look()

    def ask_find(self, text: str = "", kind: str | None = None, start: int = 0, count: int = 10) -> dict[str, Any]:
        """A page of everything there is."""
        found, total = self.outlook.find(text, kind or None, start, min(count, 100))
        return {"total": total, "rows": [{"kind": f.kind, "id": f.id, "name": f.name, "word": f.word, "state": f.state, "at": f.at}
                                         for f in found]}

    @slow
    def ask_open(self, run: str | None = None, word: str | None = None, spec: dict[str, Any] | None = None, kind: str | None = None,
                 id: str | None = None) -> dict[str, str]:
        """Open a panel below: of a run, of a spec to begin with, or of a thing that was found."""
        if kind is not None and id is not None:
            run, word, spec = self._about(kind, id)
        if run:
            word = runs.attach(run, self.workspace).word
        key = f"{word} {run or spec}"
        panel = self._panels.get(key)
        if panel is None:
            made = panel_class(word or "data")
            panel = self._panels[key] = made(run=run, workspace=self.workspace) if run else made(spec, workspace=self.workspace)
        rest = [p for p in self.opened if p is not panel]
        for old in rest[MOST_OPEN - 1:]:
            self._end(old)
        self.opened = [panel, *rest[:MOST_OPEN - 1]]
        return {"model": panel.model_id, "panel": panel.about["id"]}

    @slow
    def ask_begin(self, how: str) -> dict[str, str]:
        """Open the data panel: with the working example, or to be filled with the person's own files."""
        from .data import DataPanel

        spec = DataPanel.EXAMPLE if how == "example" else None
        return self.ask_open(word="data", spec=spec)

    def ask_close(self, model: str) -> None:
        """Close a panel below; its run goes on."""
        for panel in [p for p in self.opened if p.model_id == model]:
            self.opened = [p for p in self.opened if p is not panel]
            self._end(panel)

    def ask_seen(self) -> None:
        """What ended meanwhile was read."""
        self._since = time.time()
        self._look()

    def act_stop(self, run: str) -> None:
        runs.attach(run, self.workspace).stop()
        self._look()

    @slow
    def act_recover(self, run: str) -> None:
        """Attach again to a run that was lost sight of."""
        runs.attach(run, self.workspace).recover()
        self._look()

    def act_acknowledge(self, need: str) -> None:
        self.outlook.acknowledge(need)
        self._look()

    def act_dismiss(self, need: str) -> None:
        self.outlook.dismiss(need)
        self._look()

    @slow
    def act_save(self, folder: str, name: str = "") -> dict[str, Any]:
        """Write the chain's runs as a pipeline into a folder."""
        from workbench.pipeline.saved import save

        path = save([runs.attach(r, self.workspace) for r in read_chain(self.workspace).runs], folder, name=name or None,
                    workspace=self.workspace)
        shown = self.workspace.relative(path)
        return {"path": shown, "command": f"workbench pipeline {shown}"}

    def _about(self, kind: str, id: str) -> Reply:
        """Run, word and spec that show a thing."""
        if kind in ("run", "pipeline"):
            return id, None, None
        if kind == "endpoint":
            from workbench.endpoint import Endpoint

            document = Endpoint.open(id, self.workspace).document
            models = [{"model": f"{m['name']}@{m['digest'][:12]}", "weight": m["weight"]} for m in document.get("models") or []]
            return self._run(document.get("run")), "serve", {"name": id, "models": models}
        version = Registry(self.workspace).resolve(kind, id)
        word = {"dataset": "data", "model": "train", "assessment": "assess"}[kind]
        if run := self._run(version.run):
            return run, word, None
        if kind == "assessment":
            return None, word, {"model": version.name}
        from workbench.dataset import Dataset
        from workbench.model import Model

        return None, word, (Dataset if kind == "dataset" else Model)(version.path).manifest.get("spec") or {}

    def _run(self, run: str | None) -> str | None:
        with contextlib.suppress(NotFoundError):
            return runs.attach(run, self.workspace).id if run else None
        return None

    def _end(self, panel: Any) -> None:
        self._panels = {k: p for k, p in self._panels.items() if p is not panel}
        panel.close()

    # Display ---------------------------------------------------------------------------------------------------------------------

    def _still(self) -> Markup:
        """The chain as a table."""
        chain = self.now["chain"]
        rows = [[link["kind"], f"{link['name']} {link['version']}".strip() or "–", link["words"], link["figure"] or "–",
                 ago(link["at"]) if link["at"] else "–"] for link in chain["links"]]
        body = frame(head("workbench", self.about["workspace"]), table_html(["", "name", "state", "", "made"], rows, "Latest work"))
        return framed(self.about["id"], body, "Home")

    def __str__(self) -> str:
        needs, running = len(self.now.get("needs", [])), len(self.now.get("running", []))
        state = "nothing yet" if self.now.get("empty") else f"{needs} to look at, {running} at work"
        return f"Home · {self.about['workspace']}: {state}"

    def __repr__(self) -> str:
        return f"Home({str(self)!r})"


@cache
def icons() -> dict[str, str]:
    """The path of each word's icon, from the files that the launcher shows too."""
    return {p.stem: re.search(r' d="([^"]+)"', p.read_text("utf-8"))[1] for p in sorted((assembly.FOLDER / "icons").glob("*.svg"))}

