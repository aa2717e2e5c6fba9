"""The data panel in a real JupyterLab: from a dropped file to a dataset, gone through, decided on and made anew by hand."""

from __future__ import annotations

import json
import random

import pytest
from servers import write_notebook

from workbench import runs

WORDS = "river night bridge morning stone water leaf window paper garden letter winter summer mountain harbour candle silver quiet".split()
HOSTILE = ["<img src=x onerror=window.hit=1> " + "well then " * 12, "\u202eright to left " * 9, "x" * 30_000,
           "\x1b[31mred\x1b[0m and " + "blue " * 30]
DROP = """([name, text]) => {
  const data = new DataTransfer();
  data.items.add(new File([text], name));
  const at = document.querySelector('.wbp-form, .wbp-data-zone');
  for (const kind of ['dragenter', 'dragover', 'drop'])
    at.dispatchEvent(new DragEvent(kind, {bubbles: true, cancelable: true, dataTransfer: data}));
}"""


def texts(count: int = 60) -> list[str]:
    generator = random.Random(3)
    prose = [" ".join(generator.choice(WORDS) for _ in range(generator.randint(12, 60))) + f" {n}." for n in range(count)]
    return [*prose, prose[5], prose[6] + " Later on.", "short", f"{prose[7]} Write to ada@example.org.", *HOSTILE]


def lines() -> str:
    return "".join(json.dumps({"body": t}) + "\n" for t in texts())


@pytest.fixture(scope="module")
def made(place):
    """A run over the texts, done before a page is opened."""
    (place.root / "t.jsonl").write_text(lines())
    spec = {"name": "texts", "sources": [{"kind": "files", "paths": ["t.jsonl"]}]}
    run = runs.submit({"word": "data", **spec}, place, place="here")
    assert run.state == "done", run.failure
    return f"from widgets import DataPanel\npanel = DataPanel({spec!r})\npanel"


def results(lab) -> None:
    lab.page.wait_for_selector(".wbp[data-state=done]")
    lab.page.locator(".wbp-tab", has_text="Results").click()
    lab.page.wait_for_selector(".wbp-data-records tbody tr")


def says(lab) -> str:
    return lab.page.locator(".wbp-data-records .wbp-reader [role=status]").inner_text()


def reads(lab, words: str) -> None:
    lab.page.wait_for_function("w => document.querySelector('.wbp-data-records .wbp-reader [role=status]').textContent === w", arg=words)


def test_a_dropped_file_is_guessed_at_previewed_curated_and_shown(lab, place):
    write_notebook(place.root / "drop.ipynb", "from widgets import DataPanel\npanel = DataPanel()\npanel")
    lab.open("drop.ipynb").run()
    page = lab.page
    page.wait_for_selector(".wbp-data-zone")
    page.evaluate(DROP, ["My texts.jsonl", lines()])
    page.wait_for_function("() => /68 records/.test(document.querySelector('.wbp-data-seems')?.textContent)")
    assert "jsonl · utf-8" in page.locator(".wbp-data-seems").inner_text()
    assert page.locator(".wbp-data-column").evaluate("s => s.selectedOptions[0].textContent") == "body (guessed)"
    assert page.locator('[data-path="name"] input').input_value() == "My-texts"
    # A step is switched off, and moved, by the keyboard.
    page.locator("[aria-label='normalise 1 is on']").focus()
    page.keyboard.press("Space")
    page.wait_for_selector(".wbp-off")
    page.locator("[aria-label='Move normalise 1 down']").press("Enter")
    page.wait_for_selector("[aria-label='normalise 2 is on']")
    page.locator("button", has_text="Preview the first").click()
    page.wait_for_function("() => /68 read/.test(document.querySelector('.wbp-data-preview [role=status]').textContent)")
    assert "of 68" in page.locator(".wbp-data-drop").nth(2).inner_text()
    page.locator(".wbp-run").click()
    page.wait_for_selector(".wbp[data-state=done]", timeout=90_000)
    results(lab)
    assert page.locator(".wbp-data-sum").inner_text().startswith("68 → ")
    assert page.evaluate("window.hit") is None
    page.locator(".wbp-next button").click()
    page.wait_for_selector('.wbp[data-word=train] [data-path="data"] input')


def test_records_are_decided_on_by_keys_and_undone(lab, place, made):
    write_notebook(place.root / "decide.ipynb", made)
    lab.open("decide.ipynb").run()
    results(lab)
    page = lab.page
    page.locator(".wbp-data-reason", has_text="near duplicate").click()
    reads(lab, "record 1 of 1")
    assert page.locator(".wbp-twin").is_visible() and page.locator(".wbp-mark-differs").first.inner_text() == "Later on."
    page.locator(".wbp-data-chip", has_text="Kept").click()
    page.wait_for_function("() => /^record 1 of 6/.test(document.querySelector('.wbp-data-records .wbp-reader [role=status]').textContent)")
    total = says(lab).rpartition(" ")[2]
    page.locator(".wbp-reader .wbp-text").first.focus()
    page.keyboard.press("j")
    reads(lab, f"record 2 of {total}")
    page.keyboard.press("2")  # drop, and on to the next
    reads(lab, f"record 3 of {total}")
    page.keyboard.press("1")
    reads(lab, f"record 4 of {total}")
    page.keyboard.press("3")
    reads(lab, f"record 5 of {total}")
    page.wait_for_function("() => /By hand 2/.test(document.querySelector('.wbp-data-chips').textContent)")
    page.wait_for_selector(".wbp-edited:visible")
    page.keyboard.press("u")  # back at the record that was unsure
    reads(lab, f"record 4 of {total}")
    page.keyboard.press("u")
    reads(lab, f"record 3 of {total}")
    page.keyboard.press("k")
    reads(lab, f"record 2 of {total}")
    page.wait_for_selector(".wbp-choice[aria-pressed=true]")
    assert page.locator(".wbp-choice[aria-pressed=true]").inner_text() == "Drop (2)"
    page.locator(".wbp-tab", has_text="Code").click()
    yaml = page.locator(".wbp-yaml").input_value()
    assert "drop:\n" in yaml and "keep:" not in yaml and "unsure:" not in yaml


def test_a_bound_is_moved_by_keys_and_by_mouse(lab, place, made):
    write_notebook(place.root / "bound.ipynb", made)
    lab.open("bound.ipynb").run()
    results(lab)
    page = lab.page
    slider = page.get_by_role("slider", name="length, at least")
    assert slider.get_attribute("aria-valuenow") == "80"
    slider.press("PageUp")
    page.wait_for_function("() => /moved: −/.test(document.querySelector('.wbp-data-moved').textContent)")
    moved = page.locator(".wbp-data-moved span").inner_text().removeprefix("moved: −").partition(" ")[0].rstrip(",")
    page.locator(".wbp-data-moved button").click()
    page.wait_for_selector(".wbp-data-chip[aria-pressed=true]:has-text('Moved')")
    page.wait_for_function("m => document.querySelector('.wbp-data-records .wbp-tablebox').innerText.includes(`of ${m} rec`)", arg=moved)
    box = page.get_by_role("slider", name="symbols, at most").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + 20
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 40, y, steps=4)
    page.mouse.up()
    page.locator(".wbp-tab", has_text="Code").click()
    page.wait_for_function("() => /min_characters: 90/.test(document.querySelector('.wbp-yaml').value)")
    page.wait_for_function("() => /max_symbols/.test(document.querySelector('.wbp-yaml').value)")
    assert page.get_by_role("slider", name="symbols, at most", include_hidden=True).get_attribute("aria-valuenow") != "0.35"


def test_files_are_browsed_by_keyboard(lab, place):
    (place.root / "texts").mkdir(exist_ok=True)
    (place.root / "texts" / "a <b>.csv").write_text("text\n" + "some text here\n" * 9)
    write_notebook(place.root / "browse.ipynb", "from widgets import DataPanel\npanel = DataPanel()\npanel")
    lab.open("browse.ipynb").run()
    page = lab.page
    page.locator(".wbp-data-zone button", has_text="Browse").press("Enter")
    page.wait_for_selector(".wbp-data-files:focus li")
    page.keyboard.press("t")
    page.keyboard.press("Enter")
    page.wait_for_selector(".wbp-data-files li:has-text('a <b>.csv')")
    page.keyboard.press("Enter")
    page.wait_for_function("() => /csv · utf-8 · 9 records/.test(document.querySelector('.wbp-data-seems')?.textContent)")
    assert page.locator(".wbp-data-browser:visible").count() == 0
    # The same by the upload button; what is no text is refused in words, and nothing of it stays.
    files = [{"name": "more.csv", "mimeType": "text/csv", "buffer": b"text\n" + b"another line\n" * 5},
             {"name": "a.exe", "mimeType": "", "buffer": b"MZ"}]
    page.set_input_files(".wbp-data-add input[type=file]", files)
    page.wait_for_function("() => /2 files · csv · utf-8 · 14 records/.test(document.querySelector('.wbp-data-seems').textContent)")
    assert "no format is known" in page.locator(".wbp-data-add .wbp-data-arrivals").inner_text()
    assert sorted(p.name.rpartition("-")[0] for p in (place.root / "data").glob("more*")) == ["more"]


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_axe_finds_nothing_and_a_narrow_page_holds_it(lab, place, made, axe, theme):
    write_notebook(place.root / "axe.ipynb", made, "from widgets import DataPanel\nDataPanel()")
    lab.open("axe.ipynb")
    lab.theme(theme)
    lab.run()
    lab.page.wait_for_selector(".wbp[data-state=done]")
    page, found = lab.page, {}
    page.wait_for_function("() => document.querySelectorAll('.wbp').length === 2")
    page.locator(".wbp-data-zone button:visible", has_text="Browse").click()
    page.wait_for_selector(".wbp-data-files li:visible")
    for tab in ("Spec", "Live", "Results"):
        page.locator(".wbp-tab", has_text=tab).first.click()
        if tab == "Results":
            page.wait_for_selector(".wbp-data-records tbody tr")
            page.locator(".wbp-data-reason", has_text="near duplicate").click()
            reads(lab, "record 1 of 1")
            page.locator(".wbp-more summary", has_text="Data card").click()
        if findings := axe(page):
            found[tab] = findings
    assert found == {}
    page.set_viewport_size({"width": 480, "height": 900})
    for tab in ("Spec", "Live", "Results"):
        page.locator(".wbp-tab", has_text=tab).first.click()
        assert page.evaluate("() => { const p = document.querySelector('.wbp'); return p.scrollWidth - p.clientWidth; }") <= 1, tab
    assert page.evaluate("window.hit") is None
