"""The plan from what is wanted and what is: it always arrives, and on the way there is always somebody who answers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import SpecError
from workbench.serve.spec import Limits
from workbench.serve.wanted import Member, Wanted, WantedModel, plan, read

DIGEST = "ab" * 32
SHAPE = (1, 16)


def wanted(**changes) -> Wanted:
    return Wanted(**{"generation": "g", "run": "r", "models": (WantedModel(name="m", digest=DIGEST, weight=1),), "replicas": 2,
                     "threads": 1, "host": "127.0.0.1", "port": 0, "limits": Limits(), **changes})


def test_what_is_written_is_read(tmp_path):
    assert read(tmp_path) is None
    wanted().write(tmp_path)
    assert read(tmp_path) == wanted()
    assert (tmp_path / "wanted.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("edit", [{"models": []}, {"replicas": 0}, {"models": [{"name": "../x", "digest": DIGEST, "weight": 1}]},
                                  {"models": [{"name": "x", "digest": DIGEST, "weight": 1, "path": "/somewhere"}]}, {"port": "x"}])
def test_an_edited_file_that_can_not_be_is_refused_whole(tmp_path, edit):
    (tmp_path / "wanted.json").write_text(json.dumps({**wanted().model_dump(mode="json"), **edit}))
    with pytest.raises(SpecError):
        read(tmp_path)
    (tmp_path / "wanted.json").write_text("{")
    with pytest.raises(SpecError, match="expected JSON"):
        read(tmp_path)


member = st.builds(Member, st.uuids().map(str), st.sampled_from("abc"), st.sampled_from([SHAPE, (2, 16)]),
                   st.sampled_from(["starting", "ready", "draining", "ending"]))


@settings(max_examples=300)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True), st.integers(1, 3), st.lists(member, max_size=6),
       st.randoms(use_true_random=False))
def test_it_arrives_from_anywhere_and_somebody_always_answers(digests, count, members, chance):
    fleet, shifted, fresh = {m.id: m for m in members}, False, 0
    answered = any(m.state == "ready" for m in members)
    for _ in range(200):
        moves = plan(digests, count, SHAPE, list(fleet.values()), shifted=shifted)
        if moves.complete:
            break
        for digest in moves.start:
            fresh += 1
            fleet[f"n{fresh}"] = Member(f"n{fresh}", digest, SHAPE, "starting")
        for name in moves.end:
            fleet[name] = Member(name, fleet[name].digest, fleet[name].shape, "ending")
        shifted = shifted or moves.able
        for name in moves.drain:
            fleet[name] = Member(name, fleet[name].digest, fleet[name].shape, "draining")
        answers = any(m.state == "ready" for m in fleet.values())
        assert answers or not answered  # once somebody answers, somebody always does
        answered = answers
        for m in list(fleet.values()):  # time passes for some of them
            if chance.random() < 0.5:
                if m.state == "starting":
                    fleet[m.id] = Member(m.id, m.digest, m.shape, "ready")
                elif m.state in ("draining", "ending"):
                    del fleet[m.id]
        answered = answered or any(m.state == "ready" for m in fleet.values())
    assert moves.complete
    assert sorted(m.digest for m in fleet.values()) == sorted(d for d in digests for _ in range(count))


def test_one_that_dies_too_often_is_not_started_for_now():
    assert plan(["a", "b"], 1, SHAPE, [], shifted=False, held={"a"}).start == ("b",)
