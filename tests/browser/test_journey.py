"""One person's way through the workbench, in a real JupyterLab: from a file of their own to an answer whose teacher is seen, and on."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from servers import Lab

from workbench import cluster
from workbench.journal import Journal
from workbench.registry import Registry
from workbench.runs import shut_down
from workbench.workspace import Workspace

pytestmark = pytest.mark.timeout(600)
HOME = Path(__file__).parents[2] / "notebooks" / "workbench.ipynb"
TRAIN = """
word: train
data: letters
model: {size: 100K, vocabulary: 512, context: 64}
batch: {sequences: 4}
tokens: 120000
learning_rate: 0.004
every: {evaluate: 40, sample: 40, checkpoint: 20}
"""
ASSESS = """
word: assess
model: letters-lm
probes:
- {probe: bits_per_byte, max_kilobytes: 4}
- {probe: memorised, passages: 10, prompt_tokens: 8, continuation_tokens: 8}
- {probe: pii_generated, generations: 10, tokens: 8}
- {probe: group_likelihood_gap}
"""
SERVE = """
word: serve
name: letters
models: [{model: letters-lm}]
replicas: 1
port: 0
"""
MONITOR = """
word: monitor
name: watch
port: 0
interval: 0.5
rules:
- {rule: threshold, name: asked, metric: workbench_requests_total, above: 0, summary: Somebody asked.}
"""
DROP = """async ([selector, name, text]) => {
  const place = [...document.querySelectorAll(selector)].at(-1), carried = new DataTransfer();
  carried.items.add(new File([text], name, {type: "text/plain"}));
  for (const kind of ["dragenter", "dragover", "drop"])
    place.dispatchEvent(new DragEvent(kind, {bubbles: true, cancelable: true, dataTransfer: carried}));
}"""


def letters() -> str:
    """A text of our own, with lines that a model can learn."""
    things = ["river", "lamp", "garden", "letter", "window", "harbour", "engine", "orchard"]
    return "\n\n".join(f"Dear {a}, the {b} by the {c} was mended on day {n}. Write to us when the gate is open again, and keep it dry."
                       for n, (a, b, c) in enumerate((a, b, c) for a in things for b in things for c in things if len({a, b, c}) == 3))


class Walk:
    """The panels of one page by word; the newest of a word counts."""

    def __init__(self, lab: Lab):
        self.lab, self.page = lab, lab.page

    def panel(self, word: str, state: str = ""):
        return self.page.locator(f".wbp[data-word={word}]{f'[data-state={state}]' if state else ''}").last

    def wait(self, word: str, state: str, seconds: float = 90) -> None:
        self.panel(word, state).wait_for(timeout=1000 * seconds)

    def tab(self, word: str, name: str) -> None:
        self.panel(word).locator(".wbp-tab", has_text=name).click()

    def say(self, word: str, yaml: str) -> None:
        """Write the spec as YAML."""
        self.tab(word, "Code")
        self.panel(word).locator(".wbp-yaml").fill(yaml.strip())
        self.page.wait_for_function("w => ![...document.querySelectorAll(`.wbp[data-word=${w}] .wbp-run`)].at(-1).disabled", arg=word)

    def run(self, word: str) -> None:
        self.panel(word).locator(".wbp-run").click()

    def next(self, word: str) -> None:
        """The one thing to do next."""
        self.tab(word, "Results")
        self.panel(word).locator(".wbp-next button").click()


def test_from_a_file_of_ones_own_to_an_answer_and_on(lab, place, tmp_path):
    shutil.copy(HOME, place.root / "workbench.ipynb")
    walk, page = Walk(lab), lab.page
    page.set_default_timeout(60_000)
    lab.open("workbench.ipynb").run()

    # An empty workspace, a file dropped, a dataset.
    page.click(".wbp-home-files")
    walk.panel("data").wait_for()
    page.evaluate(DROP, [".wbp[data-word=data]", "letters.txt", letters()])
    walk.wait("data", "editing")
    page.screenshot(path=tmp_path / "dropped.png")
    walk.run("data")
    walk.wait("data", "done")

    # A model: watched, reloaded, stopped, resumed.
    walk.next("data")
    walk.wait("train", "editing")
    name = walk.panel("data").locator(".wbp-titlename").inner_text()
    walk.say("train", TRAIN.replace("letters", name))
    walk.run("train")
    walk.wait("train", "running")
    walk.panel("train").locator("canvas, svg").first.wait_for()
    lab.save()
    page.reload()  # the kernel lives on: Home and the panels below it are drawn again, and the run goes on
    walk.wait("train", "running")
    walk.panel("train").locator(".wbp-stop").click()
    walk.wait("train", "stopped")
    walk.panel("train").locator(".wbp-resume").click()
    walk.wait("train", "done", 120)
    assert Journal(place).entries(word="train")[0].attempt > 1
    walk.tab("train", "Results")
    assert "Dear" in walk.panel("train").locator(".wbp-train-samples").inner_text()  # asked to go on with beginnings of this text

    # Assessed, put up, asked.
    walk.next("train")
    walk.wait("assess", "editing")
    walk.say("assess", ASSESS.replace("letters", name))
    walk.run("assess")
    walk.wait("assess", "done", 120)
    walk.next("assess")
    walk.wait("serve", "editing")
    walk.say("serve", SERVE.replace("letters", name))
    walk.run("serve")
    walk.wait("serve", "done", 120)
    serve = walk.panel("serve")
    serve.locator(".wbp-serve-try").click()
    serve.locator(".wbp-play-box").fill("Write to us when")
    serve.locator(".wbp-play-send").click()
    serve.locator(".wbp-play-taught").first.click()  # words of the answer that stand in the training text
    record = serve.locator(".wbp-play-record")
    record.locator("mark").first.wait_for()
    assert "letters" in record.inner_text() and "Dear" in record.inner_text()
    assert "letters" in serve.locator(".wbp-play-lineage").inner_text()

    # Watched: a rule that fires, acknowledged.
    walk.next("serve")
    walk.wait("monitor", "editing")
    walk.say("monitor", MONITOR)
    walk.run("monitor")
    walk.wait("monitor", "done")
    monitor = walk.panel("monitor")
    alert = monitor.locator(".wbp-monitor-alert", has_text="Somebody asked").first
    alert.locator("button:visible", has_text="Acknowledge").click()
    alert.locator(".wbp-monitor-note .wbp-primary").click()
    monitor.locator(".wbp-monitor-isknown").first.wait_for()

    # All of it again, in another workspace (on the same cluster: starting one is tested elsewhere), from one folder.
    home = page.locator(".wbp-home")
    home.locator("summary", has_text="Save as a pipeline").click()
    home.locator(".wbp-home-savebox button", has_text="Write").click()
    home.locator(".wbp-home-saved code").wait_for()
    fresh, tls = Workspace(tmp_path / "fresh").open(), place.path("cluster", "tls")
    (fresh.root / "workbench.toml").write_text(f'[cluster]\naddress = "{cluster.up(place)}"\ntls_ca = "{tls / "ca.pem"}"\n'
                                               f'tls_cert = "{tls / "node.pem"}"\n')
    shutil.copytree(place.root / "pipeline", fresh.root / "pipeline")
    shutil.copytree(place.root / "data", fresh.root / "data")
    try:
        done = subprocess.run([sys.executable, "-m", "workbench.cli", "pipeline", "pipeline/pipeline.yaml"], cwd=fresh.root,
                              capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, done.stdout + done.stderr
        for kind in ("dataset", "model", "assessment"):
            assert Registry(fresh).versions(kind)[0].digest == Registry(place).versions(kind)[0].digest
    finally:
        shut_down(fresh)
