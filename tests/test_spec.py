"""Specs as users meet them: every way in, out without loss, all errors at once in words that help."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from workbench import load_spec
from workbench.data.spec import DataSpec
from workbench.errors import SpecError
from workbench.pipeline.spec import PipelineSpec
from workbench.serve.spec import ServeSpec
from workbench.spec import WORDS, Spec, spec_class
from workbench.train.spec import TrainSpec

LEAST = {
    "data": {"name": "notes", "sources": [{"kind": "digits"}]},
    "train": {"data": "notes"},
    "assess": {"model": "notes-lm"},
    "serve": {"name": "bot", "models": [{"model": "notes-lm"}]},
    "monitor": {},
    "pipeline": {"name": "p", "steps": [{"name": "a", "notebook": "a.ipynb"}]},
}


@pytest.fixture(params=WORDS)
def spec(request) -> Spec:
    return load_spec({"word": request.param, **LEAST[request.param]})


def test_path_text_mapping_and_object_are_one(spec, tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(spec.to_yaml())
    cls = type(spec)
    # A pipeline looks for its notebooks beside its file: its folder says where that was.
    same = cls.load(path) if spec.WORD != "pipeline" else cls.load(path).override({"folder": "."})
    assert same == cls.load(str(path)).override({"folder": "."} if spec.WORD == "pipeline" else {}) == spec
    assert cls.load(spec.to_yaml()) == cls.load(spec.to_dict()) == cls.load(spec) == cls.load(spec.changed()) == spec
    assert cls.load(json.dumps(spec.to_dict())) == spec


def test_it_can_be_handed_over_as_python_and_as_a_command(spec):
    import shlex

    from workbench.spec import parse_value

    scope: dict = {}
    exec(spec.to_python(), scope)
    assert scope["spec"] == spec
    words = shlex.split(spec.to_command())
    assert words[:2] == ["workbench", spec.WORD]
    settings_given = dict(w.split("=", 1) for w in words[2:] if w != "--set")
    assert type(spec).load({"word": spec.WORD, **{k: parse_value(v) for k, v in settings_given.items()}}) == spec


def test_it_is_frozen_and_its_digest_is_of_every_field(spec):
    with pytest.raises(ValueError, match="frozen"):
        spec.version = 1
    assert spec.digest() == type(spec).load(spec.to_yaml()).digest()


def test_schema_is_json_and_says_what_fields_are(spec):
    schema = json.loads(json.dumps(type(spec).model_json_schema()))
    assert schema["properties"]["word"]["const"] == spec.WORD
    described = [n for n, f in schema["properties"].items() if n != "word" and not (f.get("description") or f.get("$ref"))]
    assert set(described) <= {"clip", "seed", "weight_decay", "batch", "limits", "name", "model", "every", "hardware", "split", "steps",
                              "policy", "rules", "webhooks", "models", "probes", "sources"}


YAML_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@example(prompts=["\x85", "a\u2028b", "\r"], rate=0.01, tokens=1)
@given(prompts=st.lists(YAML_TEXT, max_size=4), rate=st.floats(1e-8, 0.1), tokens=st.integers(1, 10**12))
@settings(deadline=None)
def test_yaml_loses_nothing(prompts, rate, tokens):
    spec = TrainSpec(data="notes", prompts=tuple(prompts), learning_rate=rate, tokens=tokens)
    assert TrainSpec.load(spec.to_yaml()) == spec


@pytest.mark.parametrize("text", ["no", "on", "1e3", "0x10", "012", "1_000", "null", "~", "", "2024-01-01", "1:30", "true", ".5", "- a",
                                  "a: b"])
def test_text_stays_text_in_yaml(text):
    assert TrainSpec.load(TrainSpec(data="n", prompts=(text,)).to_yaml()).prompts == (text,)


def test_all_errors_at_once_each_with_path_what_came_what_is_allowed_and_the_near_name():
    with pytest.raises(SpecError) as caught:
        TrainSpec.load({"word": "train", "dta": "notes", "model": {"siez": "1M", "size": "1MB", "context": 8},
                        "learning_rate": 3.0, "batch": {"sequences": "many"}})
    said = {p.path: p.message for p in caught.value.problems}
    fields = ", ".join(sorted(TrainSpec.model_fields))
    assert said == {
        "data": "is missing",
        "dta": f'unknown field; did you mean "data"? Allowed: {fields}',
        "model.size": "received '1MB'; expected '100K', '1M', '10M' or '100M'; did you mean \"1M\"?",
        "model.context": "received 8; expected a number ≥ 16",
        "model.siez": 'unknown field; did you mean "size"? Allowed: context, size, vocabulary',
        "learning_rate": "received 3.0; expected a number ≤ 0.1",
        "batch.sequences": "received 'many'; input should be a valid integer, unable to parse string as an integer",
    }
    assert str(caught.value).splitlines()[0] == "train spec: 7 problems"


def test_an_unknown_kind_inside_a_list_names_the_near_one():
    with pytest.raises(SpecError) as caught:
        DataSpec.load({"name": "n", "sources": [{"kind": "digits"}, {"kind": "flies", "paths": ["a"]}], "steps": [{"step": "qualty"}]})
    assert [str(p) for p in caught.value.problems] == [
        ("sources.1: received 'flies'; expected one of 'python-docs', 'digits', 'moving-digits', 'images', 'tunes', 'questions', 'files'; "
         'did you mean "files"?'),
        ("steps.0: received 'qualty'; expected one of 'normalise', 'exact-duplicates', 'near-duplicates', 'quality', 'pii', 'function'; "
         'did you mean "quality"?'),
    ]


def test_a_field_inside_a_chosen_kind_is_named_by_its_path():
    with pytest.raises(SpecError, match=r"sources\.0\.path: unknown field; did you mean \"paths\"\?"):
        DataSpec.load({"name": "n", "sources": [{"kind": "files", "path": ["a"]}]})


@pytest.mark.parametrize(("given_text", "words"), [
    ("word: data\n  name: x", "line 2, column 7"),
    ("word: data\nname: a\nname: b", "'name' stands twice"),
    ("- a\n- b", "expected a mapping of fields"),
    ("word: train\ndata: x", "this is a 'train' spec; expected 'data'"),
])
def test_what_is_no_spec_says_where(given_text, words):
    with pytest.raises(SpecError, match=words):
        DataSpec.load(given_text)


def test_a_file_that_is_not_there():
    with pytest.raises(SpecError, match="nowhere.yaml: 1 problem\n  can't be read: No such file"):
        load_spec("nowhere.yaml")


def test_a_newer_version_asks_for_a_newer_workbench():
    with pytest.raises(SpecError, match="received 2, and this workbench reads up to 1; install a newer one"):
        TrainSpec.load({"version": 2, "data": "n", "unknown": 1})


def test_a_misspelt_word_names_the_near_one():
    with pytest.raises(SpecError, match='received \'trian\'.*did you mean "train"'):
        load_spec({"word": "trian"})
    with pytest.raises(SpecError, match="word: is missing; expected one of data, train"):
        load_spec({"data": "x"})
    assert spec_class("serve") is ServeSpec


def test_override_by_dotted_path_is_validated_anew():
    spec = DataSpec.load({"name": "n", "sources": [{"kind": "digits"}]})
    assert spec.override({"split.test": 0.2, "steps.2.threshold": 0.9}).steps[2].threshold == 0.9
    with pytest.raises(SpecError, match="steps.2.threshold: received 9; expected a number ≤ 1"):
        spec.override({"steps.2.threshold": 9})
    with pytest.raises(SpecError, match="name.first: there is nothing to set below 'name'"):
        spec.override({"name.first": 1})
    with pytest.raises(SpecError, match="received '7' as a place in a list of 5; expected a number from 0 to 4"):
        spec.override({"steps.7.threshold": 1})


@pytest.mark.parametrize(("steps", "words"), [
    ([("a", ["b"]), ("b", ["a"])], "the steps a, b need each other in a circle"),
    ([("a", []), ("a", [])], "stands twice"),
    ([("data", []), ("train", ["dat"])], 'needs "dat", which is no step; did you mean "data"?'),
])
def test_a_pipeline_that_has_no_order_is_refused(steps, words):
    with pytest.raises(SpecError, match=words.replace("?", r"\?")):
        PipelineSpec.load({"name": "p", "steps": [{"name": n, "notebook": "x.ipynb", "needs": m} for n, m in steps]})


def test_serve_needs_some_traffic_and_each_model_once():
    with pytest.raises(SpecError, match="sum to 0"):
        ServeSpec.load({"name": "s", "models": [{"model": "m", "weight": 0}]})
    with pytest.raises(SpecError, match="a model stands twice"):
        ServeSpec.load({"name": "s", "models": [{"model": "m"}, {"model": "m", "weight": 1}]})


def test_yaml_is_read_by_any_other_reader(spec):
    assert yaml.safe_load(spec.to_yaml()) == spec.to_dict()
