"""Every panel and Home on one page of a real Voila, light and dark: drawn without a fault, usable by a screen reader."""

from __future__ import annotations

import pytest
from servers import voila_server, write_notebook

PANELS = """
from widgets import AssessPanel, DataPanel, Home, MonitorPanel, PipelinePanel, ServePanel, TrainPanel
display(Home())
display(DataPanel({"name": "digits", "sources": [{"kind": "digits"}], "steps": []}))
display(TrainPanel({"data": "digits", "tokens": -1}))
display(AssessPanel({"model": "nothing-lm"}))
display(ServePanel({"name": "bot", "models": [{"model": "nothing-lm"}]}))
display(MonitorPanel({"name": "watch"}))
display(PipelinePanel())
"""
WORDS = ("data", "train", "assess", "serve", "monitor", "pipeline")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_panel_in_voila(place, chromium, axe, tmp_path, theme):
    notebook = write_notebook(place.root / f"every-{theme}.ipynb", PANELS)
    page = chromium.new_page(viewport={"width": 1200, "height": 1000})
    faults: list[str] = []
    page.on("pageerror", lambda e: faults.append(str(e)))
    with voila_server(notebook, tmp_path, f"--theme={theme}") as address:
        page.goto(address)
        page.wait_for_selector(".wbp-home", timeout=90_000)
        for word in WORDS:
            page.wait_for_selector(f".wbp[data-word={word}]", timeout=60_000)
        for tab in ("Spec", "Live", "Results", "Code"):
            for word in WORDS:
                page.locator(f".wbp[data-word={word}] .wbp-tab", has_text=tab).first.click()
            assert axe(page) == [] and not faults
        page.set_viewport_size({"width": 480, "height": 900})
        for panel in page.locator(".wbp").all():
            assert panel.evaluate("e => e.scrollWidth <= e.clientWidth + 1"), panel.get_attribute("data-word")
        page.close()
