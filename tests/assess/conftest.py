"""A function that teaches a tiny model some texts with plain torch, in a workspace of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from workbench.assess.subject import Subject
from workbench.dataset import Dataset, drop_schema, record_schema, write_dataset
from workbench.model import Model, learn_tokenizer, llama_config, new_llama, save_tokenizer, write_model
from workbench.workspace import Workspace

CONTEXT = 96


def write_texts(workspace: Workspace, name: str, train: Sequence[str], test: Sequence[str], modality: str = "text") -> Dataset:
    """A dataset of these texts."""
    import pyarrow as pa

    rows = [{"id": f"{split}{n:04}", "text": t, "source": f"<{split}>", "locator": str(n), "cluster": f"{split}{n:04}", "split": split}
            for split, texts in (("train", train), ("test", test)) for n, t in enumerate(texts)]
    return write_dataset(workspace, name, pa.Table.from_pylist(rows, record_schema()), drop_schema().empty_table(),
                         manifest={"modality": modality}, card=f"# {name}\n")


def write_taught(workspace: Workspace, name: str, data: Dataset, *, steps: int, size: str = "100K", vocabulary: int = 512,
                 rate: float = 4e-3) -> Model:
    """A model that saw the training texts for some steps of 16 passages."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two would wait for each other on a busy machine
    tokenizer = learn_tokenizer(data.texts("train"), vocabulary)
    stream = torch.tensor([i for t in data.texts("train") for i in [0, *tokenizer(t).input_ids]] + [0])
    model = new_llama(llama_config(size, len(tokenizer), CONTEXT), seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        starts = torch.randint(len(stream) - CONTEXT, (16,), generator=generator)
        batch = torch.stack([stream[s:s + CONTEXT] for s in starts])
        optimizer.zero_grad()
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
    torch.set_num_threads(threads)
    return write_network(workspace, name, data, model, tokenizer)


def write_network(workspace: Workspace, name: str, data: Dataset | None, model, tokenizer) -> Model:
    """Register a network as a model version."""
    def save(folder: Path) -> None:
        model.save_pretrained(folder)
        save_tokenizer(tokenizer, folder)

    taught = {"name": data.name, "digest": data.digest} if data else None
    return write_model(workspace, name, save, card="", manifest={"parameters": model.num_parameters(), "dataset": taught,
                                                                 "metrics": {}, "spec": {}})


@pytest.fixture(scope="module")
def subject(copy_of_taught, tmp_path_factory) -> Subject:
    """The briefly trained model and its data, as probes see them; tests of the module may add to the workspace."""
    workspace = copy_of_taught(tmp_path_factory.mktemp("subject") / "w")
    return Subject(workspace, Model.open("docs-lm", workspace), Dataset.open("docs", workspace), seed=0)


@pytest.fixture
def judged() -> Callable[[Subject, str], str]:
    """A function that measures a default probe and says what the default policy makes of it."""
    import dataclasses
    import time

    from workbench.assess.probes import KINDS
    from workbench.policy import Evidence, Policy, judge

    def judge_one(subject: Subject, name: str) -> tuple[str, Evidence]:
        policy, at = Policy(), time.time()
        evidence = Evidence(metric=name, **{f.name: getattr(m, f.name) for m in [KINDS[name]().measure(subject)]
                                            for f in dataclasses.fields(m)},
                            model=subject.model.digest, dataset=subject.data.digest, policy=policy.digest(), at=at)
        verdict = judge(policy, [evidence], model=subject.model.digest, dataset=subject.data.digest, now=at)
        return next(j.status for j in verdict.judgements if j.rule.metric == name), evidence

    return judge_one
