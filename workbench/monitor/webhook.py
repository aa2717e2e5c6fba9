"""Tells webhooks of alerts: each delivery again and again under the same id until it is accepted."""

from __future__ import annotations

import http.client
import sys
import threading
import time
import urllib.error
import urllib.request

from ..errors import WorkbenchError
from ..workspace import Workspace
from .alerts import Alerts
from .spec import Webhook

TIMEOUT = 10.0
"""Seconds that a receiver has for its answer."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds until the second try; the pause doubles up to the longest."""


class Sender:
    """One thread for one webhook, so that a slow receiver delays neither the rules nor other receivers."""

    def __init__(self, workspace: Workspace, monitor: str, webhook: Webhook):
        self.workspace, self.monitor, self.webhook = workspace, monitor, webhook
        self.alerts = Alerts(workspace)
        self._news, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"webhook {webhook.url}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There may be something to send."""
        self._news.set()

    def close(self, patience: float = 2.0) -> None:
        """End after the delivery that is being sent."""
        self._over.set()
        self._news.set()
        self._thread.join(patience)

    def _work(self) -> None:
        while not self._over.is_set():
            self._news.clear()
            try:
                for delivery in self.alerts.due(self.monitor, self.webhook.url, time.time()):
                    if self._over.is_set():
                        return
                    self.alerts.tried(delivery, time.time() + pause(delivery["tries"]))
                    problem = self._send(delivery)
                    self.alerts.settle(delivery, problem)
                    if problem:
                        print(f"{delivery['id']} was not accepted, try {delivery['tries'] + 1}: {problem}", file=sys.stderr, flush=True)
                    else:
                        self._news.set()  # its end may wait for it
                due = self.alerts.next_due(self.monitor, self.webhook.url)
            except WorkbenchError as error:  # a full disk passes
                print(error, file=sys.stderr, flush=True)
                due = time.time() + FIRST_PAUSE
            self._news.wait(None if due is None else min(LONGEST_PAUSE, max(0.05, due - time.time())))

    def _send(self, delivery: dict) -> str | None:
        """None once it is accepted (2xx), else why not."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": delivery["id"], "User-Agent": "genai-workbench"}
        try:
            if self.webhook.secret:
                headers["Authorization"] = f"Bearer {self.workspace.secret(self.webhook.secret)}"
            request = urllib.request.Request(self.webhook.url, delivery["body"].encode(), headers,  # noqa: S310 - the spec allows http(s)
                                             method="POST")
            with _OPENER.open(request, timeout=TIMEOUT) as answer:
                answer.read(1024)
                return None if 200 <= answer.status < 300 else f"answered {answer.status}"
        except urllib.error.HTTPError as error:
            return f"answered {error.code}"
        except (OSError, http.client.HTTPException, ValueError, WorkbenchError) as error:
            return str(getattr(error, "reason", None) or error) or type(error).__name__


def pause(tries: int) -> float:
    """Seconds to wait after so many tries.

    Examples
    --------
    >>> [pause(n) for n in (0, 1, 2, 30)]
    [1.0, 2.0, 4.0, 60.0]
    """
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(tries, 16))


class _Straight(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET that says nothing: it counts as not accepted."""

    def redirect_request(self, *_: object) -> None:
        return None


_OPENER = urllib.request.build_opener(_Straight)
