"""HTML out of notebooks made harmless: known tags and attributes stay, scripts, styles and addresses go."""

from __future__ import annotations

import re
from html import escape
from html.parser import HTMLParser

_TAGS = frozenset("""a abbr b blockquote br caption circle code col colgroup dd defs del desc details div dl dt ellipse em figcaption
figure g h1 h2 h3 h4 h5 h6 hr i img ins kbd li line lineargradient mark meter ol p path polygon polyline pre progress q rect s samp
small span stop strong sub summary sup svg table tbody td text tfoot th thead time tr tspan tt u ul var wbr""".split())
_VOID = frozenset(("br", "col", "hr", "img", "wbr"))
_WITHOUT_CONTENT = frozenset(("script", "style", "iframe", "object", "embed", "noscript", "template", "head", "title", "textarea",
                              "select", "audio", "video", "canvas", "foreignobject", "math", "frameset", "xmp", "plaintext"))
_ATTRIBUTES = frozenset("""align alt class colspan cx cy d datetime dominant-baseline dx dy fill fill-opacity fill-rule font-family
font-size font-style font-weight gradienttransform gradientunits height high low max min offset opacity open optimum points
preserveaspectratio r role rowspan rx ry scope stop-color stop-opacity stroke stroke-dasharray stroke-linecap stroke-linejoin
stroke-opacity stroke-width text-anchor title transform valign value viewbox width x x1 x2 y y1 y2""".split())
_PICTURE = re.compile(r"data:image/(png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=\s]+\Z")
_BAD_STYLE = re.compile(r"url|expression|@|\\|javascript|behavior|binding|position|z-index|[<>]", re.IGNORECASE)


def sanitise(html: str) -> str:
    """HTML that loads nothing, runs nothing and closes what it opens.

    Examples
    --------
    >>> sanitise('<b onclick="x()">a</b><script>alert(1)</script><img src="http://x/y.png">')
    '<b>a</b>'
    """
    cleaner = _Cleaner()
    cleaner.feed(html)
    cleaner.close()
    return "".join([*cleaner.parts, *(f"</{t}>" for t in reversed(cleaner.open))])


def shows(html: str) -> bool:
    """True if sanitised HTML has anything to see: words or a picture."""
    return bool(re.sub(r"<[^>]*>|\s", "", html)) or "<svg" in html or "<img" in html


class _Cleaner(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.open: list[str] = []
        self.hidden: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self.hidden or (tag in _WITHOUT_CONTENT and not (tag == "title" and "svg" in self.open)):
            if tag in _WITHOUT_CONTENT and tag != "embed":
                self.hidden.append(tag)
            return
        if tag not in _TAGS:
            return
        kept = "".join(f' {n}="{escape(v, quote=True)}"' for n, v in (_attribute(tag, n, v) for n, v in attrs) if n)
        if tag == "img" and " src=" not in kept:
            return
        self.parts.append(f"<{tag}{kept}>")
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _WITHOUT_CONTENT:
            return
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.hidden:
            if tag == self.hidden[-1]:
                self.hidden.pop()
        elif tag in self.open:
            while (closed := self.open.pop()) != tag:
                self.parts.append(f"</{closed}>")
            self.parts.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.parts.append(escape(data, quote=False))


def _attribute(tag: str, name: str, value: str | None) -> tuple[str, str]:
    """The attribute as it may stand, or an empty name."""
    value = value or ""
    if name == "style":
        return (name, value) if not _BAD_STYLE.search(value) else ("", "")
    if name == "src":
        return (name, value) if tag == "img" and _PICTURE.match(value) else ("", "")
    if name == "href":
        return (name, value) if tag == "a" and re.match(r"(https?://|#)", value) else ("", "")
    if name in ("fill", "stroke") and "(" in value and not re.fullmatch(r"rgba?\([\d.,% ]+\)", value):
        return "", ""
    return (name, value) if name in _ATTRIBUTES or re.fullmatch(r"aria-[a-z]+", name) else ("", "")
