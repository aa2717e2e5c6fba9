"""The table of runs: only allowed changes of state, one driver at a time, however many ask at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import NotFoundError
from workbench.journal import ENDED, TRANSITIONS, Journal, Superseded
from workbench.workspace import Workspace


@pytest.fixture
def journal(workspace):
    return Journal(workspace)


def add(journal, key="k", **options):
    return journal.add("data", "notes", key, {"word": "data"}, {"a": "b"}, **options)


def test_the_same_key_is_found_unless_again(journal):
    first, found = add(journal)
    assert not found and add(journal)[0].id == first.id and add(journal)[1]
    assert not add(journal, again=True)[1] and not add(journal, "other")[1]


def test_the_newest_is_who_was_submitted_last_whatever_the_clock_said(journal, monkeypatch):
    first, _ = add(journal, again=True)
    monkeypatch.setattr("time.time", lambda: first.submitted - 3600)
    second, _ = add(journal, again=True)
    assert second.submitted < first.submitted and [e.id for e in journal.entries()] == [second.id, first.id]
    assert add(journal)[0].id == second.id


@pytest.mark.parametrize("end", ["failed", "stopped"])
def test_what_did_not_end_well_is_not_found(journal, end):
    first, _ = add(journal)
    journal.claim(first.id)
    journal.move(first.id, end)
    assert add(journal)[0].id != first.id


def test_many_ask_at_once_and_one_run_is_made(journal):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: add(journal), range(32)))
    assert len({e.id for e, _ in made}) == 1 and sum(not found for _, found in made) == 1


@given(st.lists(st.sampled_from(list(TRANSITIONS)), max_size=8))
@settings(deadline=None, max_examples=50)
def test_only_allowed_changes_happen_and_each_is_an_event(tmp_path_factory, wanted):
    journal = Journal(Workspace(tmp_path_factory.mktemp("journal")).open())
    entry, _ = add(journal)
    state, said = "queued", ["queued"]
    for to in wanted:
        after = journal.move(entry.id, to).state
        assert after == (to if to in TRANSITIONS[state] else state)
        said += [to] if to in TRANSITIONS[state] else []
        state = after
        assert (journal.get(entry.id).ended is not None) == (state in ENDED)
    assert [e.name for e in journal.events.tail(entry.id, kinds=["state"])] == said


def test_a_newer_attempt_supersedes_the_older(journal):
    entry, _ = add(journal)
    first = journal.claim(entry.id)
    second = journal.claim(entry.id)
    assert (first.attempt, second.attempt) == (1, 2)
    with pytest.raises(Superseded):
        journal.beat(entry.id, 1)
    with pytest.raises(Superseded):
        journal.move(entry.id, "done", attempt=1)
    assert journal.move(entry.id, "done", attempt=2, result={"x": 1}).result == {"x": 1}
    assert journal.claim(entry.id) is None


def test_a_driver_hears_of_a_stop_by_its_beat(journal):
    entry, _ = add(journal)
    attempt = journal.claim(entry.id).attempt
    assert journal.beat(entry.id, attempt) == "running"
    journal.move(entry.id, "stopping")
    assert journal.beat(entry.id, attempt) == "stopping"


def test_a_run_is_found_by_the_beginning_of_its_id(journal):
    entry, _ = add(journal)
    assert journal.get(entry.id[:-3]).id == entry.id
    add(journal, again=True)
    with pytest.raises(NotFoundError, match='no run "data-"'):
        journal.get("data-")
    with pytest.raises(NotFoundError):
        journal.get("%")


def test_words_wait_for_the_current_attempt_and_are_heard_once(journal):
    entry, _ = journal.add("train", "small", "k-words", {}, {})
    journal.say(entry.id, "pause", {})
    journal.say(entry.id, "set", {"learning_rate": 0.5})
    first = journal.claim(entry.id).attempt
    second = journal.claim(entry.id).attempt
    assert journal.heard(entry.id, first) == []
    assert journal.heard(entry.id, second) == [("pause", {}), ("set", {"learning_rate": 0.5})]
    assert journal.heard(entry.id, second) == []
