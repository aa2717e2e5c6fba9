"""One thread a kernel that tails the events of each workspace and tells every panel what concerns it."""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
import weakref
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from workbench.events import Event, Events
from workbench.workspace import Workspace

INTERVAL = 0.08
"""Seconds between looks at the events."""
PACE = 0.25
"""Least seconds between two updates of one listener: at most four a second."""
PULSE = 1.0
"""Seconds after which a listener is told even where nothing happened, so that it can say how long that is."""


class Listener:
    """Something that wants the events of some scopes: subclass or give ``tell``.

    ``tell(events)`` is called on the feed's thread, at most every ``PACE`` seconds, with what came since, and with an empty list
    at least every ``PULSE`` seconds.
    """

    def __init__(self, scopes: set[str] | None, tell: Callable[[list[Event]], None]):
        self.scopes, self.tell = scopes, tell
        self.waiting: list[Event] = []
        self.told = 0.0
        self.left = False

    def leave(self) -> None:
        """Hear no more. Takes no lock: the garbage collector closes panels within any allocation, also of the thread that holds it."""
        self.left = True


class Feed:
    """The events of one workspace, told to its listeners."""

    _feeds: dict[Workspace, Feed] = {}
    _lock = threading.RLock()  # what is collected while it is held may ask for it again
    _thread: threading.Thread | None = None

    def __init__(self, workspace: Workspace):
        self.events = Events(workspace)
        self.cursor = self.newest()
        self.listeners: weakref.WeakSet[Listener] = weakref.WeakSet()

    @classmethod
    def of(cls, workspace: Workspace) -> Feed:
        """The feed of a workspace, begun with the first that asks."""
        with cls._lock:
            if workspace not in cls._feeds:
                cls._feeds[workspace] = cls(workspace)
            if cls._thread is None or not cls._thread.is_alive():
                cls._thread = threading.Thread(target=cls._run, name="workbench-feed", daemon=True)
                cls._thread.start()
            return cls._feeds[workspace]

    def listen(self, tell: Callable[[list[Event]], None], *scopes: str, after: int | None = None) -> Listener:
        """Hear of the events of some scopes (none: of all) after a cursor (none: from now on).

        The feed holds the listener weakly: keep it as long as it shall hear.
        """
        listener = Listener(set(scopes) or None, tell)
        with self._lock:
            behind = self.events.tail(after=after, limit=1_000_000) if after is not None and after < self.cursor else []
            listener.waiting = [e for e in behind if e.seq <= self.cursor and (listener.scopes is None or e.scope in listener.scopes)]
            self.listeners.add(listener)
        return listener

    def leave(self, listener: Listener | None) -> None:
        """Hear no more."""
        if listener is not None:
            listener.leave()

    def newest(self) -> int:
        """The cursor of the newest event."""
        row = self.events.database.row("SELECT MAX(seq) AS newest FROM events")
        return (row["newest"] or 0) if row else 0

    def _look(self) -> None:
        with self._lock:
            for listener in [heard for heard in self.listeners if heard.left]:
                self.listeners.discard(listener)
            listeners = list(self.listeners)
            if not listeners:
                self.cursor = self.newest()
                return
        found = self.events.tail(after=self.cursor)
        by_scope: dict[str, list[Event]] = defaultdict(list)
        for event in found:
            by_scope[event.scope].append(event)
        with self._lock:
            if found:
                self.cursor = found[-1].seq
            listeners = list(self.listeners)
            for listener in listeners:
                for event in found if listener.scopes is None else [e for s in listener.scopes for e in by_scope.get(s, ())]:
                    listener.waiting.append(event)
        now = time.monotonic()
        for listener in listeners:
            if not listener.left and now - listener.told >= (PACE if listener.waiting else PULSE):
                waiting, listener.waiting, listener.told = listener.waiting, [], now
                try:
                    listener.tell(waiting)
                except Exception:  # noqa: BLE001 - one panel's fault must not silence the others
                    traceback.print_exc()

    @classmethod
    def _run(cls) -> None:
        while True:
            with cls._lock:
                feeds = list(cls._feeds.values())
            for feed in feeds:
                with contextlib.suppress(Exception):  # a database that is gone or busy is looked at again
                    feed._look()
            time.sleep(INTERVAL)


_workers: ThreadPoolExecutor | None = None


def aside(work: Callable[..., Any], *arguments: Any) -> None:
    """Do something that may take a while off the page's thread; two at a time a kernel, in the order asked."""
    global _workers
    if _workers is None:
        _workers = ThreadPoolExecutor(2, thread_name_prefix="workbench-aside")

    def safely() -> None:
        try:
            work(*arguments)
        except Exception:  # noqa: BLE001 - nobody waits for it: say it where the kernel's log is
            traceback.print_exc()

    _workers.submit(safely)
