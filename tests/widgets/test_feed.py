"""The one thread that tells every panel what happened."""

from __future__ import annotations

import gc
import threading

from widgets.feed import Feed
from workbench.events import Events


class Panel:
    """What the garbage collector finds of a panel that nobody closed: a cycle that leaves the feed as it dies."""

    died = 0

    def __init__(self, feed: Feed, workspace):
        self.me, self.workspace, self.listener = self, workspace, feed.listen(lambda events: None, "run", after=0)

    def __del__(self):
        Feed.of(self.workspace).leave(self.listener)
        Panel.died += 1


def test_panels_that_are_collected_within_the_feeds_own_work_do_not_stop_it(workspace):
    feed, events = Feed.of(workspace), Events(workspace)
    heard: list[int] = []
    first, last = threading.Event(), threading.Event()

    def tell(fresh):
        heard.extend(int(e.value) for e in fresh if e.kind == "point")
        for step, told in ((99, first), (199, last)):
            if heard and heard[-1] >= step:
                told.set()

    def work():
        for step in range(100, 200):  # each reads 100 points and more while it holds the feed's lock: time to be collected in
            Panel(feed, workspace)
            events.point("run", "loss", step, step)

    listener = feed.listen(tell, "run", after=0)
    for step in range(100):
        events.point("run", "loss", step, step)
    assert first.wait(60)
    before = gc.get_threshold()
    gc.freeze()
    gc.collect()  # few objects are left to look at: full rounds are not put off
    gc.set_threshold(3, 1, 1)
    try:
        threading.Thread(target=work, daemon=True).start()
        assert last.wait(30), f"the feed stopped after {len(heard)} points"
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
        feed.leave(listener)
    assert heard == list(range(200)) and Panel.died > 50
