"""Errors say what, where, what was received, what is allowed, what to do; and cross processes whole."""

from __future__ import annotations

import pickle

import pytest

from workbench.errors import NotFoundError, PolicyError, Problem, SpecError, WorkbenchError


def test_all_five_parts_in_one_line():
    error = WorkbenchError("is too large", where="batch.sequences", received=10**6, allowed="at most 4,096", hint="Use accumulate")
    assert str(error) == "batch.sequences: is too large; received 1000000; expected at most 4,096. Use accumulate"


def test_what_was_received_is_cut():
    assert len(str(WorkbenchError("no", received="x" * 10_000))) < 250


@pytest.mark.parametrize("error", [
    WorkbenchError("a", where="b", received=[1], allowed="c", hint="d"),
    PolicyError("refused", hint="assess it"),
    NotFoundError.of("run", "rnu-1", ["run-1"]),
    SpecError([Problem("a.b", "is missing"), Problem("", "x")], source="f.yaml"),
])
def test_it_crosses_processes_whole(error):
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error) and str(back) == str(error) and back.exit_code == error.exit_code
    assert getattr(back, "problems", None) == getattr(error, "problems", None)


def test_not_found_names_what_exists_and_the_near_name():
    assert str(NotFoundError.of("model", "bto", ["bot", "other"])) == 'no model "bto"; expected one of bot, other. Did you mean "bot"?'
    assert str(NotFoundError.of("model", "zzz", [], hint="Make one")) == 'no model "zzz"; expected any model (there is none yet). Make one'
