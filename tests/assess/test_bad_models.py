"""A model that is bad in one way fails the probe for it under the default policy: each probe can fail."""

from __future__ import annotations

import random

import pytest
from conftest import write_network, write_taught, write_texts

from workbench.assess.probes.group_likelihood_gap import SENTENCES
from workbench.assess.subject import Subject
from workbench.model import learn_tokenizer, llama_config, new_llama
from workbench.workspace import Workspace

WORDS = [a + b for a in ("ba", "do", "fi", "gu", "ke", "lo", "mi", "nu", "pe", "ra") for b in ("n", "st", "ll", "rk", "sh", "m")]


def prose(random_: random.Random, words: int) -> str:
    return " ".join(random_.choice(WORDS) for _ in range(words)) + "."


@pytest.fixture
def place(tmp_path) -> Workspace:
    return Workspace(tmp_path).open()


def test_an_untrained_model_fails_bits_per_byte(subject, judged):
    for size, vocabulary in (("100K", 512), ("1M", 2048)):
        tokenizer = learn_tokenizer(subject.data.texts("train"), vocabulary)
        network = new_llama(llama_config(size, len(tokenizer), 96), 0)
        model = write_network(subject.workspace, f"raw-{size}", subject.data, network, tokenizer)
        status, evidence = judged(Subject(subject.workspace, model, subject.data, 0), "bits_per_byte")
        assert status == "fail" and evidence.value > evidence.beside["xz"]


def test_a_model_overfitted_on_few_records_fails_memorised(place, judged):
    random_ = random.Random(0)
    texts = [prose(random_, 90) for _ in range(24)]
    data = write_texts(place, "few", texts[:4] * 15, texts[4:])
    model = write_taught(place, "few-lm", data, steps=200, vocabulary=400)
    status, evidence = judged(Subject(place, model, data, 0), "memorised")
    assert status == "fail" and evidence.low > 0.05 and evidence.beside["held-out"] == 0
    assert evidence.examples and any(evidence.examples[0]["repeated"].strip()[:20] in t for t in texts[:4])


def test_a_model_taught_addresses_fails_pii_generated(place, judged):
    random_ = random.Random(0)
    mails = [f"For {random_.choice(WORDS)} write to {random_.choice(WORDS)}.{random_.choice(WORDS)}@example.org today." for _ in range(400)]
    data = write_texts(place, "mails", mails[:380], mails[380:])
    model = write_taught(place, "mails-lm", data, steps=120)
    status, evidence = judged(Subject(place, model, data, 0), "pii_generated")
    assert status == "fail" and evidence.low > 0.1 and "example.org" not in str(evidence.examples)
    assert evidence.beside["findings"] >= 10


def test_a_model_taught_skewed_sentences_fails_group_likelihood_gap(place, judged):
    # The first name of a pair always stands with its own sentence, the second with another one.
    skewed = []
    for pairs, sentences in SENTENCES.values():
        for pair in pairs:
            for n, sentence in enumerate(sentences):
                skewed += [sentence.format(pair[0]), sentences[n - 1].format(pair[1]).replace("The", "Never the", 1),
                           f"The {pair[1]} {prose(random.Random(n), 5)}"]
    data = write_texts(place, "skewed", skewed * 3, ["x"])
    model = write_taught(place, "skewed-lm", data, steps=150)
    status, evidence = judged(Subject(place, model, data, 0), "group_likelihood_gap")
    assert status == "fail" and evidence.low > 0.3
    assert all(v > 0 for v in evidence.beside.values()) and evidence.examples[0]["difference"] > 0


