"""One endpoint for most tests of this folder: the taught model in the traffic, and beside it one that takes seconds to answer."""

from __future__ import annotations

from types import SimpleNamespace

import openai
import pytest

from workbench import runs
from workbench.endpoint import Endpoint
from workbench.model import Model, llama_config, new_llama, save_tokenizer, write_model

SLOW_CONTEXT = 2048


def teach_slow(workspace, name: str = "slow-lm", *, seed: int = 5):
    """A model of random weights with a long context: it goes on for as long as it is let."""
    taught = Model.open("docs-lm", workspace)
    tokenizer = taught.tokenizer()
    model = new_llama(llama_config("1M", len(tokenizer), SLOW_CONTEXT), seed=seed)

    def save(folder):
        model.save_pretrained(folder)
        save_tokenizer(tokenizer, folder)

    return write_model(workspace, name, save, card=f"# {name}\n", manifest={
        "parameters": model.num_parameters(), "dataset": taught.manifest["dataset"], "metrics": {}, "spec": {"word": "train"}})


def client_of(endpoint: Endpoint) -> openai.OpenAI:
    return openai.OpenAI(base_url=endpoint.address, api_key=endpoint.token, max_retries=0, timeout=60)


@pytest.fixture(scope="session")
def served(copy_of_taught, tmp_path_factory):
    workspace = copy_of_taught(tmp_path_factory.mktemp("served") / "workspace")
    teach_slow(workspace)
    spec = {"word": "serve", "name": "bot", "port": 0, "models": [{"model": "docs-lm"}, {"model": "slow-lm", "weight": 0}],
            "limits": {"max_tokens": 2048, "concurrent": 4, "waiting": 6, "seconds": 60}}
    run = runs.run(spec, workspace)
    endpoint = run.output
    yield SimpleNamespace(workspace=workspace, endpoint=endpoint, run=run, spec=spec, client=client_of(endpoint),
                          model=Model.open("docs-lm", workspace))
    runs.shut_down(workspace)
