"""The report stands alone: no script, no address; whatever a notebook or a name holds is shown as text or a harmless picture."""

from __future__ import annotations

import base64
import json
import re
import shutil
import time
from html.parser import HTMLParser

import pytest

from workbench.pipeline.notebook import Notebook
from workbench.pipeline.report import MOST_LINES, report_html, versions
from workbench.pipeline.run import Outcome
from workbench.pipeline.spec import PipelineSpec
from workbench.pipeline.steps import BoundStep

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 40).decode()


def output(**data) -> dict:
    return {"output_type": "display_data", "metadata": {}, "data": {k.replace("_", "/", 1): v for k, v in data.items()}}


def svg(inside: str) -> dict:
    return {"output_type": "display_data", "metadata": {},
            "data": {"image/svg+xml": f"<svg xmlns='http://www.w3.org/2000/svg'><script>evil()</script>{inside}</svg>"}}


OUTPUTS = [
    output(text_html=["<table><tr><td>kept & sound</td></tr></table>", "<script>evil()</script><b onclick='evil()'>bold</b>"]),
    output(image_png=PNG, text_plain="a figure of <loss>"),
    svg(""), svg("<path stroke='currentColor'/>"),
    {"output_type": "display_data", "metadata": {},
     "data": {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "HBox(children=())"}},
    {"output_type": "stream", "name": "stdout", "text": ["\x1b[31mfirst\x1b[0m <line>\n", "10 %\r90 %\rdone\n"]},
    {"output_type": "stream", "name": "stderr", "text": "\n".join(f"line {n}" for n in range(MOST_LINES + 50))},
    output(text_plain="'the answer is 42'"),
    {"output_type": "display_data", "metadata": {}, "data": {"image/png": "not base64 <at all>", "text/plain": "a broken picture"}},
    {"output_type": "error", "ename": "KeyError", "evalue": "x", "traceback": ["\x1b[31mKeyError\x1b[0m: 'caught <here>'"]}]


@pytest.fixture
def page(made, write_notebook):
    """The report of three steps: done, failed, skipped."""
    workspace = made.workspace
    folder = workspace.path("runs", "pipeline-x")
    cells = ["# The <i>title</i>", "x = 1", "## Numbers of `loss`", "y = 2", "## Nothing under this", "# Last"]
    for name in ("one", "two", "three"):
        write_notebook(folder / f"{name}.ipynb", *cells)
    document = json.loads((folder / "one.ipynb").read_text())
    document["cells"][3]["outputs"] = OUTPUTS
    (folder / "one.ipynb").write_text(json.dumps(document))
    steps = [BoundStep(n, name, Notebook(folder / f"{name}.ipynb"), None, False) for n, name in enumerate(("one", "two", "three"), 1)]
    failure = {"what": "two.ipynb, code cell 1: ValueError: <b>no</b>", "source": "raise <this>",
               "traceback": "Traceback <whole>\nlast line"}
    outcomes = [Outcome(steps[0], (), folder / "one.ipynb", "done", "done in 3.0 s", seconds=3.0, products=made.products, runs=["data-1"]),
                Outcome(steps[1], ("one",), folder / "two.ipynb", "failed", f"failed: {failure['what']}", seconds=1.0, error=failure),
                Outcome(steps[2], ("two",), folder / "three.ipynb", "skipped", "skipped: two failed")]
    spec = PipelineSpec.load({"name": "job", "steps": [{"name": o.step.name, "notebook": "x.ipynb"} for o in outcomes]})
    return report_html(spec, workspace, "pipeline-x", outcomes, begun=time.time() - 4, ended=time.time())


class Reader(HTMLParser):
    def __init__(self, html: str):
        super().__init__()
        self.tags, self.attributes, self.text, self._skip = [], [], "", 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *a) for a in attrs]
        self._skip += tag == "style"

    def handle_endtag(self, tag):
        self._skip -= tag == "style"

    def handle_data(self, data):
        self.text += data * (not self._skip)


def test_it_loads_and_runs_nothing(page):
    found = Reader(page)
    assert not {"script", "link", "iframe", "object", "form", "base"} & set(found.tags)
    for tag, name, value in found.attributes:
        assert not name.startswith("on") and not (name == "src" and not value.startswith("data:image/")), (tag, name, value)
        assert name != "href" or value.startswith("#")
    assert "default-src 'none'" in page and "url(" not in page and "@import" not in page


def test_hostile_names_and_outputs_are_text(page):
    assert "evil()" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", page).replace("&", "")
    text = Reader(page).text
    for said in ("<img src=x onerror=alert(1)>", "The <i>title</i>", "first <line>", "caught <here>", "Traceback <whole>", "raise <this>"):
        assert said in text
    assert "\x1b" not in page


def test_state_steps_verdict_lineage_versions_and_hardware_are_there(page):
    text = Reader(page).text
    assert "failed in 4.0 s" in text and "3 steps: 1 made, 1 failed, 1 skipped" in text
    assert "must not be deployed: memorised" in text and "From sources to endpoint" in text
    assert all(f"{n}{v}" in text for n, v in versions().items()) and "processor" in text and "memory" in text
    assert re.search(r"skipped: two failed", text) and "two.ipynb, code cell 1: ValueError: <b>no</b>" in text


def test_outputs_in_their_richest_harmless_form(page):
    text = Reader(page).text
    assert "<td>kept &amp; sound</td>" in page and "<b>bold</b>" in page
    assert f'src="data:image/png;base64,{PNG}"' in page and 'alt="a figure of &lt;loss&gt;"' in page
    assert "data:image/svg+xml;base64," in page and '<path stroke="currentColor">' in page  # one a picture, one in the page's colours
    assert "HBox" not in text and "the answer is 42" in text and "a broken picture" in text
    assert "done" in text and "90 %" not in text
    assert f"line {MOST_LINES - 20}" in text and f"line {MOST_LINES + 20}" not in text and "more lines in the notebook" in text


def test_headings_stand_where_something_stands_under_them(page):
    assert "<h4>Numbers of loss</h4>" in page and "Nothing under this" not in page and "<h4>Last</h4>" not in page
    assert page.count("The &lt;i&gt;title&lt;/i&gt;") == 3  # the title of each step, and no heading of it again


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no browser is installed")
def test_a_browser_shows_it_without_asking_for_anything(page, tmp_path):
    from playwright.sync_api import sync_playwright

    (tmp_path / "report.html").write_text(page)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        seen = {}
        for scheme in ("light", "dark"):
            tab = browser.new_page(color_scheme=scheme, viewport={"width": 900, "height": 700})
            asked, said = [], []
            tab.on("request", lambda r, asked=asked: asked.append(r.url))
            tab.on("console", lambda m, said=said: said.append(m.text))
            tab.on("dialog", lambda d, said=said: (said.append(d.message), d.dismiss()))
            tab.goto(f"file://{tmp_path}/report.html")
            assert [u for u in asked if not u.startswith("data:")] == [f"file://{tmp_path}/report.html"] and said == []
            assert tab.evaluate("document.documentElement.scrollWidth") <= 900
            seen[scheme] = tab.evaluate("getComputedStyle(document.body).backgroundColor + getComputedStyle(document.body).color")
        browser.close()
    assert seen["light"] != seen["dark"]


