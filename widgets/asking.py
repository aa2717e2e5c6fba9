"""What a page asks of its panel: messages by name, answered by methods."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from workbench import runs
from workbench.drawing import ago
from workbench.errors import WorkbenchError
from workbench.journal import Journal
from workbench.spec import parse_value

from . import still
from .curves import Curves
from .feed import Feed, aside

if TYPE_CHECKING:
    from .panel import Panel

Reply = dict[str, Any] | list[Any] | tuple[Any, list[Any]] | None
WIDE = 2000
"""Pixel columns for which points are thinned where the page does not say."""


def slow(method: Callable | None = None, *, unless: Callable[..., bool] | None = None) -> Callable:
    """Mark an ``ask_`` or ``act_`` method that may take more than a few milliseconds: it is answered off the page's thread.

    ``unless`` is asked with the panel and the same keywords: where it is true, the answer is at hand and given at once.
    """
    if method is None:
        return lambda marked: slow(marked, unless=unless)
    method.slow = unless or (lambda *_, **__: False)
    return method


class Asked:
    """Answers a page: ``ask_<name>`` tells, ``act_<name>`` changes something and is refused to visitors.

    A method takes what the page gives as keywords and returns JSON, or ``(JSON, [bytes, …])``.
    """

    def _asked(self: Panel, _: Any, content: Any, buffers: list[Any]) -> None:
        """Answer a message ``{"ask": name, "id": id, "with": {…}}`` of the page with ``{"reply": id, "value" or "error": …}``."""
        if not isinstance(content, dict) or "ask" not in content:
            return
        name, known = str(content["ask"]), content.get("with") or {}
        method = getattr(self, f"act_{name}", None) or getattr(self, f"ask_{name}", None)
        if method is None:
            self.send({"reply": content.get("id"), "error": f"no answer to {name!r}"})
            return
        if method.__name__.startswith("act_") and self.readonly:
            self.send({"reply": content.get("id"), "error": "visitors can look and change nothing"})
            return
        if buffers:
            known = {**known, "buffers": buffers}
        at_hand = getattr(method, "slow", None)
        if at_hand is not None and not at_hand(self, **known):
            aside(self._answer, method, known, content)
        else:
            with self._lock:
                self._answer(method, known, content)

    def _answer(self: Panel, method: Callable[..., Reply], known: dict[str, Any], content: dict[str, Any]) -> None:
        reply: dict[str, Any] = {"reply": content.get("id")}
        sent: list[Any] = []
        if content.get("edit"):  # each view learns which of its own edits the state it gets has seen
            self._seen = {**dict(list(self._seen.items())[-7:]), str(content.get("view")): content["edit"]}
        try:
            value = method(**known)
            if isinstance(value, tuple):
                value, sent = value
            reply["value"] = value
        except WorkbenchError as error:
            reply["error"] = str(error)
        except Exception as error:  # noqa: BLE001 - a page is always answered
            reply["error"] = f"{type(error).__name__}: {error}"
        self.send(reply, sent)

    def act_put(self: Panel, path: list, value: Any) -> None:
        self.editor.put(path, value)

    def act_say(self: Panel, path: list, text: str) -> None:
        """Put a value that was written as YAML."""
        self.editor.put(path, parse_value(text))

    def act_reset(self: Panel, path: list) -> None:
        self.editor.reset(path)

    def act_insert(self: Panel, path: list, index: int, value: Any) -> None:
        self.editor.insert(path, index, value)

    def act_remove(self: Panel, path: list, index: int) -> None:
        self.editor.remove(path, index)

    def act_move(self: Panel, path: list, index: int, to: int) -> None:
        self.editor.move(path, index, to)

    def act_yaml(self: Panel, text: str) -> None:
        self.editor.write(text)

    def act_undo(self: Panel) -> None:
        self.editor.undo()

    def act_redo(self: Panel) -> None:
        self.editor.redo()

    def act_example(self: Panel) -> None:
        self.editor.replace(self.EXAMPLE)

    def act_restore(self: Panel) -> None:
        """Take up the draft of an earlier page."""
        if self._draft:
            mapping, self._draft = self._draft[0], None
            self.editor.replace(mapping)

    def act_discard(self: Panel) -> None:
        """Forget the draft; what is edited goes back to where it began."""
        self._draft = self._notice = None
        self.editor.replace(self.editor.base)
        self._attend()

    def act_reread(self: Panel) -> None:
        """Take the spec from its file again; what was edited is a step of undo."""
        self._notice = None
        self.editor.write(self.file.read())
        self.editor.base = json.loads(json.dumps(self.editor.mapping))

    def act_save(self: Panel) -> dict[str, Any]:
        """Write the spec to the file that it came from."""
        self.file.save(self.editor.yaml)
        self.editor.base = json.loads(json.dumps(self.editor.mapping))
        return {"path": str(self.file.path)}

    @slow
    def act_run(self: Panel, again: bool = False) -> None:
        try:
            self._submit(again)
        except WorkbenchError as error:
            self._note("error", str(error))
            raise

    def act_stop(self: Panel, now: bool = False) -> None:
        if self.watch is not None:
            self.watch.run.stop(now=now)
            self.watch.entry = self.watch.run.entry
            self._refresh()

    @slow
    def act_resume(self: Panel) -> None:
        """Go on with a run that was stopped or failed."""
        if self.watch is not None:
            try:
                self.watch.run.resume()
            except WorkbenchError as error:
                self._note("error", str(error))
                raise
            self._notice = None
            self.watch.entry = self.watch.run.entry
            self._refresh()

    @slow
    def act_recover(self: Panel) -> None:
        """Attach again to a run that was lost sight of."""
        if self.watch is not None:
            self.watch.run.recover()
            self._refresh()

    @slow
    def act_next(self: Panel) -> None:
        """Open the panel of the next step below this one."""
        step = self.results.get("next")
        if step:
            from . import panel_class

            self.opened = [panel_class(step["word"])(step["spec"], workspace=self.workspace)]

    @slow
    def ask_estimate(self: Panel) -> dict[str, Any]:
        """What a run would take, from a trial where the word makes one."""
        inputs, found, estimate = runs.foresee(self.spec, self.workspace)
        self.plan = {"inputs": inputs, "found": found.id if found else None, "estimate": estimate, "text": still.plan_text(found, estimate)}
        return self.plan

    def ask_names(self: Panel, kind: str, text: str = "", most: int = 30) -> list[dict[str, str]]:
        """Datasets, models or assessments that exist, for a searchable list."""
        return still.named(self.workspace, kind, text, most)

    @slow(unless=lambda panel, name=None, run=None, **_: (panel.watch or run) and panel.curves(run).at_hand(name))
    def ask_points(self: Panel, name: str, low: float | None = None, high: float | None = None, columns: int = WIDE,
                   run: str | None = None, over: str = "step") -> Reply:
        """A curve of this run (or another's) as Float64 pairs over steps or times, thinned to what so many pixels show."""
        if self.watch is None and run is None:
            return {"count": 0}, [b""]
        curve = self.curves(run).seen(name, low, high)
        window = curve.window(low, high, columns, over=over)
        return {"name": name, "run": run or self.watch.run.id, "count": curve.count, **curve.odd()}, [window.tobytes()]

    def ask_differences(self: Panel) -> dict[str, Any]:
        """How the spec differs from that of the last run of this word."""
        last = next(iter(Journal(self.workspace).entries(word=self.WORD, limit=1)), None)
        if last is None or self.editor.spec is None:
            return {"run": None, "rows": []}
        return {"run": last.id, "when": ago(last.submitted), "rows": still.differences(last.spec, self.editor.spec.to_dict())}

    def curves(self: Panel, run: str | None = None) -> Curves:
        """The curves of the run that is shown, or of another by its whole id."""
        if self.watch is not None and run in (None, self.watch.run.id):
            return self.watch.curves
        if run not in self._others:
            self._others[run] = Curves(Feed.of(self.workspace).events, run)
        return self._others[run]
