"""Counters over a window: what rose, over restarts; the quantile as Prometheus takes it."""

from __future__ import annotations

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from workbench.monitor.metrics import parse
from workbench.monitor.window import SECONDS, Window, error_ratios, increase, increases, latencies, quantile, snapshot


@given(st.lists(st.lists(st.integers(0, 100), min_size=1), min_size=1, max_size=5))
def test_the_increase_is_the_sum_of_all_rises_over_restarts_of_the_counter(lives):
    values, risen = [0], 0
    for life in lives:
        count = 0
        for step in life:
            count += step
            values.append(count)
        risen += count
    # A restart that climbs past the old value at once can't be seen, by nobody: keep to those that can.
    visible = all(a[-1:] == [] or sum(a) > b[0] for a, b in itertools.pairwise(lives))
    assert not visible or increase(values) == risen


def test_what_stood_at_the_beginning_does_not_count_and_what_comes_later_began_at_zero():
    a, b = ("x", (("code", "200"),)), ("x", (("code", "500"),))
    assert increases([{a: 1000.0}, {a: 1003.0, b: 2.0}]) == {a: 3.0, b: 2.0}
    assert increases([{a: 1000.0}]) == {} and increases([]) == {}


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=200), st.floats(0.01, 0.99))
def test_the_quantile_lies_in_the_bucket_of_the_true_one(values, share):
    bounds = [0.01, 0.1, 0.5, 1.0, 5.0, 20.0, math.inf]
    buckets = {b: float(sum(v <= b for v in values)) for b in bounds}
    true = sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
    upper = next(b for b in bounds if true <= b)
    lower = max([0.0, *(b for b in bounds if b < true)])
    found = quantile(share, buckets)
    assert found == 20.0 if upper == math.inf else lower <= found <= upper + 1e-9


def test_the_quantile_of_nothing_is_none_and_of_uneven_counts_is_something():
    assert quantile(0.95, {}) is None and quantile(0.95, {1.0: 0, math.inf: 0}) is None and quantile(0.5, {1.0: 5}) is None
    assert 0 < quantile(0.95, {1.0: 5, 2.0: 4, math.inf: 6}) <= 2.0


def served(registry, codes=(), seconds=()):
    """A page of a gateway after more requests."""
    requests, took = registry
    for code in codes:
        requests.labels("docs", "m@1", str(code)).inc()
    for value in seconds:
        took.labels("docs", "m@1").observe(value)
    return parse(generate_latest(requests.registry_).decode())


def gateway():
    registry = CollectorRegistry()
    requests = Counter("workbench_requests", "r", ["endpoint", "model", "code"], registry=registry)
    requests.registry_ = registry
    return requests, Histogram("workbench_request_seconds", "s", ["endpoint", "model"], buckets=(0.1, 1, 10), registry=registry)


def test_errors_and_p95_of_a_window_that_outlives_its_process(workspace):
    counters = gateway()
    window = Window(workspace, "m")
    window.add("docs", served(counters, [200] * 50, [0.05] * 50), 0.0)
    window.add("docs", served(counters, [200] * 8 + [500, 503, 404], [0.05] * 5 + [5.0] * 5), 10.0)
    again = Window(workspace, "m")  # another process reads the same
    assert error_ratios(again.risen("docs", 10.0)) == [({"endpoint": "docs"}, 2 / 11)]
    [(labels, p95)] = latencies(again.risen("docs", 10.0))
    assert labels == {"endpoint": "docs", "model": "m@1"} and math.isclose(p95, 1 + 9 * (9.5 - 5) / 5)
    assert again.risen("other", 10.0) == {}


def test_what_is_older_than_the_window_goes(workspace):
    counters, window = gateway(), Window(workspace, "m")
    window.add("docs", served(counters, [500]), 0.0)
    window.add("docs", served(counters, [500] * 4), 1.0)
    for at in range(2, int(SECONDS) + 20, 2):
        window.add("docs", served(counters, [200]), float(at))
    assert error_ratios(window.risen("docs", SECONDS + 18)) == [({"endpoint": "docs"}, 0.0)]
    assert len(window.database.rows("SELECT * FROM snapshots")) <= SECONDS / 2 + 2


def test_a_snapshot_keeps_only_what_the_rules_need():
    page = parse('workbench_requests_total{endpoint="a",code="200"} 1\nworkbench_tokens_total{endpoint="a"} 5\n'
                 'workbench_request_seconds_bucket{endpoint="a",le="+Inf"} NaN\n')
    assert snapshot(page) == {("workbench_requests_total", (("code", "200"), ("endpoint", "a"))): 1.0}
