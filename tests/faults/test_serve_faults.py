"""kill -9 of replicas, gateway, forkserver and supervisor, and versions that change under load: no accepted request is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import psutil
import pytest

from workbench import runs
from workbench.endpoint import Endpoint
from workbench.events import Events
from workbench.model import Model, llama_config, new_llama, save_tokenizer, write_model

SPEC = {"word": "serve", "name": "bot", "port": 0, "models": [{"model": "long-lm"}],
        "limits": {"max_tokens": 2000, "concurrent": 4, "waiting": 200}}
ASKS = [{"prompt": f"Question {n}", "max_tokens": 250, "seed": n, "stream": n % 4 < 2} for n in range(8)]


@pytest.fixture(scope="module")
def place(copy_of_taught, tmp_path_factory):
    """A workspace with two versions of a model that goes on for as long as it is let."""
    workspace = copy_of_taught(tmp_path_factory.mktemp("faults") / "workspace")
    taught = Model.open("docs-lm", workspace)
    tokenizer = taught.tokenizer()
    for seed in (3, 2, 1):
        model = new_llama(llama_config("1M", len(tokenizer), 2048), seed=seed)

        def save(folder, model=model):
            model.save_pretrained(folder)
            save_tokenizer(tokenizer, folder)

        write_model(workspace, "long-lm", save, card="", manifest={"parameters": model.num_parameters(), "metrics": {}, "spec": {},
                                                                  "dataset": taught.manifest["dataset"]})
    yield workspace
    runs.shut_down(workspace)


@pytest.fixture
def endpoint(place) -> Endpoint:
    return runs.run(SPEC, place).output


def client_of(endpoint: Endpoint) -> openai.OpenAI:
    return openai.OpenAI(base_url=endpoint.address, api_key=endpoint.token, max_retries=0, timeout=60)


def ask(client: openai.OpenAI, how: dict, *, model: str = "long-lm", begun=lambda: None) -> tuple[str, str, str, str]:
    """(id, text, finish, model) of an answer, whole or streamed; ``begun`` is called when a stream's first text is there."""
    answer = client.completions.create(model=model, **how)
    if not how.get("stream"):
        return answer.id, answer.choices[0].text, answer.choices[0].finish_reason, answer.model
    text, finish, chunk = [], None, None
    for chunk in answer:
        text.append(chunk.choices[0].text)
        finish = chunk.choices[0].finish_reason or finish
        begun()
    return chunk.id, "".join(text), finish, chunk.model


def replicas(endpoint: Endpoint) -> dict[int, str]:
    return {r["pid"]: r["state"] for r in endpoint.document["replicas"]}


def until(condition, seconds: float = 30):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)
    return found


def marks(endpoint: Endpoint) -> Counter:
    return Counter(e.name for e in Events(endpoint.workspace).tail(f"endpoint/{endpoint.name}", kinds=["mark"]))


def lives(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("how_many", [1, 2])
def test_answers_survive_the_death_of_the_replicas_that_write_them(endpoint, how_many):
    client = client_of(endpoint)
    with ThreadPoolExecutor(8) as threads:
        want = [a[1:] for a in threads.map(lambda how: ask(client, how), ASKS)]
        begun = threading.Semaphore(0)
        work = [threads.submit(ask, client, how, begun=begun.release) for how in ASKS]
        for _ in range(20):  # some are in the middle
            assert begun.acquire(timeout=30)
        killed = list(replicas(endpoint))[:how_many]
        at = time.monotonic()
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        until(lambda: list(replicas(endpoint).values()) == ["ready", "ready"] and not set(killed) & set(replicas(endpoint)), 10)
        back = time.monotonic() - at
        got = [w.result(60) for w in work]
    assert [g[1:] for g in got] == want
    assert {g[2] for g in got} <= {"length", "stop"} and all(len(g[1]) > 20 for g in got)
    assert len({g[0] for g in got}) == len(ASKS) == len({g[1] for g in got})
    for name, text, _, _ in got:
        assert endpoint.trace(name)["answer"]["text"] == text  # recorded once, as it was answered
    assert back < 2


def test_a_killed_gateway_is_back_on_its_port_and_the_replicas_stay(endpoint):
    before, fleet, gateway = endpoint.address, set(replicas(endpoint)), endpoint.document["gateway"]["pid"]
    body = {"model": "long-lm", "prompt": "x", "max_tokens": 2000, "stream": True, "temperature": 0}
    with pytest.raises(httpx.RemoteProtocolError), httpx.stream(  # a broken-off answer must not look like a whole one
            "POST", f"{before}/completions", json=body, headers={"Authorization": f"Bearer {endpoint.token}"}, timeout=30) as lines:
        for n, _ in enumerate(lines.iter_lines()):
            if n == 3:
                os.kill(gateway, signal.SIGKILL)
                at = time.monotonic()
    assert httpx.get(f"{before}/models", headers={"Authorization": f"Bearer {endpoint.token}"}, timeout=10).status_code == 200
    assert time.monotonic() - at < 2
    assert ask(client_of(endpoint), {**ASKS[0], "max_tokens": 3})[2] == "length"
    until(lambda: endpoint.alive)
    assert endpoint.address == before and set(replicas(endpoint)) == fleet and endpoint.document["gateway"]["pid"] != gateway


def test_a_killed_forkserver_takes_all_along_and_all_come_back(endpoint):
    before, want = endpoint.address, ask(client_of(endpoint), ASKS[0])[1:]
    server = endpoint.document["processes"][0]["pid"]
    os.kill(server, signal.SIGKILL)
    until(lambda: not lives(server) and endpoint.document["processes"][0]["pid"] != server and endpoint.alive, 60)
    assert endpoint.address == before
    assert ask(client_of(endpoint), ASKS[0])[1:] == want


def test_a_killed_supervisor_leaves_nothing_and_the_next_serve_goes_on(endpoint, place):
    answer = ask(client_of(endpoint), {**ASKS[0], "max_tokens": 4})
    document, token = endpoint.document, endpoint.token
    os.kill(document["pid"], signal.SIGKILL)
    until(lambda: not any(lives(p["pid"]) for p in document["processes"]))
    assert not endpoint.alive
    run = runs.run({**SPEC, "port": document["port"]}, place)
    again = run.output
    assert (again.address, again.token, run.result["note"]) == (endpoint.address, token, None)
    assert again.trace(answer[0])["answer"]["text"] == answer[1]
    assert ask(client_of(again), {**ASKS[0], "max_tokens": 4})[1:] == answer[1:]


def test_it_answers_when_whoever_asked_for_it_and_the_cluster_are_gone(place):
    from workbench import cluster

    spec = {**SPEC, "name": "orphan", "replicas": 1}
    code = f"import workbench, os; print(workbench.run({spec!r}).result['address'], flush=True); os.kill(os.getpid(), 9)"
    out = subprocess.run([sys.executable, "-c", code], env={**os.environ, "WORKBENCH_ROOT": str(place.root)}, capture_output=True,
                         text=True, timeout=120)
    assert out.returncode == -9, out.stderr
    assert cluster.running(place) is None
    orphan = Endpoint.open("orphan", place)
    answer = orphan.complete("x", max_tokens=2)
    assert orphan.address == out.stdout.strip() and (answer.usage["completion_tokens"] == 2 or answer.finish == "stop")
    orphan.stop()


def test_the_driver_of_a_serve_run_may_die(place):
    from workbench import processes

    Endpoint.open("bot", place).stop()
    run = runs.submit(SPEC, place)
    driver = until(lambda: processes.find(place, f"run/{run.id}"))
    until(lambda: processes.find(place, "endpoint/bot"))
    os.kill(driver.pid, signal.SIGKILL)
    run.wait(60)
    assert run.state == "done" and run.output.alive and run.output.document["run"] == run.id


def test_a_version_shifts_in_by_weight_and_back_without_a_failed_request(endpoint, place):
    new, old = (Model.open(f"long-lm@v{n}", place).reference for n in (1, 3))
    how, lost = {"prompt": "Steady", "max_tokens": 12, "seed": 1}, marks(endpoint)["gateway-lost"]
    answers: list[tuple[str, str, str, str]] = []
    failed: list[BaseException] = []
    over = threading.Event()

    def load() -> None:
        client = client_of(endpoint)
        while not over.is_set():
            try:
                answers.append(ask(client, {**how, "stream": len(answers) % 2 == 0}, model="bot"))
            except Exception as error:
                failed.append(error)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        seen = []
        for models in ([(3, 3), (1, 1)], [(1, 1)], [(3, 1)]):
            until(lambda n=len(answers): len(answers) > n + 10)
            shares = [{"model": f"long-lm@v{v}", "weight": w} for v, w in models]
            runs.run({**SPEC, "models": shares}, place)
            begin = len(answers) + len(threads)  # those on their way were accepted before
            until(lambda n=begin: len(answers) >= n + 16)
            seen.append(Counter(a[3] for a in answers[begin:begin + 16]))
    finally:
        over.set()
        for thread in threads:
            thread.join(60)
    assert failed == [] and marks(endpoint)["gateway-lost"] == lost
    # Three quarters and one, then all new, then all old again; readers finish out of turn, so a few may be off by one turn.
    assert 10 <= seen[0][old] <= 14 and seen[0][new] == 16 - seen[0][old]
    assert seen[1:] == [Counter({new: 16}), Counter({old: 16})]
    texts = {version: {a[1] for a in answers if a[3] == version} for version in (old, new)}
    assert all(len(t) == 1 for t in texts.values()) and texts[old] != texts[new]  # every answer is wholly of its version
    until(lambda: {r["model"] for r in endpoint.document["replicas"]} == {old})
