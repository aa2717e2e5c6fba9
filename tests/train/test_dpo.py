"""Preferences make what was chosen likelier than what was rejected, measured from what the base itself says of both."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from answered import asked, base_in, pair_data, written

from workbench import runs
from workbench.dataset import Dataset
from workbench.errors import SourceError
from workbench.model import load_pretrained
from workbench.train.fit import objective
from workbench.train.plan import planned
from workbench.train.reading import answers, sight
from workbench.train.reading import base as bases
from workbench.train.spec import TrainSpec
from workbench.workspace import Workspace


def spec_of(base: Path | str, adapter: dict | None = None, data: str = "liked", **changes) -> TrainSpec:
    return TrainSpec.load({"word": "train", "data": data, "name": "polite", "learning_rate": 2e-3, "epochs": 3, "prompts": [],
                           "objective": {"kind": "dpo", "base": str(base), "adapter": adapter, "context": 64, "beta": 0.2},
                           "every": {"checkpoint": 10, "evaluate": 10, "sample": 1000}, **changes})


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return base_in(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def liked(live) -> Dataset:
    return pair_data(live)


@pytest.fixture
def read(tmp_path, base):
    """A spec's objective in this process, over pairs of its own."""
    place = Workspace(tmp_path).open()
    dataset = pair_data(place)

    def made(adapter: dict | None):
        spec = spec_of(base, adapter)
        found = answers.make(spec, place, dataset, bases.found(str(base), place))
        return objective(planned(spec, found.count("train")).to_dict() | found.told())

    return made


def log_probability(model: torch.nn.Module, ids: list[int], trained: list[int]) -> float:
    """Of the trained tokens of a sequence, by all logits and one sequence at a time."""
    with torch.no_grad():
        logs = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(logs[n - 1, ids[n]].item() for n in range(1, len(ids)) if trained[n])


def test_the_loss_is_that_of_the_paper(read, base):
    module = read(None)
    with torch.no_grad():
        for p in module.model.parameters():
            p.add_(0.01 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    reference, want = load_pretrained(base), []
    for sample in module.reading.named(range(4)):
        gains = []
        for side in (0, 1):
            ids, trained = (part.tolist() for part in module.reading.split.sequence(2 * sample + side))
            gains.append(log_probability(module.model, ids, trained) - log_probability(reference, ids, trained))
        want.append(math.log1p(math.exp(-0.2 * (gains[0] - gains[1]))))
    got = module.loss(module.reading.batch(range(4), range(8))).item()
    assert got == pytest.approx(sum(want) / 4, abs=1e-5) and abs(got - math.log(2)) > 1e-3


@pytest.mark.parametrize("adapter", [None, {"rank": 4}])
def test_before_it_learns_it_prefers_neither(read, adapter):
    module = read(adapter and {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": []})
    table = module.scores()
    assert table.shape == (6, 2) and table[:, 1].tolist() == [1.0] * 6
    assert module.measure(table)[0] == pytest.approx(math.log(2), abs=1e-5)


def test_only_the_answers_are_compared(read):
    split = read(None).reading.split
    for sample in range(len(split.rows)):
        (chosen, on), (rejected, off) = (split.sequence(2 * sample + side) for side in (0, 1))
        asked_in = int(on.argmax())
        assert chosen[:asked_in].tolist() == rejected[:asked_in].tolist() and off[:asked_in].sum() == 0
        assert on[asked_in:].all() and off[asked_in:].all()


def test_what_was_chosen_becomes_likelier_whole_and_by_an_adapter(live, liked, base):
    whole = runs.run(spec_of(base), live)
    assert whole.result["metrics"]["preference_loss_before"] == pytest.approx(math.log(2), abs=1e-4)
    assert whole.result["metrics"]["preference_loss"] < 0.2
    assert whole.result["metrics"]["preference_accuracy"] == 1.0 and whole.result["metrics"]["reward_margin"] > 1.5
    assert dict(whole.curve("reward_margin")).keys() == dict(whole.curve("preference_loss")).keys() - {0, whole.result["metrics"]["steps"]}
    adapted = runs.run(spec_of("polite", {"rank": 8}, name="kind"), live)
    assert adapted.result["metrics"]["preference_loss"] < 0.6 and adapted.result["metrics"]["gain"]["high"] < 0
    assert adapted.result["metrics"]["pairs"] % 8 == 0 and adapted.result["metrics"]["base"]["digest"] == whole.output.digest
    assert (adapted.output.path / "adapter" / "adapter_model.safetensors").exists() and "dpo" in adapted.output.card
    margins = []
    for model in (whole.output.load(), adapted.output.load()):
        tokenizer = whole.output.tokenizer()
        question = tokenizer.apply_chat_template(asked()[0][:1], tokenize=False, add_generation_prompt=True)
        begin = [0, *tokenizer(question).input_ids]
        said = [log_probability(model, ids := [*begin, *tokenizer(text).input_ids, 0], [0] * len(begin) + [1] * (len(ids) - len(begin)))
                for text in (" It is blue.", " Who can tell")]
        margins.append(said[0] - said[1])
    assert margins[1] > margins[0]


def test_pairs_are_seen_side_by_side(live, liked, base):
    seen = sight.first_batch(spec_of(base), live)
    first, second = ("".join(s["texts"]) for s in seen["sequences"][:2])
    assert "It is" in first and "Who can tell" in second and first.partition("assistant:")[0] == second.partition("assistant:")[0]
    assert [s["records"][0]["locator"].partition(":")[0] for s in seen["sequences"][:2]] == ["chosen", "rejected"]
    assert seen["total"] == 2 * seen["records"]


def test_chats_are_no_preferences(live, base):
    written(live, "talks", "chat", [{"messages": m} for m in asked()])
    with pytest.raises(SourceError, match="holds no preferences; received 'records of form chat'"):
        runs.submit(spec_of(base, data="talks"), live)
