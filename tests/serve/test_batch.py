"""Requests that share an engine: each gets its own answer, a cancelled one frees its row, a broken-off one goes on."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.model import Model
from workbench.serve.batch import Ask, Batch
from workbench.serve.engine import load_engine
from workbench.serve.sampling import Sampling
from workbench.serve.text import Language


@pytest.fixture(scope="module")
def parts(copy_of_taught, tmp_path_factory):
    model = Model.open("docs-lm", copy_of_taught(tmp_path_factory.mktemp("batch") / "workspace"))
    return model.path, Language(model.path)


class Desk:
    """A batch and everything it told."""

    def __init__(self, parts, slots=3):
        self.engine, self.language = load_engine(parts[0], slots), parts[1]
        self.news: list = []
        self.batch = Batch(self.engine, self.language, self.news.extend)

    def ask(self, name, prompt="Return the", *, most=30, seed=1, temperature=1.0, **more):
        self.batch.add(Ask(name, self.language.tokens(prompt), Sampling(seed, temperature), most, **more))

    def finish(self):
        while len(self.batch):
            self.batch.step()
        return self

    def text(self, name):
        return "".join(n.text for n in self.news if n.id == name)

    def tokens(self, name):
        return [t for n in self.news if n.id == name for t in n.tokens]


def alone(parts, **how):
    desk = Desk(parts)
    desk.ask("a", **how)
    return desk.finish()


def test_more_requests_than_rows_each_get_the_answer_they_would_have_alone(parts):
    desk = Desk(parts, slots=3)
    for n in range(9):
        desk.ask(str(n), prompt="Return the" if n % 2 else "A", seed=n, most=5 + 4 * n, stream=bool(n % 3))
    desk.finish()
    for n in range(9):
        want = alone(parts, prompt="Return the" if n % 2 else "A", seed=n, most=5 + 4 * n)
        assert desk.text(str(n)) == want.text("a") and desk.tokens(str(n)) == want.tokens("a")
    assert not desk.engine._lengths


def test_a_whole_answer_is_told_once_and_a_stream_step_by_step(parts):
    desk = Desk(parts)
    desk.ask("whole", most=10, temperature=0)
    desk.ask("stream", most=10, temperature=0, stream=True)
    desk.finish()
    assert [n.finish for n in desk.news if n.id == "whole"] == ["length"]
    assert [len(n.tokens) for n in desk.news if n.id == "stream"] == [1] * 10
    assert desk.text("whole") == desk.text("stream")


def test_a_cancelled_request_frees_its_row_at_once_and_says_nothing_more(parts):
    desk = Desk(parts, slots=1)
    desk.ask("a", most=80, stream=True)
    desk.ask("b", most=5, seed=9)
    desk.batch.step()
    desk.batch.cancel("a")
    assert not desk.engine._lengths and len(desk.batch) == 1
    told = len([n for n in desk.news if n.id == "a"])
    desk.finish()
    assert len([n for n in desk.news if n.id == "a"]) == told and len(desk.tokens("b")) == 5
    desk.batch.cancel("nobody")


@settings(max_examples=25, deadline=None)
@given(cut=st.integers(1, 28), seed=st.integers(0, 50), stops=st.sampled_from([(), ("the",), ("\n", "zzz")]), stream=st.booleans())
def test_an_answer_goes_on_elsewhere_where_it_broke_off(parts, cut, seed, stops, stream):
    whole = alone(parts, seed=seed, stops=stops, stream=True)
    before = whole.news[:min(cut, len(whole.news) - 1)]
    said = "".join(n.text for n in before)
    desk = Desk(parts)
    desk.ask("a", seed=seed, stops=stops, stream=stream, given=[t for n in before for t in n.tokens], sent=len(said))
    desk.finish()
    assert said + desk.text("a") == whole.text("a")
    assert [t for n in before for t in n.tokens] + desk.tokens("a") == whole.tokens("a")
    assert desk.news[-1].finish == whole.news[-1].finish


def test_an_answer_ends_with_the_context(parts):
    desk = alone(parts, prompt="x" * 30, most=500, temperature=0.9, seed=4)
    assert desk.news[-1].finish in ("length", "stop")
    prompt = len(desk.language.tokens("x" * 30))
    assert prompt + len(desk.tokens("a")) <= desk.engine.context + 1
