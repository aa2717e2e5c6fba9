"""A run outlives whatever befalls the page and the kernel that began it."""

from __future__ import annotations

import os
import signal

from servers import Lab, write_notebook

from workbench.events import Events
from workbench.journal import Journal
from workbench.runs import attach

BEGIN = """
import os
from widgets import MonitorPanel
panel = MonitorPanel({"name": NAME, "seconds": 600, "port": 0})
panel
"""
SHOW = """
from widgets import MonitorPanel
MonitorPanel(run=RUN)
"""
ACTIVE = ".wbp[data-state=running]"


def begun(lab: Lab, place, name: str) -> str:
    """A notebook whose second cell waits for a run; the run's id."""
    write_notebook(place.root / f"{name}.ipynb", BEGIN.replace("NAME", repr(name)), "print('kernel', os.getpid())", "run = panel.run()")
    lab.open(f"{name}.ipynb").run(wait=False)
    lab.page.wait_for_selector(ACTIVE)
    return next(e.id for e in Journal(place).entries(word="monitor") if e.name == name)


def test_a_kernel_interrupted_and_then_killed_leaves_its_run_and_a_reloaded_page_finds_it(lab, place):
    run = begun(lab, place, "interrupted")
    lab.page.evaluate("async () => { await jupyterapp.commands.execute('notebook:interrupt-kernel'); }")
    lab.page.wait_for_function("() => document.body.innerText.includes('KeyboardInterrupt')")
    assert lab.page.locator(ACTIVE).count() == 1 and attach(run, place).state == "running"
    lab.save()
    for _ in range(2):  # the kernel lives on: the same panel is drawn again
        lab.page.reload()
        lab.page.wait_for_selector(ACTIVE)
    kernel = int(lab.outputs().split("kernel ")[1].split()[0])
    os.kill(kernel, signal.SIGKILL)
    write_notebook(place.root / "found.ipynb", SHOW.replace("RUN", repr(run)))
    lab.open("found.ipynb").run()
    lab.page.wait_for_selector(ACTIVE)
    assert attach(run, place).entry.attempt == 1
    lab.page.click(".wbp-stop")
    lab.page.wait_for_selector(".wbp[data-state=stopped]")


def test_two_pages_on_one_run_are_both_live_and_stop_in_one_shows_in_the_other(lab, place, chromium, lab_address):
    run = begun(lab, place, "shared")
    write_notebook(place.root / "second.ipynb", SHOW.replace("RUN", repr(run)))
    second = Lab(chromium.new_page(), lab_address)
    second.page.set_default_timeout(30_000)
    second.open("second.ipynb").run()
    second.page.wait_for_selector(ACTIVE)
    Events(place).append(run, "log", name="info", text="seen by both")
    for one in (lab, second):
        one.page.locator(".wbp-tab", has_text="Live").click()
        one.page.wait_for_selector(".wbp-log:has-text('seen by both')", state="attached")
    second.page.click(".wbp-stop")
    for one in (lab, second):
        one.page.wait_for_selector(".wbp[data-state=stopped]")
    second.page.close()
