"""The pipeline panel in a real JupyterLab: explained, run, failed, mended, resumed; hostile text; axe; a narrow page."""

from __future__ import annotations

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from servers import write_notebook

HOSTILE = "<img src=x onerror=window.hit=1>\u202e</script><script>window.hit=1</script>\x1b[31m"
BAD = f"print({HOSTILE!r} * 3)\nraise ValueError({HOSTILE!r} + 'y' * 5000)"
STEPS = {"data": (["# Digits <b>bold</b>", "spec = {'word': 'data', 'name': 'digits', 'sources': [{'kind': 'digits'}], 'steps': []}",
                   "from workbench import runs\nrun = runs.submit(spec, place='here')"], []),
         "look": (["# Look", "import pathlib, time\nwhile not pathlib.Path('go').exists():\n    time.sleep(0.05)"], ["data"]),
         "bad": (["# Bad", "x = 1", BAD], ["data"]), "after": (["# After", "2"], ["look", "bad", "data"])}


def write(place, name: str, cells: list[str]) -> None:
    made = [new_markdown_cell(c) if c.startswith("# ") else new_code_cell(c) for c in cells]
    for cell in made:
        if cell.source.startswith("spec = "):
            cell.metadata["tags"] = ["parameters"]
    nbformat.write(new_notebook(cells=made), place.root / f"{name}.ipynb")


def pipeline(place) -> None:
    for name, (cells, _) in STEPS.items():
        write(place, name, cells)
    steps = [{"name": n, "notebook": f"{n}.ipynb", "needs": needs} for n, (_, needs) in STEPS.items()]
    (place.root / "pipeline.yaml").write_text(yaml.safe_dump({"word": "pipeline", "name": "small", "steps": steps}))


def node(page, name: str, state: str) -> None:
    page.wait_for_selector(f"[data-node={name}][data-state={state}]:visible", timeout=60_000)


def test_a_pipeline_is_explained_run_mended_and_resumed(lab, place, axe):
    pipeline(place)
    write_notebook(place.root / "pipe.ipynb", "from widgets import PipelinePanel\npanel = PipelinePanel('pipeline.yaml'); panel")
    lab.open("pipe.ipynb").run()
    page = lab.page
    page.locator("button", has_text="Explain").press("Enter")
    page.wait_for_selector(".wbp-pipeline-why li")
    assert page.locator(".wbp-pipeline-why").inner_text().count("was not made yet") == 4
    page.locator(".wbp-itemhead").nth(3).press("Enter")
    needs = page.locator('[data-path="steps.3.needs"] input')
    assert [box.is_checked() for box in needs.all()] == [True, True, True]
    page.locator('[data-path="steps.3.notebook"] input').focus()
    page.wait_for_selector("[role=option]:has-text('after.ipynb')")
    page.keyboard.press("Escape")
    page.locator(".wbp-run").click()
    node(page, "look", "running")
    node(page, "bad", "failed")
    page.wait_for_function("() => /step bad failed in cell 2: ValueError/.test(document.querySelector('.wbp-attention').innerText)")
    assert page.locator(".wbp[data-state=running]").count() == 1  # the other step goes on
    page.locator(".wbp-attention button", has_text="Open").click()
    page.wait_for_selector(".wbp-pipeline-error pre")
    assert "raise ValueError" in page.locator(".wbp-pipeline-error pre").first.inner_text()
    (place.root / "go").touch()
    page.wait_for_selector(".wbp[data-state=failed]")
    node(page, "after", "skipped")
    page.locator("[data-node=data]:visible").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    page.locator("button", has_text="Open data digits").press("Enter")
    page.wait_for_selector(".wbp[data-word=data][data-state=done]")
    page.locator("[data-node=bad]:visible").click()
    page.locator(".wbp-pipeline-tools button", has_text="Report").click()
    page.wait_for_selector("iframe.wbp-pipeline-frame:visible")
    assert page.frame_locator("iframe.wbp-pipeline-frame").locator("h1").inner_text() == "small"
    assert axe(page) == [] and page.evaluate("window.hit") is None
    page.locator("[data-word=pipeline] .wbp-tab", has_text="Live").click()
    page.set_viewport_size({"width": 480, "height": 900})
    page.wait_for_timeout(200)
    assert page.evaluate("() => { const p = document.querySelector('.wbp'); return p.scrollWidth - p.clientWidth; }") <= 1
    first, second = (page.locator(f"[data-node={n}]:visible").bounding_box() for n in ("data", "bad"))
    assert second["y"] >= first["y"] + first["height"]  # it wraps downwards
    page.set_viewport_size({"width": 1200, "height": 900})
    write(place, "bad", ["# Bad", "x = 1"])
    page.locator(".wbp-resume:visible").first.click()
    page.wait_for_selector(".wbp[data-word=pipeline][data-state=done]")
    page.locator("[data-word=pipeline] .wbp-tab", has_text="Results").click()
    page.wait_for_selector(".wbp-pipeline-table")
    assert page.locator(".wbp-pipeline-table").inner_text().count("✓ done") == 4


@pytest.mark.parametrize("theme", ["JupyterLab Dark"])
def test_axe_finds_nothing_in_the_dark(lab, place, axe, theme):
    pipeline(place)
    write_notebook(place.root / "dark.ipynb", "from widgets import PipelinePanel\npanel = PipelinePanel('pipeline.yaml'); panel")
    lab.open("dark.ipynb", dark=True).run()
    found = {}
    for tab in ("Spec", "Live", "Results"):
        lab.page.locator(".wbp-tab", has_text=tab).click()
        if tab == "Spec":
            lab.page.locator("button", has_text="Explain").click()
            lab.page.wait_for_selector(".wbp-pipeline-why li")
        lab.page.wait_for_timeout(200)
        if findings := axe(lab.page):
            found[tab] = findings
    assert found == {}
