from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from widgets.editor import Drafts, Editor
from workbench.data.spec import DataSpec
from workbench.errors import SpecError
from workbench.train.spec import TrainSpec


def test_a_list_that_was_not_said_begins_as_its_default():
    editor = Editor(DataSpec, {"name": "a", "sources": [{"kind": "digits"}]})
    editor.put(["steps", 2, "threshold"], 0.9)
    assert editor.spec.steps[2].threshold == 0.9 and len(editor.spec.steps) == len(DataSpec.model_fields["steps"].default)
    editor.move(["steps"], 0, 2)
    assert editor.spec.steps[2].step == "normalise"
    editor.remove(["steps"], 2)
    editor.insert(["steps"], 0, {"step": "normalise"})
    assert editor.spec.steps[0].step == "normalise"
    editor.reset(["steps"])
    assert "steps" not in editor.mapping


def test_a_part_that_says_nothing_any_more_is_not_said():
    editor = Editor(TrainSpec, {"data": "docs"})
    editor.put(["model", "size"], "10M")
    assert editor.mapping == {"data": "docs", "model": {"size": "10M"}}
    editor.reset(["model", "size"])
    assert editor.mapping == {"data": "docs"}


def test_problems_come_all_at_once_with_their_fields():
    editor = Editor(TrainSpec, {"data": "docs"})
    editor.put(["learning_rate"], 3)
    editor.put(["model", "size"], "2M")
    assert editor.spec is None and [p.path for p in editor.problems] == ["model.size", "learning_rate"]


def test_yaml_and_form_are_one():
    editor = Editor(TrainSpec, {"data": "docs"})
    editor.write("word: train\ndata: docs\n# mine\nseed: 3\n")
    assert editor.spec.seed == 3 and "# mine" in editor.yaml
    editor.put(["seed"], 4)
    assert editor.spec.seed == 4 and "seed: 4" in editor.yaml
    editor.write("data: [")
    assert editor.spec is None and editor.yaml == "data: [" and editor.mapping["seed"] == 4
    editor.write("word: data\nname: a\n")
    assert "expected 'train'" in editor.problems[0].message
    editor.write("version: 2\ndata: docs\n")
    assert "newer" in editor.problems[0].message


@given(st.lists(st.one_of(
    st.tuples(st.just("put"), st.sampled_from(["seed", "tokens", "clip"]), st.integers(-5, 5)),
    st.tuples(st.just("reset"), st.sampled_from(["seed", "tokens", "clip"]), st.none()),
    st.tuples(st.just("write"), st.sampled_from(["{data: a}", "{data: b, seed: 1}"]), st.none())), max_size=12))
def test_undoing_everything_and_redoing_it_ends_where_it_was(steps):
    editor = Editor(TrainSpec, {"data": "docs"})
    begin = dict(editor.mapping)
    for kind, what, value in steps:
        if kind == "put":
            editor.put([what], value)
        elif kind == "reset":
            editor.reset([what])
        else:
            editor.write(what)
    end, count = dict(editor.mapping), 0
    while editor.state()["undo"]:
        editor.undo()
        count += 1
    assert editor.mapping == begin
    while editor.state()["redo"]:
        editor.redo()
        count -= 1
    assert editor.mapping == end and count == 0


def test_typing_in_one_field_is_one_step():
    editor = Editor(TrainSpec)
    for text in ("d", "do", "doc", "docs"):
        editor.put(["data"], text)
    assert editor.state()["undo"] == 1
    editor.undo()
    assert editor.mapping == {}


def test_what_is_no_spec_of_this_word_is_refused_and_what_does_not_hold_is_shown(tmp_path):
    with pytest.raises(SpecError, match="this is a 'data' spec"):
        Editor(TrainSpec, {"word": "data", "name": "a"})
    with pytest.raises(SpecError, match="can't be read"):
        Editor(TrainSpec, "nowhere.yaml")
    assert Editor(TrainSpec, {"data": "docs", "sead": 1}).problems[0].path == "sead"


def test_drafts_survive_and_one_that_says_what_the_notebook_says_is_none(workspace):
    drafts = Drafts(workspace, "train", {"data": "docs"})
    drafts.keep({"data": "docs", "seed": 1})
    assert Drafts(workspace, "train", {"data": "docs"}).read()[0] == {"data": "docs", "seed": 1}
    assert Drafts(workspace, "train", {"data": "other"}).read() is None
    drafts.keep({"data": "docs"})
    assert drafts.read() is None
    drafts.keep({"data": "docs", "seed": 1})
    drafts.path.write_text("{broken")
    assert drafts.read() is None
