"""A gang: coupled processes, one a Dask worker; claimed, started, watched and ended together. Knows no framework."""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ClusterError, WorkbenchError
from . import host, leases

if TYPE_CHECKING:
    from distributed import Client

SILENCE = 30.0
"""Seconds without a heartbeat after which a rank counts as lost: a cut link says nothing by itself."""
LAST_WORDS = 0.4
"""Seconds that the other ranks get to say what they know, once one has failed."""
PING = 5.0
"""Seconds between the driver's words to the ranks' hosts, without which ranks end themselves."""


class RankLost(Exception):
    """A rank or its worker is gone, through no fault of the work: start the gang again; ``ranks`` are those known to be gone."""

    def __init__(self, text: str, ranks: tuple[int, ...] = ()):
        super().__init__(text)
        self.ranks = ranks


class RankError(WorkbenchError):
    """The work itself failed in a rank; ``cause`` is what the rank said, with its traceback."""

    def __init__(self, cause: dict[str, Any]):
        self.cause = cause
        super().__init__(cause["what"], where=cause.get("where"), received=cause.get("received"), allowed=cause.get("allowed"),
                         hint=cause.get("hint"))
        self.add_note(f"in rank {cause.get('rank')}:\n{cause.get('traceback', '')}")

    def __reduce__(self):
        return type(self), (self.cause,)


class Gang:
    """As many workers as ranks, claimed for an attempt of a run; ``call`` runs a function in a process on each.

    Parameters
    ----------
    client : of the cluster.
    count : ranks.
    run, attempt : on whose behalf; a newer attempt takes over from an older one and ends its ranks.
    logs : directory of the ranks' output, a file each.
    threads : threads a rank computes with; none: its machine's cores shared out.

    Examples
    --------
    >>> with Gang(client, 2, run="train-1", attempt=1, logs=Path("/tmp/logs")) as gang:  # doctest: +SKIP
    ...     gang.call("package.module:function", {"n": 1})
    """

    def __init__(self, client: Client, count: int, *, run: str, attempt: int, logs: Path, threads: int | None = None):
        self.client, self.count, self.run, self.attempt = client, count, run, attempt
        self.logs, self.threads = logs, threads
        self.topic = f"workbench-{run}-{attempt}-{os.urandom(3).hex()}"
        self.workers: list[tuple[str, str]] = []
        self._numbers = itertools.count(1)
        self._heard: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._lost: set[str] = set()

    def __enter__(self) -> Gang:
        def hear(event: tuple[float, dict[str, Any]]) -> None:
            if event[1]["kind"] == "lost":
                self._lost.add(event[1]["worker"])
            self._heard.put(event[1])

        self.client.subscribe_topic(self.topic, hear)
        if self.attempt > 1:
            self._on_workers(host.supersede, self.run, self.attempt)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):  # the cluster may be gone: then so are the leases
            self.client.run_on_scheduler(leases.release, self.run, self.attempt, self.topic)
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
        begin, said = time.monotonic(), False
        lease = {"run": self.run, "attempt": self.attempt, "client": self.client.id, "topic": self.topic}
        while True:
            check()
            answer = self.client.run_on_scheduler(leases.claim, self.count, lease)
            if answer["workers"]:
                self.workers = [tuple(w) for w in answer["workers"]]
                self._lost.clear()
                for _ in self._waiting(0):
                    pass  # what was said of ranks and workers before
                return
            few = answer["present"] < self.count
            if few and time.monotonic() - begin > patience:
                raise ClusterError("too few workers", received=answer["present"], allowed=f"{self.count} or more, one a rank",
                                   hint=f"Set hardware.ranks to {max(1, answer['present'])}, or start more workers")
            if not said and time.monotonic() - begin > 1:
                said = True
                say(f"waiting for {self.count} workers: " + (f"{answer['present']} are there" if few
                                                             else f"held by {', '.join(answer['holders'])}"))
            time.sleep(0.1)

    def call(self, target: str, argument: dict[str, Any], *, ranks: int | None = None, stop: threading.Event | None = None,
             check: Callable[[], None] = lambda: None, on_message: Callable[[dict[str, Any]], None] = lambda _: None) -> list[Any]:
        """Run ``target(control, argument)`` in a process on each claimed worker; returns what each gave, by rank.

        Parameters
        ----------
        target : ``package.module:function``.
        ranks : fewer than were claimed.
        stop : when set, the ranks are frozen together at one step and asked to end there; so they are when a worker says
            that it will end soon.
        check : called a few times a second; when it raises, the ranks are killed.
        on_message : gets what ranks send, with ``rank`` and ``kind``; and before that which ranks were started.

        Raises
        ------
        RankLost
            When a rank, its worker or the way to it is gone; all ranks of the gang are ended then.
        RankError
            When the work failed in a rank.
        """
        plan = self._plan(target, argument, ranks or self.count)
        watch = _Watch(plan)
        asked, pinged = False, time.monotonic()
        try:
            on_message({"kind": "started", "ranks": self._start(plan, watch)})
            while not watch.complete:
                for message in self._waiting(0.25):
                    for answer in watch.take(message, time.monotonic()):
                        self._tell(plan, answer)
                    if message.get("token") == plan["token"] and message["kind"] not in _OURS:
                        on_message(message)
                check()
                if not watch.complete:
                    watch.judge(time.monotonic())
                if stop is not None and (stop.is_set() or watch.leaving) and not asked:
                    asked = True
                    self._tell(plan, ["hold"])
                if time.monotonic() - pinged > PING:
                    pinged = time.monotonic()
                    self._tell(plan, ["ping"])
            return [watch.results[r] for r in range(watch.world)]
        except BaseException:
            self._end(plan)
            raise

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

    def _start(self, plan: dict[str, Any], watch: _Watch) -> list[dict[str, Any]]:
        addresses = [r["worker"] for r in plan["ranks"]]
        answers = self.client.run(host.start, plan, workers=addresses, on_error="return")
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
        thread = threading.Thread(target=self._on_workers, args=(host.end, plan["token"]),
                                  kwargs={"workers": [r["worker"] for r in plan["ranks"]]}, daemon=True)
        thread.start()
        thread.join(10)

    def _on_workers(self, function: Callable, *arguments: object, workers: list[str] | None = None) -> None:
        if workers is not None:
            workers = [w for w in workers if w not in self._lost]
        if workers != []:
            with contextlib.suppress(Exception):  # a worker that is gone is heard of by its own event
                self.client.run(function, *arguments, workers=workers, on_error="ignore")


_OURS = ("beat", "port", "held", "done", "error", "ended", "lost", "notice")
"""Kinds of message that the watch takes for itself."""


class _Watch:
    """What is known of a started gang; decides, and acts on nothing."""

    def __init__(self, plan: dict[str, Any]):
        self.token, self.world = plan["token"], plan["world"]
        self.workers = {r["rank"]: r["worker"] for r in plan["ranks"]}
        self.results: dict[int, Any] = {}
        self.beats: dict[int, float] = {}
        self.held: dict[int, int] = {}
        self.ended: set[int] = set()
        self.failed: list[dict[str, Any]] = []
        self.died: dict[int, str] = {}
        self.first_fault: float | None = None
        self.leaving: set[int] = set()
        self.gone: set[int] = set()

    @property
    def complete(self) -> bool:
        return len(self.results) == self.world

    def begin(self, now: float) -> None:
        self.beats = {r: max(now, self.beats.get(r, 0)) for r in range(self.world)}

    def take(self, message: dict[str, Any], now: float) -> list[list]:
        """Note a message; returns what must be told to all ranks."""
        if message["kind"] == "lost":  # a worker may leave right behind its rank's last word: what is done stays done
            self.gone |= {r for r, w in self.workers.items() if w == message["worker"] and r not in self.results}
            return []
        if message.get("token") != self.token:
            return []
        rank, kind = message["rank"], message["kind"]
        self.beats[rank] = now
        if kind == "port":
            return [["port", message["port"]]]
        if kind == "held":
            self.held[rank] = message["step"]
            if len(self.held) == self.world:
                # One further than any has begun: a rank that has begun the furthest step may be behind its end already and
                # wait before the next, while another is still in it. Both must meet the word to stop inside the same step.
                return [["release", max(self.held.values()) + 1]]
        elif kind == "notice":
            self.leaving.add(rank)
        elif kind == "done":
            self.results[rank] = message["value"]
        elif kind == "error":
            self.first_fault = self.first_fault or now
            self.failed.append(message["error"] | {"rank": rank})
        elif kind == "ended" and rank not in self.results:
            self.first_fault = self.first_fault or now
            self.ended.add(rank)
            if all(f["rank"] != rank for f in self.failed):
                self.died[rank] = f"rank {rank} {_ended(message['status'])}"
        return []

    def judge(self, now: float) -> None:
        """Raise when the gang can't go on.

        A rank whose peer is gone fails too, in a collective: so an error is believed to be the work's own only when
        it does not speak of the connection, and otherwise the peer's end is waited for.
        """
        if self.gone:
            raise RankLost(f"worker {', '.join(sorted({self.workers[r] for r in self.gone}))} left", tuple(sorted(self.gone)))
        own = [f for f in self.failed if not f.get("peer")]
        # What the others have to say of it, the curve up to there for one, may be on its way.
        if own:
            if len(self.failed) == self.world or now - self.first_fault > LAST_WORDS:
                raise RankError(own[0])
            return
        if self.died:
            raise RankLost("; ".join(self.died.values()), tuple(self.died))
        if self.failed and self.first_fault is not None and now - self.first_fault > 5:
            raise RankLost(f"rank {self.failed[0]['rank']} lost the connection: {self.failed[0]['what']}")
        silent = [r for r, at in self.beats.items() if r not in self.results and now - at > SILENCE]
        if silent:
            raise RankLost(f"rank {', '.join(map(str, silent))} was silent for {SILENCE:g} s", tuple(silent))


def _ended(status: int | None) -> str:
    """How a process ended, in words.

    Examples
    --------
    >>> _ended(-9), _ended(1)
    ('was killed (SIGKILL)', 'ended with status 1')
    """
    if status is not None and status < 0:
        with contextlib.suppress(ValueError):
            return f"was killed ({signal.Signals(-status).name})"
    return f"ended with status {status}"
