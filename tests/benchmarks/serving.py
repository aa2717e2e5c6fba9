"""Tokens a server CPU second at 1 and 8 clients against FastAPI + transformers' generate, and the time to the first token.

    python tests/benchmarks/serving.py [size ...]

Both serve the same registered files on one thread each over HTTP, in the same run, and must give the same text. CPU seconds
are those of all processes of a server (ours: supervisor, forkserver, gateway and one replica), the clients' left out.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil

from workbench import runs
from workbench.model import learn_tokenizer, llama_config, new_llama, save_tokenizer, write_model
from workbench.workspace import Workspace

TOKENS = 96
PROMPTS = [f"def function_{n}(argument):\n    " + "# a line of comment\n    " * (n % 3) for n in range(8)]

PEER = """
import os, sys, torch, uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import AutoModelForCausalLM, AutoTokenizer
torch.set_num_threads(1)
path = sys.argv[1]
model, tokenizer = AutoModelForCausalLM.from_pretrained(path).eval(), AutoTokenizer.from_pretrained(path)
app = FastAPI()
class Ask(BaseModel):
    prompt: str
    max_tokens: int = 16
@app.post("/v1/completions")
def complete(ask: Ask):
    ids = torch.tensor([[0, *tokenizer(ask.prompt).input_ids]])
    out = model.generate(ids, max_new_tokens=ask.max_tokens, do_sample=False)[0, ids.shape[1]:]
    return {"text": tokenizer.decode(out, skip_special_tokens=True), "tokens": len(out)}
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
"""


def cpu_seconds(pid: int) -> float:
    """CPU seconds that a process and its descendants have used."""
    top, total = psutil.Process(pid), 0.0
    for process in [top, *top.children(recursive=True)]:
        times = process.cpu_times()
        total += times.user + times.system
    return total


def measured(ask, pid: int, clients: int, rounds: int) -> tuple[float, list[str]]:
    """Tokens a CPU second of the server, and the texts of one round."""
    with ThreadPoolExecutor(clients) as threads:
        first = list(threads.map(ask, PROMPTS))
        before = cpu_seconds(pid)
        tokens = sum(n for _, n in threads.map(ask, PROMPTS * rounds))
    return tokens / (cpu_seconds(pid) - before), [t for t, _ in first]


def teach(workspace: Workspace, size: str):
    tokenizer = learn_tokenizer([Path(os.__file__).read_text("utf-8")], 2048)
    model = new_llama(llama_config(size, len(tokenizer), 256), seed=0)

    def save(folder: Path) -> None:
        model.save_pretrained(folder)
        save_tokenizer(tokenizer, folder)

    return write_model(workspace, f"lm-{size}", save, card="", manifest={"parameters": model.num_parameters(), "metrics": {}, "spec": {}})


def first_share(client: httpx.Client, url: str, body: dict) -> float:
    """Seconds to the first text of a stream as a share of the whole answer's."""
    begin = time.perf_counter()
    first = None
    with client.stream("POST", url, json={**body, "stream": True}) as response:
        for line in response.iter_lines():
            if first is None and line:
                first = time.perf_counter() - begin
    return first / (time.perf_counter() - begin)


def compare(workspace: Workspace, size: str) -> None:
    model = teach(workspace, size)
    port = 18_000 + os.getpid() % 1000
    peer = subprocess.Popen([sys.executable, "-c", PEER, str(model.path), str(port)], env={**os.environ, "OMP_NUM_THREADS": "1"})
    spec = {"word": "serve", "name": size.lower(), "port": 0, "replicas": 1, "models": [{"model": model.name}]}
    endpoint = runs.run(spec, workspace).output
    supervisor = endpoint.document["pid"]
    try:
        theirs = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300)
        ours = httpx.Client(timeout=300, headers={"Authorization": f"Bearer {endpoint.token}"})
        while True:
            try:
                theirs.get("/openapi.json")
                break
            except httpx.ConnectError:
                time.sleep(0.2)

        def ask_peer(prompt: str) -> tuple[str, int]:
            body = theirs.post("/v1/completions", json={"prompt": prompt, "max_tokens": TOKENS}).json()
            return body["text"], body["tokens"]

        def ask_us(prompt: str) -> tuple[str, int]:
            body = ours.post(f"{endpoint.address}/completions", json={"model": model.name, "prompt": prompt, "max_tokens": TOKENS,
                                                                      "temperature": 0}).json()
            return body["choices"][0]["text"], body["usage"]["completion_tokens"]

        for clients in (1, 8):
            rounds = 2 if clients == 1 else 4
            peers, want = measured(ask_peer, peer.pid, clients, rounds)
            mine, got = measured(ask_us, supervisor, clients, rounds)
            assert got == want, "the texts differ"
            bound = "(≥ 3)" if clients == 8 else ""
            print(f"{size:>5} {clients} client{'s' * (clients > 1)}: {mine:7.0f} tokens a CPU second, FastAPI + generate {peers:6.0f}: "
                  f"{mine / peers:5.1f} times {bound}", flush=True)
        runs.run({**spec, "replicas": 2}, workspace)
        mine, got = measured(ask_us, supervisor, 8, 4)
        assert got == want, "the texts differ"
        print(f"{size:>5} 8 clients, two replicas: {mine:7.0f} tokens a CPU second: {mine / peers:5.1f} times (≥ 3)", flush=True)
        body = {"model": model.name, "prompt": PROMPTS[0], "max_tokens": TOKENS, "temperature": 0}
        shares = [first_share(ours, f"{endpoint.address}/completions", body) for _ in range(20)]
        print(f"{size:>5} first token after {100 * statistics.median(shares):.1f} % of the whole answer's time, streamed (< 20 %)",
              flush=True)
    finally:
        peer.terminate()
        peer.wait()
        endpoint.stop()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="serving-") as folder:
        workspace = Workspace(Path(folder)).open()
        print(json.dumps({"cores": os.cpu_count(), "tokens an answer": TOKENS}))
        try:
            for size in sys.argv[1:] or ["1M", "10M"]:
                compare(workspace, size)
        finally:
            runs.shut_down(workspace)


if __name__ == "__main__":
    main()
