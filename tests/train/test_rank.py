"""What ranks agree on without a collective: whatever they are at when they are asked, all stop, wait and change at the same step."""

from __future__ import annotations

import subprocess
import sys

from workbench.train.ranks.agreement import Agreement

# In a process of its own: a rank's control ends its process when its pipe closes.
ROUNDS = '''
import os, random, sys, threading, time
from multiprocessing import Pipe
from workbench.train.ranks.agreement import Agreement
from workbench.train.ranks.rank import Control


def train(control, barrier, pause, ended, took):
    """Steps that end in a collective, as gradients do; the look at the stop comes a while after it."""
    for step in range(first, 10_000):
        control.begin(step)
        took += [step for _ in control.due("set", step)]
        try:
            barrier.wait(5)
        except threading.BrokenBarrierError:
            ended.append(None)  # one went on alone
            return
        time.sleep(pause.random() * 0.002)
        if control.stop_at is not None and step >= control.stop_at:
            ended.append(step)
            return


kept, wrong = [], []
for seed in range(int(sys.argv[1])):
    chance = random.Random(seed)
    first = chance.choice([1, 41])  # from the beginning, or from a checkpoint
    pipes = [Pipe() for _ in range(2)]
    kept.append(pipes)
    controls = [Control(theirs, rank, 2) for rank, (_, theirs) in enumerate(pipes)]
    barrier, ended, took = threading.Barrier(2), [], ([], [])
    for control in controls:
        threading.Thread(target=control._listen, daemon=True).start()
    ranks = [threading.Thread(target=train, args=(c, barrier, random.Random(seed * 2 + n), ended, took[n])) for n, c in enumerate(controls)]
    talk, said = Agreement(2), []

    def tell(messages):
        for message in messages:
            for ours, _ in chance.sample(pipes, 2):
                ours.send(message)
                time.sleep(chance.random() * 0.002)

    if chance.random() < 0.3:
        time.sleep(0.005)  # asked before the first step
    words = chance.choice(["stop", "set stop", "pause set on set stop", "set pause stop", "pause on stop"]).split()
    for rank in ranks:
        rank.start()
    time.sleep(chance.random() * 0.01)
    for word in words:
        talk.ask(word, {"learning_rate": 0.5} if word == "set" else {})
        told, answers = talk.next()
        tell(told)
        wanted = {"pause": "paused", "set": "changed", "on": "continued"}.get(word)
        before = len(said)
        said += answers
        while wanted and not any(s["kind"] == wanted for s in said[before:]):
            for rank, (ours, _) in enumerate(pipes):
                while ours.poll(0.001):
                    told, answers = talk.take({**ours.recv(), "rank": rank})
                    said += answers
                    tell(told)
        if word == "pause":
            at = said[-1]["step"]
            time.sleep(0.005)
            if any(c.step > at for c in controls):
                wrong.append((seed, "went on while paused"))
        if word == "stop":
            while talk.current:
                for rank, (ours, _) in enumerate(pipes):
                    while ours.poll(0.001):
                        tell(talk.take({**ours.recv(), "rank": rank})[0])
    for rank in ranks:
        rank.join()
    if len(set(ended)) != 1 or None in ended:
        wrong.append((seed, words, ended))
    changed = [s["step"] for s in said if s["kind"] == "changed"]
    if took[0] != took[1] or took[0] != changed:
        wrong.append((seed, words, took, changed))
print(wrong, flush=True)
os._exit(0)
'''


def test_all_ranks_stop_wait_and_change_at_the_same_step():
    done = subprocess.run([sys.executable, "-c", ROUNDS, "60"], capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), (done.stdout, done.stderr[-2000:])


def test_who_is_asked_to_wait_and_to_stop_at_once_stops():
    talk = Agreement(1)
    for word in ("pause", "stop"):
        talk.ask(word)
    assert talk.next()[0] == [["hold", 1]]
    assert talk.take({"kind": "held", "number": 1, "rank": 0, "step": 4})[0] == [["release", 1, {"stop": 5}]]
    assert talk.next() == ([], [])  # a pause behind step 4 would keep it from ever coming to 5
    assert talk.unheard == [("pause", {})]  # for whoever goes on, where a worker's notice was what stopped it
    talk.ask("stacks")
    assert talk.next()[0] == [["stacks", 2]]
