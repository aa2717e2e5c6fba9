"""What remains of a panel without a kernel: a picture in HTML; and small tables that panels say in words."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from workbench.display import flat, run_html
from workbench.drawing import Markup, duration, escape, frame, head, number, pill, size, table_html
from workbench.errors import WorkbenchError
from workbench.registry import Registry
from workbench.workspace import Workspace

from .faring import energy

if TYPE_CHECKING:
    from workbench.runs import Run

    from .panel import Panel


class Still:
    """A widget beside whose live view stands a picture that stays when there is no kernel; the view hides it."""

    _display: str | None = None

    def _still(self) -> Markup:
        """The picture as it is now."""
        return Markup("")

    def _ipython_display_(self) -> None:
        from IPython.display import display

        bundle = self._repr_mimebundle_()
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        display({**data, "text/plain": str(self)}, metadata=metadata, raw=True)
        if self._display is None:
            self._display = f"workbench-{self.about['id']}"
        display({"text/html": self._still(), "text/plain": ""}, raw=True, display_id=self._display)

    def _picture(self) -> None:
        """Draw the still picture again."""
        if self._display is not None:
            from IPython.display import display

            display({"text/html": self._still(), "text/plain": ""}, raw=True, display_id=self._display, update=True)


def framed(id: str, body: str, what: str) -> Markup:
    """A still picture that the live view of the same id hides."""
    # Where a view is on its way or can't come, its place is hidden: the picture stands for it.
    name = f"wbp-still-{id}"
    hiding = f".jp-OutputArea-child:not(:has(.wbp)):has(+ .jp-OutputArea-child .{name}){{display:none}}"
    note = f'<p style="opacity:.7;font-size:11px;margin:4px 0">A still picture of {what}: run its cell to work with it.</p>'
    return Markup(f'<div class="wbp-still {name}"><style>{hiding}</style>{body}{note}</div>')


def picture(panel: Panel) -> Markup:
    """State, spec as a table, curves and results; the live view of the same panel hides it by its id."""
    status, about = panel.status, panel.about
    if panel.watch is not None:
        body = run_html(panel.watch.run)
        with contextlib.suppress(WorkbenchError, OSError):
            if (output := panel.pictured(panel.watch.run)) is not None:
                body += output._repr_html_()
    else:
        rows = [[k, v] for k, v in flat(panel.editor.mapping)]
        body = frame(head(about["title"], status.get("name") or "new", pill(status["state"])),
                     table_html(["field", "value"], rows) if rows else Markup(f"<p>{escape(about['about'])}</p>"))
    return framed(about["id"], body, "the panel")


class Pending:
    """What ``panel.run()`` gives where nothing runs by itself: nothing yet."""

    state, result, output, id = "editing", None, None, None

    def __init__(self, panel: Panel):
        self.panel = panel

    def _repr_html_(self) -> str:
        return f'<p style="opacity:.7">{escape(self)}</p>'

    def __repr__(self) -> str:
        return f"Nothing has run yet: press Run in the {self.panel.about['title']} panel."


def plan_text(found: Run | None, estimate: dict[str, Any]) -> str:
    """What a run will take, in a line."""
    if found is not None:
        entry = found.entry
        return "Is there already: it will be shown, not repeated" if entry.state == "done" else f"Is {entry.state} already"
    parts = []
    for name, value in estimate.items():
        if isinstance(value, dict | list) or value is None or name in ("step_seconds", "cores") or (name == "gpus" and not value):
            continue
        if name in ("seconds", "time"):
            parts.insert(0, f"about {duration(float(value))}")
        elif name == "memory":
            parts.append(size(value))
        elif name == "kwh":
            parts.append(energy(value) or "no energy")
        elif name == "money":
            parts.append(f"{value:,.2f} at the settings' prices")
        elif name == "trial_seconds":
            parts.append(f"tried in {duration(float(value))}")
        elif name == "tried":
            parts.append(f"as tried {value}")
        elif name == "steps" and "step_seconds" in estimate:
            parts.append(f"{number(value)} steps of {duration(estimate['step_seconds'])}")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            parts.append(f"{number(value)} {name.replace('_', ' ')}")
        else:
            parts.append(f"{name.replace('_', ' ')}: {value}")
    return ", ".join(parts)


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[dict[str, str]]:
    """Fields whose values differ: path, was, now.

    Examples
    --------
    >>> differences({"seed": 0, "model": {"size": "1M"}}, {"seed": 0, "model": {"size": "10M"}})
    [{'path': 'model.size', 'was': '1M', 'now': '10M'}]
    """
    was, new = dict(flat(before)), dict(flat(now))
    return [{"path": p, "was": str(was.get(p, "–")), "now": str(new.get(p, "–"))} for p in dict.fromkeys([*was, *new])
            if was.get(p) != new.get(p)]


def named(workspace: Workspace, kind: str, text: str, most: int) -> list[dict[str, str]]:
    """What exists of a kind and matches, the newest first: value, and a note that tells versions apart."""
    registry, found = Registry(workspace), []
    words = text.lower().partition("@")
    seen: set[str] = set()
    for version in registry.versions(kind):
        if words[0] not in version.name.lower():
            continue
        if version.name not in seen:
            seen.add(version.name)
            found.append({"value": version.name, "note": "newest"})
            aliases = registry.aliases(kind, version.name)
            found += [{"value": f"{version.name}@{alias}", "note": digest[:12]} for alias, digest in aliases.items()]
        found.append({"value": f"{version.name}@v{version.number}", "note": version.digest[:12]})
    return [f for f in found if not words[1] or f["value"].lower().startswith(text.lower())][:most]
