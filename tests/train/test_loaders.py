"""Processes that a rank's work started: a stopped one is killed after a while, others are left alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

import psutil

from workbench.train.ranks.loaders import Frozen


def until(wanted) -> None:
    deadline = time.monotonic() + 30
    while not wanted():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_who_stays_stopped_is_killed_and_who_goes_on_is_not():
    context = multiprocessing.get_context("spawn")
    frozen, awake = (context.Process(target=time.sleep, args=(120,)) for _ in range(2))
    look, at_once = Frozen(patience=3600.0), Frozen(patience=0.0)
    try:
        frozen.start()
        awake.start()
        assert at_once() == []
        os.kill(frozen.pid, signal.SIGSTOP)
        until(lambda: psutil.Process(frozen.pid).status() == psutil.STATUS_STOPPED)
        assert look() == [] and frozen.is_alive()  # it may go on yet
        assert at_once() == [frozen.pid]
        frozen.join(30)
        assert frozen.exitcode == -signal.SIGKILL and awake.is_alive() and at_once() == []
    finally:
        for process in (frozen, awake):
            process.kill()
            process.join()
