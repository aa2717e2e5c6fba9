"""Panels in a real JupyterLab: typing, running, stopping while a cell waits, reloads, and what stays in the file."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from servers import Lab, write_notebook

WATCH = """
from widgets import MonitorPanel
panel = MonitorPanel({"name": "watch", "seconds": 600, "port": 0})
panel
"""
DIGITS = """
from widgets import DataPanel
panel = DataPanel({"name": "digits", "sources": [{"kind": "digits"}], "steps": []})
panel
"""
PAYLOADS = ["<img src=x onerror=window.hit=1>", "</script><script>window.hit=1</script>", "\x1b[31mred\x1b[0m", "\u202eright to left\u202c",
            "x" * 20_000, "<b onmouseover=window.hit=1>bold</b>", "{{7*7}}",
            "javascript:window.hit=1"]


def state(lab: Lab, wanted: str, timeout: float = 60) -> None:
    lab.page.wait_for_selector(f".wbp[data-state={wanted}]", timeout=timeout * 1000)


def test_stop_works_while_the_cell_waits(lab, place):
    write_notebook(place.root / "stop.ipynb", WATCH, "run = panel.run()", "print('went on')")
    lab.open("stop.ipynb").run(wait=False)
    state(lab, "running")
    assert lab.page.locator(".jp-InputPrompt", has_text="[*]").count() > 0  # the cell waits
    lab.page.click(".wbp-stop")  # how long it takes is measured by benchmarks/panels.py
    state(lab, "stopped", 10)
    lab.page.wait_for_function("() => document.body.innerText.includes('was stopped')")
    assert "went on" not in lab.outputs().replace("print('went on')", "")  # a run that was stopped fails its cell


def test_typing_shows_errors_at_their_fields_and_yaml_both_ways(lab, place):
    write_notebook(place.root / "form.ipynb", DIGITS.replace("digits", "typed", 1))
    lab.open("form.ipynb").run()
    page = lab.page
    field = page.locator('[data-path="split.validation"] input')
    field.fill("2")
    page.wait_for_selector('[data-path="split.validation"].wbp-wrong')
    assert "expected a number < 1" in page.locator('[data-path="split.validation"] .wbp-error').inner_text()
    assert page.locator(".wbp-run").is_disabled()
    page.locator(".wbp-attention", has_text="split.validation").wait_for()
    page.locator(".wbp-tab", has_text="Code").click()
    page.locator(".wbp-attention button", has_text="Go to").click()
    assert page.evaluate("document.activeElement.closest('[data-path]').dataset.path") == "split.validation"
    field.fill("0.2")
    page.wait_for_selector('[data-path="split.validation"].wbp-changed:not(.wbp-wrong)')
    page.locator(".wbp-tab", has_text="Code").click()
    yaml = page.locator(".wbp-yaml")
    assert "validation: 0.2" in yaml.input_value()
    yaml.fill(yaml.input_value().replace("0.2", "0.3"))
    page.wait_for_function("() => document.querySelector('[data-path=\"split.validation\"] input').value === '0.3'")
    yaml.fill("name: [")
    page.wait_for_function("() => document.querySelector('.wbp-yaml[aria-invalid=true]')")
    assert page.locator(".wbp-run").is_disabled()
    page.locator("[aria-label=Undo]").click()
    page.wait_for_function("() => document.querySelector('[data-path=\"split.validation\"] input').value !== '0.3'")


def test_a_run_is_shown_not_repeated_and_found_again_after_a_restart(lab, place):
    write_notebook(place.root / "again.ipynb", DIGITS, "run = panel.run()", "print(run.id)")
    lab.open("again.ipynb").run()
    state(lab, "done")
    first = re.findall(r"data-\d{4}-\d{6}-[0-9a-f]{6}", lab.outputs())[-1]
    lab.restart()
    lab.page.wait_for_timeout(500)
    lab.run()
    state(lab, "done")
    assert re.findall(r"data-\d{4}-\d{6}-[0-9a-f]{6}", lab.outputs())[-1] == first
    lab.save()
    lab.page.reload()  # the kernel lives on: the same panel is drawn again
    state(lab, "done")


def test_the_still_picture_stands_where_no_view_can(lab, place, tmp_path):
    path = write_notebook(place.root / "still.ipynb", DIGITS, "run = panel.run()")
    lab.open("still.ipynb").run()
    state(lab, "done")
    lab.page.wait_for_selector(".wbp-still", state="attached")
    assert not lab.page.locator(".wbp-still").first.is_visible()
    lab.page.wait_for_function("() => document.querySelector('.wbp-still')?.textContent.includes('1,797')")  # refreshed when the run ended
    lab.save()
    saved = json.loads(path.read_text())
    html = [o["data"]["text/html"] for o in saved["cells"][0]["outputs"] if "text/html" in o["data"]]
    assert len(html) == 1 and "done" in "".join(html[0])
    subprocess.run([sys.executable, "-m", "nbconvert", "--to", "html", "--output-dir", tmp_path, path], check=True, capture_output=True)
    page = lab.page.context.browser.new_page()
    page.route("http*://**", lambda route: route.abort())  # offline
    page.goto(f"file://{tmp_path}/still.html")
    assert page.locator(".wbp-still").is_visible()
    page.close()


def test_hostile_text_neither_runs_nor_breaks_the_layout(lab, place):
    from workbench.events import Events
    from workbench.journal import Journal

    journal, events = Journal(place), Events(place)
    spec = {"word": "data", "version": 1, "name": "hostile", "sources": [{"kind": "digits"}]}
    entry, _ = journal.add("data", PAYLOADS[0], "hostile", spec, {}, place="here")
    journal.claim(entry.id)
    for number, text in enumerate(PAYLOADS):
        events.append(entry.id, "log", name=text[:100], text=text)
        events.append(entry.id, "sample", step=number, text=text, prompt=text)
        events.point(entry.id, text[:200], number, 1.0)
    failure = {"what": " ".join(PAYLOADS), "where": PAYLOADS[1], "kind": PAYLOADS[0], "traceback": PAYLOADS[1]}
    journal.move(entry.id, "failed", failure=failure)
    write_notebook(place.root / "hostile.ipynb", f"from widgets import DataPanel\nDataPanel(run={entry.id!r})")
    lab.open("hostile.ipynb").run()
    state(lab, "failed")
    for tab in ("Spec", "Live", "Results", "Code"):
        lab.page.locator(".wbp-tab", has_text=tab).click()
        lab.page.wait_for_timeout(150)
        wide = lab.page.evaluate("() => { const p = document.querySelector('.wbp'); return p.scrollWidth - p.clientWidth; }")
        assert wide <= 1, (tab, wide)
    assert lab.page.evaluate("window.hit") is None


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_axe_finds_nothing(lab, place, axe, theme):
    write_notebook(place.root / "axe.ipynb", DIGITS, "from widgets import TrainPanel\nTrainPanel()", "from widgets import MonitorPanel\n"
                   "MonitorPanel({'interval': -1, 'rules': [{'rule': 'threshold', 'name': 'a', 'metric': 'b'}]})")
    lab.open("axe.ipynb", dark="Dark" in theme)
    lab.theme(theme)
    lab.run()
    lab.page.wait_for_function("() => document.querySelectorAll('.wbp').length === 3")
    found = {}
    for tab in ("Spec", "Live", "Results", "Code"):
        for one in lab.page.locator(".wbp-tab", has_text=tab).all():
            one.click()
        lab.page.wait_for_timeout(200)
        if findings := axe(lab.page):
            found[tab] = findings
    assert found == {}


def test_a_narrow_page_needs_no_sideways_scrolling(lab, place):
    write_notebook(place.root / "narrow.ipynb", DIGITS)
    lab.page.set_viewport_size({"width": 480, "height": 900})
    lab.open("narrow.ipynb").run()
    lab.page.wait_for_selector(".wbp")
    for tab in ("Spec", "Live", "Results", "Code"):
        lab.page.locator(".wbp-tab", has_text=tab).click()
        assert lab.page.evaluate("() => { const p = document.querySelector('.wbp'); return p.scrollWidth - p.clientWidth; }") <= 1


def test_the_next_step_opens_its_panel_below(lab, place):
    write_notebook(place.root / "next.ipynb", DIGITS, "run = panel.run()")
    lab.open("next.ipynb").run()
    state(lab, "done")
    lab.page.locator(".wbp-tab", has_text="Results").first.click()
    lab.page.locator(".wbp-next button").click()
    lab.page.wait_for_selector('.wbp[data-word=train] [data-path="data"] input')
    assert lab.page.locator('.wbp[data-word=train] [data-path="data"] input').input_value() == "digits"
