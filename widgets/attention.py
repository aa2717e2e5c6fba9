"""The one line for what needs the person now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.drawing import ago
from workbench.journal import ENDED

if TYPE_CHECKING:
    from .panel import Panel


def attention(panel: Panel) -> dict[str, Any]:
    """``{"level", "text", "action", "other"}``, or an empty mapping where nothing needs anybody; the spec's own problems come first.

    An action is ``{"label"}`` with ``path`` (a field), ``tab`` (a view) or ``ask`` (a question, with ``with``).
    """
    editor, watch = panel.editor, panel.watch
    found: dict[str, Any] | None = None
    if editor.problems and (editor.mapping or editor._text is not None):
        first, more = editor.problems[0], len(editor.problems) - 1
        text = f"{first}" + (f" · and {more} more" if more else "")
        action = {"label": "Go to", "path": first.path} if first.path else {"label": "Go to", "tab": "code"}
        found = {"level": "warning", "text": text, "action": action}
    elif watch is not None and watch.state == "lost":
        found = {"level": "warning", "text": f"Lost sight of the run: {watch.status()['words']}. It may go on.",
                 "action": {"label": "Attach again", "ask": "recover"}}
    elif panel._notice:
        found = panel._notice
    elif watch is not None and watch.entry.state == "failed":
        what = str((watch.entry.failure or {}).get("what", "failed")).splitlines()[0][:400]
        found = {"level": "error", "text": what, "action": {"label": "See what failed", "tab": "results"}}
        if watch.rest and not panel.readonly:
            found["other"] = {"label": "Resume", "ask": "resume"}
    elif panel.plan.get("error") and editor.spec is not None and not (watch is not None and watch.entry.state not in ENDED):
        path = next((f["name"] for f in editor.form["fields"] if f.get("refers")), "")
        found = {"level": "warning", "text": panel.plan["error"], "action": {"label": "Go to", "path": path} if path else None}
    elif panel._draft:
        found = {"level": "info", "text": f"Edits from {ago(panel._draft[1])} were not run.",
                 "action": {"label": "Take them up", "ask": "restore"}, "other": {"label": "Discard", "ask": "discard"}}
    return found or panel.needs() or {}
