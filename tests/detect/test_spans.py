"""The span index against brute force, over records, alphabets and damaged files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.dataset import drop_schema, record_schema, write_dataset
from workbench.detect.spans import SpanIndex, index_for
from workbench.errors import SourceError, StorageError
from workbench.workspace import Workspace

LETTERS = "ab é𝕏\n"
"""Characters of one, two and four bytes; é and ê share their first byte, 𝕏 and 𝕐 their first three."""
records_of = st.lists(st.text("ab é𝕏\n", max_size=30), max_size=6)
asked = st.text("ab éê𝕏𝕐\n", max_size=40)


def index_of(texts: list[str]) -> SpanIndex:
    folder = tempfile.mkdtemp()
    try:
        return SpanIndex.build([(f"r{n}", t, f"s{n}", str(n)) for n, t in enumerate(texts)], os.path.join(folder, "index"))
    finally:
        shutil.rmtree(folder)  # what is mapped stays readable


def count(piece: str, texts: list[str]) -> int:
    return sum(text.startswith(piece, at) for text in texts for at in range(len(text)))


def brute_force(text: str, texts: list[str], most: int, shortest: int) -> list[tuple[int, int]]:
    """The definition, read aloud."""
    standing = {(s, e) for s in range(len(text)) for e in range(s + 1, len(text) + 1) if any(text[s:e] in t for t in texts)}
    maximal = {(s, e) for s, e in standing if not any((a, b) != (s, e) and a <= s and e <= b for a, b in standing)}
    taken: list[tuple[int, int]] = []
    for s, e in sorted(maximal, key=lambda p: (p[0] - p[1], p[0])):
        inside = {n for a, b in taken for n in range(a, b)} & set(range(s, e))
        if e - s >= shortest and any(c.isalnum() for c in text[s:e]) and len(inside) <= (e - s) / 2:
            taken.append((s, e))
    return taken[:most]


@settings(max_examples=150, deadline=None)
@given(texts=records_of, text=asked, most=st.integers(1, 6), shortest=st.integers(1, 5))
def test_equal_to_brute_force(texts, text, most, shortest):
    spans = index_of(texts).longest(text, most=most, min_characters=shortest, records=10)
    assert [(s.start, s.end) for s in spans] == brute_force(text, texts, most, shortest)
    for span in spans:
        assert span.text == text[span.start:span.end]
        assert span.occurrences == count(span.text, texts)
        holding = [n for n, t in enumerate(texts) if span.text in t]
        assert [r["id"] for r in span.records] == [f"r{n}" for n in holding]
        for record, n in zip(span.records, holding, strict=True):
            assert (record["source"], record["locator"]) == (f"s{n}", str(n))
            assert texts[n][record["start"]:record["end"]] == span.text
            assert record["start"] == texts[n].index(span.text)


@settings(max_examples=50, deadline=None)
@given(texts=records_of, text=asked.filter(bool))
def test_count_equals_brute_force(texts, text):
    assert index_of(texts).count(text) == count(text, texts)


@given(long=st.text("ab", min_size=100, max_size=400), cut=st.integers(0, 400))
@settings(max_examples=25, deadline=None)
def test_matches_far_longer_than_a_comparison(long, cut):
    at = cut % len(long)
    changed = long[:at] + "X" + long[at:]
    spans = index_of([long, "other"]).longest(changed, most=9, min_characters=30)
    assert [(s.start, s.end) for s in spans] == brute_force(changed, [long, "other"], 9, 30)


def test_a_span_never_crosses_from_one_record_to_the_next():
    index = index_of(["the quick brown", " fox jumps over"])
    spans = index.longest("the quick brown fox jumps over", min_characters=5)
    assert [s.text for s in spans] == ["the quick brown", " fox jumps over"]
    assert index.count("brown fox") == 0


def test_text_without_a_match_a_lone_surrogate_and_an_empty_index():
    index = index_of(["The manual says \ud7ff here."])
    assert index.longest("zzzzzzzzzzzzzzzz", min_characters=1) == [] == index.longest("") == index.longest("x\ud800y")
    assert [s.text for s in index.longest("\ud800The manual says", min_characters=5)] == ["The manual says"]
    assert index_of([]).longest("anything at all") == [] == index_of(["", ""]).longest("anything at all")
    assert index.count("") == 0


# --- in a workspace --------------------------------------------------------------------------------------------------


def dataset_of(workspace: Workspace, rows: list[tuple[str, str, str]], modality: str = "text"):
    """rows: (id, text, split)."""
    import pyarrow as pa

    whole = [{"id": i, "text": t, "source": f"{i}.txt", "locator": "0", "cluster": i, "split": s} for i, t, s in rows]
    return write_dataset(workspace, "d", pa.Table.from_pylist(whole, record_schema()), drop_schema().empty_table(),
                         manifest={"modality": modality}, card="")


@pytest.fixture
def place(tmp_path):
    return Workspace(tmp_path).open()


def test_only_the_training_split_is_indexed_and_the_index_is_kept(place):
    dataset = dataset_of(place, [("a", "taught this very sentence", "train"), ("b", "kept back for the test", "test")])
    index = index_for(place, dataset)
    assert index.longest("kept back for the test", min_characters=8) == []
    [span] = index.longest("they taught this very thing")
    assert span.text == "taught this very " and span.records[0] == {"id": "a", "source": "a.txt", "locator": "0", "start": 0, "end": 17}
    inode = (index.path / "suffixes.bin").stat().st_ino
    assert (index_for(place, "d").path / "suffixes.bin").stat().st_ino == inode


@pytest.mark.parametrize("name", ["text.bin", "suffixes.bin", "records.arrow", "manifest.json"])
@pytest.mark.parametrize("damage", ["change", "cut", "remove"])
def test_a_damaged_index_is_noticed_and_built_again(place, name, damage):
    dataset = dataset_of(place, [("a", "taught this very sentence", "train")])
    path = index_for(place, dataset).path / name
    data = path.read_bytes()
    path.unlink()
    if damage != "remove":
        path.write_bytes(data[:-1] + (b"?" if damage == "change" else b""))
    with pytest.raises(StorageError):
        SpanIndex(path.parent)
    assert index_for(place, dataset).longest("this very sentence")[0].occurrences == 1
    assert path.read_bytes() == data


def test_what_a_killed_builder_left_is_cleared(place):
    dataset = dataset_of(place, [("a", "taught this very sentence", "train")])
    left = place.path("cache", "spans", ".staging-dead")
    left.mkdir(parents=True)
    index_for(place, dataset)
    assert sorted(p.name for p in left.parent.iterdir()) == [dataset.digest]


def test_built_once_by_many_processes(place):
    dataset = dataset_of(place, [(f"{n:04}", f"sentence number {n} of a text that many want", "train") for n in range(2000)])
    code = ("from workbench.detect.spans import index_for; from workbench import Workspace; "
            "print((index_for(Workspace.find(), 'd').path / 'text.bin').stat().st_ino)")
    children = [subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "WORKBENCH_ROOT": str(place.root)},
                                 stdout=subprocess.PIPE, text=True) for _ in range(3)]
    inodes = [child.communicate(timeout=60)[0].strip() for child in children]
    assert [c.returncode for c in children] == [0, 0, 0] and len(set(inodes)) == 1
    assert inodes[0] == str((index_for(place, dataset).path / "text.bin").stat().st_ino)


def test_images_are_refused(place):
    with pytest.raises(SourceError, match="has no text to find spans in"):
        index_for(place, dataset_of(place, [("a", "t", "train")], modality="image"))
