"""Whatever HTML a notebook holds, what is left runs nothing, loads nothing and closes what it opens."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.pipeline.sanitiser import sanitise, shows

VOID = {"br", "col", "hr", "img", "wbr"}
PIECES = ["<script>", "</script>", "<b>", "</b>", "<table><tr><td>", "</table>", "<svg viewBox='0 0 1 1'>", "<style>", "</style>", "<img ",
          "src=x onerror=alert(1)>", "<a href=\"javascript:x()\">", "<a href='https://a.b'>", "</a>", "<iframe src=//x>", "<!--", "-->",
          "<![CDATA[", "]]>", "<p style='background:url(//x)'>", "<math><mtext>", "<template>", "&lt;script&gt;", "&#60;", "\"", "'", ">",
          "<", "</svg>", "<title>", "</title>", "<textarea>", "</textarea>", "<foreignObject>", "text", " ", "\0", "<br/>", "<object/>",
          "<use href='#x'/>", "<animate onbegin=x>", "<form action=//x>", "<base href=//x>", "<meta http-equiv=refresh>"]
hostile = st.one_of(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.text(max_size=60))


class Reader(HTMLParser):
    """What a reader of the result meets."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.other = [], set(), [], []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_comment(self, data):
        self.other.append(data)

    handle_decl = handle_pi = unknown_decl = handle_comment


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    return reader


@given(hostile)
def test_nothing_runs_nothing_loads_and_all_is_closed(html):
    found = read(sanitise(html))
    assert not found.tags & {"script", "style", "iframe", "object", "embed", "link", "meta", "base", "form", "use", "animate",
                             "foreignobject", "math", "template", "textarea", "input"}
    assert found.open == [] and found.other == []
    for name, value in found.attributes:
        assert not name.startswith("on")
        assert name != "src" or value.startswith("data:image/")
        assert name != "href" or value.startswith(("http://", "https://", "#"))
        assert "url(" not in (value or "").lower() or name in ("aria-label", "title", "alt", "class")


@given(hostile)
def test_what_is_clean_stays_as_it_is(html):
    once = sanitise(html)
    assert sanitise(once) == once


@pytest.mark.parametrize("html", [
    '<table class="dataframe"><tr><th>a</th></tr><tr><td>1 &lt; 2</td></tr></table>',
    '<details><summary>more</summary><p>text</p></details>',
    '<svg viewbox="0 0 2 2" role="img" aria-label="a curve"><path d="M0,0 L1,1" stroke="currentColor"></path></svg>'])
def test_tables_folds_and_drawings_stay_whole(html):
    assert sanitise(html) == html


@pytest.mark.parametrize(("html", "expected"), [("<p> </p>", False), ("<p>a</p>", True), ("<svg></svg>", True),
                                                ('<img src="data:image/png;base64,AA==">', True), ("<script>x</script>", False)])
def test_shows_says_whether_anything_is_left_to_see(html, expected):
    assert shows(sanitise(html)) is expected
