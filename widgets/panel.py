"""The panel that all six words share: an editor of a spec and a view of a run, without any logic of its own.

How to write a panel is told in ``widgets/README.md``.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import uuid
from typing import Any, ClassVar

import anywidget
import traitlets
from ipywidgets import widget_serialization

from workbench import runs
from workbench.drawing import Markup, ago
from workbench.errors import RunFailedError, SpecError, WorkbenchError
from workbench.events import Event
from workbench.journal import ENDED, Journal
from workbench.runs import Run
from workbench.spec import Spec, spec_class
from workbench.workspace import Workspace

from . import assembly, still
from .asking import Asked, slow
from .attention import attention
from .curves import Curves
from .editor import Drafts, Editor
from .feed import Feed, aside
from .specfile import SpecFile
from .watch import SIGNS, Watch


class Panel(Asked, still.Still, anywidget.AnyWidget):
    """Base of the six panels; a subclass says its word and what it shows beyond the base.

    Parameters
    ----------
    spec : path, YAML text, mapping or spec object to begin with; none: an empty form.
    run : id (or its beginning) of a run to show; its spec is the one edited.
    workspace : where it works; none: the one found from here upwards.

    Examples
    --------
    >>> panel = DataPanel({"name": "digits", "sources": [{"kind": "digits"}]}); panel   # doctest: +SKIP
    >>> run = panel.run()                                                               # doctest: +SKIP
    """

    WORD: ClassVar[str] = ""
    TITLE: ClassVar[str] = ""
    """what the title line says before the name; none: the word"""
    VERB: ClassVar[str] = "Run"
    """what the button that runs the spec says"""
    ABOUT: ClassVar[str] = ""
    """one sentence for the empty panel"""
    EXAMPLE: ClassVar[dict[str, Any]] = {}
    """a spec that works as it is: what the empty panel's button begins with"""
    MAIN: ClassVar[tuple[str, ...]] = ()
    EDITORS: ClassVar[dict[str, str]] = {}
    MODULES: ClassVar[tuple[str, ...]] = ()
    """ES modules of its own under ``static/``"""
    CURVES: ClassVar[tuple[str, ...]] = ()
    """names of the curves to show first, in this order"""
    ESTIMATES: ClassVar[bool] = True
    """True: what a run takes is worked out as the spec is edited; False: only when asked, since it costs a trial"""

    about = traitlets.Dict().tag(sync=True)
    form = traitlets.Dict().tag(sync=True)
    edit = traitlets.Dict().tag(sync=True)
    plan = traitlets.Dict().tag(sync=True)
    status = traitlets.Dict().tag(sync=True)
    live = traitlets.Dict().tag(sync=True)
    results = traitlets.Dict().tag(sync=True)
    attention = traitlets.Dict().tag(sync=True)
    opened = traitlets.List().tag(sync=True, **widget_serialization)

    def __init__(self, spec: object = None, *, run: str | Run | None = None, workspace: Workspace | str | os.PathLike | None = None):
        kind = type(self)
        if "_esm" not in kind.__dict__:
            kind._esm, kind._css = assembly.script(*kind.MODULES), assembly.style(*kind.MODULES)
        self._lock = threading.RLock()
        self.workspace = Workspace.find(workspace)
        self.voila = os.environ.get("SERVER_SOFTWARE", "").startswith("voila")
        self.readonly = os.environ.get("WORKBENCH_READ_ONLY", "") not in ("", "0")
        self.watch: Watch | None = None
        self._ran: dict[str, Any] | None = None
        self._draft: tuple[dict[str, Any], float] | None = None
        self._notice: dict[str, Any] | None = None
        self._planned = 0
        self._seen: dict[str, int] = {}
        self._others: dict[str, Curves] = {}
        attached = runs.attach(run, self.workspace) if isinstance(run, str) else run
        self.editor = Editor(spec_class(self.WORD), spec if attached is None else attached.entry.spec, main=self.MAIN, editors=self.EDITORS)
        self.file = SpecFile.of(spec) if attached is None else None
        super().__init__()
        # ipykernel 7.4 answers a page on the shell that opened the comm, which a running cell blocks; the page names its own subshell.
        if hasattr(self.comm, "_reply_subshell_for"):
            self.comm._reply_subshell_for = lambda _, named: named
        self.about = {"id": uuid.uuid4().hex[:12], "word": self.WORD, "title": self.TITLE or self.WORD, "about": self.ABOUT,
                      "verb": self.VERB, "example": bool(self.EXAMPLE), "readonly": self.readonly, "voila": self.voila,
                      "curves": list(self.CURVES), "file": self.file.path.name if self.file else None}
        self.form = self.editor.form
        self.on_msg(self._asked)
        self.editor.changed = self._edited
        self._drafts = Drafts(self.workspace, self.WORD, self.editor.base)
        if attached is None:
            self._take_up_draft()
            attached = self._last_of_this()
        if attached is not None:
            self.attach(attached)
        self._refresh()
        self._plan()
        self._ticks = Feed.of(self.workspace).listen(self._look_at_file, "no scope") if self.file else None

    # What a notebook calls -----------------------------------------------------------------------------------------------------

    @property
    def spec(self) -> Spec:
        """The spec as it stands.

        Raises
        ------
        SpecError
            With all its problems, where it does not hold.
        """
        if self.editor.spec is None:
            raise SpecError(self.editor.problems, source=f"{self.WORD} panel")
        return self.editor.spec

    def run(self, *, again: bool = False, wait: bool = True) -> Run | still.Pending:
        """The same as the Run button; in a cell it waits, and Stop in the panel still works meanwhile.

        A run of this very spec on the same inputs that is at work or done is shown, not repeated. In Voila nothing starts.

        Raises
        ------
        SpecError, NotFoundError, SourceError, PolicyError
            Before anything starts.
        RunFailedError
            When the run failed or was stopped, after waiting.
        """
        if self.voila:
            _, found, _ = runs.foresee(self.spec, self.workspace, estimate=False) if self.editor.spec else ({}, None, {})
            if found is None:
                return still.Pending(self)
            self.attach(found)
            return found
        run = self._submit(again)
        if wait:
            try:
                run.wait(check=False)
            finally:  # an interrupted cell waits no longer; the run goes on
                self._ended()
            entry = run.entry
            if entry.state != "done":
                run.wait()
        return run

    def attach(self, run: Run | str) -> None:
        """Show a run."""
        run = runs.attach(run, self.workspace) if isinstance(run, str) else run
        with self._lock:
            if self.watch is not None and self.watch.run.id == run.id:
                return
            if self.watch is not None:
                self.watch.close()
            self.watch = Watch(run, self._heard, lambda name: self.send({"read": run.id, "name": name}))
            self._ran = self.watch.entry.spec
            with contextlib.suppress(SpecError):  # a run of an older workbench says less
                self._ran = run.spec.to_dict()
        self._refresh()

    def close(self) -> None:
        """End the panel; the run goes on."""
        if getattr(self, "watch", None) is not None:
            self.watch.close()
        if getattr(self, "_ticks", None) is not None:
            self._ticks.leave()
        super().close()

    # Hooks of a subclass -------------------------------------------------------------------------------------------------------

    def made(self, run: Run) -> dict[str, Any]:
        """What the Results tab shows of an ended run, as JSON for the panel's own view; off the page's thread."""
        return {"html": getattr(run.output, "_repr_html_", lambda: "")() if run.output is not None else "", "result": run.result}

    def left(self, run: Run) -> dict[str, Any]:  # noqa: ARG002 - a subclass looks at it
        """What the Results tab shows of a run that was stopped or failed, beside the failure; off the page's thread."""
        return {}

    def pictured(self, run: Run) -> Any:
        """What the still picture shows of a run beside its state, or None: something that draws itself as HTML."""
        return run.output

    def next_step(self, run: Run) -> dict[str, Any] | None:  # noqa: ARG002 - a subclass looks at it
        """The one thing to do next: ``{"label": "Train on it", "word": "train", "spec": {…}}``."""
        return None

    def needs(self) -> dict[str, Any] | None:
        """What needs the person now, beyond the spec and the run: ``{"level", "text", "action"}``, or None."""
        return None

    def same(self, spec: Spec, ran: dict[str, Any]) -> bool:
        """True where a spec makes what the run that is shown made."""
        return spec.to_dict() == ran

    def alive(self, fresh: dict[str, Any], events: list[Event]) -> None:
        """Called with what came of the run, at most four times a second."""

    # Inside --------------------------------------------------------------------------------------------------------------------

    def _submit(self, again: bool) -> Run:
        spec = self.spec
        with self._lock:
            self._notice = None
            if self.watch is None or self.watch.entry.state in ENDED:
                self.status = {**self.status, "state": "starting", "sign": SIGNS["starting"], "words": "", "active": False}
        try:
            run = runs.submit(spec, self.workspace, again=again)
        except BaseException:
            self._refresh()
            raise
        self._draft = None
        self.attach(run)
        self.editor.base = json.loads(json.dumps(self.editor.mapping))
        self._refresh()
        self._picture()
        return run

    def _heard(self, watch: Watch, fresh: dict[str, Any], events: list[Event]) -> None:
        """On the feed's thread: new points go to the page as they are, the rest as state."""
        if watch is not self.watch:
            return
        if fresh:
            names = list(fresh)
            self.send({"points": watch.run.id, "names": names}, [fresh[n].tobytes() for n in names])
        if self.live.get("curves") != watch.names or any(e.kind in ("log", "sample", "mark") for e in events):
            self.live = watch.live()
        if any(e.kind == "state" for e in events) and watch.entry.state in ENDED:
            self._ended()
        else:
            self._state()
        self.alive(fresh, events)

    def _ended(self) -> None:
        if self.watch is not None:
            self.watch.entry = self.watch.run.entry
        self._refresh()

    def _edited(self) -> None:
        self._notice = None if self._notice and self._notice.get("level") == "error" else self._notice
        self._drafts.keep(self.editor.mapping)
        self._state()
        self._plan()

    def _refresh(self) -> None:
        """Everything, from the run and the spec as they are."""
        watch = self.watch
        if watch is not None:
            self.live = watch.live()
        self._state()
        if watch is not None and watch.entry.state in ENDED:
            aside(self._results, watch)
        elif self.results:
            self.results = {}

    def _results(self, watch: Watch) -> None:
        try:
            made = self.made(watch.run) if watch.entry.state == "done" else self.left(watch.run)
            step = self.next_step(watch.run) if watch.entry.state == "done" else None
        except (WorkbenchError, OSError, KeyError) as error:  # what it made may be gone since
            made, step = {"error": str(error)}, None
        if watch is self.watch:
            self.results = {**made, "run": watch.run.id, "next": step}
            self._picture()

    def _state(self) -> None:
        with self._lock:
            editor = self.editor
            self.edit = {**editor.state(), "seen": self._seen}
            same = self._ran is not None and editor.spec is not None and self.same(editor.spec, self._ran)
            if self.watch is not None:
                self.status = {**self.watch.status(), "edited": not same, "name": self.watch.entry.name}
            else:
                state = "empty" if not editor.mapping else "editing" if editor.spec is not None else "invalid"
                self.status = {"state": state, "sign": SIGNS[state], "words": "", "active": False, "edited": True,
                               "name": runs.name_of(editor.spec) if editor.spec else str(editor.mapping.get("name") or "")}
            self._attend()

    def _look_at_file(self, _: list[Event]) -> None:
        """Each second: a spec that somebody changed on disk is taken up, unless that would cost edits made here."""
        if not self.file.moved():
            return
        if self.editor.mapping == self.editor.base:
            self.act_reread()
            self._note("info", f"{self.file.path.name} was changed on disk and is taken up.", {"label": "Undo", "ask": "undo"})
        else:
            self._note("warning", f"{self.file.path.name} was changed on disk; what you edited here stands.",
                       {"label": "Read it again", "ask": "reread"})

    def _attend(self) -> None:
        self.attention = attention(self)

    def _note(self, level: str, text: str, action: dict[str, Any] | None = None) -> None:
        self._notice = {"level": level, "text": text, "action": action}
        self._attend()

    def _plan(self) -> None:
        """Look ahead a moment after the last change: what would run, or why it can't."""
        self._planned += 1
        if self.editor.spec is None:
            self.plan = {}
            return
        aside(self._foresee, self._planned)

    def _foresee(self, number: int) -> None:
        time.sleep(0.3)
        spec = self.editor.spec
        if number != self._planned or spec is None:
            return
        try:
            inputs, found, estimate = runs.foresee(spec, self.workspace, estimate=self.ESTIMATES)
            plan = {"inputs": inputs, "found": found.id if found else None, "estimate": estimate, "text": still.plan_text(found, estimate)}
        except (WorkbenchError, OSError, ImportError) as error:
            plan = {"error": str(error)}
        if number == self._planned:
            self.plan = plan
            if self.watch is None and plan.get("found"):
                self.attach(plan["found"])
            self._attend()

    def _last_of_this(self) -> Run | None:
        """The newest run of this very spec that is at work or did not come to its end; a done one is found by its inputs too."""
        if self.editor.spec is None:
            return None
        asked = self.editor.spec.to_dict()
        entry = next((e for e in Journal(self.workspace).entries(word=self.WORD, limit=300) if e.spec == asked), None)
        return Run(self.workspace, entry.id) if entry is not None and entry.state != "done" else None

    def _take_up_draft(self) -> None:
        draft = self._drafts.read()
        if draft is None:
            return
        if self.voila and not self.readonly:  # nothing runs there by itself, and a reload is a new kernel
            self.editor.replace(draft[0])
            self._notice = {"level": "info", "text": f"Your edits from {ago(draft[1])} are taken up again.",
                            "action": {"label": "Discard", "ask": "discard"}}
        else:
            self._draft = draft

    # Display -------------------------------------------------------------------------------------------------------------------

    def _still(self) -> Markup:
        return still.picture(self)

    def __str__(self) -> str:
        return f"{self.about['title']} · {self.status.get('name') or 'new'}: {self.status.get('state')}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


__all__ = ["Panel", "RunFailedError", "slow"]
