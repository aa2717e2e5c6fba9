"""The monitor panel in a real JupyterLab: alerts, curves, zoom, an evaluator that dies; and what others write, drawn."""

from __future__ import annotations

import json
import os
import signal

import pytest
from servers import Lab, write_notebook

from workbench.events import Events
from workbench.journal import Journal
from workbench.monitor.watch import Watch

HOSTILE = '<img src=x onerror="window.hit=1">\u202e\x1b[31m' + "x" * 3000
SPEC = {"name": "watch", "port": 0, "interval": 0.5, "rules": [
    {"rule": "threshold", "name": "room", "metric": "workbench_machine_disk_free_bytes", "below": 5e14, "summary": HOSTILE}],
    "charts": [{"title": HOSTILE[:60], "curves": [{"of": "machine", "metric": "workbench_machine_load"}]},
               {"title": "memory", "curves": [{"of": "machine", "metric": "workbench_machine_memory_available_bytes"}]},
               {"title": "loss", "over": "step", "curves": [{"of": "train/m", "metric": "loss"}]}]}
CODE = f"from widgets import MonitorPanel\npanel = MonitorPanel({SPEC!r})\npanel"


@pytest.fixture
def watched(lab, place) -> Lab:
    """A panel that watches, with an alert that goes on."""
    write_notebook(place.root / "watch.ipynb", CODE, "run = panel.run()")
    lab.open("watch.ipynb").run()
    lab.page.wait_for_selector(".wbp-monitor-alert", timeout=60_000)
    return lab


def test_an_alert_is_acknowledged_a_dead_evaluator_is_started_again(watched, place, axe):
    page = watched.page
    page.wait_for_function("() => document.querySelector('.wbp-stateword').textContent === 'watching'")
    assert "▲1" in page.locator(".wbp-monitor-chip", has_text="machines").inner_text()
    page.locator(".wbp-monitor-acts button", has_text="Acknowledge").click()
    page.keyboard.type("a disk is ordered")
    page.keyboard.press("Enter")
    page.wait_for_selector(".wbp-monitor-isknown")
    assert Watch(place, "watch").alerts(firing=True)[0].note == "a disk is ordered"
    page.wait_for_function("() => document.querySelector('.wbp-attention').textContent === ''")
    assert page.evaluate("window.hit") is None
    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        watched.theme(theme)
        page.wait_for_timeout(200)
        assert axe(page) == []
    page.set_viewport_size({"width": 480, "height": 900})
    assert page.evaluate("() => { const p = document.querySelector('.wbp'); return p.scrollWidth - p.clientWidth; }") <= 1
    assert axe(page) == []
    os.kill(Watch(place, "watch").process.pid, signal.SIGKILL)
    page.wait_for_selector(".wbp-monitor-evaluator[data-state=died]")
    page.locator(".wbp-attention button", has_text="Watch again").click()
    page.wait_for_selector(".wbp-monitor-evaluator[data-state=watching]", timeout=60_000)
    assert Watch(place, "watch").alive


def test_curves_are_added_zoomed_by_key_and_by_drag_and_read_as_a_table(watched, place):
    page = watched.page
    charts = page.locator(".wbp-monitor-board .wbp-chart")
    page.wait_for_function("() => [...document.querySelectorAll('.wbp-monitor-board .wbp-readout')].slice(0, 2)"
                           ".every(r => /\\d/.test(r.textContent))")
    page.locator(".wbp-monitor-board button", has_text="Add a curve").click()
    page.keyboard.type("machine cpu")
    page.keyboard.press("Enter")  # at once: it means what was typed, not what was listed before
    page.wait_for_function("() => document.querySelectorAll('.wbp-monitor-board .wbp-chart').length === 4")
    page.locator(".wbp-tab", has_text="Code").click()
    assert "workbench_machine_cpu" in page.locator(".wbp-yaml").input_value()  # so the dashboard repeats
    page.locator(".wbp-tab", has_text="Live").click()
    first, second = charts.nth(0), charts.nth(1)
    box = first.locator("canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] - 200, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 20, box["y"] + 60, steps=4)
    page.mouse.up()
    second.locator("button", has_text="all").wait_for(state="visible")  # the time of all charts is one
    assert charts.nth(2).locator("button", has_text="all").is_hidden()  # steps are no time
    first.locator("canvas").focus()
    page.keyboard.press("0")
    second.locator("button", has_text="all").wait_for(state="hidden")
    second.locator("button", has_text="table").click()
    second.locator("table tbody tr").first.wait_for()
    assert "B" in second.locator("table td").first.inner_text()
    second.locator("button", has_text="log").click()
    page.wait_for_function("() => document.querySelectorAll('.wbp-charttool[aria-pressed=true]').length === 1")


def test_a_curve_of_a_run_shows_what_is_no_number_and_grows_as_others_write(watched, place):
    page, events = watched.page, Events(place)
    entry, _ = Journal(place).add("train", "m", "k", {"word": "train", "data": "docs"}, {}, place="here")
    Journal(place).claim(entry.id)
    events.append_many([(entry.id, "point", 1.0, "loss", n, float("nan") if n == 3 else 2.0 - n / 10, {}) for n in range(9)])
    # The chart was there before the run was: it finds it by its name.
    loss = page.locator(".wbp-monitor-board .wbp-chart", has=page.locator("b", has_text="loss"))
    loss.wait_for(timeout=60_000)
    page.wait_for_function("() => document.body.innerText.includes('1 not a number')", timeout=30_000)
    events.point(entry.id, "loss", 9, 0.125)
    page.wait_for_function("() => document.body.innerText.includes('0.125')", timeout=15_000)
    loss.locator("canvas").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("() => document.body.innerText.includes('at step 8')")
    Journal(place).move(entry.id, "failed")


def test_what_stays_in_the_file_says_the_alert(watched, place):
    page = watched.page
    page.wait_for_function("() => document.querySelector('.wbp-still')?.textContent.includes('room')")
    watched.save()
    saved = json.loads((place.root / "watch.ipynb").read_text())
    html = "".join("".join(o["data"].get("text/html", "")) for o in saved["cells"][0]["outputs"] if "data" in o)
    assert "room" in html and "<img" not in html and len(html) < 300_000
