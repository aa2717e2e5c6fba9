"""The assess panel in a real JupyterLab: from the scorecard to what stands behind a number, and a waiver granted and withdrawn."""

from __future__ import annotations

import json

import pytest
from servers import lab_server, stop_kernels, write_notebook

from workbench import runs
from workbench.assessment import Assessment, standing, write_assessment
from workbench.policy import Evidence
from workbench.workspace import Workspace

RULES = "rules:\n- {metric: memorised, at_most: 0.0001, theme: privacy}\n- {metric: group_likelihood_gap, at_most: 9, theme: bias}\n"
SPEC = {"word": "assess", "model": "docs-lm", "probes": [
    {"probe": "memorised", "prompt_tokens": 8, "continuation_tokens": 2, "passages": 40}, {"probe": "group_likelihood_gap"}]}
HOSTILE = "<img src=x onerror=window.hit=1> \u202eturned\u202c \x1b[31m " + "y" * 20_000
CELLS = (f"from widgets import AssessPanel\npanel = AssessPanel({SPEC!r}); panel", "run = panel.run()")


@pytest.fixture(scope="module")
def place(copy_of_taught, tmp_path_factory):
    made = copy_of_taught(tmp_path_factory.mktemp("assess") / "w")
    (made.root / "workbench.toml").write_text('policy = "policy.yaml"\n')
    (made.root / "policy.yaml").write_text(RULES)
    made = Workspace(made.root)
    runs.submit(SPEC, made, place="here")
    yield made
    runs.shut_down(made)


@pytest.fixture(scope="module")
def lab_address(place, tmp_path_factory):
    with lab_server(place.root, tmp_path_factory.mktemp("logs")) as address:
        yield address
        stop_kernels(address)


def opened(lab, name: str) -> None:
    lab.open(name).run()
    lab.page.wait_for_selector(".wbp[data-state=done] .wbp-assess-verdict", state="attached")
    lab.page.locator(".wbp-tab", has_text="Results").click()


def test_from_the_verdict_to_a_waiver_by_keyboard(lab, place):
    path = write_notebook(place.root / "verdict.ipynb", *CELLS)
    opened(lab, "verdict.ipynb")
    page = lab.page
    assert "Must not be deployed" in page.locator(".wbp-assess-title").inner_text()
    assert "must not be deployed" in page.locator(".wbp-attention").inner_text()
    page.locator("[data-metric=memorised] button", has_text="Why").press("Enter")
    assert "upper end" in page.locator(".wbp-assess-fold").inner_text()
    page.locator("[data-metric=memorised] button", has_text="Examples").press("Enter")
    page.wait_for_selector(".wbp-assess-fold .wbp-mark-found")
    assert page.locator(".wbp-assess-fold").count() == 1  # one of a group stands open
    page.keyboard.press("j")
    page.wait_for_function("() => /example 2 of/.test(document.querySelector('.wbp-reader').innerText)")
    page.keyboard.press("w")
    page.wait_for_function("() => /The whole record/.test(document.querySelector('.wbp-reader').innerText)")
    page.locator("button", has_text="Request a waiver").press("Enter")
    grant = page.locator("button", has_text="Grant the waiver")
    assert grant.is_disabled()
    page.keyboard.type("only invented text was used <b>here</b>")
    grant.press("Enter")
    page.wait_for_function("() => /with 1 waiver/.test(document.querySelector('.wbp-assess-title').innerText)")
    model = Assessment.open("docs-lm", place).model
    assert standing(place, model).passed and "<b>here</b>" in page.locator(".wbp-assess-waiver").inner_text()
    page.locator("button", has_text="Card").press("Enter")
    page.wait_for_selector(".wbp-assess-card table")
    assert "only invented text" in page.locator(".wbp-assess-card").inner_text()
    with page.expect_download() as saved:
        page.locator(".wbp-assess-fold button", has_text="Download").click()
    assert "## Waivers" in saved.value.path().read_text()
    lab.page.wait_for_function("() => document.querySelector('.wbp-still')?.textContent.includes('with 1 waiver')")
    lab.save()
    assert "with 1 waiver" in "".join(json.loads(path.read_text())["cells"][0]["outputs"][1]["data"]["text/html"])
    end = page.locator("button", has_text="Withdraw")
    end.press("Enter")
    page.locator("button", has_text="Withdraw: the rule blocks again").press("Enter")
    page.wait_for_function("() => /Must not/.test(document.querySelector('.wbp-assess-title').innerText)")
    assert not standing(place, model).passed


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_every_fold_is_accessible_and_nothing_in_it_runs_or_widens_the_page(lab, place, axe, theme):
    made = Assessment.open("docs-lm", place)
    evidence = [Evidence(**{**e.__dict__, "examples": (dict.fromkeys(("record", "prompt", "repeated", "text", "kinds"), HOSTILE),),
                            "variant": HOSTILE, "metric": name}) for e, name in zip(made.evidence, ("memorised", "other"), strict=True)]
    document = made.document
    run = runs.submit({**SPEC, "seed": 7 + ("Dark" in theme)}, place, place="here")
    other = write_assessment(place, "docs-lm", model=document["model"], dataset=document["dataset"], taught=document["taught"],
                             policy=made.policy, evidence=evidence, card=f"# {HOSTILE}\n", run=run.id)
    from workbench.journal import Journal

    result = json.dumps({**run.result, "digest": other.digest})
    Journal(place).database.execute("UPDATE runs SET result = ? WHERE id = ?", (result, run.id))
    write_notebook(place.root / "hostile.ipynb", f"from widgets import AssessPanel\nAssessPanel(run={run.id!r})")
    lab.open("hostile.ipynb", dark="Dark" in theme)
    lab.theme(theme)
    page = lab.page
    page.set_viewport_size({"width": 480, "height": 900} if "Dark" in theme else {"width": 1200, "height": 900})
    lab.run()
    page.wait_for_selector(".wbp[data-state=done] .wbp-assess-verdict", state="attached")
    page.locator(".wbp-tab", has_text="Results").click()
    found = {}
    for name in ("Why", "Examples", "Card", "Evidence", "Compare", "Request a waiver"):
        page.locator(".wbp button:enabled", has_text=name).first.click()
        page.wait_for_function("() => document.querySelector('.wbp-assess-fold')?.children.length > 0")
        page.wait_for_timeout(200)
        if findings := axe(page):
            found[name] = findings
        assert page.evaluate("() => { const p = document.querySelector('.wbp'); return p.scrollWidth - p.clientWidth; }") <= 1, name
    assert found == {} and page.evaluate("window.hit") is None
