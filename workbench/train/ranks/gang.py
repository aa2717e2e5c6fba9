"""A gang: coupled processes, one a Dask worker; claimed, started, watched and ended together. Knows no framework."""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ClusterError
from . import host, leases
from .agreement import Agreement
from .scheduler import Scheduler, aside
from .watch import OURS, RankError, RankLost, Watch

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Gang", "RankError", "RankLost"]

HANG = 600.0
"""Seconds without a step after which a training counts as hung, where its plan names no others (``hang_seconds``)."""
STACKS_SECONDS = 5.0
"""Seconds that ranks get to show where they stand."""
GROW_AFTER, GROW_LOOK = 10.0, 2.0
"""Seconds for which more workers must have been free before a gang that may grow ends its ranks to begin with them; and between looks."""
PING = 5.0
"""Seconds between the driver's words to the ranks' hosts, without which ranks end themselves."""
START_LOOK = 5.0
"""Seconds between looks at the workers while ranks are being started."""
ENDING = 10.0
"""Seconds that the end of ranks is waited for; where nobody could be told, they are ended once workers are claimed again."""
WAKE = 4.0
"""Seconds that a claim waits before workers that say nothing are started anew."""
POLL = 0.2
"""Seconds between looks for what there is to say to the ranks."""


class Gang:
    """As many workers as ranks, claimed for an attempt of a run; ``call`` runs a function in a process on each.

    Parameters
    ----------
    client : of the cluster.
    count : ranks.
    minimum, maximum : ranks it goes on with at least and takes at most; none: ``count``.
    run, attempt : on whose behalf; a newer attempt takes over from an older one and ends its ranks.
    logs : directory of the ranks' output, a file each.
    threads : threads a rank computes with; none: its machine's cores shared out.
    frozen : called when the scheduler has said nothing for a minute: who can, ends one that never will.

    Examples
    --------
    >>> with Gang(client, 2, run="train-1", attempt=1, logs=Path("/tmp/logs")) as gang:  # doctest: +SKIP
    ...     gang.call("package.module:function", {"n": 1})
    """

    def __init__(self, client: Client, count: int, *, run: str, attempt: int, logs: Path, threads: int | None = None,
                 minimum: int | None = None, maximum: int | None = None, frozen: Callable[[], Any] = lambda: None):
        self.scheduler = Scheduler(client, frozen)
        self.client, self.count, self.run, self.attempt = client, count, run, attempt
        self.minimum, self.maximum = minimum or count, maximum or count
        self.ended_for: str | None = None
        """Why the ranks of the last call were asked to end: "asked", "notice" (a worker will end) or "growth"."""
        self.logs, self.threads = logs, threads
        self.topic = f"workbench-{run}-{attempt}-{os.urandom(3).hex()}"
        self.workers: list[tuple[str, str]] = []
        self._numbers = itertools.count(1)
        self._heard: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._lost: set[str] = set()
        self._unheard: list[tuple[str, dict[str, Any]]] = []
        self._woken: set[str] = set()
        self._unended: dict[str, Any] | None = None
        self._say: Callable[[str], None] = lambda _: None

    def __enter__(self) -> Gang:
        def hear(event: tuple[float, dict[str, Any]]) -> None:
            if event[1]["kind"] == "lost":
                self._lost.add(event[1]["worker"])
            self._heard.put(event[1])

        self.client.subscribe_topic(self.topic, hear)
        if self.attempt > 1:
            self._on_workers(host.supersede, self.run, self.attempt, workers=self.scheduler.ask(leases.there))
        return self

    def __exit__(self, *_: object) -> None:
        self.scheduler.tell(leases.release, self.run, self.attempt, self.topic)  # the cluster may be gone: then so are the leases
        with contextlib.suppress(Exception):
            self.client.unsubscribe_topic(self.topic)

    def claim(self, check: Callable[[], None] = lambda: None, say: Callable[[str], None] = lambda _: None, *,
              patience: float = 120) -> None:
        """Wait until the workers are free and hold them; what is held already is kept.

        Parameters
        ----------
        check : called while waiting; raises to give up.
        say : is told, once, what is waited for.
        patience : seconds to wait for workers to be there; for those that another run holds there is no limit.

        Raises
        ------
        ClusterError
            When the cluster has too few workers for too long.
        """
        begin, said, self._say = time.monotonic(), False, say
        lease = {"run": self.run, "attempt": self.attempt, "client": self.client.id, "topic": self.topic}
        while True:
            check()
            answer = self.scheduler.ask(leases.claim, self.minimum, self.maximum, lease, check=check, say=say)
            if self.scheduler.lately_back:  # it has heard of nobody for as long
                begin = time.monotonic()
            if answer["workers"]:
                self.workers = [tuple(w) for w in answer["workers"]]
                if not self.scheduler.lately_back:
                    self._wake([w for w in answer["unheard"] if w in self._lost])
                self._lost.clear()
                for _ in self._waiting(0):
                    pass  # what was said of ranks and workers before
                if self._unended is not None:  # those of before would write checkpoints, and remove the one that is begun with
                    self._end(self._unended)
                return
            if time.monotonic() - begin > WAKE:
                self._wake(answer["unheard"])
            few = answer["present"] < self.minimum
            if few and time.monotonic() - begin > patience:
                raise ClusterError("too few workers", received=answer["present"], allowed=f"{self.minimum} or more, one a rank",
                                   hint=f"Set hardware.ranks to {max(1, answer['present'])}, or start more workers")
            if not said and time.monotonic() - begin > 1:
                said = True
                say(f"waiting for {self.minimum} workers: {_why(answer, few)}")
            time.sleep(0.1)

    def _wake(self, workers: list[str]) -> None:
        """Let the nannies of workers that say nothing start them anew: a frozen process never comes back by itself."""
        workers = [w for w in workers if w not in self._woken]
        if workers:
            self._woken |= set(workers)
            threading.Thread(target=self._restart, args=(workers,), daemon=True).start()

    def _restart(self, workers: list[str]) -> None:
        with contextlib.suppress(Exception):  # behind a cut link the nanny can't be reached either
            self.client.restart_workers(workers, timeout=60, raise_for_error=False)

    def call(self, target: str, argument: dict[str, Any], *, ranks: int | None = None, stop: threading.Event | None = None,
             words: Callable[[], Iterable[tuple[str, Mapping[str, Any]]]] | None = None, grow: bool = False,
             patience: float | None = None, check: Callable[[], None] = lambda: None, known: Callable[[], int] = lambda: 0,
             on_message: Callable[[dict[str, Any]], None] = lambda _: None) -> list[Any]:
        """Run ``target(control, argument)`` in a process on each claimed worker; returns what each gave, by rank.

        Parameters
        ----------
        target : ``package.module:function``.
        ranks : fewer than were claimed.
        stop : when set, the ranks are frozen together at one step and asked to end there; so they are when a worker says
            that it will end soon, and when the gang is to grow; ``ended_for`` tells which it was.
        words : asked a few times a second for what there is to say to the ranks: words of ``agreement.WORDS`` with their values.
            What was not agreed on when the ranks were lost is said again by the next call.
        grow : end the ranks, as for a stop, once more workers have been free for a while, so that ``claim`` takes them too.
        patience : seconds without a step after which the ranks count as hung; none: no matter how long.
        check : called a few times a second; when it raises, the ranks are killed.
        known : gives the step up to which what ranks said is written down; they are told now and then, and keep what is behind it.
        on_message : gets what ranks send, with ``rank`` and ``kind``; before that which ranks were started; and what came of
            words: "paused" (with the step behind which all wait), "continued", "changed" and "profiling" (with the step from
            which it holds, and the values), "stacks" (of all ranks).

        Raises
        ------
        RankLost
            When a rank, its worker or the way to it is gone; all ranks of the gang are ended then.
        RankError
            When the work failed in a rank, or hangs.
        """
        plan = self._plan(target, argument, ranks or len(self.workers))
        watch, talk, growth = Watch(plan, patience), Agreement(plan["world"]), _Growth(self) if grow else None
        self.ended_for, waits = None, False
        for word, values in self._unheard:
            talk.ask(word, values)
        pinged = polled = time.monotonic()

        def on(told: list[list], said: list[dict[str, Any]]) -> None:
            for message in said:  # first: what is recorded before any rank knows of it can't be lost with the driver
                on_message(message)
            for message in told:
                sender.put(message)

        sender = _Sender(lambda message: self._tell(plan, message))
        try:
            on_message({"kind": "started", "ranks": self._start(plan, watch)})
            while not watch.complete:
                for message in self._waiting(0.25):
                    on(watch.take(message, time.monotonic()), [])
                    if message.get("token") == plan["token"]:
                        on(*talk.take(message))
                        if message["kind"] not in OURS:
                            on_message(message)
                check()
                now = time.monotonic()
                if not watch.complete:
                    watch.judge(now)
                    if talk.pausing:
                        watch.moved = now
                    if watch.hung(now):
                        raise self._hung(plan, watch, talk)
                if words is not None and now - polled > POLL:
                    polled = now
                    for word, values in words():
                        talk.ask(word, values)
                if self.ended_for is None:
                    self.ended_for = ("asked" if stop is not None and stop.is_set() else "notice" if stop is not None and watch.leaving
                                      else "growth" if growth is not None and not talk.pausing and growth.due(now) else None)
                    if self.ended_for:
                        waits = talk.pausing and self.ended_for == "notice"
                        talk.ask("stop")
                on(*talk.next())
                if now - pinged > PING:
                    pinged = now
                    sender.put(["ping", known()])
            return [watch.results[r] for r in range(watch.world)]
        except BaseException:
            self._lost |= watch.unreachable
            self._end(plan)
            raise
        finally:
            sender.put(None)
            self._unheard = [("pause", {})] * waits + talk.unheard

    def spare(self) -> int:
        """Workers that are free for this gang beside those that it holds, as far as its maximum; none while other runs wait."""
        return self.scheduler.ask(leases.spare, self.run, self.maximum - len(self.workers))

    def _hung(self, plan: dict[str, Any], watch: Watch, talk: Agreement) -> RankError:
        """The error of ranks that hang, with the stacks that they showed. Their control threads work still."""
        talk.ask("stacks")
        shown: dict[int, dict[str, Any]] = {}
        for message in talk.next()[0]:
            self._tell(plan, message)
        deadline = time.monotonic() + STACKS_SECONDS
        while len(shown) < watch.world and time.monotonic() < deadline:
            for message in self._waiting(0.25):
                if message.get("token") == plan["token"]:
                    for said in talk.take(message)[1]:
                        if said["kind"] == "stacks":
                            shown = {r["rank"]: r for r in said["ranks"]}
        return watch.standing(shown or talk.showing)

    def _waiting(self, seconds: float) -> Iterator[dict[str, Any]]:
        """All that was said by now, in order, the first waited for."""
        with contextlib.suppress(queue.Empty):
            yield self._heard.get(timeout=seconds) if seconds else self._heard.get_nowait()
            while True:
                yield self._heard.get_nowait()

    def _plan(self, target: str, argument: dict[str, Any], count: int) -> dict[str, Any]:
        workers = self.workers[:count]
        hosts = [h for _, h in workers]
        nodes = list(dict.fromkeys(hosts))
        number = next(self._numbers)
        self.logs.mkdir(parents=True, exist_ok=True)
        return {"token": f"{self.run}/{self.attempt}/{number}", "run": self.run, "attempt": self.attempt, "topic": self.topic,
                "world": count, "main": hosts[0], "threads": self.threads, "target": target, "argument": argument,
                "ranks": [{"rank": r, "worker": address, "host": h, "local_rank": hosts[:r].count(h),
                           "local_world": hosts.count(h), "node": nodes.index(h),
                           "log": str(self.logs / f"rank-{r}.log")} for r, (address, h) in enumerate(workers)]}

    def _start(self, plan: dict[str, Any], watch: Watch) -> list[dict[str, Any]]:
        addresses = [r["worker"] for r in plan["ranks"]]
        asked = aside(lambda: self.client.run(host.start, plan, workers=addresses, on_error="return"))
        while not wait([asked], START_LOOK).done:  # long: the first rank of a worker waits for imports
            away = sorted(set(addresses) - set(self.scheduler.ask(leases.there, say=self._say)))
            if away:
                watch.unreachable |= set(away)
                raise RankLost(f"worker {', '.join(away)} was not heard of when ranks were started",
                               tuple(r["rank"] for r in plan["ranks"] if r["worker"] in away))
        answers = asked.result()
        pids: dict[int, int] = {}
        for address, answer in answers.items():
            if isinstance(answer, BaseException):
                raise RankLost(f"no rank could be started on {address}: {answer}")
            pids |= answer
        watch.begin(time.monotonic())
        return [{"rank": r["rank"], "worker": r["worker"], "host": r["host"], "pid": pids[r["rank"]]} for r in plan["ranks"]]

    def _tell(self, plan: dict[str, Any], message: list, ranks: list[int] | None = None) -> None:
        self._on_workers(host.tell, plan["token"], message, ranks, workers=[r["worker"] for r in plan["ranks"]])

    def _end(self, plan: dict[str, Any]) -> None:
        # Off this thread: a worker that answers no more must not hold up the driver.
        asked = aside(lambda: self._on_workers(host.end, plan["token"], workers=[r["worker"] for r in plan["ranks"]]))
        self._unended = None if wait([asked], ENDING).done and asked.result() else plan

    def _on_workers(self, function: Callable, *arguments: object, workers: list[str] | None = None) -> bool:
        """Run a function on workers, those that are known to be lost left out; false where it could not be asked for."""
        if workers is not None:
            workers = [w for w in workers if w not in self._lost]
        if workers != []:
            try:
                self.client.run(function, *arguments, workers=workers, on_error="ignore")
            except Exception:  # noqa: BLE001 - a worker that is gone is heard of by its own event
                return False
        return True


class _Sender:
    """Says things in order, off the thread that asks: a worker behind a cut link keeps whoever speaks to it waiting, and that it
    is lost must be seen meanwhile.
    """

    def __init__(self, say: Callable[[list], None]):
        self._queue: queue.SimpleQueue[list | None] = queue.SimpleQueue()
        self.put = self._queue.put

        def speak() -> None:
            while (message := self._queue.get()) is not None:
                say(message)

        threading.Thread(target=speak, name="gang-says", daemon=True).start()


class _Growth:
    """Whether a gang has had more workers at hand for long enough; asks the scheduler now and then."""

    def __init__(self, gang: Gang):
        self.gang, self.asked, self.since = gang, time.monotonic(), None

    def due(self, now: float) -> bool:
        if now - self.asked > GROW_LOOK:
            self.asked = now
            gang = self.gang  # the answer to the look before: a scheduler that says nothing must not hold up who watches ranks
            spare = gang.scheduler.latest(leases.spare, gang.run, gang.maximum - len(gang.workers))
            if spare is not None:
                self.since = (self.since or now) if spare > 0 else None
        return self.since is not None and now - self.since > GROW_AFTER


def _why(answer: Mapping[str, Any], few: bool) -> str:
    """What a claim waits for, in words.

    Examples
    --------
    >>> _why({"present": 2, "holders": ["a"], "ahead": ["b"]}, few=False)
    'held by a; b waits for longer'
    """
    if few:
        return f"{answer['present']} are there"
    held = f"held by {', '.join(answer['holders'])}" if answer["holders"] else ""
    ahead = f"{', '.join(answer['ahead'])} wait{'s' * (len(answer['ahead']) == 1)} for longer" if answer["ahead"] else ""
    return "; ".join(filter(None, (held, ahead)))
