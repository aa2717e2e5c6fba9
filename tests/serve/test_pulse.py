"""What an endpoint says of its last minutes: exact over a clock of our own, and over HTTP."""

from __future__ import annotations

import httpx
from hypothesis import given
from hypothesis import strategies as st

from workbench.serve.answer import Version
from workbench.serve.pulse import KEPT, MOST, RATE, STEP, Pulse, quantile


class Clock:
    def __init__(self, now: float):
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_rates_times_and_curves_are_exact():
    clock = Clock(1000.0)
    pulse = Pulse(clock)
    versions = [Version("a", "1" * 64, 3), Version("b", "2" * 64, 1)]
    a, b = (v.reference for v in versions)
    for second in range(20):
        clock.now = 1000.0 + second
        for n in range(4):
            pulse.answered(a, 200, 0.1 * (n + 1))
            pulse.tokens(a, 5)
        pulse.answered(b, 500 if second % 2 else 200, 2.0)
    clock.now = 1020.0
    look = pulse.look(versions)
    first, second = look["versions"]
    assert first["requests_a_second"] == 4 and first["tokens_a_second"] == 20 and (first["p50"], first["p95"]) == (0.2, 0.4)
    assert first["share"] == 0.75 and second["share"] == 0.25 and (second["requests"], second["errors"]) == (20, 10)
    assert look["history"]["at"] == list(range(1000 + STEP, 1021, STEP))
    assert look["history"]["versions"][a]["requests"] == [4.0] * 10 and set(look["history"]["versions"][a]["p95"]) == {0.4}


def test_what_a_client_gives_up_is_no_error_and_what_is_old_is_forgotten():
    clock = Clock(50.0)
    pulse, version = Pulse(clock), Version("a", "1" * 64, 1)
    pulse.answered(version.reference, 499, 3.0)
    look = pulse.look([version])["versions"][0]
    assert (look["requests"], look["errors"], look["p95"]) == (1, 0, None)
    for n in range(3 * MOST):
        pulse.answered(version.reference, 200, float(n))
    assert pulse.look([version])["versions"][0]["requests"] == 3 * MOST + 1
    clock.now += KEPT + RATE
    pulse.answered(version.reference, 200, 1.0)
    assert pulse.look([version])["versions"][0]["requests"] == 1 and len(pulse._seconds) == 1


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0, 1))
def test_a_quantile_is_not_exceeded_by_its_share(values, share):
    found = quantile(values, share)
    assert found in values and sum(v <= found for v in values) >= share * len(values) - 1e-9


def test_the_endpoint_tells_it_to_whoever_holds_the_token(served):
    before = served.endpoint.status()["versions"][0]["requests"]
    served.endpoint.complete("x", model="docs-lm", max_tokens=5)
    look = served.endpoint.status()
    version = next(v for v in look["versions"] if v["name"] == "docs-lm")
    assert version["requests"] == before + 1 and version["p95"] > 0 and version["working"] == 0 and look["waiting"] == 0
    assert version["reference"] in look["history"]["versions"]
    assert httpx.get(f"{served.endpoint.address}/status").status_code == 401
