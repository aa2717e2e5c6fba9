"""Near duplicates and clusters against brute force over exact sets of shingles."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.data import minhash
from workbench.data.minhash import Sketch, clusters, layout, near_duplicates, shingles

WORDS = [*(f"w{n}" for n in range(24)), "Straße", "ÉTÉ", "snake_case", "可以", "don't", "a-b"]


@st.composite
def corpora(draw) -> dict[int, str]:
    """Texts of which many are edits of one another, by id."""
    generator = random.Random(draw(st.integers(0, 2**32)))
    texts: list[list[str]] = []
    for _ in range(draw(st.integers(1, 14))):
        if texts and generator.random() < 0.7:
            words = list(generator.choice(texts))
            for _ in range(generator.randrange(4)):
                at = generator.randrange(len(words) + 1)
                words[at:at + generator.randrange(2)] = [generator.choice(WORDS)] * generator.randrange(2)
        else:
            words = generator.choices(WORDS, k=generator.choice([0, 1, 3, 5, 12, 40, 80]))
        texts.append(words)
    ids = [generator.randrange(1, 2**60) * 16 + n for n in range(len(texts))]
    generator.shuffle(ids)
    return {i: " ".join(words) for i, words in zip(ids, texts, strict=True)}


def jaccard(a: str, b: str, words: int) -> float:
    first, second = shingles(a, words), shingles(b, words)
    return len(first & second) / len(first | second) if first and second else 0.0


def sketch(texts: dict[int, str], words: int, threshold: float) -> Sketch:
    return Sketch.of([f"{i:016x}" for i in texts], texts.values(), words=words, threshold=threshold)


@pytest.fixture(params=[1, minhash.FEW], ids=["parted", "whole"])
def few(request, monkeypatch):
    """Buckets that are parted from two rows on, and such that are not."""
    monkeypatch.setattr(minhash, "FEW", request.param)


same_for_all = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@same_for_all
@given(corpora(), st.sampled_from([1, 3, 5]), st.sampled_from([0.5, 0.8, 1.0]), st.randoms())
def test_who_goes_is_who_is_near_a_smaller_id_that_stays(few, texts, words, threshold, random_):
    stay: list[int] = []
    expected: dict[int, tuple[int, float]] = {}
    for i in sorted(texts):
        near = [(s, jaccard(texts[i], texts[s], words)) for s in stay]
        near = [(s, j) for s, j in near if j >= threshold]
        if near:
            expected[i] = near[0]
        else:
            stay.append(i)
    shuffled = list(texts)
    random_.shuffle(shuffled)
    assert near_duplicates(sketch({i: texts[i] for i in shuffled}, words, threshold), threshold) == expected


@same_for_all
@given(corpora(), st.sampled_from([1, 5]), st.sampled_from([0.3, 0.5, 0.9]), st.integers(1, 4))
def test_clusters_are_the_connected_components(few, texts, words, threshold, parts):
    component = {i: i for i in texts}
    for a in texts:
        for b in texts:
            if a < b and jaccard(texts[a], texts[b], words) >= threshold and component[a] != component[b]:
                low, high = sorted((component[a], component[b]))
                component = {i: low if c == high else c for i, c in component.items()}
    ids = list(texts)
    joined = Sketch.joined([sketch({i: texts[i] for i in ids[n::parts]}, words, threshold) for n in range(parts)])
    found = clusters(joined, threshold)
    assert dict(zip(joined.ids.tolist(), found.tolist(), strict=True)) == component


@given(corpora(), st.data())
@settings(max_examples=50, deadline=None)
def test_what_is_kept_always_stays_and_still_drives_others_out(texts, data):
    always = set(data.draw(st.lists(st.sampled_from(sorted(texts)), max_size=3)))
    gone = near_duplicates(sketch(texts, 5, 0.8), 0.8, always=always)
    assert not always & set(gone)
    for i in set(texts) - always:
        if any(jaccard(texts[i], texts[a], 5) >= 0.8 for a in always):
            assert i in gone


def test_a_footer_under_every_text_pairs_none_and_a_template_is_one_cluster():
    """Both put all records into one bucket; neither may take the square of their number."""
    generator = random.Random(0)
    footer = " ".join(f"footer{n}" for n in range(40))
    template = " ".join(f"template{n}" for n in range(90))
    tickets = {n: " ".join(f"w{generator.randrange(5000)}" for _ in range(60)) + " " + footer for n in range(1, 1501)}
    letters = {n: f"{template} number{n} {generator.random()}" for n in range(1501, 3001)}
    made = sketch({**tickets, **letters}, 5, 0.5)
    compared = 0

    def counted(a, b, threshold, at_least=made.at_least):
        nonlocal compared
        compared += 1
        return at_least(a, b, threshold)

    object.__setattr__(made, "at_least", counted)
    assert clusters(made, 0.5).tolist() == [*tickets, *[1501] * 1500]
    assert compared < 40_000
    assert sorted(near_duplicates(made, 0.5)) == sorted(letters)[1:]
    assert compared < 80_000


def test_further_pairs_join_clusters():
    texts = {5: "", 9: "", 7: "quite another text with words of its own"}
    assert clusters(sketch(texts, 5, 0.5), 0.5).tolist() == [5, 9, 7]
    assert clusters(sketch(texts, 5, 0.5), 0.5, [(0, 1)]).tolist() == [5, 5, 7]


def test_similarity_is_exact_and_a_sketch_survives_the_disk(tmp_path):
    texts = {1: "one two three four five six seven eight", 2: "one two three four five six seven nine", 3: None}
    made = sketch(texts, 5, 0.5)
    made.save(tmp_path)
    for one in (made, Sketch.open(tmp_path)):
        assert one.jaccard(0, 1) == 3 / 5
        assert one.at_least(0, 1, 0.6) and not one.at_least(0, 1, 0.61)
        assert one.jaccard(0, 2) == one.jaccard(2, 2) == 0.0
    assert np.array_equal(Sketch.open(tmp_path).bands, made.bands)


@given(st.text(max_size=60), st.text(max_size=60))
@settings(deadline=None)
def test_similarity_of_any_text_is_that_of_its_shingles(one, other):
    made = sketch({1: one, 2: other, 3: one + other}, 2, 0.5)
    for a, b, texts in ((0, 1, (one, other)), (0, 2, (one, one + other))):
        assert made.jaccard(a, b) == jaccard(*texts, 2)


def test_ideographs_are_words():
    assert len(shingles("我们明天早上去北京 by train", 5)) == 7


def test_nothing_gives_nothing(tmp_path):
    empty = Sketch.of([], [], words=5, threshold=0.8)
    empty.save(tmp_path)
    assert near_duplicates(Sketch.joined([empty, Sketch.open(tmp_path)]), 0.8) == {}
    assert clusters(empty, 0.5).tolist() == []


def test_the_layout_misses_a_pair_at_the_threshold_less_than_once_in_a_million():
    for threshold in np.arange(0.3, 1.001, 0.05):
        bands, rows = layout(float(threshold))
        assert bands * rows <= 128 and ((1 - min(threshold, 1) ** rows) ** bands <= 1e-6 or rows == 1)
