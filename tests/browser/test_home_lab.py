"""Home in a real JupyterLab: from an empty workspace onwards, live, by keyboard, hostile names, tiles, and a page by Voila."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from jupyter_core.paths import jupyter_path
from servers import TOKEN, voila_server, write_notebook

from workbench import runs
from workbench.journal import Journal
from workbench.workspace import Workspace

HOME = "import workbench\nworkbench.open()"
PAYLOAD = "<img src=x onerror=window.hit=1> \x1b[31m\u202e</script>" + "x" * 20_000


def fits(page) -> bool:
    return page.evaluate("() => { const p = document.querySelector('.wbp-home'); return p.scrollWidth - p.clientWidth; }") <= 1


def test_from_an_empty_workspace_to_the_next_step_and_back_after_a_restart(lab, place, axe):
    write_notebook(place.root / "home.ipynb", HOME)
    lab.open("home.ipynb").run()
    page = lab.page
    page.wait_for_selector(".wbp-home[data-empty=yes]")
    assert axe(page) == []
    page.set_viewport_size({"width": 480, "height": 900})
    assert fits(page)
    page.set_viewport_size({"width": 1200, "height": 1000})
    page.locator(".wbp-home-example").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".wbp-home-opened .wbp[data-word=data][data-state=editing]")
    # What another process does is seen here: the chain begins and leads on.
    runs.submit({"word": "data", "name": "digits", "sources": [{"kind": "digits"}], "steps": []}, place, place="here")
    page.wait_for_selector(".wbp-home[data-empty=no] .wbp-home-step:has-text('Train on this dataset')")
    assert page.locator(".wbp-home-opened .wbp").count() == 1  # what stands open is left alone
    page.click(".wbp-home-step")
    page.wait_for_selector(".wbp-home-opened .wbp[data-word=train]")
    assert page.locator('.wbp[data-word=train] [data-path="data"] input').input_value() == "digits"
    assert page.locator(".wbp-home-opened .wbp").first.get_attribute("data-word") == "train"
    page.locator(".wbp-home-close").first.click()
    page.wait_for_function("() => document.querySelectorAll('.wbp-home-opened .wbp').length === 1")
    lab.restart()
    page.wait_for_timeout(300)
    lab.run()
    page.wait_for_selector(".wbp-home[data-empty=no] .wbp-home-card[data-state=done]")
    assert "digits" in page.locator(".wbp-home-chain").inner_text()


def test_a_run_is_watched_and_stopped_hostile_names_neither_run_nor_break_the_layout(lab, place, axe):
    write_notebook(place.root / "watch.ipynb", HOME)
    lab.open("watch.ipynb").run()
    page = lab.page
    page.wait_for_selector(".wbp-home")
    journal = Journal(place)
    entry, _ = journal.add("train", PAYLOAD, "hostile", {"word": "train", "version": 1, "data": "digits"}, {}, place="here")
    journal.claim(entry.id)
    spec = {"word": "data", "version": 1, "name": "x", "sources": [{"kind": "digits"}]}
    failed, _ = journal.add("data", PAYLOAD, "failed", spec, {}, place="here")
    journal.claim(failed.id)
    journal.move(failed.id, "failed", failure={"what": PAYLOAD})
    page.wait_for_selector(".wbp-home-run[data-state=running]")
    journal.events.append(entry.id, "progress", done=30, total=60, unit="steps", label=PAYLOAD[:200], rate=5.0, left=6.0)
    page.wait_for_function("() => document.querySelector('.wbp-home-run progress').value === 0.5")
    assert fits(page) and page.evaluate("window.hit") is None
    assert page.locator(".wbp-home-error .wbp-home-text").inner_text().split()[:2] == ["error:", "data"]
    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        lab.theme(theme)
        assert axe(page) == []
    page.click(".wbp-home-run .wbp-home-stop")
    page.wait_for_selector(".wbp-home-run[data-state=stopping], .wbp-home-work:not(:has(.wbp-home-run))")
    journal.move(entry.id, "stopped")
    page.wait_for_function("() => !document.querySelector('.wbp-home-run')")


def test_everything_is_searched_and_opened_by_keyboard_and_paged(lab, place):
    journal = Journal(place)
    for number in range(12):
        entry, _ = journal.add("data", f"paged-{number:02}", f"p{number}", {"word": "data", "version": 1, "name": "paged",
                                                                           "sources": [{"kind": "digits"}]}, {}, place="here")
        journal.move(entry.id, "stopped")
    write_notebook(place.root / "search.ipynb", HOME)
    lab.open("search.ipynb").run()
    page = lab.page
    page.wait_for_selector(".wbp-home-item")
    page.locator(".wbp-home-search").fill("paged stopped")
    page.wait_for_selector(".wbp-home-count:has-text('1 to 8 of 12')")
    page.click(".wbp-home-pages button:has-text('More')")
    page.wait_for_selector(".wbp-home-count:has-text('9 to 12 of 12')")
    page.locator(".wbp-home-search").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert "paged-02" in page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    page.wait_for_selector(".wbp-home-opened .wbp[data-word=data][data-state=stopped]")
    page.locator(".wbp-home-search").fill("nothing such")
    page.wait_for_selector(".wbp-home-count:has-text('Nothing matches')")


@pytest.mark.skipif(not any((Path(p) / "jupyter_app_launcher" / "jp_app_launcher_workbench.yaml").exists() for p in jupyter_path()),
                    reason="the tiles are not installed: pip install -e .")
def test_a_tile_of_the_launcher_shows_a_ready_panel_and_writes_no_file(lab, place):
    page = lab.page
    page.goto(f"{lab.address}/lab?token={TOKEN}")
    page.wait_for_selector(".jp-LauncherCard[data-category=Workbench]")
    before = sorted(p.name for p in place.root.glob("*.ipynb"))
    tiles = page.locator(".jp-LauncherCard[data-category=Workbench]")
    assert [re.sub(r"\s+", " ", t) for t in tiles.all_inner_texts()] == ["Workbench", "Data", "Train", "Ethics and quality", "Serve",
                                                                         "Monitor", "Pipeline"]
    assert all(t.locator("svg").count() for t in tiles.all())
    tiles.nth(2).click()
    page.wait_for_selector(".wbp[data-word=train] .wbp-tab")
    assert sorted(p.name for p in place.root.glob("*.ipynb")) == before


def test_visitors_of_a_read_only_dashboard_look_and_change_nothing(chromium, place, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_READ_ONLY", "1")
    here = Workspace(place.root)
    entry, _ = Journal(here).add("train", "going", "going", {"word": "train", "version": 1, "data": "digits"}, {}, place="here")
    Journal(here).claim(entry.id)
    notebook = Path(shutil.copy(Path(__file__).parents[2] / "notebooks" / "workbench.ipynb", place.root / "visit-home.ipynb"))
    with voila_server(notebook, tmp_path) as address:
        page = chromium.new_page()
        page.set_default_timeout(30_000)
        page.goto(address)
        page.wait_for_selector(".wbp-home-run", timeout=60_000)
        stop = page.locator(".wbp-home-stop").first
        assert stop.is_disabled() and page.locator(".wbp-home-save").count() == 0
        stop.evaluate("b => { b.disabled = false; b.click(); }")
        page.wait_for_selector(".wbp-said:has-text('visitors')")
        assert Journal(here).get(entry.id).state == "running"
        page.locator(".wbp-home-run button:has-text('Open')").first.click()
        page.wait_for_selector(".wbp-home-opened .wbp[data-word=train] .wbp-stop:disabled")
        page.close()
    Journal(here).move(entry.id, "stopped")
