"""The data panel over a million records: ``python tests/benchmarks/records.py`` prints a Markdown table.

A dataset of a million records is made first (words in the order of a seed; a twentieth dropped, measures beside them), then a real Chromium
looks at it in a real JupyterLab: a page turned, records filtered and searched, a bound moved by key and by mouse.
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "browser"))
import numpy as np
import pyarrow as pa
from servers import Lab, browser, lab_server, stop_kernels, write_notebook

from workbench.data.spec import DataSpec
from workbench.dataset import Dataset, drop_schema, record_schema, write_dataset
from workbench.journal import Journal
from workbench.workspace import Workspace

RECORDS, DROPPED = 1_000_000, 50_000
WORDS = np.array("river night bridge morning nobody stone water leaf window paper garden letter winter summer mountain harbour candle "
                 "silver quiet shadow copper basket thunder meadow argument value return function object string".split(), object)
# Changes something and gives the milliseconds until the page shows it.
TIMED = """async ([act, shows]) => {
  const read = new Function('return ' + shows), before = read(), begin = performance.now();
  await (new Function(act))();
  while (read() === before) { if (performance.now() - begin > 20000) return -1; await new Promise(requestAnimationFrame); }
  return performance.now() - begin;
}"""
ROWS = "document.querySelector('.wbp-data-records tbody').textContent.slice(0, 2000)"
PLACE = "document.querySelector('.wbp-data-records .wbp-tablebox [role=status]').textContent"
MOVED = "document.querySelector('.wbp-data-moved').textContent"


def made(workspace: Workspace) -> Dataset:
    """A version of a million records, about 300 characters each."""
    generator = np.random.default_rng(0)
    ids = generator.permutation(np.arange(1, RECORDS + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    lengths = generator.integers(15, 85, RECORDS)
    words = WORDS[generator.integers(0, len(WORDS), int(lengths.sum()))].tolist()
    pairs = zip(np.cumsum(lengths).tolist(), lengths.tolist(), strict=True)
    texts = [f"{' '.join(words[end - n:end])} {number}" for number, (end, n) in enumerate(pairs)]
    names = [f"{i:016x}" for i in ids.tolist()]
    table = pa.table({"id": names, "text": pa.array(texts, pa.large_string()), "image": pa.nulls(RECORDS, pa.large_binary()),
                      "label": pa.nulls(RECORDS, pa.int64()), "source": ["made"] * RECORDS,
                      "locator": [f"line {n}" for n in range(RECORDS)], "cluster": names,
                      "split": np.where(np.arange(RECORDS) % 20 == 0, "test", "train").tolist()}).cast(record_schema())
    kept, gone = table.slice(DROPPED), table.slice(0, DROPPED)
    reasons = [("quality", "too short", "100 characters, at least 110"), ("exact-duplicates", "same content", f"as {names[-1]}")]
    for name, column in zip(("step", "reason", "detail"), zip(*(reasons[n % 2] for n in range(DROPPED)), strict=True), strict=True):
        gone = gone.append_column(name, pa.array(column, pa.string()))
    scores = pa.table({"id": names, "characters": np.array([len(t) for t in texts], float), "symbols": generator.beta(1, 30, RECORDS),
                       "repeated_lines": generator.beta(1, 60, RECORDS), "repeated_words": generator.beta(2, 30, RECORDS)})
    spec = DataSpec.load(SPEC).to_dict()
    drops = {"exact-duplicates": {"same content": DROPPED // 2}, "quality": {"too short": DROPPED // 2}}
    return write_dataset(workspace, "million", kept, gone.cast(drop_schema()), card="# million\n", scores=scores,
                         manifest={"modality": "text", "spec": spec, "parents": {}, "drops": drops, "read": RECORDS})


SPEC = {"word": "data", "name": "million", "sources": [{"kind": "files", "paths": ["made.txt"]}]}


def recorded(workspace: Workspace, dataset: Dataset) -> str:
    """A done run that made it."""
    journal = Journal(workspace)
    entry, _ = journal.add("data", "million", "million", DataSpec.load(SPEC).to_dict(), {}, place="here")
    journal.claim(entry.id)
    journal.move(entry.id, "done", result={"dataset": "million", "digest": dataset.digest})
    return entry.id


def timed(page: Any, act: str, shows: str) -> float:
    took = page.evaluate(TIMED, [act, shows])
    page.wait_for_timeout(400)
    return took


def measured(page: Any) -> dict[str, list[float]]:
    """Milliseconds from the act to what the page shows, by what was done."""
    found: dict[str, list[float]] = {}

    def note(name: str, act: str, shows: str) -> None:
        found.setdefault(name, []).append(timed(page, act, shows))

    click = "document.querySelector(%r).click()"
    typed = ("const s = document.querySelector('.wbp-data-search'); s.value = %r; "
             "s.dispatchEvent(new Event('input', {bubbles: true}))")
    for _ in range(10):
        note("page turned", click % "[aria-label='Next records']", ROWS)
    for n in range(8):
        note("filtered by reason", f"document.querySelectorAll('.wbp-data-reason')[{n % 2}].click()", PLACE)
        note("filtered by state", f"document.querySelectorAll('.wbp-data-chip')[{1 + n % 2}].click()", PLACE)
    page.evaluate("document.querySelectorAll('.wbp-data-chip')[0].click()")
    page.wait_for_timeout(500)
    # From the last key; 120 ms of each are waited for the next one.
    for word in ("river", "999", "harbour candle", "thunder meadow ar", "no such words"):
        note("searched: first rows or their number", typed % word, PLACE)
        page.wait_for_function(f"() => !/search/.test({PLACE})", timeout=60_000)
        page.evaluate(f"() => {{ {typed % ''} }}")
        page.wait_for_timeout(600)
    page.locator("[data-field=min_characters]").press("PageUp")
    page.wait_for_timeout(1000)
    for _ in range(10):
        act = "document.querySelector('[data-field=min_characters]').dispatchEvent(new KeyboardEvent('keydown', {key: 'PageUp'}))"
        note("bound moved: how many would move", act, MOVED)
    page.wait_for_timeout(600)
    return found


def drag(page: Any) -> float:
    """Longest time between two answers while a bound is dragged, in milliseconds."""
    box = page.locator("[data-field=max_repeated_words]").bounding_box()
    page.evaluate("""() => { window.seen = []; const at = document.querySelector('.wbp-data-moved');
        window.watcher = new MutationObserver(() => window.seen.push(performance.now()));
        window.watcher.observe(at, {childList: true, subtree: true}); }""")
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(60):
        page.mouse.move(x - 2 * step, y)
        page.wait_for_timeout(16)
    page.mouse.up()
    page.wait_for_timeout(500)
    seen = page.evaluate("window.seen")
    return max(b - a for a, b in itertools.pairwise(seen))


def anonymous(pid: int) -> int:
    """Bytes that a process holds of its own, without the files that it maps."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("Anonymous:")).split()[1])


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        root = Path(folder) / "workspace"
        root.mkdir()
        (root / "workbench.toml").touch()
        workspace = Workspace(root).open()
        begin = time.monotonic()
        run = recorded(workspace, made(workspace))
        print(f"made {RECORDS:,} records in {time.monotonic() - begin:.0f} s", file=sys.stderr)
        write_notebook(root / "million.ipynb", f"from widgets import DataPanel\npanel = DataPanel(run={run!r})\npanel",
                       "import os; os.getpid()")
        with lab_server(root, Path(folder)) as address, browser() as chromium:
            page = chromium.new_page(viewport={"width": 1200, "height": 1400})
            page.set_default_timeout(240_000)
            lab = Lab(page, address).open("million.ipynb")
            opened = []
            for _ in range(2):  # at first the records are put into files that are mapped
                begin = time.monotonic()
                lab.run()
                page.wait_for_selector(".wbp-data-records tbody tr")
                opened.append(time.monotonic() - begin)
                page.wait_for_timeout(1000)
                if len(opened) < 2:
                    lab.restart()
                    page.wait_for_timeout(2000)
            found, dragged = measured(page), drag(page)
            pid = int(lab.outputs().split()[-1])
            memory = anonymous(pid)
            if any("error" in line for line in lab.said):
                print(lab.said, file=sys.stderr)
            stop_kernels(address)
    print(f"{RECORDS:,} records\n\n| what | median | longest |\n|---|---|---|")
    for name, values in found.items():
        print(f"| {name} | {statistics.median(values):.0f} ms | {max(values):.0f} ms |")
    print(f"| dragging a bound: between two answers | | {dragged:.0f} ms |\n| opened, the first time | {opened[0]:.1f} s | |")
    print(f"| opened, later | {opened[1]:.1f} s | |\n| kernel memory of its own | {memory / 1e6:.0f} MB | |")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
