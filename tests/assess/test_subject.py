"""What probes ask of a model: surprisals, greedy or not, and free texts; each against plain transformers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from workbench.assess.subject import END, Subject
from workbench.errors import SourceError
from workbench.model import Model


def test_predictions_are_those_of_each_sequence_alone(subject, monkeypatch):
    monkeypatch.setattr("workbench.assess.subject._LOGITS", 512 * 150)  # several batches
    texts = list(subject.data.texts("test"))[:8]
    sequences = [[END, *ids[:n]] for ids, n in zip(subject.encode(texts), (1, 90, 3, 40, 96, 40, 7, 2), strict=True)]
    found = subject.predictions(sequences)
    for tokens, (surprisal, greedy) in zip(sequences, found, strict=True):
        with torch.inference_mode():
            chances = torch.log_softmax(subject.network(torch.tensor([tokens])).logits[0].double(), -1)
        after = [-chances[n, t].item() for n, t in enumerate(tokens[1:])]
        assert surprisal == pytest.approx(after, abs=1e-4)
        assert greedy.tolist() == (chances[:-1].argmax(-1) == torch.tensor(tokens[1:])).tolist()
    assert subject.predictions([]) == []


def test_free_texts_follow_the_seed_and_the_model_s_own_chances(subject):
    texts = subject.sample(130, 5, "purpose")
    assert texts == subject.sample(130, 5, "purpose") and len(texts) == 130
    assert texts != subject.sample(130, 5, "another purpose")
    assert texts != dataclasses.replace(subject, seed=1).sample(130, 5, "purpose")
    # The first tokens of many texts: as often as the model says (chi squared over the commonest and the rest).
    with torch.inference_mode():
        chances = torch.softmax(subject.network(torch.tensor([[END]])).logits[0, -1], -1).numpy()
    top = np.argsort(-chances)[:8]
    many = subject.sample(1500, 1, "first")
    names = [subject.decode([t]) for t in top]
    seen = np.array([many.count(n) for n in names])
    wanted = 1500 * chances[top]
    assert len(set(names)) == 8 and ((seen - wanted) ** 2 / wanted).sum() < 30  # 1 in 5,000 seeds, and the seed is fixed


def test_a_document_s_end_becomes_a_line_end(subject):
    ids = subject.encode(["one", "two"])
    assert subject.decode([*ids[0], END, *ids[1]]) == "one\ntwo"


def test_records_come_in_an_order_of_the_seed_not_of_the_shards(subject):
    ids = [r["id"] for r in subject.records("train")]
    assert ids != sorted(ids) and ids == [r["id"] for r in subject.records("train")]
    assert sorted(ids) == sorted(subject.data.table("train", ["id"])["id"].to_pylist())
    assert ids != [r["id"] for r in dataclasses.replace(subject, seed=1).records("train")]


@pytest.mark.parametrize("ask", [lambda s: s.predictions([[0, 5, 6]]), lambda s: s.sample(2, 3)])
def test_weights_that_are_no_numbers_are_told(subject, ask):
    broken = Subject(subject.workspace, Model(subject.model.path), subject.data, 0)
    with torch.no_grad():
        next(iter(broken.network.parameters())).fill_(float("nan"))
    with pytest.raises(SourceError, match="not finite"):
        ask(broken)
