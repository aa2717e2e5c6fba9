"""How the panels feel, in figures: ``python tests/benchmarks/panels.py`` prints a Markdown table.

Each figure is measured in a real Chromium on a real JupyterLab or Voila over a workspace of its own.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "browser"))
from servers import Lab, browser, free_port, lab_server, started, stop_kernels, write_notebook

from workbench.events import Events
from workbench.journal import Journal
from workbench.workspace import Workspace

DIGITS = "from widgets import DataPanel\npanel = DataPanel({'name': 'digits', 'sources': [{'kind': 'digits'}]})\npanel"
POINTS = 1_000_000


def p95(values: list[float]) -> float:
    return sorted(values)[max(0, round(0.95 * len(values)) - 1)]


def importing() -> float:
    """CPU seconds of ``import widgets`` with the first panel."""
    code = "import time; t = time.process_time(); import widgets; from widgets import DataPanel; print(time.process_time() - t)"
    return statistics.median(float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
                             for _ in range(5))


def memory() -> float:
    """Megabytes that all panels add to a process that holds IPython."""
    code = ("import ipykernel.ipkernel, psutil, time; p = psutil.Process(); a = p.memory_info().rss; import widgets; "
            "from workbench.spec import WORDS; k = [widgets.panel_class(w)() for w in WORDS]; time.sleep(1); "
            "print((p.memory_info().rss - a) / 1e6)")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder).stdout)


def a_run(workspace: Workspace, points: int) -> str:
    """A run with one curve that looks at work for as long as this process lives: its panel shows it live."""
    entry, _ = Journal(workspace).add("train", f"m{points}", f"k{points}", {"word": "train", "data": "docs"}, {}, place="here")
    Journal(workspace).claim(entry.id)
    now = time.time()
    Events(workspace).append_many([(entry.id, "point", now, "loss", n, 1.0 + (n * 7919 % 1000) / 1000, {}) for n in range(points)])

    def beat() -> None:
        while True:
            Journal(workspace).database.execute("UPDATE runs SET beat = ? WHERE id = ?", (time.time(), entry.id))
            time.sleep(1)

    threading.Thread(target=beat, daemon=True).start()
    return entry.id


TIMED = """async ([action, wanted]) => {
  const begin = performance.now();
  new Function(action)();
  while (!new Function("return " + wanted)()) await new Promise(requestAnimationFrame);
  return (performance.now() - begin) / 1000;
}"""


def displayed(lab: Lab, times: int = 10) -> list[float]:
    """Seconds from starting the cell to a drawn panel, in a warm kernel."""
    found = []
    for _ in range(times):
        lab.page.evaluate("() => jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
        lab.page.wait_for_function("() => !document.querySelector('.wbp')")
        run = "jupyterapp.commands.execute('notebook:run-all-cells')"
        found.append(lab.page.evaluate(TIMED, [run, "document.querySelector('.wbp-row')"]))
        lab.page.wait_for_timeout(300)
    return found


def typed(lab: Lab, times: int = 30) -> list[float]:
    """Seconds from a key to its error shown."""
    field, found = '[data-path="split.validation"]', []
    for n in range(times):
        value, wanted = ("2", f"document.querySelector('{field}.wbp-wrong')") if n % 2 == 0 else \
            ("0.2", f"!document.querySelector('{field}.wbp-wrong')")
        action = f"const i = document.querySelector('{field} input'); i.value = '{value}'; i.dispatchEvent(new Event('input'))"
        found.append(lab.page.evaluate(TIMED, [action, wanted]))
    return found


def arrived(lab: Lab, workspace: Workspace, run: str, times: int = 30) -> list[float]:
    """Seconds from a point written in this process to its being drawn in the page."""
    found = []
    for n in range(times):
        time.sleep(0.05 * (n % 7))
        value = round(2 + n / 100, 2)
        begin = time.time()
        Events(workspace).point(run, "loss", 10_000_000 + n, value)
        lab.page.wait_for_function("v => document.querySelector('.wbp-readout')?.textContent.startsWith(String(v))", arg=value,
                                   polling="raf")
        found.append(time.time() - begin)
    return found


def stopped(lab: Lab, times: int = 5) -> list[float]:
    """Seconds from pressing Stop, while a cell waits for the run, to its end shown."""
    found = []
    for _ in range(times):
        lab.run(wait=False)
        lab.page.wait_for_selector(".wbp[data-state=running]")
        press, over = "document.querySelector('.wbp-stop').click()", "document.querySelector('.wbp[data-state=stopped]')"
        found.append(lab.page.evaluate(TIMED, [press, over]))
        lab.page.wait_for_function("() => document.body.innerText.includes('was stopped')")
        lab.page.evaluate("() => jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
        lab.page.wait_for_function("() => !document.querySelector('.wbp')")
    return found


def curve(lab: Lab) -> tuple[float, float, float]:
    """Seconds to draw a curve of a million points the first time, to draw it again, and to zoom into it."""
    lab.run()  # an empty panel: the kernel is warm
    opened = []
    for _ in range(4):
        lab.page.evaluate("() => jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
        lab.page.wait_for_function("() => !document.querySelector('.wbp')")
        opened.append(lab.page.evaluate(TIMED, ["jupyterapp.commands.execute('notebook:run-all-cells')",
                                                "/\\d/.test(document.querySelector('.wbp-readout')?.textContent || '')"]))
        lab.page.wait_for_timeout(4000)
    lab.page.wait_for_timeout(6000)  # by then the whole is read
    lab.page.evaluate("""() => { window.drawn = 0; const ask = CanvasRenderingContext2D.prototype.clearRect;
      CanvasRenderingContext2D.prototype.clearRect = function (...a) { window.drawn += 1; return ask.apply(this, a); }; }""")
    press = "document.querySelector('.wbp-canvas').dispatchEvent(new KeyboardEvent('keydown', {key: '+', bubbles: true}))"
    zoomed = [lab.page.evaluate(TIMED, [f"window.drawn = 0; {press}", "window.drawn >= 2"]) for _ in range(5)]
    return opened[0], p95(opened[1:]), p95(zoomed)


def visited(chromium: Any, workspace: Workspace, folder: Path, times: int = 5) -> list[float]:
    """Seconds from a visitor's click to a usable panel, on our own dashboard, each visitor with an empty cache."""
    port, found = free_port(), []
    arguments = ["workbench.cli", "dashboard", str(workspace.root / "panel.ipynb"), f"--port={port}", "--no-browser"]
    with started(arguments, f"http://127.0.0.1:{port}/voila/static/main.js", cwd=workspace.root, log=folder / "dashboard.log"):
        settings = json.loads(workspace.path("dashboard", "voila.json").read_text())
        for _ in range(times):
            time.sleep(20)  # by then the kernel is made ready
            page = chromium.new_page()
            begin = time.monotonic()
            page.goto(f"http://127.0.0.1:{port}/?token={settings['Voila']['token']}", wait_until="commit")
            page.wait_for_selector(".wbp-row")
            found.append(time.monotonic() - begin)
            page.close()
    return found


def main() -> None:
    rows = [("`import widgets` and the first panel", f"{importing():.2f} s CPU", "0.4 s"),
            ("memory of all panels", f"{memory():.0f} MB", "150 MB")]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        workspace = Workspace(Path(folder) / "work").open()
        (workspace.root / "workbench.toml").touch()
        run, long = a_run(workspace, 100), a_run(workspace, POINTS)
        write_notebook(workspace.root / "panel.ipynb", DIGITS)
        write_notebook(workspace.root / "run.ipynb", f"from widgets import TrainPanel\nTrainPanel(run={run!r})")
        write_notebook(workspace.root / "stop.ipynb", 'from widgets import MonitorPanel\npanel = MonitorPanel({"name": "watch", '
                       '"seconds": 600, "port": 0})\npanel', "run = panel.run(again=True)")
        write_notebook(workspace.root / "long.ipynb", f"from widgets import TrainPanel\ntimes = globals().get('times', 0) + 1\n"
                       f"TrainPanel(run={long!r} if times > 1 else None)")
        with browser() as chromium:
            with lab_server(workspace.root, Path(folder) / "logs") as address:
                lab = Lab(chromium.new_page(viewport={"width": 1200, "height": 900}), address).open("panel.ipynb")
                lab.run()
                lab.page.wait_for_selector(".wbp-row")
                rows.append(("displayed in a warm kernel → drawn, p95", f"{p95(displayed(lab)):.2f} s", "0.5 s"))
                rows.append(("key typed → error shown, p95", f"{1000 * p95(typed(lab)):.0f} ms", "100 ms"))
                stop_kernels(address)
                lab.open("run.ipynb").run()
                lab.page.wait_for_selector(".wbp-chart")
                rows.append(("point written elsewhere → drawn, p95", f"{1000 * p95(arrived(lab, workspace, run)):.0f} ms", "400 ms"))
                stop_kernels(address)
                lab.open("stop.ipynb")
                rows.append(("Stop pressed while a cell waits → stopped, p95", f"{p95(stopped(lab)):.2f} s", "2 s"))
                stop_kernels(address)
                lab.open("long.ipynb")
                first, opened, zoomed = curve(lab)
                rows += [("1 M-point curve opened for the first time", f"{first:.2f} s", "0.5 s"),
                         ("opened again, p95", f"{opened:.2f} s", "0.5 s"), ("and zoomed, p95", f"{zoomed:.2f} s", "0.2 s")]
                stop_kernels(address)
            rows.append(("Voila page, preheated → panel usable, p95", f"{p95(visited(chromium, workspace, Path(folder))):.2f} s", "2 s"))
    print("| figure | measured | must reach |\n|---|---|---|")
    print("\n".join(f"| {a} | {b} | ≤ {c} |" for a, b, c in rows))
    print(f"\nLoad average: {', '.join(f'{x:.1f}' for x in os.getloadavg())} on {os.cpu_count()} processors.")
    print(json.dumps({a: b for a, b, _ in rows}), file=sys.stderr)


if __name__ == "__main__":
    main()
