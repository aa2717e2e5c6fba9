"""Makes the pictures of docs/panels: ``python tests/browser/pictures.py [PART OF A NAME …]``; all takes some minutes.

What is shown is made by real runs in a workspace of its own; only what fails, and what of the short words runs, is recorded
by hand, as a driver would.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from servers import TOKEN, Lab, browser, lab_server, stop_kernels, voila_server, write_notebook

from workbench import runs
from workbench.journal import Journal
from workbench.outlook import Outlook
from workbench.workspace import Workspace

FOLDER = Path(__file__).parents[2] / "docs" / "panels"
WORDS = ("data", "train", "assess", "serve", "monitor", "pipeline")
STATES = ("empty", "invalid", "running", "failed", "done")
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
TITLES = {"data": "Data", "train": "Train", "assess": "Ethics and quality", "serve": "Serve", "monitor": "Monitor", "pipeline": "Pipeline"}
WIDTH, TALLEST, BYTES = 1000, 1100, 60_000

DATA = {"word": "data", "name": "python-docs", "sources": [{"kind": "python-docs", "max_megabytes": 0.6}]}
TRAIN = {"word": "train", "data": "python-docs", "model": {"size": "100K", "vocabulary": 512, "context": 128}, "tokens": 600 * 512,
         "batch": {"sequences": 4}, "prompts": ["Return the"], "every": {"checkpoint": 100, "evaluate": 100, "sample": 200}}
LONG = {**TRAIN, "name": "larger-lm", "model": {"size": "1M", "vocabulary": 1024, "context": 128}, "tokens": 40_000_000}
SERVE = {"word": "serve", "name": "python-docs", "models": [{"model": "python-docs-lm"}], "replicas": 1, "port": 0}
MONITOR = {"word": "monitor", "name": "monitor", "port": 0, "interval": 1}
INVALID = {
    "data": {"name": "my notes", "sources": [{"kind": "files", "paths": ["notes/*.md"]}], "split": {"validation": 2}},
    "train": {"data": "python-docs", "learning_rate": 3.0, "tokens": -1}, "assess": {"model": "python-docs-lm", "seed": "x"},
    "serve": {"name": "python-docs", "models": [{"model": "python-docs-lm", "weight": -5}], "port": 99_999},
    "monitor": {"interval": -1, "rules": [{"rule": "threshold", "name": "slow", "metric": "workbench_request_seconds"}]},
    "pipeline": {"name": "nightly", "steps": [{"name": "train", "notebook": "2-train.ipynb", "needs": ["dta"]}]},
}
SPECS = {"data": DATA, "train": TRAIN, "assess": {"word": "assess", "model": "python-docs-lm"}, "serve": SERVE, "monitor": MONITOR,
         "pipeline": {"word": "pipeline", "name": "nightly", "folder": "nightly", "steps": [
             {"name": "data", "notebook": "1-data.ipynb"}, {"name": "train", "notebook": "2-train.ipynb", "needs": ["data"]}]}}
_SMALL = {"word": "train", "prompts": ["What does math.sqrt do?"], "every": {"checkpoint": 200, "evaluate": 20, "sample": 100}}
LESSONS = [{"word": "data", "name": "questions", "sources": [{"kind": "questions", "count": 400}]},
           {"word": "data", "name": "digits", "sources": [{"kind": "digits"}]},
           {"word": "data", "name": "moving-digits", "sources": [{"kind": "moving-digits", "count": 400}]},
           {"word": "data", "name": "tunes", "sources": [{"kind": "tunes", "count": 300}]}]
TRAININGS = {
    "answers": {**_SMALL, "data": "questions", "learning_rate": 5e-3, "epochs": 2,
                "objective": {"kind": "sft", "base": "python-docs-lm", "context": 128, "adapter": {"rank": 8}}},
    "pictures": {**_SMALL, "data": "digits", "objective": {"kind": "diffusion", "width": 16}, "epochs": 12},
    "clips": {**_SMALL, "data": "moving-digits", "objective": {"kind": "diffusion", "width": 8, "noise_steps": 50}, "epochs": 30},
    "tunes": {**_SMALL, "data": "tunes", "model": {"size": "100K", "vocabulary": 512, "context": 128}, "tokens": 600_000,
              "prompts": ["X:1\n"]},
    "module": {"word": "train", "name": "boring", "epochs": 2, "objective": {
        "kind": "module", "module": "lightning.pytorch.demos.boring_classes:BoringModel",
        "data_module": "lightning.pytorch.demos.boring_classes:BoringDataModule"}},
    "sweep": {**_SMALL, "data": "python-docs", "name": "swept", "model": {"size": "100K", "vocabulary": 512, "context": 64},
              "tokens": 60 * 512, "batch": {"sequences": 4}, "hardware": {"ranks": 1}, "sweep": {
                  "over": {"learning_rate": {"low": 1e-4, "high": 3e-2}, "model.context": [32, 64]}, "trials": 8}},
}
"""What there is to see of a training beside curves of text: each done, and with what it sees."""
WHY = {"data": ("notes/*.md: no file matches", "source 1, files"), "train": ("the loss is not a number at step 240", "rank 0"),
       "assess": ("python-docs-lm was deleted while it was measured", "memorised"),
       "serve": ("no replica came up within 60 s", "replica 1"), "monitor": ("the evaluator ended with status 1", "monitor"),
       "pipeline": ("2-train.ipynb, code cell 3: RunFailedError: failed", "train")}


class Pictures:
    """Pictures by name; those that nobody asked for are not made."""

    def __init__(self, wanted: list[str]):
        self.wanted = wanted

    def wants(self, name: str) -> bool:
        return not self.wanted or any(w in name for w in self.wanted)

    def take(self, name: str, place: Any) -> None:
        """A picture of an element or a page, 1,000 px wide and small."""
        if not self.wants(name):
            return
        from PIL import Image

        picture = Image.open(io.BytesIO(_seen(place))).convert("RGB")
        picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.LANCZOS)
        picture = picture.crop((0, 0, WIDTH, min(picture.height, TALLEST)))
        FOLDER.mkdir(parents=True, exist_ok=True)
        for colours in (256, 128, 64, 32, 16):
            file = io.BytesIO()
            picture.quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
            if file.tell() <= BYTES:
                break
        (FOLDER / f"{name}.png").write_bytes(file.getvalue())
        print(f"{name}.png {file.tell() / 1000:.0f} kB", flush=True)


def _seen(place: Any) -> bytes:
    """A page, or an element from its top as far as its page shows it."""
    if hasattr(place, "goto"):
        return place.screenshot()
    place.evaluate("e => e.scrollIntoView({block: 'start'})")
    box, page = place.bounding_box(), place.page
    lowest = page.viewport_size["height"] - 28  # JupyterLab's status bar
    return page.screenshot(clip={**box, "height": min(box["height"], lowest - box["y"])})


def made(workspace: Workspace) -> dict[str, str]:
    """A done run of each word."""
    from workbench.pipeline.saved import save

    done = {word: runs.run(SPECS[word], workspace) for word in ("data", "train", "assess", "serve", "monitor")}
    done["pipeline"] = runs.run(save([done["data"], done["train"]], "nightly"), workspace)
    return {word: run.id for word, run in done.items()}


def recorded(workspace: Workspace, word: str, name: str) -> str:
    """A run that is at work as far as the records say."""
    journal = Journal(workspace)
    spec = runs.attach(runs.listed(workspace, word=word)[-1].id, workspace).entry.spec
    entry, _ = journal.add(word, name, f"{word}-{name}", spec, {}, place="here", again=True)
    journal.claim(entry.id)
    return entry.id


@contextlib.contextmanager
def alive(workspace: Workspace, ids: dict[str, str]) -> Iterator[None]:
    """Signs of life and progress of recorded runs while their pictures are taken."""
    journal, over = Journal(workspace), threading.Event()

    def beat() -> None:
        while not over.wait(2):
            for run in ids.values():
                journal.beat(run, 1)

    for number, (word, run) in enumerate(ids.items()):
        unit, label = {"data": ("records", "near duplicates"), "assess": ("samples", "memorised"), "serve": ("replicas", "start"),
                       "monitor": ("seconds", "watching"), "pipeline": ("steps", "train")}[word]
        total = {"serve": 2, "pipeline": 2}.get(word, 400)
        journal.events.append(run, "progress", done=total // 2, total=total, unit=unit, label=label, rate=12.0 + number, left=17.0)
        journal.events.append(run, "log", name="info", text=f"{label} begins")
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    yield
    over.set()
    thread.join()
    for run in ids.values():
        journal.move(run, "failed", failure={"what": "ended with its pictures"})


def panels(pictures: Pictures, page: Callable[[], Lab], root: Path, state: str, cells: dict[str, str]) -> None:
    """Each panel in one state, light and dark."""
    asked = {word: cell for word, cell in cells.items() if any(pictures.wants(f"{word}-{state}-{theme}") for theme in THEMES)}
    if not asked:
        return
    write_notebook(root / f"{state}.ipynb", *(f"from widgets import panel_class\npanel_class({w!r})({cell})" for w, cell in asked.items()))
    lab = page()
    lab.open(f"{state}.ipynb").run()
    for word in asked:
        with contextlib.suppress(Exception):  # a panel in another state is shown as it is
            lab.page.wait_for_selector(f".wbp[data-word={word}]:is([data-state={state}], [data-state=up])", timeout=20_000)
    for theme, named in THEMES.items():
        lab.theme(named)
        lab.page.wait_for_timeout(3000)
        for word in asked:
            pictures.take(f"{word}-{state}-{theme}", lab.page.locator(f".wbp[data-word={word}]").first)
    lab.page.close()


def home(pictures: Pictures, page: Callable[[], Lab], root: Path, name: str) -> None:
    if not any(pictures.wants(f"home-{name}-{theme}") for theme in THEMES):
        return
    write_notebook(root / "home.ipynb", "import workbench\nworkbench.open()")
    lab = page()
    lab.open("home.ipynb").run()
    lab.page.wait_for_selector(".wbp-home")
    for theme, named in THEMES.items():
        lab.theme(named)
        lab.page.wait_for_timeout(1500)
        pictures.take(f"home-{name}-{theme}", lab.page.locator(".wbp-home").first)
    lab.page.close()


def playground(pictures: Pictures, page: Callable[[], Lab], root: Path, run: str) -> None:
    """An answer in the playground of the serve panel."""
    if not any(pictures.wants(f"playground-{theme}") for theme in THEMES):
        return
    write_notebook(root / "playground.ipynb", f"from widgets import ServePanel\nServePanel(run={run!r})")
    lab = page()
    lab.open("playground.ipynb").run()
    lab.page.wait_for_selector(".wbp[data-word=serve]")
    lab.page.locator(".wbp-tab", has_text="Results").click()
    prompt = lab.page.locator(".wbp[data-word=serve] textarea:visible").first
    prompt.fill("Return the")
    prompt.press("Control+Enter")
    lab.page.wait_for_timeout(6000)
    for theme, named in THEMES.items():
        lab.theme(named)
        lab.page.wait_for_timeout(1500)
        pictures.take(f"playground-{theme}", lab.page.locator(".wbp[data-word=serve]").first)
    lab.page.close()


def trainings(pictures: Pictures, page: Callable[[], Lab], workspace: Workspace) -> None:
    """Trainings of several kinds: what they see, and what came of them."""
    asked = {name: spec for name, spec in TRAININGS.items()
             if any(pictures.wants(f"train-{name}-{what}-{theme}") for what in ("sees", "made") for theme in THEMES)}
    if not asked:
        return
    for lesson in LESSONS:
        runs.run(lesson, workspace)
    done = {name: runs.run(spec, workspace).id for name, spec in asked.items()}
    cells = (f"from widgets import TrainPanel\nTrainPanel(run={run!r})" for run in done.values())
    write_notebook(workspace.root / "trainings.ipynb", *cells)
    lab = page()
    lab.open("trainings.ipynb").run()
    shown = lab.page.locator(".wbp[data-word=train]")
    for number in range(len(done)):
        shown.nth(number).locator(".wbp-tab", has_text="Results").wait_for()
    for theme, named in THEMES.items():
        lab.theme(named)
        for number, name in enumerate(done):
            panel = shown.nth(number)
            panel.locator(".wbp-tab", has_text="Results").click()
            lab.page.wait_for_timeout(2000)
            pictures.take(f"train-{name}-made-{theme}", panel)
            panel.locator(".wbp-tab", has_text="Live").click()
            if name != "sweep":
                panel.locator(".wbp-train-pair button:visible", has_text="What the model sees").last.click()
                shows = (panel.locator(".wbp-train-pieces:visible") if name == "module" else
                         panel.locator(".wbp-train-count:visible", has_text="Step 1 of"))
                shows.first.wait_for()
                lab.page.wait_for_timeout(1000)
                pictures.take(f"train-{name}-sees-{theme}", panel)
                panel.locator(".wbp-train-pair button:visible").first.click()
    lab.page.close()


def launcher(pictures: Pictures, page: Callable[[], Lab]) -> None:
    if not any(pictures.wants(f"launcher-{theme}") for theme in THEMES):
        return
    lab = page()
    lab.page.goto(f"{lab.address}/lab?token={TOKEN}")
    lab.page.wait_for_selector(".jp-LauncherCard[data-category=Workbench]")
    for theme, named in THEMES.items():
        lab.theme(named)
        lab.page.locator(".jp-LauncherCard[data-category=Workbench]").last.scroll_into_view_if_needed()
        lab.page.wait_for_timeout(800)
        pictures.take(f"launcher-{theme}", lab.page)  # the whole page
    lab.page.close()


def dashboard(pictures: Pictures, chromium: Any, root: Path, logs: Path) -> None:
    """Home as Voila shows it."""
    if not pictures.wants("voila-home"):
        return
    notebook = write_notebook(root / "dashboard.ipynb", "import workbench\nworkbench.open()")
    with voila_server(notebook, logs) as address:
        page = chromium.new_page(viewport={"width": 1080, "height": 900})
        page.goto(address)
        page.wait_for_selector(".wbp-home", timeout=90_000)
        page.wait_for_timeout(1500)
        pictures.take("voila-home", page)
        page.close()


def readme() -> None:
    """docs/panels/README.md, which shows what is there."""
    there = {p.stem for p in FOLDER.glob("*.png")}

    def row(*names: str) -> list[str]:
        shown = [n for n in names if n in there]
        return [" ".join(f'<img src="{n}.png" width="49%" alt="{n.replace("-", " ")}">' for n in shown), ""] if shown else []

    made = ("Made by `make pictures` in JupyterLab and Voila, from runs on little data; what fails, and what of the short words runs, "
            "is recorded for the picture.")
    lines = ["# The panels in pictures", "", made, "",
             "## Home", "", "An empty workspace, and one at work.", "", *row("home-empty-light", "home-empty-dark"),
             *row("home-work-light", "home-work-dark"), "## The playground", "", *row("playground-light", "playground-dark"),
             "## The launcher, and a page by Voila", "", *row("launcher-light", "launcher-dark"), *row("voila-home")]
    for word in WORDS:
        lines += [f"## {TITLES[word]}", ""]
        for state in STATES:
            if shown := row(f"{word}-{state}-light", f"{word}-{state}-dark"):
                lines += [f"{state.capitalize()}:", "", *shown]
        for name in TRAININGS if word == "train" else ():
            for what, said in (("sees", "what the model sees"), ("made", "what came of it")):
                if shown := row(f"train-{name}-{what}-light", f"train-{name}-{what}-dark"):
                    lines += [f"{name.capitalize()}, {said}:", "", *shown]
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "README.md").write_text("\n".join(lines).rstrip() + "\n", "utf-8")


def main(wanted: list[str]) -> None:
    """Make the pictures whose names hold one of these parts; none: all."""
    for name in ("WORKBENCH_ROOT", "WORKBENCH_STEP", "WORKBENCH_READ_ONLY"):
        os.environ.pop(name, None)
    pictures = Pictures(wanted)
    with tempfile.TemporaryDirectory(prefix="pictures-") as place, browser() as chromium:
        folder = Path(place)
        empty, full = Workspace(folder / "my-project").open(), Workspace(folder / "python-docs").open()
        opened: list[str] = []

        def page() -> Lab:
            shown = chromium.new_page(viewport={"width": WIDTH + 168, "height": TALLEST + 300})
            shown.set_default_timeout(60_000)
            return Lab(shown, opened[-1])

        try:
            with lab_server(empty.root, folder / "logs-empty") as address:
                opened.append(address)
                home(pictures, page, empty.root, "empty")
                launcher(pictures, page)
                panels(pictures, page, empty.root, "empty", dict.fromkeys(WORDS, ""))
                stop_kernels(address)
            if wanted and all("empty" in w or w == "launcher" for w in wanted):
                readme()
                return
            done = made(full)
            with lab_server(full.root, folder / "logs") as address:
                opened.append(address)
                panels(pictures, page, full.root, "done", {word: f"run={done[word]!r}" for word in WORDS})
                panels(pictures, page, full.root, "invalid", {word: repr(INVALID[word]) for word in WORDS})
                playground(pictures, page, full.root, done["serve"])
                trainings(pictures, page, full)
                stop_kernels(address)
                failing = {}
                for word in WORDS:
                    failing[word] = recorded(full, word, "nightly" if word == "pipeline" else "python-docs-2")
                    what, where = WHY[word]
                    Journal(full).move(failing[word], "failed", failure={"what": what, "where": where, "kind": "RunFailedError",
                                                                         "hint": "Change the spec and run again", "traceback": ""})
                panels(pictures, page, full.root, "failed", {word: f"run={failing[word]!r}" for word in WORDS})
                stop_kernels(address)
                working = {word: recorded(full, word, "python-docs-3") for word in WORDS if word != "train"}
                long = runs.submit(LONG, full)
                with alive(full, working):
                    end = time.monotonic() + 60
                    while len(long.curve("loss")) < 40 and time.monotonic() < end:
                        time.sleep(0.2)
                    panels(pictures, page, full.root, "running", {w: f"run={(working | {'train': long.id})[w]!r}" for w in WORDS})
                    stop_kernels(address)
                    for word in ("data", "assess", "monitor", "pipeline"):
                        Journal(full).move(working[word], "stopped")
                    for word in WORDS[1:]:
                        Outlook(full).dismiss(f"run/{failing[word]}")
                    home(pictures, page, full.root, "work")
                    dashboard(pictures, chromium, full.root, folder / "logs-voila")
                long.stop()
                stop_kernels(address)
        finally:
            for workspace in (empty, full):
                runs.shut_down(workspace)
    readme()


if __name__ == "__main__":
    main(sys.argv[1:])
