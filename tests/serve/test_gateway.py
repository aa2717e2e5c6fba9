"""The gateway's own rules: the token, what is open without it, crowds, readers who leave, metrics."""

from __future__ import annotations

import asyncio
import json
import re
import time

import httpx
import pytest

from workbench import runs


def headers(served) -> dict[str, str]:
    return {"Authorization": f"Bearer {served.endpoint.token}"}


def post(served, body: dict, **how) -> httpx.Response:
    return httpx.post(f"{served.endpoint.address}/completions", headers=headers(served), json=body, **{"timeout": 60, **how})


def metric(served, name: str, **labels: str) -> float:
    """Sum over the series of a metric that bear these labels."""
    page = httpx.get(served.endpoint.metrics_url).text
    total = 0.0
    for found, value in re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", page, re.MULTILINE):
        if all(f'{k}="{v}"' in found for k, v in labels.items()):
            total += float(value)
    return total


def until(condition, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/completions", "/v1/chat/completions", "/v1/trace/x", "/v1/nothing", "/",
                                  "//v1/models"])
@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic \u00e9"}])
def test_nothing_is_told_without_the_token(served, path, header):
    url = served.endpoint.document["url"] + path
    answer = httpx.request("POST" if "completions" in path else "GET", url, headers={k: v.encode("latin-1") for k, v in header.items()})
    assert answer.status_code == 401
    assert str(served.endpoint.token_file) in answer.json()["error"]["message"]


def test_the_token_lies_in_a_file_that_only_this_user_reads(served):
    assert served.endpoint.token_file.stat().st_mode & 0o777 == 0o600 and len(served.endpoint.token) >= 24


def test_health_and_metrics_are_open_on_loopback(served):
    url = served.endpoint.document["url"]
    assert httpx.get(f"{url}/health").json() == {"status": "ok"}
    assert "workbench_waiting_requests" in httpx.get(f"{url}/metrics").text


def test_what_is_not_there_is_not_found_in_openais_form(served):
    answer = httpx.get(f"{served.endpoint.address}/nothing", headers=headers(served))
    assert answer.status_code == 404 and "/v1/nothing" in answer.json()["error"]["message"]
    assert httpx.get(f"{served.endpoint.address}/completions", headers=headers(served)).status_code == 405


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_beyond_the_limit_is_refused_before_it_is_read_whole(served, chunked):
    pieces = (b" " * (1 << 20) for _ in range(9))
    answer = httpx.post(f"{served.endpoint.address}/completions", headers=headers(served), content=pieces if chunked else b"".join(pieces))
    assert answer.status_code == 413 and "8 MB" in answer.json()["error"]["message"]


def test_metrics_count_requests_tokens_and_seconds(served):
    reference = served.model.reference
    before = {n: metric(served, n, model=reference) for n in ("workbench_requests_total", "workbench_request_seconds_count")}
    tokens = metric(served, "workbench_tokens_total", model=reference, kind="completion")
    firsts = metric(served, "workbench_first_token_seconds_count", model=reference)
    answer = served.client.completions.create(model="docs-lm", prompt="x", max_tokens=7, temperature=0)
    list(served.client.completions.create(model="docs-lm", prompt="x", max_tokens=7, temperature=0, stream=True))
    after = {n: metric(served, n, model=reference) for n in before}
    assert after == {n: v + 2 for n, v in before.items()}
    assert metric(served, "workbench_tokens_total", model=reference, kind="completion") == tokens + 2 * answer.usage.completion_tokens
    assert metric(served, "workbench_first_token_seconds_count", model=reference) == firsts + 1
    assert metric(served, "workbench_replicas", model=reference, state="ready") == 2


def test_metrics_count_what_was_refused_once_and_under_no_name_that_a_client_made_up(served):
    faults = [({"model": "docs-lm", "n": 3}, "400"), ({"model": "made-up", "prompt": ""}, "404"),
              ({"model": "docs-lm", "prompt": "x" * 999}, "400")]
    before = {code: metric(served, "workbench_requests_total", code=code) for code in ("400", "401", "404")}
    assert [str(post(served, body).status_code) for body, _ in faults] == [code for _, code in faults]
    assert httpx.get(f"{served.endpoint.address}/models").status_code == 401
    after = {code: metric(served, "workbench_requests_total", code=code) for code in before}
    assert after == {"400": before["400"] + 2, "401": before["401"] + 1, "404": before["404"] + 1}
    assert "made-up" not in httpx.get(served.endpoint.metrics_url).text


def test_too_many_at_once_wait_and_beyond_that_are_told_to_come_back(served):
    async def crowd():
        async with httpx.AsyncClient(base_url=served.endpoint.document["url"], headers=headers(served), timeout=60,
                                     limits=httpx.Limits(max_connections=None)) as client:
            def ask(most):
                body = {"model": "slow-lm", "prompt": "x", "max_tokens": most, "stream": True, "temperature": 0}
                return client.build_request("POST", "/v1/completions", json=body)

            # 2 replicas × 4 at work and 6 that wait is what the limits of this endpoint allow.
            sending = [asyncio.ensure_future(client.send(ask(2000), stream=True)) for _ in range(14)]
            deadline = time.monotonic() + 60
            while metric(served, "workbench_waiting_requests") < 6:
                assert time.monotonic() < deadline, "they do not wait"
                await asyncio.sleep(0.02)
            refused = await client.send(ask(5))
            assert refused.status_code == 429 and int(refused.headers["Retry-After"]) >= 1
            assert refused.json()["error"]["type"] == "rate_limit_error"
            done, waiting = await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            for task in done:
                await task.result().aclose()

    reference = "slow-lm"
    gone = metric(served, "workbench_requests_total", code="499")
    asyncio.run(asyncio.wait_for(crowd(), 60))
    until(lambda: metric(served, "workbench_requests_total", code="499") == gone + 14)
    assert metric(served, "workbench_waiting_requests") == 0
    # Every place is free again: nobody computes for readers who left.
    assert served.client.completions.create(model=reference, prompt="x", max_tokens=3, temperature=0).usage.completion_tokens == 3


def test_a_reader_who_leaves_frees_the_place_whole_or_streamed(served):
    gone = metric(served, "workbench_requests_total", code="499")
    ask = {"model": "slow-lm", "prompt": "x", "max_tokens": 2000, "temperature": 0}
    with pytest.raises(httpx.ReadTimeout):
        post(served, ask, timeout=httpx.Timeout(60, read=0.4))
    with httpx.stream("POST", f"{served.endpoint.address}/completions", headers=headers(served), json={**ask, "stream": True},
                      timeout=60) as lines:
        first = next(line for line in lines.iter_lines() if line)
    until(lambda: metric(served, "workbench_requests_total", code="499") == gone + 2)
    answer = served.endpoint.trace(json.loads(first.removeprefix("data: "))["id"])["answer"]
    assert answer["finish"] == "cancelled" and 0 < answer["completion_tokens"] < 2000


def test_an_answer_that_takes_too_long_is_ended_with_words(served):
    short = {**served.spec, "limits": {**served.spec["limits"], "seconds": 0.3}}
    pids = {r["pid"] for r in served.endpoint.document["replicas"]}
    try:
        runs.run(short, served.workspace)
        ask = {"model": "slow-lm", "prompt": "x", "max_tokens": 2000, "temperature": 0}
        answer = post(served, ask)
        assert answer.status_code == 504 and "limits.seconds" in answer.json()["error"]["message"]
        streamed = post(served, {**ask, "stream": True})
        events = [json.loads(e.removeprefix("data: ")) for e in streamed.text.split("\n\n") if e]
        assert "limits.seconds" in events[-1]["error"]["message"] and len(events) > 1 and "[DONE]" not in streamed.text
    finally:
        runs.run(served.spec, served.workspace)
    assert {r["pid"] for r in served.endpoint.document["replicas"]} == pids  # limits change without a restart
