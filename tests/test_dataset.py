"""Dataset versions: a digest of what they say, committed whole, found by name, mended when damaged."""

from __future__ import annotations

import random
import threading

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.dataset import DIGESTED, Dataset, drop_schema, logical_digest, record_id, record_schema, write_dataset
from workbench.errors import NotFoundError, StorageError
from workbench.registry import Registry


def row(n: int, **changed) -> dict:
    text = f"text number {n}"
    return {"id": record_id("a.txt", f"line {n}", text.encode()), "text": text, "image": None, "label": n, "source": "a.txt",
            "locator": f"line {n}", "cluster": "c", "split": ("train", "validation", "test")[n % 3], **changed}


def table(rows: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(rows, record_schema())


def write(workspace, rows: list[dict], name: str = "d", **options) -> Dataset:
    dropped = pa.Table.from_pylist([{**row(99), "step": "quality", "reason": "too short", "detail": "3 characters"}], drop_schema())
    manifest = {"modality": "text", "spec": {}, "parents": {}}
    return write_dataset(workspace, name, table(rows), dropped, manifest=manifest, card="# d\n", **options)


one_row = st.builds(lambda n, t, i, s: {**row(n), "text": t, "image": i, "split": s}, st.integers(-2**63, 2**63 - 1),
                    st.none() | st.text(max_size=5), st.none() | st.binary(max_size=5), st.sampled_from(["train", "test"]))
rows_of = st.lists(one_row, max_size=8)


@settings(deadline=None)
@given(rows_of, st.randoms(), st.integers(1, 3))
def test_the_digest_does_not_hang_on_order_or_cuts(rows, random_, cuts):
    shuffled = list(rows)
    random_.shuffle(shuffled)
    assert logical_digest([table(rows)]) == logical_digest([table(shuffled[n::cuts]) for n in range(cuts)])


@settings(deadline=None)
@given(rows_of, rows_of)
def test_other_rows_have_another_digest(some, others):
    def said(rows):
        return sorted(repr([r[c] for c in DIGESTED]) for r in rows)

    assert (logical_digest([table(some)]) == logical_digest([table(others)])) == (said(some) == said(others))


def test_a_value_can_not_slip_into_the_next_column():
    one, other = row(1, source="ab", locator="c"), row(1, source="a", locator="bc")
    assert logical_digest([table([one])]) != logical_digest([table([other])])
    assert logical_digest([table([row(1, text="")])]) != logical_digest([table([row(1, text=None)])])


def test_a_version_is_read_back_as_it_was_written(workspace):
    rows = [row(n) for n in range(10)]
    dataset = write(workspace, rows, shard_rows=2, run="data-1")
    assert Dataset.open("d", workspace) == dataset and dataset.digest == logical_digest([table(rows)])
    assert sorted(dataset.table().to_pylist(), key=lambda r: r["label"]) == rows
    assert sorted(dataset.texts("train")) == [f"text number {n}" for n in (0, 3, 6, 9)]
    assert dataset.table("test", ["label"]).to_pydict() == {"label": [2, 5, 8]}
    assert {s: v["records"] for s, v in dataset.manifest["splits"].items()} == {"train": 4, "validation": 3, "test": 3}
    assert dataset.manifest["splits"]["train"]["bytes"] == sum(len(t) for t in dataset.texts("train"))
    assert dataset.record(rows[4]["id"]) == rows[4] and dataset.dropped()["reason"].to_pylist() == ["too short"]
    assert dataset.card == "# d\n" and str(dataset) == f"dataset d@{dataset.digest[:12]} (train 4, validation 3, test 3 records)"
    with pytest.raises(NotFoundError, match="no record"):
        dataset.record("f" * 16)
    dataset.verify()


def test_the_same_content_is_the_same_version_whatever_the_shards(workspace):
    rows = [row(n) for n in range(7)]
    first = write(workspace, rows)
    random.Random(0).shuffle(rows)
    again = write(workspace, rows, shard_rows=2)
    assert again == first and len(Registry(workspace).versions("dataset", "d")) == 1


def test_a_split_that_holds_nothing_is_empty(workspace):
    dataset = write(workspace, [row(0), row(3)])
    assert dataset.table("test").num_rows == 0 and list(dataset.texts("test")) == [] and dataset.table("test").schema == record_schema()


@pytest.mark.parametrize("harm", ["manifest", "shard", "dropped", "cut"])
def test_a_damaged_version_is_noticed_and_made_anew(workspace, harm):
    rows = [row(n) for n in range(6)]
    dataset = write(workspace, rows)
    shard = dataset.path / dataset.manifest["shards"][0]["path"]
    if harm == "manifest":
        (dataset.path / "manifest.json").unlink()
    elif harm == "dropped":
        (dataset.path / "dropped.parquet").unlink()
    else:
        data = shard.read_bytes()
        shard.write_bytes(data[:-9] if harm == "cut" else bytes([data[0] ^ 1]) + data[1:])
        with pytest.raises(StorageError, match="does not match its digest.*--again"):
            dataset.verify()
    mended = write(workspace, rows)
    mended.verify()
    assert mended.path == dataset.path and sorted(mended.table()["label"].to_pylist()) == list(range(6))
    assert mended.dropped().num_rows == 1
    assert [p.name for p in dataset.path.parent.iterdir()] == [dataset.digest]


def test_two_that_write_the_same_at_once_leave_one_whole_version(workspace):
    rows = [row(n) for n in range(200)]
    threads = [threading.Thread(target=write, args=(workspace, rows)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    dataset = Dataset.open("d", workspace)
    dataset.verify()
    assert [p.name for p in dataset.path.parent.iterdir()] == [dataset.digest]


def test_a_directory_without_manifest_is_no_version(tmp_path):
    with pytest.raises(NotFoundError, match="it has no manifest.json"):
        _ = Dataset(tmp_path).digest


def test_hostile_text_is_text_where_a_dataset_is_shown(workspace):
    bad = "<script>alert(1)</script>"
    dropped = pa.Table.from_pylist([], drop_schema())
    dataset = write_dataset(workspace, "d", table([row(0, text=bad, source=bad)]), dropped, card=bad,
                            manifest={"modality": "text", "spec": {}, "parents": {}, "drops": {bad: {bad: 1}}})
    shown = dataset._repr_html_()
    assert "<script>alert" not in shown and "&lt;script&gt;" in shown
