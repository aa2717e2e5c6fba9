"""The serve panel in a real JupyterLab and a real Voila: from a model to an answer and its record, traffic, bad luck, visitors."""

from __future__ import annotations

import json

import psutil
import pytest
from servers import voila_server, write_notebook
from test_panel_lab import PAYLOADS, state

from workbench import runs
from workbench.endpoint import Endpoint
from workbench.model import Model, save_tokenizer, write_model
from workbench.serve.feedback import Feedback

PANEL = """
from widgets import ServePanel
panel = ServePanel({"name": "bot", "port": 0, "replicas": 1, "models": [{"model": "docs-lm"}]})
panel
"""
HOSTILE = """
payloads = %r
for number, text in enumerate(payloads, 900):
    side = {"model": text, "state": "done", "error": text, "id": "", "served": text[:100], "first": 0.1, "seconds": 1.0, "tokens": 3,
            "rate": 3.0, "finish": text[:50], "mark": {"mark": "wrong", "note": text, "better": text}, "text": text}
    panel.send({"talk": number, "exchange": {"number": number, "chat": number if number %% 2 else None, "prompt": text, "at": 1.0,
                "parts": 1, "options": {"stop": [text]}, "over": True, "sides": [side, {**side, "state": "failed"}]}})
more = [{**side, "fresh": "y" * 1_000_000}, {**side, "fresh": "<img src=x onerror=window.hit=1>"}]
panel.send({"talk": 900, "part": 2, "over": True, "sides": more})
"""


@pytest.fixture(scope="module")
def place(copy_of_taught, tmp_path_factory):
    workspace = copy_of_taught(tmp_path_factory.mktemp("serve-lab") / "workspace")
    (workspace.root / "workbench.toml").touch()
    first = Model.open("docs-lm", workspace)

    def save(folder):
        import transformers

        model = transformers.LlamaForCausalLM.from_pretrained(first.path)
        model.model.norm.weight.data *= 1.01
        model.save_pretrained(folder)
        save_tokenizer(first.tokenizer(), folder)

    write_model(workspace, "second-lm", save, card="# second-lm\n",
                manifest={k: first.manifest[k] for k in ("parameters", "dataset", "metrics", "spec")})
    yield workspace
    runs.shut_down(workspace)


def opened(lab, place, name: str, *cells: str):
    """The page of a notebook whose panel is drawn."""
    write_notebook(place.root / f"{name}.ipynb", PANEL, *cells)
    lab.open(f"{name}.ipynb").run()
    lab.page.wait_for_selector(".wbp", timeout=60_000)
    return lab.page


def deploy(lab) -> None:
    """See that the endpoint stands, whatever the test before left."""
    lab.page.wait_for_selector(".wbp:is([data-state=done], [data-state=editing], [data-state=lost], [data-state=stopped])")
    if lab.page.locator(".wbp").first.get_attribute("data-state") != "done":
        lab.page.click(".wbp-run")
    state(lab, "done")


def tab(lab, name: str) -> None:
    lab.page.locator(".wbp-tab", has_text=name).first.click()


def wide(page) -> int:
    return page.evaluate("() => { const p = document.querySelector('.wbp'); return p.scrollWidth - p.clientWidth; }")


def test_from_a_model_to_an_answer_and_the_record_that_taught_it(lab, place, axe):
    page = opened(lab, place, "ask")
    assert page.locator(".wbp-run").inner_text() == "Deploy"
    page.click(".wbp-run")
    page.wait_for_selector(".wbp-serve-strip[data-state=up] .wbp-serve-address:visible")
    state(lab, "done")
    endpoint = Endpoint.open("bot", place)
    assert page.locator(".wbp-serve-address").first.inner_text() == endpoint.address
    page.click(".wbp-serve-try")
    assert page.evaluate("document.activeElement.className") == "wbp-play-box"
    page.keyboard.type("Return the")
    page.locator(".wbp-play-settings summary").click()
    page.get_by_label("Temperature").fill("0")
    page.locator(".wbp-play-box").focus()
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".wbp-play-taught")
    assert "tokens a second" in page.locator(".wbp-play-facts").inner_text() and "docs-lm v1" in page.locator(".wbp-play-who").inner_text()
    words = page.locator(".wbp-play-taught").first
    stretch = words.inner_text()
    words.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".wbp-play-record .wbp-mark-taught")
    assert stretch in page.locator(".wbp-play-record .wbp-mark-taught").all_inner_texts()
    assert "docs v1" in page.locator(".wbp-play-record .wbp-facts").inner_text()
    steps = page.locator(".wbp-play-step").all_inner_texts()
    assert [s.split()[0] for s in steps] == ["endpoint", "model", "dataset", "source"]
    page.locator(".wbp-play-wrong").click()
    page.keyboard.type("not what it returns")
    page.locator("button", has_text="Mark as wrong").click()
    page.wait_for_selector(".wbp-play-wrong[aria-pressed=true]")
    assert Feedback(place, "bot").rows()[0]["note"] == "not what it returns"
    page.locator(".wbp-play-code summary").click()
    page.wait_for_function("t => document.querySelector('.wbp-play-code pre').textContent.includes(t)", arg=endpoint.address)
    assert endpoint.token not in page.content()
    found = {theme: axe(page) for theme in ("JupyterLab Light", "JupyterLab Dark") if lab.theme(theme) is None}
    tab(lab, "Live")
    page.wait_for_function("() => /^[1-9]|0 of 1/.test(document.querySelectorAll('.wbp-serve-figure b')[3].textContent)")
    found["live"] = axe(page)
    assert {k: v for k, v in found.items() if v} == {}
    lab.save()
    page.reload()  # the kernel lives on: what was asked in this session is there again
    page.wait_for_selector(".wbp[data-state=done]")
    tab(lab, "Results")
    page.wait_for_selector(".wbp-play-wrong[aria-pressed=true]")


def test_traffic_by_keyboard_two_side_by_side_and_back(lab, place):
    page = opened(lab, place, "shift")
    deploy(lab)
    tab(lab, "Live")
    page.locator(".wbp-serve-fold > summary").click()
    page.get_by_role("combobox", name="Model").fill("second-lm")
    page.locator("button", has_text="Add it").click()
    page.wait_for_function("() => document.querySelectorAll('.wbp-serve-row').length === 2")
    page.wait_for_selector(".wbp-serve-slider:enabled")
    page.locator(".wbp-serve-slider").nth(1).focus()
    for _ in range(3):
        page.keyboard.press("PageUp")
    page.keyboard.press("ArrowRight")
    assert page.locator(".wbp-serve-share").all_inner_texts() == ["90 → 59 %", "10 → 41 %"]
    page.locator("button", has_text="Shift traffic").click()
    page.wait_for_function("() => [...document.querySelectorAll('.wbp-serve-share')].map((s) => s.textContent).join() === '59 %,41 %'")
    assert [m["weight"] for m in Endpoint.open("bot", place).document["models"]] == [59, 41]
    state(lab, "done")
    tab(lab, "Results")
    page.locator("button", has_text="Compare two").click()
    page.locator(".wbp-play-box").fill("Return")
    page.keyboard.press("Control+Enter")
    page.wait_for_function("() => document.querySelectorAll('.wbp-play-sides-2 .wbp-play-answer[data-state=done]').length === 2")
    assert page.locator(".wbp-play-sides-2 .wbp-play-who").all_inner_texts() == ["docs-lm v1", "second-lm v1"]
    page.set_viewport_size({"width": 480, "height": 900})
    for name in ("Live", "Results"):
        tab(lab, name)
        assert wide(page) <= 1
    page.set_viewport_size({"width": 1200, "height": 1000})
    tab(lab, "Live")
    page.wait_for_function("() => document.querySelector('.wbp-serve-actions').textContent.includes('to docs-lm@v1 90 %')")
    page.locator("button", has_text="Roll back").click()
    page.wait_for_function("() => [...document.querySelectorAll('.wbp-serve-share')].map((s) => s.textContent).join() === '90 %,10 %'")


def test_a_killed_endpoint_is_told_and_brought_back_and_hostile_answers_are_text(lab, place):
    page = opened(lab, place, "hostile", HOSTILE % (PAYLOADS,))
    deploy(lab)
    tab(lab, "Results")
    page.wait_for_function(f"() => document.querySelectorAll('.wbp-play-exchange').length === {len(PAYLOADS)}")
    page.wait_for_function("() => document.querySelector('.wbp-play-body').textContent.length > 1_000_000")
    assert wide(page) <= 1 and page.evaluate("window.hit") is None
    psutil.Process(Endpoint.open("bot", place).document["pid"]).kill()
    state(lab, "lost", 10)
    assert "is not answering since" in page.locator(".wbp-attention").inner_text()
    page.locator(".wbp-attention button", has_text="Start again").click()
    page.wait_for_selector(".wbp-serve-strip[data-state=up]:visible")
    state(lab, "done")
    tab(lab, "Live")
    page.locator("button", has_text="Stop endpoint").click()
    assert "This ends bot" in page.locator(".wbp-serve-asked").inner_text() and Endpoint.open("bot", place).alive
    page.locator("button", has_text="Stop it").click()
    page.wait_for_selector(".wbp-serve-strip[data-state=down]:visible")
    assert not Endpoint.open("bot", place).alive
    page.locator(".wbp-attention button", has_text="Start again").click()
    page.wait_for_selector(".wbp-serve-strip[data-state=up]:visible")


def test_visitors_may_ask_and_change_nothing(chromium, place, tmp_path, monkeypatch, axe):
    endpoint = runs.run({"word": "serve", "name": "bot", "port": 0, "replicas": 1, "models": [{"model": "docs-lm"}]}, place).output
    monkeypatch.setenv("WORKBENCH_READ_ONLY", "1")
    notebook = write_notebook(place.root / "visit.ipynb", PANEL)
    with voila_server(notebook, tmp_path) as address:
        page = chromium.new_page()
        page.set_default_timeout(30_000)
        page.goto(address)
        page.wait_for_selector(".wbp[data-state=done]", timeout=60_000)
        page.locator(".wbp-tab", has_text="Results").click()
        page.locator(".wbp-play-chip").first.click()
        page.wait_for_selector(".wbp-play-answer[data-state=done]")
        assert page.locator(".wbp-play-wrong, .wbp-serve-end").count() == 0 and page.locator(".wbp-run").is_disabled()
        assert page.locator("button", has_text="Copy token").count() == 0 and endpoint.token not in page.content()
        page.wait_for_function("() => document.querySelector('.wbp-play-lineage').textContent.includes('docs-lm v1')")
        assert axe(page) == []
        page.close()
    assert json.loads((endpoint.folder / "visits.json").read_text())
