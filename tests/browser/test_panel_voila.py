"""Panels in a real Voila: nothing runs by itself, edits survive a reload, visitors change nothing."""

from __future__ import annotations

from servers import voila_server, write_notebook

from workbench.journal import Journal

PAGE = """
from widgets import DataPanel
panel = DataPanel({"name": "digits", "sources": [{"kind": "digits"}], "steps": []})
panel
"""


def test_nothing_runs_until_somebody_presses_run_and_edits_survive_a_reload(chromium, place, tmp_path):
    notebook = write_notebook(place.root / "page.ipynb", PAGE, "run = panel.run()", "run")
    with voila_server(notebook, tmp_path) as address:
        page = chromium.new_page()
        page.set_default_timeout(30_000)
        page.goto(address)
        page.wait_for_selector(".wbp[data-state=editing]", timeout=60_000)
        assert "Nothing has run yet" in page.inner_text("body")
        assert Journal(place).entries(word="data") == []
        page.locator('[data-path="split.test"] input').fill("0.1")
        page.wait_for_selector('[data-path="split.test"].wbp-changed')
        page.reload()
        page.wait_for_selector('[data-path="split.test"].wbp-changed', timeout=60_000)
        assert "taken up again" in page.inner_text(".wbp-attention")
        page.click(".wbp-run")
        page.wait_for_selector(".wbp[data-state=done]", timeout=90_000)
        assert Journal(place).entries(word="data")[0].spec["split"]["test"] == 0.1
        page.close()


def test_visitors_of_a_read_only_page_change_nothing(chromium, place, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_READ_ONLY", "1")
    notebook = write_notebook(place.root / "visit.ipynb", PAGE.replace('"digits"', '"visited"', 1))
    before = len(Journal(place).entries())
    with voila_server(notebook, tmp_path) as address:
        page = chromium.new_page()
        page.set_default_timeout(30_000)
        page.goto(address)
        page.wait_for_selector(".wbp[data-state=editing]", timeout=60_000)
        assert page.locator(".wbp-run").is_disabled()
        page.locator('[data-path="name"] input').fill("mine")
        page.wait_for_selector(".wbp-said:has-text('visitors')")
        page.evaluate("document.querySelector('.wbp-run').disabled = false")
        page.click(".wbp-run")
        page.wait_for_timeout(500)
        page.close()
    assert len(Journal(place).entries()) == before
