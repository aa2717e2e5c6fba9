"""Each step alone: what it changes, what it drops and why."""

from __future__ import annotations

import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.data.partition import working_schema
from workbench.data.spec import ExactDuplicates, Function, NearDuplicates, Normalise, Pii, Quality
from workbench.data.steps import STEPS, compares, exact_duplicates, function, judging, near_duplicates, normalise, pii, quality, step_module
from workbench.errors import NotFoundError, SourceError

PROSE = "The river rose in the night, and in the morning nobody could say where the old bridge had stood. "
HINDI = "नमस्ते दुनिया, यह एक लंबा वाक्य है जिसमें बहुत सारे शब्द और मात्राएँ हैं और यह आगे भी चलता है।"
CHINESE = ("这是一个足够长的句子，用来检查没有空格的文字是否会被留下来。每个字都不一样才好，所以我们多写一些不同的内容，"
           "直到超过八十个字符为止，这样就够了吧，大概是的。也许还要再写几个字才行。")


def table(*rows: dict) -> pa.Table:
    return pa.Table.from_pylist([{"id": f"{n:016x}", **row} for n, row in enumerate(rows, 1)], working_schema())


def decided(module, step, folder, *parts: pa.Table, keep: frozenset = frozenset()) -> dict:
    folders = []
    for n, part in enumerate(parts):
        folders.append(folder / str(n))
        folders[-1].mkdir()
        module.sketch(step, part, folders[-1])
    return module.decide(step, folders, keep)


# --- normalise -------------------------------------------------------------------------------------------------------


@given(st.text(alphabet=st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("\r\n\t\x00\x0c\x85\u2028 e\u0301\ufeff"))))
def test_normalised_text_is_nfc_with_one_line_end_and_stays_as_it_is(text):
    told = normalise.judge(Normalise(), text)
    assert normalise.judge(Normalise(), told.text).text == told.text == unicodedata.normalize("NFC", told.text)
    assert "\n".join(told.text.splitlines()) == told.text.removesuffix("\n")
    assert not any(unicodedata.category(c) == "Cc" and c not in "\n\t" for c in told.text)
    assert all(line == line.rstrip() for line in told.text.split("\n"))
    assert bool(told.reason) == (not told.text.strip())


def test_normalise_keeps_words_apart_and_indents_as_they_are():
    assert normalise.judge(Normalise(), "a\x0cb\r\rc \t\n    d\x07e").text == "a\nb\n\nc\n    de"


# --- quality ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "reason"), [
    (PROSE, ""), (HINDI, ""), (CHINESE, ""), ("short", "too short"), (" " * 100, "too short"), (PROSE * 3000, "too long"),
    ("=-" * 20 + PROSE[:60], "symbols"),
    ("\n".join([PROSE[:50], "again and again", "again and again", "again and again"]), "repeated lines"),
    ("spam and eggs " * 20, "repeated words")])
def test_quality_says_which_rule_is_broken(text, reason):
    assert quality.judge(Quality(), text).reason == reason


def test_quality_at_its_bounds():
    text = "x" * 80
    half = "a+" * 50
    for judged, step, reason in ((text, Quality(min_characters=80), ""), (text, Quality(min_characters=81), "too short"),
                                 (text, Quality(max_characters=80), ""), (text, Quality(max_characters=79), "too long"),
                                 (half, Quality(max_symbols=0.5), ""), (half, Quality(max_symbols=0.49), "symbols")):
        assert quality.judge(step, judged).reason == reason


@given(st.text(max_size=200))
def test_measures_are_shares(text):
    assert all(0 <= measure(text) <= 1 for measure in (quality.symbols, quality.repeated_lines, quality.repeated_words))
    others = sum(not (c.isalnum() or c.isspace() or unicodedata.category(c) in ("Mn", "Mc", "Me", "Cf")) for c in text)
    assert quality.symbols(text) == others / max(len(text), 1)


def test_the_commonest_phrase_is_counted_by_its_characters():
    text = "one two three four one two three five"
    assert quality.repeated_words(text) == 2 * len("one two three") / len(text)


# --- duplicates ------------------------------------------------------------------------------------------------------


def test_of_the_same_content_the_smallest_id_stays_wherever_it_lies(tmp_path):
    rows = table({"text": "a"}, {"text": "b"}, {"text": "a"}, {"image": b"a"}, {"image": b"a"}, {"text": ""}, {"text": "b"})
    expected = {f"{n:016x}": ("same content", f"as {as_:016x}") for n, as_ in ((3, 1), (5, 4), (7, 2))}
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    assert decided(exact_duplicates, ExactDuplicates(), tmp_path / "x", rows) == expected
    assert decided(exact_duplicates, ExactDuplicates(), tmp_path / "y", rows.slice(4), rows.slice(0, 4), rows.slice(0, 0)) == expected


def test_what_a_person_keeps_stays_and_the_others_go_for_it(tmp_path):
    rows = table({"text": "a"}, {"text": "a"}, {"text": "a"})
    gone = decided(exact_duplicates, ExactDuplicates(), tmp_path, rows, keep=frozenset([f"{2:016x}"]))
    assert gone == {f"{n:016x}": ("same content", f"as {2:016x}") for n in (1, 3)}


def test_near_duplicates_name_the_record_and_the_similarity(tmp_path):
    rows = table({"text": PROSE}, {"text": PROSE + "End."}, {"text": "Something else altogether, of other words."}, {"image": b"x"})
    gone = decided(near_duplicates, NearDuplicates(), tmp_path, rows)
    assert list(gone) == [f"{2:016x}"] and gone[f"{2:016x}"][0] == "near duplicate"
    assert gone[f"{2:016x}"][1].startswith(f"of {1:016x}, similarity 0.9")


# --- pii -------------------------------------------------------------------------------------------------------------


def test_pii_is_redacted_and_counted_or_the_record_goes():
    text = "Mail ada@example.org or bob@example.org, card 4111 1111 1111 1111"
    told = pii.judge(Pii(), text)
    assert told.text == "Mail <EMAIL> or <EMAIL>, card <CARD>" and not told.reason and dict(told.counts) == {"email": 2, "card": 1}
    assert pii.judge(Pii(kinds=("card",)), text).text == text.replace("4111 1111 1111 1111", "<CARD>")
    told = pii.judge(Pii(action="drop"), text)
    assert told.text == text and told.reason == "personal data" and told.detail == "1 card, 2 email"


# --- function --------------------------------------------------------------------------------------------------------


def test_a_function_of_ones_own_changes_drops_and_is_read_anew(workspace):
    path = workspace.root / "cleaning.py"
    path.write_text("def shout(text, end='!'):\n    return None if 'no' in text else text.upper() + end\n")
    step = Function(function="cleaning:shout", options={"end": "?"})
    judge = judging(step, workspace.root)
    assert judge("yes").text == "YES?" and judge("no")[1:3] == ("by function", "cleaning:shout")
    before = function.inputs(step, workspace)
    path.write_text("def shout(text, end='!'):\n    return text + end\n")
    assert judging(step, workspace.root)("no").text == "no?" and function.inputs(step, workspace) != before


@pytest.mark.parametrize(("code", "named", "kind", "words"), [
    ("", "nowhere:f", SourceError, "there is no such module"), ("def fix(t): pass", "own:fixx", NotFoundError, 'Did you mean "fix"'),
    ("1/0", "own:f", SourceError, "can't be imported.*ZeroDivisionError")])
def test_a_function_that_is_not_there_is_refused_before_a_run(workspace, code, named, kind, words):
    (workspace.root / "own.py").write_text(code)
    with pytest.raises(kind, match=words):
        function.inputs(Function(function=named), workspace)


@pytest.mark.parametrize(("body", "words"), [
    ("return 5", "gave no text; received 5"), ("raise KeyError('x')", "failed.*KeyError.*the text")])
def test_a_function_that_fails_says_on_what(workspace, body, words):
    (workspace.root / "own.py").write_text(f"def f(text):\n    {body}\n")
    with pytest.raises(SourceError, match=words):
        judging(Function(function="own:f"), workspace.root)("the text")


def test_every_step_has_a_module_of_one_kind():
    for name in STEPS:
        module = step_module(name)
        kinds = [hasattr(module, "judge") or hasattr(module, "bind"), hasattr(module, "sketch") and hasattr(module, "decide")]
        assert sorted(kinds) == [False, True], name
    assert compares(NearDuplicates()) and not compares(Quality())
    with pytest.raises(NotFoundError, match='Did you mean "quality"'):
        step_module("qualty")
