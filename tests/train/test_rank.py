"""The agreement on a stop: whatever the ranks are at when they are asked, all end after the same step."""

from __future__ import annotations

import subprocess
import sys

# In a process of its own: a rank's control ends its process when its pipe closes.
ROUNDS = '''
import os, random, sys, threading, time
from multiprocessing import Pipe
from workbench.train.gang import _Watch
from workbench.train.rank import Control

PLAN = {"token": "t", "world": 2, "ranks": [{"rank": 0, "worker": "a"}, {"rank": 1, "worker": "b"}]}


def train(control, barrier, pause, ended):
    """Steps that end in a collective, as gradients do; the look at the stop comes a while after it."""
    for step in range(1, 10_000):
        control.begin(step)
        try:
            barrier.wait(5)
        except threading.BrokenBarrierError:
            ended.append(None)  # one went on alone
            return
        time.sleep(pause.random() * 0.002)
        if control.stop_at is not None and step >= control.stop_at:
            ended.append(step)
            return


kept, wrong = [], 0
for seed in range(int(sys.argv[1])):
    pipes = [Pipe() for _ in range(2)]
    kept.append(pipes)
    controls = [Control(theirs, rank, 2) for rank, (_, theirs) in enumerate(pipes)]
    barrier, ended = threading.Barrier(2), []
    for control in controls:
        threading.Thread(target=control._listen, daemon=True).start()
    ranks = [threading.Thread(target=train, args=(c, barrier, random.Random(seed * 2 + n), ended)) for n, c in enumerate(controls)]
    for rank in ranks:
        rank.start()
    chance = random.Random(seed)
    time.sleep(chance.random() * 0.01)
    watch = _Watch(PLAN)
    for ours, _ in chance.sample(pipes, 2):
        ours.send(["hold"])
        time.sleep(chance.random() * 0.002)
    for rank, (ours, _) in enumerate(pipes):
        for answer in watch.take({**ours.recv(), "token": "t", "rank": rank}, 0.0):
            for other, _ in pipes:
                other.send(answer)
                time.sleep(chance.random() * 0.002)
    for rank in ranks:
        rank.join()
    wrong += len(set(ended)) != 1 or None in ended
print(wrong, flush=True)
os._exit(0)
'''


def test_all_ranks_end_after_the_same_step():
    done = subprocess.run([sys.executable, "-c", ROUNDS, "60"], capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stdout.strip()) == (0, "0"), done.stderr[-2000:]
