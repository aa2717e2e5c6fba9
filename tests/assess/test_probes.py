"""Each probe measures what it says, exactly, on a model that was soundly if briefly trained."""

from __future__ import annotations

import gzip
import json
import lzma
import math

import numpy as np
import pytest
import torch
from conftest import write_network, write_texts
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.assess.probe import excerpt
from workbench.assess.probes import KINDS
from workbench.assess.probes.bits_per_byte import BitsPerByte, held_out, windows
from workbench.assess.probes.group_likelihood_gap import SENTENCES, GroupLikelihoodGap
from workbench.assess.probes.memorised import Memorised
from workbench.assess.probes.pii_generated import PiiGenerated
from workbench.assess.spec import DEFAULT
from workbench.assess.subject import END, Subject
from workbench.errors import SourceError, SpecError


@pytest.mark.parametrize("name", DEFAULT)
def test_a_sound_model_passes_the_default_policy_and_is_measured_alike_again(subject, judged, name):
    status, evidence = judged(subject, name)
    assert status == "pass", evidence
    assert math.isfinite(evidence.value) and evidence.low <= evidence.value <= evidence.high and evidence.low < evidence.high
    again = KINDS[name]().measure(Subject(subject.workspace, subject.model, subject.data, 0))
    assert (again.value, again.low, again.high, again.examples) == (evidence.value, evidence.low, evidence.high, evidence.examples)
    json.dumps([evidence.examples, evidence.beside], allow_nan=False)


# --- bits a byte -----------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(length=st.integers(0, 200), context=st.integers(1, 40))
def test_windows_score_each_token_once_with_enough_before_it(length, context):
    scored = []
    for start, stop, first in windows(length, context):
        assert 0 <= start < first < stop <= length and stop - start <= context + 1
        for token in range(first, stop):
            assert token - start >= min(token, context - max(1, context // 2) + 1, context)
            scored.append(token)
    assert scored == list(range(1, length))


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text("aé𝕏", min_size=1, max_size=9), max_size=9), most=st.integers(1, 60))
def test_held_out_text_is_cut_at_a_character_and_never_longer_than_asked(texts, most):
    chosen = held_out([{"text": t} for t in texts], most)
    size = sum(len(t.encode()) for _, t, _ in chosen)
    whole = sum(len(t.encode()) for t in texts)
    assert size == whole if whole <= most else most - 3 <= size <= most
    assert all(w == (record["text"] == text) and record["text"].startswith(text) for record, text, w in chosen)
    assert all(w for _, _, w in chosen[:-1])


def test_bits_are_those_of_a_plain_loop_over_the_records(subject):
    found = BitsPerByte().measure(subject)
    texts, nats = [r["text"] for r in subject.records("test")], 0.0
    for text in texts:
        tokens = [END, *subject.tokenizer(text).input_ids, END]
        for start, stop, first in windows(len(tokens), subject.context):
            with torch.inference_mode():
                chances = torch.log_softmax(subject.network(torch.tensor([tokens[start:stop - 1]])).logits[0].double(), -1)
            nats -= sum(chances[t - 1 - start, tokens[t]].item() for t in range(first, stop))
    size = sum(len(t.encode()) for t in texts)
    assert max(len(subject.tokenizer(t).input_ids) for t in texts) > 2 * subject.context  # windows were needed
    assert found.value == pytest.approx(nats / math.log(2) / size, rel=1e-6) and found.sample == len(texts)
    joined = "\0".join(texts).encode()
    assert found.beside == {"gzip": 8 * len(gzip.compress(joined, 9)) / size,
                            "xz": 8 * len(lzma.compress(joined, preset=9 | lzma.PRESET_EXTREME)) / size}


def test_bits_are_measured_on_the_test_split_alone_and_no_further_than_asked(subject):
    small = BitsPerByte(max_kilobytes=1).measure(subject)
    assert small.sample < BitsPerByte().measure(subject).sample
    held_out_ids = set(subject.data.table("test", ["id"])["id"].to_pylist())
    assert {e["record"] for e in small.examples} <= held_out_ids


# --- memorised -------------------------------------------------------------------------------------------------------


def test_memorised_is_what_greedy_generation_repeats(subject):
    probe = Memorised(prompt_tokens=8, continuation_tokens=2, passages=40)
    for split in ("train", "test"):
        passages = probe._passages(subject, split)
        prompts = torch.tensor([[END, *tokens[:8]] for _, tokens in passages])
        out = subject.network.generate(prompts, attention_mask=torch.ones_like(prompts), do_sample=False, max_new_tokens=2,
                                       min_new_tokens=2, eos_token_id=None)
        hits = sum(out[n, 9:].tolist() == tokens[8:] for n, (_, tokens) in enumerate(passages))
        found = probe.measure(subject)
        share = found.value if split == "train" else found.beside["held-out"]
        assert share == hits / len(passages)
        if split == "train":
            assert sum(e["tokens repeated"] == 2 for e in found.examples) == min(hits, 20)
            assert all((e["tokens repeated"] == 2) == (not e["goes on"]) for e in found.examples)
    assert found.value > 0  # two tokens are sometimes guessed: the comparison above was not of zeros


@settings(max_examples=20, deadline=None)
@given(prompt=st.integers(1, 20), rest=st.integers(1, 20), wanted=st.integers(10, 60))
def test_passages_stand_in_their_records_and_none_overlaps_another(subject, prompt, rest, wanted):
    probe = Memorised(prompt_tokens=prompt, continuation_tokens=rest, passages=wanted)
    passages = probe._passages(subject, "test")
    known = {r["id"]: subject.tokenizer(r["text"]).input_ids for r in subject.records("test")}
    room = sum(len(ids) // (prompt + rest) for ids in known.values())
    assert len(passages) == min(wanted, room)
    taken = {}
    for record, tokens in passages:
        assert len(tokens) == prompt + rest
        taken.setdefault(record["id"], []).append(tokens)
    for name, pieces in taken.items():
        ids = known[name]
        for piece in pieces:
            assert any(ids[n:n + len(piece)] == piece for n in range(len(ids)))
        assert len(pieces) <= len(ids) // (prompt + rest)
    if len(passages) == wanted and len(taken) < len(known):
        assert max(len(p) for p in taken.values()) == 1  # second passages only where every record gave a first


# --- personal data ---------------------------------------------------------------------------------------------------


def test_pii_is_counted_in_free_generations_and_shown_redacted(subject, tmp_path):
    class Writer(Subject):
        def sample(self, count, tokens, *purpose, temperature=1.0):
            return ["write to ada@example.org now", "nothing", "call +44 20 7946 0958 or bob@example.org"] + ["none"] * (count - 3)

    data = write_texts(subject.workspace, "mails", ["write to ada@example.org today"] * 2, ["x", "y"])
    found = PiiGenerated(generations=20).measure(Writer(subject.workspace, subject.model, data, 0))
    assert found.value == 0.1 and found.sample == 20 and found.beside == {"findings": 3.0, "of these in the training text": 1.0}
    assert [(e["kinds"], e["in the training text"]) for e in found.examples[:2]] == [("email", "yes"), ("phone, email", "no")]
    assert {e["kinds"] for e in found.examples[2:]} == {"none"}
    assert "example.org" not in str(found.examples) and "7946" not in str(found.examples) and "<EMAIL>" in str(found.examples)


# --- groups ----------------------------------------------------------------------------------------------------------


def test_the_gap_is_that_of_the_shared_words_in_a_plain_loop(subject):
    found, gaps, signed = GroupLikelihoodGap().measure(subject), [], {}
    for theme, (pairs, sentences) in SENTENCES.items():
        for sentence in sentences:
            for pair in pairs:
                scores = []
                tail = subject.tokenizer(sentence.partition("{}")[2]).input_ids
                for name in pair:
                    tokens = [END, *subject.tokenizer(sentence.format(name)).input_ids]
                    assert tokens[-len(tail):] == tail  # what follows the name is cut into the same tokens
                    with torch.inference_mode():
                        chances = torch.log_softmax(subject.network(torch.tensor([tokens])).logits[0].double(), -1)
                    scores.append(np.mean([chances[len(tokens) - len(tail) + n - 1, t].item() for n, t in enumerate(tail)]))
                gaps.append(scores[0] - scores[1])
                signed.setdefault(theme, []).append(scores[0] - scores[1])
    assert found.value == pytest.approx(np.abs(gaps).mean(), abs=1e-4) and found.sample == len(gaps) >= 20
    assert found.beside == pytest.approx({t: np.mean(v) for t, v in signed.items()}, abs=1e-4)
    assert len(found.examples) == len(gaps)
    for e in found.examples:
        assert e["log-likelihood"] - e["log-likelihood instead"] == pytest.approx(e["difference"], abs=2e-3) and e["name"] in e["sentence"]


# --- what can't be measured ------------------------------------------------------------------------------------------


def test_a_held_out_split_that_is_too_small_is_told(subject):
    long = ["a long enough text about nothing in particular, " * 20] * 12
    for test, probe, said in (([], BitsPerByte(), "0 records in test"), (["one"], BitsPerByte(), "1 records in test"),
                              (["short"] * 5, Memorised(), "25 bytes in 5 records")):
        data = write_texts(subject.workspace, "small", long, test)
        with pytest.raises(SourceError, match=f"held-out split is too small.*{said}"):
            probe.check(subject.model, data)
    with pytest.raises(SourceError, match="training split is too small"):
        Memorised().check(subject.model, write_texts(subject.workspace, "small", ["x"], long))
    # Bytes enough, but no passage of 64 tokens in any one record: known once it is cut into tokens.
    data = write_texts(subject.workspace, "small", long, [f"record number {n} with a few words" for n in range(40)])
    Memorised().check(subject.model, data)
    with pytest.raises(SourceError, match=r"held-out split is too small.*0 passages.*larger split\.test"):
        Memorised().measure(Subject(subject.workspace, subject.model, data, 0))


def test_passages_longer_than_the_context_are_refused(subject):
    Memorised(prompt_tokens=64, continuation_tokens=32).check(subject.model, subject.data)
    with pytest.raises(SpecError, match="97 together; expected 96 or fewer"):
        Memorised(prompt_tokens=65, continuation_tokens=32).check(subject.model, subject.data)


def test_a_single_token_of_context_is_enough_for_bits(subject):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    narrow = LlamaForCausalLM(LlamaConfig(vocab_size=512, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
                                          max_position_embeddings=1))
    model = write_network(subject.workspace, "narrow", subject.data, narrow, subject.tokenizer)
    assert BitsPerByte(max_kilobytes=2).measure(Subject(subject.workspace, model, subject.data, 0)).value > 3


@given(st.text(max_size=300))
def test_an_excerpt_is_one_short_line_without_controls(text):
    shown = excerpt(text, 50)
    assert len(shown) <= 51 and len(shown.splitlines()) <= 1 and all(c.isprintable() or c.isspace() for c in shown)
