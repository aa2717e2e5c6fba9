"""The train panel in a real JupyterLab: watched, reloaded, stopped, resumed, compared; what the model sees; hostile text."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from servers import Lab, write_notebook
from test_panel_lab import PAYLOADS

from workbench import pictures, runs
from workbench.dataset import drop_schema, record_schema, write_dataset
from workbench.events import Events
from workbench.journal import Journal
from workbench.train.reading.sight import first_batch
from workbench.train.spec import TrainSpec
from workbench.workspace import Workspace

SMALL = {"data": "docs", "name": "small", "model": {"size": "100K", "vocabulary": 512, "context": 64}, "tokens": 400 * 512,
         "prompts": ["Return the"], "every": {"checkpoint": 20, "evaluate": 60, "sample": 100}}
SHORT = {**SMALL, "name": "short", "tokens": 60 * 512}


@pytest.fixture(scope="module")
def place(copy_of_taught, tmp_path_factory) -> Iterator[Workspace]:
    made = copy_of_taught(tmp_path_factory.mktemp("train-lab") / "place")
    (made.root / "workbench.toml").touch()
    yield made
    runs.shut_down(made)


@pytest.fixture(scope="module")
def short(place) -> runs.Run:
    """A training that came to its end."""
    return runs.run({"word": "train", **SHORT}, place)


def shows(lab: Lab, place: Workspace, name: str, **known) -> None:
    """Open a notebook whose one cell shows a panel."""
    arguments = ", ".join(f"{k}={v!r}" for k, v in known.items())
    write_notebook(place.root / f"{name}.ipynb", f"from widgets import TrainPanel\npanel = TrainPanel({arguments})\npanel")
    lab.open(f"{name}.ipynb").run()


def state(lab: Lab, wanted: str) -> None:
    lab.page.wait_for_selector(f".wbp[data-state={wanted}]", timeout=120_000)


def tab(lab: Lab, name: str) -> None:
    lab.page.locator(".wbp-tab", has_text=name).click()


def wide(lab: Lab) -> int:
    """Pixels by which the panel is wider than its place."""
    return lab.page.evaluate("() => { const p = document.querySelector('.wbp'); return p.scrollWidth - p.clientWidth; }")


def test_a_training_is_watched_reloaded_stopped_resumed_and_compared(lab, place, short):
    page = lab.page
    shows(lab, place, "watched", spec=SMALL)
    page.locator(".wbp-run").click()
    page.wait_for_function("() => / 400 · .* tok\\/s · 2 ranks/.test(document.querySelector('.wbp-train-headline').textContent)",
                           timeout=90_000)
    page.wait_for_selector(".wbp-train-ranks tbody tr >> nth=1")
    page.wait_for_function("() => /loss over step: .* nats a token/.test(document.querySelector('.wbp-canvas').getAttribute('aria-label'))")
    lab.save()
    page.locator(".wbp-stop").click()
    state(lab, "stopped")
    page.reload()  # a run belongs to no page
    state(lab, "stopped")
    tab(lab, "Results")
    assert "Resume goes on from step" in page.locator(".wbp-pane:visible").inner_text()
    assert page.locator(".wbp-over").is_visible() and not page.locator(".wbp-run").is_visible()
    page.locator(".wbp-resume").focus()
    page.keyboard.press("Enter")
    state(lab, "done")
    assert page.locator(".wbp-train-happened").inner_text().endswith(": stopped, then resumed")
    tab(lab, "Results")
    page.wait_for_selector(".wbp-train-gain")
    assert "✓ it learned: −" in page.locator(".wbp-train-gain").inner_text()
    assert page.locator(".wbp-next button").inner_text() == "Assess this model"
    heads = page.locator(".wbp-train-samples thead th").all_inner_texts()
    assert heads == ["Prompt", "before the first step", "step 400"]
    page.locator(".wbp-train-steps summary").click()
    page.wait_for_selector(".wbp-train-steps thead th")
    heads = page.locator(".wbp-train-steps thead th").all_inner_texts()
    assert heads == ["Prompt", "before the first step", "step 100", "step 200", "step 300", "step 400"]
    page.locator(".wbp-train-compare summary").click()
    page.locator(".wbp-train-other", has_text="short").locator("input").check()
    page.wait_for_selector(".wbp-train-compare td >> text=short")
    assert "short" in page.locator(".wbp-pane:visible .wbp-legend").first.inner_text()
    page.locator(".wbp-train-other", has_text="short").locator("input").uncheck()
    page.wait_for_function("() => !document.querySelector('.wbp-train-compare table')")
    assert len({r.id for r in runs.listed(place, word="train") if r.entry.name == "small"}) == 1


def test_what_the_model_sees_is_shown_token_by_token(lab, place, short):
    page = lab.page
    seen = first_batch(TrainSpec.load({"word": "train", **SHORT}), place)
    shows(lab, place, "seen", run=short.id)
    tab(lab, "Live")
    page.locator(".wbp-train-pair button", has_text="What the model sees").click()
    page.wait_for_selector(".wbp-train-tokens:visible")
    words = page.locator(".wbp-train-count:visible").inner_text()
    assert words.startswith(f"{seen['trained']:,} of {seen['tokens']:,} tokens trained; {seen['cut']:,} of {seen['records']:,} records cut")
    tokens = page.locator(".wbp-train-tokens:visible").first
    first = seen["sequences"][0]
    assert tokens.locator(".wbp-train-on").count() == sum(first["trained"]) - len([n for n in first["ends"] if n])
    shown = "".join(tokens.locator(".wbp-train-token").all_text_contents()).replace("↵\n", "\n")
    assert shown == "".join(first["texts"])
    tab(lab, "Spec")  # the same of what is being edited, and refused where there is nothing
    page.locator(".wbp-train-before summary").click()
    page.wait_for_selector(".wbp-train-before .wbp-train-tokens")
    page.locator('[data-path="data"] input').fill("nowhere")
    page.wait_for_selector(".wbp-train-before .wbp-train-refused")
    assert 'no dataset "nowhere"' in page.locator(".wbp-train-before .wbp-train-count").inner_text()


def test_hostile_text_neither_runs_nor_breaks_the_layout(lab, place):
    import pyarrow as pa

    rows = [{"id": f"{n}-{split}", "text": " ".join(f"{text[:200]} {n * k}" for k in range(60)), "image": None, "label": None,
             "source": PAYLOADS[0], "locator": text[:100], "cluster": str(n), "split": split}
            for n, text in enumerate(PAYLOADS) for split in ("train", "validation")]
    made = write_dataset(place, "hostile", pa.Table.from_pylist(rows, schema=record_schema()), drop_schema().empty_table(), card="",
                         manifest={"modality": "text", "spec": {}, "parents": {}, "drops": {}})
    journal, events = Journal(place), Events(place)
    spec = {"word": "train", "version": 1, **SMALL, "data": "hostile", "name": None}
    entry, _ = journal.add("train", PAYLOADS[0], "hostile", spec, {"data": made.digest}, place="here")
    journal.claim(entry.id)
    for number, text in enumerate(PAYLOADS):
        events.append(entry.id, "sample", step=number, text=text, prompt=text)
        events.append(entry.id, "log", name="warning", text=text)
        events.point(entry.id, ("loss", text[:200])[number % 2], number, 1.0)
    events.append(entry.id, "mark", name="ranks", ranks=[{"rank": 0, "host": PAYLOADS[0], "pid": 1, "worker": PAYLOADS[1]}])
    events.append(entry.id, "mark", name="restart", step=3, ranks=[PAYLOADS[0]], why=PAYLOADS[0])
    events.append(entry.id, "vitals", ranks=[{"rank": 0, "step": 1, "cpu": 1.0, "step_seconds": 0.1, "wait_seconds": 0.0, "memory": 10}])
    journal.move(entry.id, "failed", failure={"what": " ".join(PAYLOADS), "where": PAYLOADS[1], "kind": PAYLOADS[0], "hint": PAYLOADS[5]})
    shows(lab, place, "hostile", run=entry.id)
    page = lab.page
    state(lab, "failed")
    page.wait_for_selector(".wbp-train-samples")
    for view in ("Results", "Live", "Spec"):
        tab(lab, view)
        page.evaluate("() => document.querySelectorAll('.wbp details').forEach((d) => { d.open = true; })")
        page.wait_for_timeout(200)
        assert wide(lab) <= 1, view
    page.wait_for_selector(".wbp-train-before .wbp-train-tokens")
    assert wide(lab) <= 1
    assert "<img src=x" in page.locator(".wbp-train-before .wbp-train-sequences").inner_text()
    assert page.evaluate("window.hit") is None


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_axe_finds_nothing_and_a_narrow_page_needs_no_sideways_scrolling(lab, place, short, axe, theme):
    page = lab.page
    shows(lab, place, "axe", run=short.id)
    lab.theme(theme)
    page.wait_for_selector(".wbp-train-facts")
    found = {}
    for view in ("Spec", "Live", "Results"):
        tab(lab, view)
        page.evaluate("() => document.querySelectorAll('.wbp details').forEach((d) => { d.open = true; })")
        if view == "Spec":
            page.wait_for_selector(".wbp-train-before .wbp-train-tokens")
        if view == "Live":
            page.locator(".wbp-train-pair button").last.click()
            page.wait_for_selector(".wbp-train-tokens:visible")
            found |= {"sees": one} if (one := axe(page)) else {}
            page.locator(".wbp-train-pair button").first.click()
        if findings := axe(page):
            found[view] = findings
    assert found == {}
    page.set_viewport_size({"width": 480, "height": 900})
    for view in ("Spec", "Live", "Results"):
        tab(lab, view)
        assert wide(lab) <= 1, view


@pytest.fixture(scope="module")
def swept(place) -> runs.Run:
    """Two trials of a model of pictures."""
    runs.submit({"word": "data", "name": "digits", "sources": [{"kind": "digits"}]}, place, place="here").wait()
    return runs.run({"word": "train", "data": "digits", "name": "drawn", "epochs": 0.3, "hardware": {"ranks": 1, "threads": 1},
                     "batch": {"sequences": 16}, "objective": {"kind": "diffusion", "width": 8, "noise_steps": 50, "sample_steps": 4},
                     "every": {"checkpoint": 20, "evaluate": 10, "sample": 10},
                     "sweep": {"over": {"learning_rate": [3e-4, 1e-2]}, "how": "grid", "prune": False}}, place)


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_trials_are_read_by_keyboard_and_opened_with_their_pictures(lab, place, swept, axe, theme):
    page = lab.page
    shows(lab, place, "swept", run=swept.id)
    lab.theme(theme)
    best = swept.result["best"]
    line = page.locator(f".wbp-pane:visible .wb-trial[data-trial='{best['trial']}']")
    line.focus()
    assert "(the best)" in page.evaluate("document.activeElement.getAttribute('aria-label')")
    page.locator(".wbp-pane:visible .wbp-train-sweep .wbp-sort", has_text="noise error").click()
    first = page.locator(".wbp-pane:visible .wbp-train-sweep tbody tr").first
    page.wait_for_selector(".wbp-pane:visible .wbp-train-sweep tbody tr:first-child >> text=the best")
    assert axe(page) == [] and wide(lab) <= 1
    first.locator("button", has_text="Open").click()
    page.wait_for_selector(".wbp >> nth=1")
    page.wait_for_function("() => [...document.querySelectorAll('.wbp-train-beforeafter img')].filter(i => i.naturalWidth > 8).length > 1")
    page.locator(".wbp").nth(1).locator(".wbp-tab", has_text="Live").click()
    page.locator(".wbp-train-pair:visible button", has_text="What the model sees").last.click()
    page.wait_for_function("() => [...document.querySelectorAll('.wbp-train-seen')].filter(i => i.naturalWidth === 8).length === 16")
    assert axe(page) == [] and wide(lab) <= 1


def test_a_clip_is_held_and_plays_and_a_tune_is_heard(lab, place, axe):
    from workbench.music import read_abc, wav

    journal, events = Journal(place), Events(place)
    entry, _ = journal.add("train", "moving", "moving", {"word": "train", "version": 1, "data": "docs", "objective": {"kind": "diffusion"}},
                           {}, place="here")
    folder = place.path("runs", entry.id, "samples")
    folder.mkdir(parents=True)
    (folder / "clip.png").write_bytes(pictures.apng([bytes([n] * 64) for n in (0, 90, 255)], 8, 8))
    (folder / "tune.wav").write_bytes(wav(read_abc("X:1\nK:C\nCDEF|"), 1.0))
    journal.claim(entry.id)
    events.append(entry.id, "sample", step=4, text="", prompt="", media="image/apng", file="samples/clip.png")
    events.append(entry.id, "sample", step=4, text="CDEF|", prompt="K:C", media="audio/wav", file="samples/tune.wav")
    for step in range(1, 5):
        events.append(entry.id, "point", name="loss", step=step, value=1 / step)
    journal.move(entry.id, "stopped")
    shows(lab, place, "moving", run=entry.id)
    tab(lab, "Live")
    page, made = lab.page, lab.page.locator(".wbp-train-written:visible")
    page.wait_for_function("() => document.querySelector('.wbp-train-written img.wbp-train-image')?.naturalWidth === 8")
    assert made.locator("img").is_visible() and not made.locator("canvas").is_visible()
    hold = made.locator(".wbp-train-hold")
    hold.focus()
    page.keyboard.press("Enter")
    assert hold.inner_text() == "Play" and made.locator("canvas").is_visible() and not made.locator("img").is_visible()
    drawn = "() => document.querySelector('.wbp-train-written canvas').getContext('2d').getImageData(0, 0, 1, 1).data[3]"
    assert page.evaluate(drawn) == 255
    page.wait_for_function("() => document.querySelector('.wbp-train-written audio').duration > 0.9")
    assert axe(page) == [] and wide(lab) <= 1
    page.keyboard.press("Enter")
    assert made.locator("img").is_visible()
    tab(lab, "Results")
    kept = page.locator(".wbp-train-beforeafter")
    assert kept.locator("tbody th").all_inner_texts() == ["clips", "K:C"]
    kept.locator("img").evaluate("image => image.decode()")
    inside = "media => media.map((m) => m.scrollHeight <= m.clientHeight && m.clientHeight > 20)"
    assert kept.locator(".wbp-train-files").evaluate_all(inside) == [True, True]


def test_a_run_at_work_is_told_from_the_page(lab, place):
    page = lab.page
    shows(lab, place, "told", spec={**SMALL, "name": "told", "tokens": 40_000 * 512})
    page.locator(".wbp-run").click()
    page.wait_for_selector(".wbp-train-verdict:visible", timeout=90_000)
    assert "%" in page.locator(".wbp-train-verdict").inner_text() and page.locator(".wbp-train-bar").count() == 2
    page.locator(".wbp-train-pause").click()
    page.wait_for_selector(".wbp-train-pause >> text=Go on")
    page.locator(".wbp-train-controls button", has_text="Stacks").click()
    page.locator(".wbp-train-stacks summary").first.click()
    assert "rank 1" in page.locator(".wbp-train-stacks").inner_text()
    page.locator(".wbp-train-rate").fill("0.002")
    page.locator(".wbp-train-controls button", has_text="Set").click()
    page.wait_for_function("() => document.querySelector('.wbp-train-rate').placeholder === '0.002'")
    page.locator(".wbp-train-pause").click()
    page.wait_for_selector(".wbp-train-pause >> text=Pause")
    page.locator(".wbp-train-ranklog summary").click()
    page.wait_for_function("() => document.querySelector('.wbp-train-ranklog select').options.length === 2")
    page.locator(".wbp-stop").click()
    state(lab, "stopped")
