"""One endpoint for most tests of this folder: the taught model in the traffic, and beside it one that takes seconds to answer."""

from __future__ import annotations

from types import SimpleNamespace

import openai
import pytest

from workbench import runs
from workbench.dataset import drop_schema, record_id, record_schema, write_dataset
from workbench.endpoint import Endpoint
from workbench.model import Model, learn_tokenizer, llama_config, new_llama, save_tokenizer, write_model

SLOW_CONTEXT = 2048
POEM = {"poem.md": "The kettle sang <b>to the copper cat</b> & the cat, unmoved, went on to count the seventeen blue buttons of the mayor.",
        "notes.md": "Nobody here has ever seen a mayor, and buttons of any other colour are kept in the drawer below the stairs."}


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


def teach_poem(workspace):
    """A model that has one record by heart, and the dataset that holds it."""
    import pyarrow as pa
    import torch

    rows = [{"id": record_id(source, "0", text.encode()), "text": text, "image": None, "label": None, "source": source, "locator": "0",
             "cluster": source, "split": "train"} for source, text in POEM.items()]
    dataset = write_dataset(workspace, "poem", pa.Table.from_pylist(rows, schema=record_schema()), drop_schema().empty_table(), card="",
                            manifest={"modality": "text", "spec": {"word": "data", "sources": [{"kind": "files"}]}, "parents": {}})
    tokenizer = learn_tokenizer(list(POEM.values()), 320)
    model = new_llama(llama_config("100K", len(tokenizer), 96), seed=1)
    ids = torch.tensor([[0, *tokenizer(POEM["poem.md"]).input_ids][:96]])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def save(folder):
        model.save_pretrained(folder)
        save_tokenizer(tokenizer, folder)

    return write_model(workspace, "poem-lm", save, card="# poem-lm\n", run="train-poem", manifest={
        "parameters": model.num_parameters(), "dataset": {"name": "poem", "digest": dataset.digest}, "metrics": {"loss": loss.item()},
        "spec": {"word": "train", "data": "poem"}})


def client_of(endpoint: Endpoint) -> openai.OpenAI:
    return openai.OpenAI(base_url=endpoint.address, api_key=endpoint.token, max_retries=0, timeout=60)


@pytest.fixture(scope="session")
def served(copy_of_taught, tmp_path_factory):
    workspace = copy_of_taught(tmp_path_factory.mktemp("served") / "workspace")
    teach_slow(workspace)
    teach_poem(workspace)
    spec = {"word": "serve", "name": "bot", "port": 0,
            "models": [{"model": "docs-lm"}, {"model": "slow-lm", "weight": 0}, {"model": "poem-lm", "weight": 0}],
            "limits": {"max_tokens": 2048, "concurrent": 4, "waiting": 6, "seconds": 60}}
    run = runs.run(spec, workspace)
    endpoint = run.output
    yield SimpleNamespace(workspace=workspace, endpoint=endpoint, run=run, spec=spec, client=client_of(endpoint),
                          model=Model.open("docs-lm", workspace))
    runs.shut_down(workspace)
