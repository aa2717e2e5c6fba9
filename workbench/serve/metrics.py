"""What the gateway tells Prometheus about itself."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """Counters of one gateway process; ``model`` is ``name@digest12``, empty where no model was reached."""

    def __init__(self, endpoint: str):
        disable_created_metrics()
        self.endpoint, self._registry = endpoint, CollectorRegistry()
        self._requests = Counter("workbench_requests", "Requests answered, by HTTP status", ["endpoint", "model", "code"],
                                 registry=self._registry)
        self._seconds = Histogram("workbench_request_seconds", "Seconds from request to the end of the answer", ["endpoint", "model"],
                                  buckets=_SECONDS, registry=self._registry)
        self._first = Histogram("workbench_first_token_seconds", "Seconds from request to the first text of a streamed answer",
                                ["endpoint", "model"], buckets=_SECONDS, registry=self._registry)
        self._tokens = Counter("workbench_tokens", "Tokens read and written", ["endpoint", "model", "kind"], registry=self._registry)
        self._replicas = Gauge("workbench_replicas", "Replicas by state", ["endpoint", "model", "state"], registry=self._registry)
        self._waiting = Gauge("workbench_waiting_requests", "Requests that no replica works on yet", ["endpoint"], registry=self._registry)

    def answered(self, model: str, code: int, seconds: float, *, prompt: int = 0, completion: int = 0) -> None:
        """Count a request that has ended."""
        self._requests.labels(self.endpoint, model, str(code)).inc()
        self._seconds.labels(self.endpoint, model).observe(seconds)
        if prompt or completion:
            self._tokens.labels(self.endpoint, model, "prompt").inc(prompt)
            self._tokens.labels(self.endpoint, model, "completion").inc(completion)

    def first(self, model: str, seconds: float) -> None:
        """Note the time to the first text of a stream."""
        self._first.labels(self.endpoint, model).observe(seconds)

    def replicas(self, counts: dict[tuple[str, str], int]) -> None:
        """Replace the numbers of replicas: (model, state) -> number."""
        self._replicas.clear()
        for (model, state), number in counts.items():
            self._replicas.labels(self.endpoint, model, state).set(number)

    def page(self, waiting: int) -> bytes:
        """The exposition text."""
        self._waiting.labels(self.endpoint).set(waiting)
        return generate_latest(self._registry)
