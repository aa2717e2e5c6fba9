"""The split: nothing near a training record is held out, shares are met, a text keeps its side."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.data import split as splitting
from workbench.data.minhash import shingles
from workbench.data.partition import working_schema
from workbench.data.spec import Split
from workbench.errors import SourceError


def sides(split: Split, texts: list[str], folder, parts: int = 1) -> dict[str, str]:
    rows = [{"id": f"{n + 1:016x}", "text": t} for n, t in enumerate(texts)]
    folders = []
    for n in range(parts):
        folders.append(folder / f"{parts}-{n}")
        folders[-1].mkdir()
        splitting.sketch(split, pa.Table.from_pylist(rows[n::parts], working_schema()), folders[-1])
    return {texts[int(i, 16) - 1]: side for i, (_, side) in splitting.decide(split, folders, name="x").items()}


def test_no_held_out_record_is_near_a_training_record(tmp_path):
    generator = random.Random(3)
    words = [f"w{n}" for n in range(200)]
    texts: list[str] = []
    for _ in range(300):
        if texts and generator.random() < 0.4:
            old = generator.choice(texts).split()
            old[generator.randrange(len(old))] = generator.choice(words)
            texts.append(" ".join(old))
        else:
            texts.append(" ".join(generator.choices(words, k=40)))
    texts = list(dict.fromkeys(texts))
    found = sides(Split(validation=0.2, test=0.2), texts, tmp_path)
    sets = {t: shingles(t) for t in texts}
    held = [t for t in texts if found[t] != "train"]
    assert len(held) > 50
    for a in held:
        for b in texts:
            if found[a] != found[b]:
                assert len(sets[a] & sets[b]) / len(sets[a] | sets[b]) < 0.5
    assert sides(Split(validation=0.2, test=0.2), texts, tmp_path, parts=4) == found


sizes = st.dictionaries(st.integers(0, 2**64 - 1), st.integers(1, 30), min_size=3, max_size=60)


@settings(deadline=None)
@given(sizes, st.floats(0.01, 0.4), st.floats(0.01, 0.4), st.integers(0, 5))
def test_each_side_gets_its_share_and_never_nothing(clusters, validation, test, seed):
    split = Split(validation=validation, test=test, seed=seed)
    given_ = splitting.assign(split, clusters, name="x")
    total = sum(clusters.values())
    filled = {side: [m for m in clusters if given_[m] == side] for side in ("train", "validation", "test")}
    assert all(filled.values()) and given_.keys() == clusters.keys()
    for side, share in (("validation", validation), ("test", test)):
        records = sum(clusters[m] for m in filled[side])
        assert records <= max(1, round(share * total)) or len(filled[side]) == 1


def test_shares_are_met_where_clusters_are_small():
    given_ = splitting.assign(Split(validation=0.1, test=0.2), dict.fromkeys(range(1000), 1), name="x")
    counts = {side: list(given_.values()).count(side) for side in ("train", "validation", "test")}
    assert counts == {"train": 700, "validation": 100, "test": 200}


def test_a_text_keeps_its_side_while_a_dataset_grows():
    small = splitting.assign(Split(validation=0.1, test=0.1), {n * 7919 % 2**61: 1 for n in range(1000)}, name="x")
    large = splitting.assign(Split(validation=0.1, test=0.1), {n * 7919 % 2**61: 1 for n in range(1100)}, name="x")
    assert sum(small[m] != large[m] for m in small) < 30
    assert splitting.assign(Split(validation=0.1, test=0.1, seed=1), dict.fromkeys(small, 1), name="x") != small


def test_the_side_hangs_on_the_text_and_not_on_the_place(tmp_path):
    texts = [f"text number {n} says {n * n} and nothing else that matters" for n in range(60)]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert sides(Split(), texts, tmp_path / "a") == sides(Split(), texts[::-1], tmp_path / "b")


@pytest.mark.parametrize(("split", "texts", "words"), [
    (Split(), ["one"], "1 record can't fill train and validation and test.*at least 3 records"),
    (Split(test=0), ["one"], "1 record can't fill train and validation"),
    (Split(), ["a b c d e f"] * 5, "5 records in 1 groups of near duplicates"),
    (Split(), ["same", "other"], "2 records can't fill")])
def test_too_little_to_hold_anything_out(tmp_path, split, texts, words):
    with pytest.raises(SourceError, match=words) as refused:
        sides(split, texts, tmp_path)
    assert "--set split.validation=0" in refused.value.hint


def test_nothing_held_out_is_fine_for_one_record(tmp_path):
    assert sides(Split(validation=0, test=0), ["one"], tmp_path) == {"one": "train"}
