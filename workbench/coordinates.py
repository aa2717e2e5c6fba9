"""Parallel coordinates: a line a trial, over an axis for each value (Inselberg, "The plane with parallel coordinates", 1985)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from .drawing import COLOURS, Markup, escape, number

WIDTH, HEIGHT = 720, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 72, 34, 16
_TICKS = 4


def trial_rows(marks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The newest row of each trial, by number.

    Examples
    --------
    >>> trial_rows([{"trial": 0, "state": "running"}, {"trial": 0, "state": "complete", "value": 2.5}])
    [{'trial': 0, 'state': 'complete', 'value': 2.5}]
    """
    found = {m["trial"]: {k: m[k] for k in ("trial", "values", "state", "value", "run") if k in m} for m in marks}
    return [found[n] for n in sorted(found)]


def best_of(rows: Sequence[Mapping[str, Any]]) -> int | None:
    """Number of the complete trial with the lowest value."""
    complete = [r for r in rows if r["state"] == "complete" and _finite(r.get("value"))]
    return min(complete, key=lambda r: r["value"])["trial"] if complete else None


def coordinates_svg(rows: Sequence[Mapping[str, Any]], measure: str) -> Markup:
    """Trials as lines over their values and, at the right, their measure; the best in its own colour and above the others.

    Each line can be reached by keyboard and says its trial in words.

    Parameters
    ----------
    rows : ``trial``, ``values``, ``state``, ``value``.
    measure : what ``value`` is; the lower the better.

    Examples
    --------
    >>> rows = [{"trial": n, "values": {"learning_rate": 10.0 ** -n}, "state": "complete", "value": 2.0 + n} for n in (1, 2)]
    >>> drawn = coordinates_svg(rows, "bits_per_byte")
    >>> drawn.count("<polyline"), "the best" in drawn
    (2, True)
    """
    shown = [r for r in rows if _finite(r.get("value"))]
    if not shown:
        return Markup('<p class="wb-note">No trial has been measured yet.</p>')
    paths = list(dict.fromkeys(p for r in shown for p in r["values"]))
    axes = [_Axis(p, [r["values"].get(p) for r in shown]) for p in paths] + [_Axis(measure, [r["value"] for r in shown])]
    gap = (WIDTH - _LEFT - _RIGHT) / max(1, len(axes) - 1)
    parts, best = [], best_of(rows)
    for row in sorted(shown, key=lambda r: r["trial"] == best):
        values = [*(row["values"].get(p) for p in paths), row["value"]]
        points = " ".join(f"{_LEFT + n * gap:.1f},{axis.place(v):.1f}" for n, (axis, v) in enumerate(zip(axes, values, strict=True)))
        parts.append(_line(row, points, measure, row["trial"] == best))
    parts += [axis.drawn(_LEFT + n * gap, n == len(axes) - 1) for n, axis in enumerate(axes)]  # their words stand above the lines
    spoken = f"Parallel coordinates of {len(shown)} trials over {', '.join([*paths, measure])}"
    if best is not None:
        spoken += "; the best is " + in_words(next(r for r in shown if r["trial"] == best), measure)
    style = "<style>.wb-trial:focus{outline:none}.wb-trial:is(:focus,:hover) polyline{stroke-width:4;stroke-opacity:1}</style>"
    return Markup(f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" style="max-width:100%;height:auto" role="group" '
                  f'aria-label="{escape(spoken)}">{style}{"".join(parts)}</svg>')


def in_words(row: Mapping[str, Any], measure: str) -> str:
    """A trial as it is said.

    Examples
    --------
    >>> in_words({"trial": 3, "values": {"learning_rate": 0.01}, "state": "complete", "value": 2.5}, "bits_per_byte")
    'trial 3: learning_rate 0.01; bits_per_byte 2.5; complete'
    """
    said = ", ".join(f"{k} {_word(v)}" for k, v in row["values"].items())
    return f"trial {row['trial']}: {said}; {measure} {_word(row.get('value'))}; {row['state']}"


def _line(row: Mapping[str, Any], points: str, measure: str, best: bool) -> str:
    said = in_words(row, measure) + (" (the best)" if best else "")
    colour, width, clear = (COLOURS[1], 3, 1) if best else (COLOURS[0], 1.6, 0.75 if row["state"] == "complete" else 0.4)
    dashes = "" if row["state"] == "complete" else ' stroke-dasharray="5 4"'
    return (f'<g class="wb-trial" tabindex="0" role="img" data-trial="{row["trial"]}" aria-label="{escape(said)}">'
            f'<title>{escape(said)}</title>'
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-opacity="{clear}" '
            f'stroke-linejoin="round"{dashes}/></g>')


class _Axis:
    """An axis of numbers (in their logarithm where they span much) or of names."""

    def __init__(self, name: str, values: Sequence[Any]):
        self.name = name
        given = [v for v in values if v is not None]
        self.numeric = all(_finite(v) for v in given)
        self.values = sorted(set(given)) if self.numeric else []
        self.names = [] if self.numeric else sorted({_word(v) for v in given})
        self.low, self.high = (min(given), max(given)) if self.numeric and given else (0, max(1, len(self.names) - 1))
        self.log = self.numeric and self.low > 0 and self.high / self.low >= 20

    def place(self, value: Any) -> float:
        """Where a value stands, from the top; what has none stands below the axis."""
        bottom, room = HEIGHT - _BOTTOM, HEIGHT - _TOP - _BOTTOM
        if value is None:
            return bottom + 8.0
        at = value if self.numeric else self.names.index(_word(value))
        low, high = self.low, self.high
        if high <= low:
            return bottom - room / 2
        share = math.log(at / low) / math.log(high / low) if self.log else (at - low) / (high - low)
        return bottom - share * room

    def drawn(self, x: float, last: bool) -> str:
        aside, anchor = (6, "start") if last else (-6, "end")
        ticks = ""
        for value, said in self._ticks():
            y = self.place(value)
            ticks += (f'<line x1="{x - 3:.1f}" x2="{x + 3:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" stroke-width="1"/>'
                      f'<text x="{x + aside:.1f}" y="{y + 3.5:.1f}" text-anchor="{anchor}" font-size="11" '
                      f'fill="currentColor">{escape(said[:18])}</text>')
        title = self.name if len(self.name) <= 22 else f"…{self.name[-21:]}"
        return (f'<g pointer-events="none" style="paint-order:stroke" stroke-width="3" stroke="var(--jp-layout-color1, Canvas)">'
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}" stroke="currentColor" stroke-width="1" '
                f'stroke-opacity=".6"/>{ticks}'
                f'<text x="{x:.1f}" y="14" text-anchor="middle" font-size="11" font-weight="600" '
                f'fill="currentColor">{escape(title)}</text></g>')

    def _ticks(self) -> list[tuple[Any, str]]:
        if not self.numeric:
            return [(n, n) for n in self.names]
        if self.high <= self.low:
            return [(self.low, _word(self.low))]
        if len(self.values) <= _TICKS + 1 and all(self.place(a) - self.place(b) >= 14 for a, b in pairwise(self.values)):
            return [(v, _word(v)) for v in self.values]
        steps = [n / (_TICKS - 1) for n in range(_TICKS)]
        values = [self.low * (self.high / self.low) ** s if self.log else self.low + s * (self.high - self.low) for s in steps]
        return [(v, _word(v)) for v in values]


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _word(value: Any) -> str:
    if value is None:
        return "–"
    return (f"{value:.3g}" if isinstance(value, float) else number(value)) if _finite(value) else str(value)
