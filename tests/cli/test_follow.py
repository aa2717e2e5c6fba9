"""Following: what is shown with a terminal and without, and what Ctrl-C does in each case."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pexpect
import pytest

from workbench import runs
from workbench.cli.follow import Lines, progress_words
from workbench.events import Event
from workbench.workspace import Workspace

WATCH = ("monitor", "--seconds", "300", "--set", "port=0", "--set", "interval=1")


@pytest.fixture
def followed(place):
    """A run at work for minutes, followed at a terminal; whatever of it is left is stopped."""
    child = pexpect.spawn(sys.executable, ["-m", "workbench.cli", *WATCH], cwd=str(place), encoding="utf-8", timeout=30,
                          dimensions=(30, 120), env={**os.environ, "TERM": "xterm"})
    child.expect(r"(monitor-[\w-]+) \(Ctrl-C")
    run = runs.attach(child.match[1], Workspace(place).open())
    child.expect("watching")
    yield child, run
    child.close(force=True)
    if run.state == "running":
        run.stop()
    run.wait(60, check=False)


def end_of(child) -> int:
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus


def test_at_a_terminal_bars_are_drawn_in_place(followed):
    child, _ = followed
    child.expect("seconds")
    child.expect("left")
    assert "\x1b[" in child.before + child.after


def test_ctrl_c_asks_and_leaves_it_running(followed):
    child, run = followed
    child.sendintr()
    child.expect("eave it running")
    child.sendline("l")
    child.expect("goes on")
    assert end_of(child) == 0
    assert run.state == "running"


def test_ctrl_c_asks_and_stops_it(followed):
    child, run = followed
    child.sendintr()
    child.expect("eave it running")
    child.sendline("s")
    child.expect("was stopped")
    assert end_of(child) == 1
    assert run.state == "stopped"


def test_ctrl_c_twice_stops_it(followed):
    child, run = followed
    child.sendintr()
    child.expect("eave it running")
    child.sendintr()
    child.expect("was stopped")
    assert end_of(child) == 1
    assert run.state == "stopped"


def test_ctrl_c_asks_and_goes_on_following(followed):
    child, run = followed
    child.sendintr()
    child.expect("eave it running")
    child.sendline("g")
    child.expect("watching")
    run.stop()
    child.expect("was stopped")
    assert end_of(child) == 1


def test_without_a_terminal_sigint_ends_the_following_and_leaves_the_run(place):
    child = subprocess.Popen([sys.executable, "-m", "workbench.cli", *WATCH], cwd=place, stdin=subprocess.DEVNULL, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    lines = []
    for line in child.stderr:
        lines.append(line)
        if line.startswith("watching"):
            break
    run = runs.attach(re.match(r"monitor-[\w-]+", lines[0])[0], Workspace(place).open())
    try:
        child.send_signal(signal.SIGINT)
        rest = child.communicate(timeout=60)[1]
        assert child.returncode == 130
        assert f"workbench attach {run.id}" in rest and "Traceback" not in rest and "\x1b" not in rest
        assert run.state == "running"
    finally:
        run.stop()
        run.wait(60, check=False)
    assert run.state == "stopped"


def test_a_killed_follower_leaves_the_run(place):
    child = subprocess.Popen([sys.executable, "-m", "workbench.cli", *WATCH], cwd=place, stdin=subprocess.DEVNULL, text=True,
                             stderr=subprocess.PIPE)
    run = runs.attach(re.match(r"monitor-[\w-]+", child.stderr.readline())[0], Workspace(place).open())
    child.kill()
    child.communicate()
    deadline = time.monotonic() + 60
    while run.state != "running" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert run.state == "running"
    run.stop()
    assert run.wait(60, check=False).state == "stopped"


def progress(done: float, at: float = 0.0, **data) -> Event:
    return Event(1, "r", "progress", at, data={"done": done, "total": 100, "unit": "steps", "label": "training", **data})


def test_plain_lines_are_few(capsys):
    lines = Lines()
    lines.show(Event(1, "r", "point", 0.0, name="loss", step=1, value=2.5))
    for done in range(101):
        lines.show(progress(done, rate=10.0, left=(100 - done) / 10))
    lines.show(progress(100))
    said = capsys.readouterr().err.splitlines()
    assert said == ["training: 1 of 100 steps (1 %), 10 a second, 9.9 s left, loss 2.5", "training: 100 of 100 steps (100 %), loss 2.5"]


def test_samples_and_log_lines_can_not_steer_a_terminal(capsys):
    lines = Lines()
    lines.show(Event(1, "r", "sample", 0.0, step=3, data={"prompt": "a\x1b[2J", "text": "b\x1b]0;title\x07\nc"}))
    lines.show(Event(2, "r", "log", 0.0, name="info", data={"text": "d\x9b31m"}))
    said = capsys.readouterr().err
    assert not set(said) & set("\x1b\x07\x9b") and "step 3" in said and len(said.splitlines()) == 2


def test_progress_without_a_total_still_says_something():
    assert progress_words({"done": 12, "total": None, "unit": "records"}) == "12 records"
