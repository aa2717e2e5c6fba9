"""Questions to a scheduler that may fall silent: asked off the thread that waits, so that who waits can say so, and give up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client

QUIET = 5.0
"""Seconds without an answer after which it is said that the scheduler says nothing."""
FROZEN = 60.0
"""Seconds without an answer after which a scheduler that is frozen is given up."""
BACK = 4.0
"""Seconds after an answer that was long in coming for which the scheduler itself has not heard of the others yet."""
TRIED = 300.0
"""Seconds for which a scheduler that can't be reached is asked again."""
LOOK = 0.2
"""Seconds between looks at whether to go on waiting."""


class Scheduler:
    """The scheduler as it is asked: answers are waited for as long as it takes, and never without a word.

    Parameters
    ----------
    client : of the cluster.
    frozen : called when no answer came for ``FROZEN`` seconds, and again after as many: who can, ends a scheduler that will never answer.
    """

    def __init__(self, client: Client, frozen: Callable[[], Any] = lambda: None):
        self.client, self.frozen = client, frozen
        self._back = float("-inf")
        self._asked: dict[Any, Future] = {}

    @property
    def lately_back(self) -> bool:
        """True right behind a silence: what the scheduler knows of workers is old then."""
        return time.monotonic() - self._back < BACK

    def ask(self, function: Callable[..., Any], *arguments: Any, check: Callable[[], None] = lambda: None,
            say: Callable[[str], None] = lambda _: None) -> Any:
        """What a function gives that runs on the scheduler.

        Parameters
        ----------
        check : called while waiting; raises to give up.
        say : is told of a silence, and of its end.
        """
        begin = given_up = time.monotonic()
        over, silent = threading.Event(), False
        asked = aside(lambda: self._answer(over, function, *arguments))
        try:
            while not wait([asked], LOOK).done:
                check()
                now = time.monotonic()
                if not silent and now - begin > QUIET:
                    silent = True
                    say("the scheduler says nothing: waiting until it is back")
                if now - given_up > FROZEN:
                    given_up = now
                    self.frozen()
        finally:
            over.set()
        if silent:
            self._back = time.monotonic()
            say(f"the scheduler is back after {self._back - begin:.0f} s")
        return asked.result()

    def tell(self, function: Callable[..., Any], *arguments: Any, patience: float = 10.0) -> None:
        """Have a function run on the scheduler, waiting so long for it; after that it runs when the scheduler is back, or never."""
        wait([aside(lambda: self._answer(threading.Event(), function, *arguments))], patience)

    def latest(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the last question of this kind gave, if the answer has come, else None; asks again. Waits for nothing."""
        before = self._asked.get(function)
        if before is not None and not before.done():
            return None
        self._asked[function] = aside(lambda: self.client.run_on_scheduler(function, *arguments))
        return before.result() if before is not None and before.exception() is None else None

    def _answer(self, over: threading.Event, function: Callable[..., Any], *arguments: Any) -> Any:
        """The answer, asked for again while no connection can be made: none is to a frozen process."""
        begin = time.monotonic()
        while True:
            try:
                return self.client.run_on_scheduler(function, *arguments)
            except OSError:
                if time.monotonic() - begin > TRIED or over.wait(LOOK):
                    raise


def aside(work: Callable[[], Any]) -> Future:
    """What work gives, done by a thread that keeps no process from ending, however long it waits."""
    future: Future = Future()

    def do() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
            future.set_exception(error)

    threading.Thread(target=do, daemon=True).start()
    return future
