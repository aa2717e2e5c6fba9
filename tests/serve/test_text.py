"""Tokens to text piece by piece: together the pieces are what decoding at once gives, up to a stop sequence."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from workbench.model import learn_tokenizer, save_tokenizer
from workbench.serve.text import Language, _overlap

TEXTS = ["the Ünïcode <b>text</b> of a 😀 model", "stop here, and there", "日本語のテキスト"]


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    folder = tmp_path_factory.mktemp("language")
    save_tokenizer(learn_tokenizer(TEXTS, 400), folder)
    (folder / "config.json").write_text('{"bos_token_id": 0, "eos_token_id": 0}')
    return Language(folder)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A tokenizer that is not byte-level: its words are joined by spaces."""
    folder = tmp_path_factory.mktemp("other")
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "stop": 1, "here": 2, "##s": 3, "a": 4, "\u00e9": 5}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text('{"eos_token_id": [7, 8]}')
    return Language(folder)


def written(language, tokens, stops=()):
    writer, pieces = language.writer(stops), []
    for token in tokens:
        pieces.append(writer.add(token))
        if writer.stopped:
            break
    return "".join([*pieces, writer.finish()]), writer.stopped


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_pieces_are_what_decoding_at_once_gives_even_for_broken_bytes(language, data):
    tokens = data.draw(st.lists(st.integers(0, language.size - 1), max_size=40))
    assert written(language, tokens) == (language.tokenizer.decode(tokens), False)


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=40))
def test_any_text_comes_back(language, text):
    ids = language.tokens(text)
    assert ids[0] == 0 and written(language, ids)[0] == text


@settings(max_examples=100, deadline=None)
@given(tokens=st.lists(st.integers(1, 5), min_size=1, max_size=12))
def test_other_tokenizers_are_decoded_by_a_window(other, tokens):
    assert written(other, tokens)[0] == other.tokenizer.decode(tokens)


@settings(max_examples=300, deadline=None)
@given(text=st.text("abc 😀", max_size=30), stops=st.lists(st.text("abc 😀", min_size=1, max_size=4), min_size=1, max_size=3))
def test_a_stop_sequence_ends_the_text_before_its_first_place(language, text, stops):
    # Byte tokens: a stop sequence is then spread over several, as the worst case has it.
    tokens = [language.tokenizer.token_to_id(c) for b in text for c in language.tokenizer.pre_tokenizer.pre_tokenize_str(b)[0][0]]
    places = [p for p in (text.find(s) for s in stops) if p >= 0]
    got, stopped = written(language, tokens, stops)
    assert stopped == bool(places)
    # Of two stops the one that is complete first ends the text, so a longer one that began earlier may be cut short.
    assert got == text[:len(got)] and len(got) <= len(text) and (len(got) >= min(places) if places else got == text)


def test_nothing_of_a_stop_sequence_is_said_before_it_is_certain(language):
    writer, said = language.writer(["END"]), []
    for piece in ["x", "E", "N", "x", "E", "N", "D", "y"]:
        said.append(writer.add(language.tokenizer.token_to_id(piece)))
    assert said == ["x", "", "", "ENx", "", "", "", ""] or said[:7] == ["x", "", "", "ENx", "", "", ""]
    assert writer.stopped and writer.finish() == ""


@given(text=st.text("ab"), stop=st.text("ab", min_size=1))
def test_overlap_is_the_longest(text, stop):
    assert _overlap(text, stop) == max((n for n in range(min(len(text), len(stop) - 1) + 1) if text.endswith(stop[:n])), default=0)


def test_marks_are_read_and_the_beginning_is_never_doubled(language, other):
    assert language.ends == {0} and language.tokens("<|endoftext|>a")[:2] == [0, language.tokens("a")[1]]
    assert other.ends == {7, 8} and other.begin is None and other.tokens("stop") == [1]


def test_a_chat_is_what_transformers_makes_of_it(language):
    from transformers import PreTrainedTokenizerFast

    messages = [{"role": "user", "content": "{{ 1 }} <b>\n"}, {"role": "assistant", "content": "é"}, {"role": "user", "content": ""}]
    want = PreTrainedTokenizerFast.from_pretrained(language.path).apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert language.chat(messages) == want


def test_a_chat_template_may_refuse_and_can_not_reach_out(language, other, tmp_path):
    from workbench.errors import WorkbenchError

    with pytest.raises(WorkbenchError, match="no chat template"):
        other.chat([{"role": "user", "content": "x"}])
    for name in ("tokenizer.json", "config.json"):
        (tmp_path / name).write_bytes((language.path / name).read_bytes())
    for template, words in (("{{ raise_exception('only users') }}", "only users"), ("{{ messages.__class__.__mro__ }}", "unsafe")):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
        with pytest.raises(WorkbenchError, match=words):
            Language(tmp_path).chat([{"role": "user", "content": "x"}])
