"""Numbers in words, tables, facts and curves: HTML, SVG and text that need nothing but themselves."""

from __future__ import annotations

import html
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito, "Color universal design" (2008), without black and yellow: readable on white and on black."""

Series = Mapping[str, Sequence[tuple[float, float]]]
STATES = {"done": "#009E73", "cached": "#56B4E9", "running": "#0072B2", "queued": "#E69F00", "stopping": "#E69F00",
          "stopped": "#888888", "skipped": "#888888", "failed": "#D55E00", "pass": "#009E73", "waived": "#E69F00",
          "fail": "#D55E00", "missing": "#D55E00", "too few": "#D55E00", "up": "#009E73", "down": "#D55E00", "firing": "#D55E00",
          "ended": "#009E73"}

# JupyterLab's variables where there are any; else what the page around has, with greys that suit light and dark.
STYLE = """
.wb{color:var(--jp-content-font-color1,inherit);max-width:62rem;text-align:left;
font:13px/1.5 var(--jp-ui-font-family,system-ui,-apple-system,"Segoe UI",sans-serif)}
.wb .wb-head{display:flex;align-items:baseline;gap:.6em;flex-wrap:wrap;margin:.1em 0 .5em}
.wb .wb-kind{opacity:.65}.wb .wb-name{font-weight:600;font-size:15px}
.wb code,.wb pre{font-family:var(--jp-code-font-family,ui-monospace,Menlo,Consolas,monospace);font-size:12px;
background:none;color:inherit;padding:0}
.wb pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:.4em 0;padding:.6em .8em;border-radius:4px;
border:1px solid var(--jp-border-color2,#8884);max-height:30em;overflow:auto}
.wb .wb-pill{display:inline-block;padding:0 .6em;border-radius:1em;font-size:12px;white-space:nowrap;
border:1px solid var(--jp-border-color2,#8884)}
.wb table{border-collapse:collapse;margin:.6em 0;font-size:12.5px;border:0;color:inherit}
.wb caption{text-align:left;caption-side:top;font-weight:600;padding:.2em 0;color:inherit}
.wb th,.wb td{padding:.22em .9em .22em 0;text-align:left;vertical-align:top;border:0;max-width:38em;min-width:5.5em;
border-bottom:1px solid var(--jp-border-color2,#8884);overflow-wrap:anywhere;white-space:pre-wrap}
.wb tr,.wb tbody tr:nth-child(odd),.wb tbody tr:hover{background:none}
.wb th{font-weight:500;opacity:.7;white-space:nowrap}
.wb td.wb-n,.wb th.wb-n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.wb dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.15em 1.2em;margin:.5em 0}
.wb dt{opacity:.7;font-weight:400}.wb dd{margin:0;overflow-wrap:anywhere}
.wb details{margin:.4em 0}.wb summary{cursor:pointer;opacity:.8}
.wb .wb-grid{display:flex;flex-wrap:wrap;gap:.8em 1.6em;align-items:flex-start}
.wb svg{max-width:100%;height:auto;display:block}
.wb svg text{fill:currentColor;font-size:11px;font-family:inherit}
.wb figure{margin:.4em 0}.wb figcaption{font-weight:600;font-size:12.5px}
.wb .wb-note{opacity:.7}
""".strip().replace("\n", "")


class Markup(str):
    """HTML that is safe as it is: made here, with everything from outside escaped."""


def escape(text: object) -> str:
    """Text as it may stand in HTML, in an element or a quoted attribute.

    Examples
    --------
    >>> escape("<b>")
    '&lt;b&gt;'
    """
    return text if isinstance(text, Markup) else html.escape(str(text), quote=True)


def number(value: object) -> str:
    """A number as a person reads it.

    Examples
    --------
    >>> number(10412), number(0.02564), number(3.0)
    ('10,412', '0.02564', '3')
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return {math.inf: "∞", -math.inf: "−∞"}.get(value, "not a number")
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def share(part: int, whole: int) -> str:
    """A part of a whole, with its scale.

    Examples
    --------
    >>> share(267, 10_412)
    '267 of 10,412 (2.6 %)'
    """
    return f"{part:,} of {whole:,}" + (f" ({100 * part / whole:.1f} %)" if whole else "")


def size(count: float) -> str:
    """Bytes with a decimal unit.

    Examples
    --------
    >>> size(999), size(8_240_000)
    ('999 bytes', '8.24 MB')
    """
    if count < 1000:
        return f"{count:.0f} bytes"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 1000:
            return f"{count:.3g} {unit}"
    return f"{count / 1000:.3g} TB"


def duration(seconds: float) -> str:
    """A time span in the two largest units.

    Examples
    --------
    >>> duration(0.042), duration(9.5), duration(192), duration(7260)
    ('42 ms', '9.5 s', '3 min 12 s', '2 h 1 min')
    """
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} days {hours % 24} h"


def ago(then: float, now: float | None = None) -> str:
    """How long ago a time (seconds since the epoch) was.

    Examples
    --------
    >>> ago(0, 200), ago(0, 4)
    ('3 minutes ago', 'just now')
    """
    passed = max(0.0, (time.time() if now is None else now) - then)
    for limit, unit, name in ((10, 0, ""), (90, 1, "seconds"), (5400, 60, "minutes"), (129_600, 3600, "hours")):
        if passed < limit:
            return f"{round(passed / unit)} {name} ago" if name else "just now"
    return f"{round(passed / 86_400)} days ago"


def when(at: float) -> str:
    """A time (seconds since the epoch) as it stays true in a saved file.

    Examples
    --------
    >>> "2027" in when(1.8e9)
    True
    """
    return time.strftime("%-d %b %Y, %H:%M", time.localtime(at))


@dataclass(frozen=True)
class Drawing:
    """Something that draws itself in a notebook and reads as text in a terminal."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> Drawing:
    """A table that draws itself.

    Examples
    --------
    >>> table(["word", "count"], [["the", 1200]])
    word  count
    the   1,200
    """
    rows = [list(r) for r in rows]
    return Drawing(frame(table_html(headers, rows, caption)), table_text(headers, rows, caption))


def curves(series: Series, x_label: str, y_label: str, width: int = 640, height: int = 220) -> Drawing:
    """Curves that draw themselves; as text, the first and last value of each."""
    lines = [f"{n}: {number(float(p[0][1]))} at {number(p[0][0])} → {number(float(p[-1][1]))} at {number(p[-1][0])} {x_label}"
             for n, p in series.items() if p]
    return Drawing(frame(curve_svg(series, x_label, y_label, width, height)), "\n".join([y_label, *lines]))


def frame(*parts: str) -> Markup:
    """HTML parts in the one element that bears the workbench's style."""
    return Markup(f'<div class="wb"><style>{STYLE}</style>{"".join(parts)}</div>')


def head(kind: str, name: str, *more: str) -> Markup:
    """A title line: what it is, its name, and more (markup or text)."""
    rest = "".join(f"<span>{escape(m)}</span>" for m in more)
    return Markup(f'<div class="wb-head"><span class="wb-kind">{escape(kind)}</span>'
                  f'<span class="wb-name">{escape(name)}</span>{rest}</div>')


def pill(state: str) -> Markup:
    """A state in its colour, always with its word."""
    colour = STATES.get(state, "#888888")
    return Markup(f'<span class="wb-pill"><span style="color:{colour}">●</span> {escape(state)}</span>')


def fold(summary: str, content: str) -> Markup:
    """Content (markup) that opens when asked for."""
    return Markup(f"<details><summary>{escape(summary)}</summary>{content}</details>")


def facts_html(facts: Mapping[str, object]) -> Markup:
    """Names and values in two columns."""
    return Markup("<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v if isinstance(v, str) else number(v))}</dd>"
                                   for k, v in facts.items()) + "</dl>")


def table_html(headers: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> Markup:
    """A table; numbers to the right with thousands marked, text escaped, ``Markup`` as it is."""
    rows = [list(r) for r in rows]
    numeric = [bool(rows) and all(isinstance(r[i], int | float) or r[i] is None for r in rows) for i in range(len(headers))]
    mark = [' class="wb-n"' if n else "" for n in numeric]
    body = "".join("<tr>" + "".join(f"<td{m}>{escape('–' if v is None else v if isinstance(v, str) else number(v))}</td>"
                                    for v, m in zip(r, mark, strict=True)) + "</tr>" for r in rows)
    top = "".join(f"<th{m}>{escape(h)}</th>" for h, m in zip(headers, mark, strict=True))
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return Markup(f"<table>{title}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>")


def table_text(headers: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> str:
    """The same table for a terminal."""
    cells = [[str(h) for h in headers],
             *([" ".join(("–" if v is None else v if isinstance(v, str) else number(v)).split()) for v in r] for r in rows)]
    widths = [max(len(r[i]) for r in cells) for i in range(len(headers))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in cells]
    return "\n".join([caption, *lines] if caption else lines)


def curve_svg(series: Series, x_label: str, y_label: str, width: int = 640, height: int = 220) -> Markup:
    """Curves over a common axis, each in its colour with its name and last value.

    Parameters
    ----------
    series : name -> points ``(x, y)`` by x; values that are not finite break the line and are counted.
    width, height : of the drawing, in pixels at full size.
    """
    finite = {n: [(float(x), float(y)) for x, y in p if _drawable(y)] for n, p in series.items()}
    lost = sum(len(p) for p in series.values()) - sum(len(p) for p in finite.values())
    points = [q for p in finite.values() for q in p]
    if not points:
        return Markup(f'<p class="wb-note">{escape(y_label)}: no points yet</p>')
    left, right, top, bottom = 52, 12, 20 + 14 * (len(finite) > 1), 34
    x_ticks = ticks(min(x for x, _ in points), max(x for x, _ in points), max(3, width // 90))
    y_ticks = ticks(min(y for _, y in points), max(y for _, y in points), max(2, height // 55))
    x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
    y_low, y_high = min(y_ticks[0], *(y for _, y in points)), max(y_ticks[-1], *(y for _, y in points))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / (x_high - x_low) if x_high > x_low else 0.5
        up = (y - y_low) / (y_high - y_low) if y_high > y_low else 0.5
        return left + across * (width - left - right), height - bottom - up * (height - top - bottom)

    parts = []
    for y in y_ticks:
        at = place(x_low, y)[1]
        parts.append(f'<line x1="{left}" x2="{width - right}" y1="{at:.1f}" y2="{at:.1f}" stroke="currentColor" '
                     f'stroke-opacity=".15"/>'
                     f'<text x="{left - 6}" y="{at + 3.5:.1f}" text-anchor="end" opacity=".7">{number(y)}</text>')
    for x in x_ticks:
        at = place(x, y_low)[0]
        if left - 1 <= at <= width - right + 1:
            parts.append(f'<text x="{at:.1f}" y="{height - bottom + 15}" text-anchor="middle" opacity=".7">{_short(x)}</text>')
    parts.append(f'<text x="{width - right}" y="{height - 4}" text-anchor="end" opacity=".7">{escape(x_label)}</text>')
    title = y_label + (f" ({lost} of {len(points) + lost} values are not finite)" if lost else "")
    parts.append(f'<text x="0" y="12" font-weight="600">{escape(title)}</text>')
    across = 0.0
    for order, (name, found) in enumerate(finite.items()):
        colour = COLOURS[order % len(COLOURS)]
        for run in _unbroken(series[name]):
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*q) for q in thin(run, width)))
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8" stroke-linejoin="round"/>')
        if not found:
            continue
        x, y = place(*found[-1])
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
        said = f"{name} {number(found[-1][1])}"
        if len(finite) > 1:
            parts.append(f'<circle cx="{left + across + 4:.0f}" cy="22" r="4" fill="{colour}"/>'
                         f'<text x="{left + across + 12:.0f}" y="26">{escape(said)}</text>')
            across += 26 + 6.3 * len(said)
        else:
            parts.append(f'<text x="{width - right}" y="12" text-anchor="end">{number(found[-1][1])}</text>')
    spoken = f"{y_label} over {x_label}: " + ", ".join(f"{n} ends at {number(p[-1][1])}" for n, p in finite.items() if p)
    return Markup(f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
                  f'aria-label="{escape(spoken)}">{"".join(parts)}</svg>')


def ticks(low: float, high: float, wanted: int) -> list[float]:
    """Round numbers from just below ``low`` to just above ``high``, about ``wanted`` of them.

    Examples
    --------
    >>> ticks(0.3, 9.1, 4)
    [0.0, 5.0, 10.0]
    """
    if not high - low > 1e-300:  # a point, or a span too small for its digits to be told apart
        aside = 0.1 * (abs(low) if abs(low) > 1e-290 else 1)
        low, high = low - aside, high + aside
    raw = (high - low) / max(1, wanted)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def thin(points: Sequence[tuple[float, float]], most: int) -> Sequence[tuple[float, float]]:
    """At most about ``most`` points, with the lowest and highest of each stretch kept, so that no spike is lost."""
    if len(points) <= most:
        return points
    stretch = math.ceil(2 * len(points) / most)
    kept = []
    for start in range(0, len(points), stretch):
        part = points[start:start + stretch]
        kept += sorted({min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])})
    return [points[0], *kept, points[-1]]


def _drawable(value: float) -> bool:
    """True if a value has a place on an axis: it is finite, and so are differences of such values."""
    return abs(value) < 1e300


def _unbroken(points: Iterable[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if _drawable(y):
            runs[-1].append((float(x), float(y)))
        elif runs[-1]:
            runs.append([])
    return [r for r in runs if r]


def _short(value: float) -> str:
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (limit if unit != 'k' else 1e3):g}{unit}"
    return number(value)
