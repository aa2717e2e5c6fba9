"""The process of a watch: looks at endpoints, runs and the machine at each interval and holds the rules against them.

Run as ``python -m workbench.monitor.evaluator NAME``; what it is to do stands in ``monitors/NAME/wanted.json``.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .. import processes
from ..errors import WorkbenchError
from ..storage import write_atomic
from ..workspace import Workspace
from .alerts import Alerts
from .exporters.prometheus import Exporter
from .history import History
from .metrics import Gatherer, Samples, gauge, page, parse, samples
from .rules import rules_of
from .spec import MonitorSpec
from .watch import Watch, fetch
from .webhook import Sender
from .window import Window, error_ratios, latencies, request_rates

if TYPE_CHECKING:
    from prometheus_client.core import Metric

Target = tuple[str, str | None]
"""Address of an endpoint's ``/metrics``, and the token to show there."""


def endpoints(workspace: Workspace) -> dict[str, Target]:
    """The endpoints that answered once and were not ended by anybody since: those that should be up."""
    from ..endpoint import Endpoint

    found = {}
    for endpoint in Endpoint.listed(workspace):
        document = endpoint.document
        if document["state"] != "down" and document["reached"]:
            found[endpoint.name] = endpoint.metrics_url, endpoint.token
    return found


class Evaluator:
    """Looks at everything once when asked, and remembers what must not be forgotten."""

    def __init__(self, workspace: Workspace, spec: MonitorSpec, targets: Callable[[Workspace], dict[str, Target]] = endpoints):
        self.workspace, self.spec, self.targets = workspace, spec, targets
        self.rules = rules_of(spec)
        self.urls = [w.url for w in spec.webhooks]
        self.stale = max(5.0, 3 * spec.interval)
        self.alerts, self.gatherer = Alerts(workspace), Gatherer(workspace)
        self.window, self.history = Window(workspace, spec.name), History(workspace, spec.name)
        self._pool = ThreadPoolExecutor(8, "scrape")
        self._lock = threading.Lock()
        self._page, self._paged = b"", -1e9
        self._own: list[Metric] = []
        self.alerts.retire(spec.name, self.rules, self.urls, time.time())

    def look(self) -> list[Any]:
        """One evaluation; returns the alerts that began or ended."""
        now = time.time()
        pages = self._scrape(now)
        risen = {name: self.window.risen(name, now) for name in pages}
        seen: Samples = {}
        for text in pages.values():
            for metric, series in (text or {}).items():
                seen.setdefault(metric, []).extend(series)
        with self._lock:
            self._own = [
                gauge("workbench_endpoint_up", "1 if an endpoint answers, else 0.",
                      [({"endpoint": n}, t is not None) for n, t in pages.items()]),
                gauge("workbench_endpoint_error_ratio", "Share of the last minute's requests answered with a 5xx.",
                      [s for r in risen.values() for s in error_ratios(r)]),
                gauge("workbench_endpoint_requests_per_second", "Requests a second over the last minute.",
                      [s for n in pages for s in request_rates(n, risen[n], self.window.span(n, now))]),
                gauge("workbench_endpoint_p95_seconds", "Time within which 95 % of the last minute's requests were answered.",
                      [s for r in risen.values() for s in latencies(r)])]
            seen |= samples(self._collect())
        self.history.add(seen, now)
        turned = self.alerts.apply(self.spec.name, self.rules, seen, now, stale=self.stale, webhooks=self.urls)
        self.alerts.tell(self.spec.name)
        if turned:
            self._paged = -1e9  # the page that was made on the way does not know of them
        return turned

    def page(self) -> bytes:
        """What ``/metrics`` shows: the last look, or a fresh one of runs and machine where that is older than a second."""
        with self._lock:
            if time.monotonic() - self._paged > 1:
                self._collect()
            return self._page

    def _collect(self) -> list[Metric]:
        families = [*self.gatherer.collect(), *self._own, *self._alerting()]
        self._page, self._paged = page(families), time.monotonic()
        return families

    def _scrape(self, now: float) -> dict[str, Samples | None]:
        """The metrics of each endpoint; None where it does not answer."""
        targets = self.targets(self.workspace)
        patience = min(5.0, max(1.0, self.spec.interval))
        texts = self._pool.map(lambda target: fetch(*target, timeout=patience), targets.values())
        found: dict[str, Samples | None] = {}
        for name, text in zip(targets, texts, strict=True):
            try:
                found[name] = None if text is None else parse(text)
            except ValueError:  # not Prometheus' format: whatever answers there is no endpoint
                found[name] = None
            if found[name] is not None:
                self.window.add(name, found[name], now)
        return found

    def _alerting(self) -> Iterator[Metric]:
        mine = {"monitor": self.spec.name}
        counts = dict.fromkeys((r.name for r in self.rules), 0)
        for alert in self.alerts.listed(self.spec.name, firing=True, limit=10_000):
            counts[alert.rule] = counts.get(alert.rule, 0) + 1
        yield gauge("workbench_alerts_firing", "Alerts of a rule that go on.", [({**mine, "rule": r}, n) for r, n in counts.items()])
        yield gauge("workbench_webhook_waiting", "Tidings that a webhook has not accepted yet.",
                    [(mine, len(self.alerts.owed(self.spec.name)))] if self.urls else [])


def _main(name: str) -> int:
    workspace = Workspace.find()
    watch = Watch(workspace, name)
    processes.record(workspace, replace(processes.current(), name=f"monitor/{name}"))
    over = threading.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: over.set())
    with contextlib.ExitStack() as held:
        try:  # two evaluators of one monitor would send everything twice
            held.enter_context(processes.lock(workspace, f"evaluator/{name}", patience=4))
        except TimeoutError:
            raise WorkbenchError("another evaluator is at work", where=f"monitor {name}") from None
        wanted = watch.wanted
        _work(watch, wanted, over)
    if wanted.get("until"):
        processes.forget(workspace, f"monitor/{name}")
    return 0


def _work(watch: Watch, wanted: dict[str, Any], over: threading.Event) -> None:
    spec = MonitorSpec.load(wanted["spec"])
    evaluator = Evaluator(watch.workspace, spec)
    senders = [Sender(watch.workspace, spec.name, w) for w in spec.webhooks]
    # Where the wanted port was taken the last time too, whoever reads the metrics finds them where they were.
    last = watch.document.get("port")
    exporter = Exporter(evaluator.page, lambda: _listed(evaluator), [spec.port, *([last] if last else [])])
    if spec.port not in (0, exporter.port):
        print(f"port {spec.port} is taken: /metrics answers on {exporter.port}", flush=True)
    said = ""
    begin, looks = time.monotonic(), 0
    while not over.is_set() and time.time() < (wanted.get("until") or float("inf")):
        try:
            evaluator.look()
            said = ""
        except Exception as error:  # noqa: BLE001 - the watch goes on: a full disk or a broken page passes
            if str(error) != said:
                said = str(error)
                print(time.strftime("%F %T"), "".join(traceback.format_exception(error)), file=sys.stderr, flush=True)
        for sender in senders:
            sender.wake()
        if not looks:
            write_atomic(watch.directory / "ready.json", json.dumps({
                "pid": os.getpid(), "port": exporter.port, "metrics": exporter.url, "started": time.time(), "asked": wanted.get("asked")}))
        looks = max(looks + 1, int((time.monotonic() - begin) / spec.interval) + 1)  # a look that was late is left out
        left = (wanted.get("until") or float("inf")) - time.time()
        over.wait(max(0.0, min(begin + looks * spec.interval - time.monotonic(), left)))
    for sender in senders:
        sender.close()
    exporter.close()


def _listed(evaluator: Evaluator) -> list[dict[str, Any]]:
    return [{"id": a.id, "rule": a.rule, "labels": a.labels, "summary": a.summary, "value": a.value, "since": a.since, "began": a.began,
             "ended": a.ended, "why": a.why} for a in evaluator.alerts.listed(evaluator.spec.name)]


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
