"""Going through a version: what is shown is what the run did, and a moved bound says what a run would do."""

from __future__ import annotations

import json
import random

import numpy as np
import pyarrow as pa
import pytest

from workbench import runs
from workbench.data.comparison import compare
from workbench.data.evidence import evidence
from workbench.data.review import BATCH, Review
from workbench.data.spec import DataSpec, Quality
from workbench.data.thresholds import histograms, moved
from workbench.dataset import drop_schema, record_id, record_schema, write_dataset
from workbench.workspace import Workspace

WORDS = "river night bridge morning stone water leaf window paper garden letter winter summer mountain harbour candle silver quiet".split()


def rows() -> list[str]:
    generator = random.Random(7)
    prose = [" ".join(generator.choice(WORDS) for _ in range(generator.randint(6, 60))) + f", said {n}." for n in range(120)]
    prose += [prose[50], prose[51] + " Later on, too.", "=!" * 60, "the same line of text\n" * 8, "short",
              f"{prose[3]} Write to ada@example.org or to bob@example.org today."]
    return prose


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Workspace:
    made = Workspace(tmp_path_factory.mktemp("review")).open()
    (made.root / "t.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in rows()))
    return made


def curated(place: Workspace, **changes) -> runs.Run:
    spec = {"word": "data", "name": "d", "sources": [{"kind": "files", "paths": ["t.jsonl"]}], **changes}
    run = runs.submit(spec, place, place="here")
    assert run.state == "done", run.failure
    return run


@pytest.fixture(scope="module")
def review(place) -> Review:
    return Review(curated(place).output, place)


def test_every_record_of_the_version_is_there_kept_and_dropped(review):
    dataset = review.dataset
    kept, dropped = {r["id"]: r for r in dataset.table().to_pylist()}, {r["id"]: r for r in dataset.dropped().to_pylist()}
    assert (review.kept, review.total) == (len(kept), len(kept) + len(dropped))
    for number in range(review.total):
        row = review.row(number)
        was = kept.get(row["id"]) or dropped[row["id"]]
        assert row["text"] == was["text"] and row["locator"] == was["locator"] and row["reason"] == (was.get("reason") or "")
        assert review.rows_of([row["id"]]).tolist() == [number]
    assert review.rows_of(["f" * 16, "nonsense"]).tolist() == []
    page = review.page(review.mask("dropped"), key="dropped")
    assert {r["id"] for r in page["rows"]} == set(dropped) and page["done"]


def test_a_search_finds_what_holds_the_text_whatever_is_filtered_and_sorted(review):
    texts = [review.row(n)["text"] for n in range(review.total)]
    for text, here in (("river", lambda t: "river" in t.lower()), ("Later", lambda t: "Later" in t), ("(", lambda t: "(" in t)):
        for show in ("all", "kept"):
            mask = review.mask(show)
            expected = [n for n, t in enumerate(texts) if here(t) and (mask is None or mask[n])]
            found = review.page(mask, key=show, text=text, count=500, patience=30)
            assert [r["row"] for r in found["rows"]] == expected and found["total"] == len(expected) and found["done"]
    longest = review.page(key="all", text="river", sort="characters", descending=True, count=500)["rows"]
    lengths = [r["scores"].get("characters", -1) for r in longest]
    assert lengths == sorted(lengths, reverse=True)


def test_many_searches_begun_at_once_all_come_to_their_end(review):
    asked = [f"{w}{tail}" for w in WORDS for tail in ("", " ", ",")]
    for text in asked:
        review.page(key="all", text=text, patience=0)
    for text in asked:
        found = review.page(key="all", text=text, patience=30)
        assert found["done"] and found["total"] == sum(text in review.row(n)["text"].lower() for n in range(review.total))


def test_reasons_are_shown_in_the_text(review):
    shown = {}
    for number in range(review.total):
        row = review.row(number)
        found = evidence(review, row)
        assert all(0 <= a < b <= len(row["text"]) for a, b, _, _ in found["spans"])
        shown.setdefault(row["reason"] or "kept", []).append((row, found))
    near, found = shown["near duplicate"][0]
    assert found["twin"] is not None and {near["text"], found["twin"]["text"]} == {rows()[51], rows()[51] + " Later on, too."}
    words = [t[a:b] for t, spans in ((near["text"], found["spans"]), (found["twin"]["text"], found["twin_spans"])) for a, b, _, _ in spans]
    assert words == ["Later on, too."]
    assert shown["same content"][0][1]["twin"]["text"] == rows()[50]
    found = shown["symbols"][0][1]
    assert [(a, b) for a, b, _, _ in found["spans"]] == [(0, 120)] and "1.00 of the characters" in found["says"]
    assert shown["repeated lines"][0][1]["spans"][0][:2] == (22, 43)
    redacted = [f for r, f in shown["kept"] if "<EMAIL>" in r["text"]]
    assert [len(f["spans"]) for f in redacted] == [2] and "2 redactions" in redacted[0]["says"]


@pytest.mark.parametrize("bounds", [{"min_characters": 200}, {"min_characters": 0}, {"max_symbols": 0.02}, {"max_repeated_lines": 1.0},
                                    {"max_repeated_words": 0.05}, {"max_characters": 150, "min_characters": 100}])
def test_a_moved_bound_says_what_a_run_would_do(place, review, bounds):
    step = Quality(**bounds)
    goes, back = moved(review, step)
    # Quality last, so that no later step has a say in what comes back.
    run = curated(place, steps=[{"step": "normalise"}, {"step": "exact-duplicates"}, {"step": "near-duplicates"}, {"step": "pii"},
                                step.model_dump(mode="json")])
    was = {f"{int(i):016x}" for i, c in zip(review.ids, review.codes, strict=True) if c == 0}
    now = set(run.output.table()["id"].to_pylist())
    assert {f"{int(i):016x}" for i in review.ids[goes]} == was - now
    assert {f"{int(i):016x}" for i in review.ids[back]} == now - was
    some = next(iter(was - now | now - was), None)
    if some:
        goes, back = moved(review, step, [some])
        assert some not in {f"{int(i):016x}" for i in review.ids[goes | back]}


def test_histograms_count_every_measured_record(review):
    found = histograms(review, Quality())
    measured = int((~np.isnan(review.scores["characters"])).sum())
    assert [h["name"] for h in found] == ["characters", "symbols", "repeated_lines", "repeated_words"]
    assert all(sum(h["kept"]) + sum(h["dropped"]) == measured and sum(h["kept"]) == review.kept for h in found)


def test_versions_are_compared_by_record_and_by_place(place, review):
    table = review.dataset.table()
    changed = table.slice(0, table.num_rows - 2).to_pylist()
    changed[0]["text"] = "redacted otherwise"
    moved_text = "the same place, other content"
    changed[1] |= {"text": moved_text, "id": record_id(changed[1]["source"], changed[1]["locator"], moved_text.encode())}
    changed.append({**changed[2], "locator": "line 9999", "id": record_id("t.jsonl", "line 9999", b"new"), "text": "new"})
    other = write_dataset(place, "d", pa.Table.from_pylist(changed, record_schema()), drop_schema().empty_table(), card="",
                          manifest={"modality": "text", "spec": review.dataset.manifest["spec"], "read": 0, "drops": {}})
    now = Review(other, place)
    found = compare(now, review)
    assert sorted(now.row(n)["text"] for n in found.added) == ["new"]
    assert len(found.removed) == 2 and sorted(now.row(n)["text"] for n in found.changed) == ["redacted otherwise", moved_text]
    for row in found.changed:
        assert review.row(found.other(row))["locator"] == now.row(row)["locator"]
    assert not any(len(s) for s in (compare(review, review).added, compare(review, review).removed, compare(review, review).changed))


def test_versions_without_records_or_measures_and_larger_than_a_batch(workspace):
    many = [{"id": f"{n:016x}", "text": f"record {n} <b>", "image": None, "label": None, "source": "s", "locator": str(n), "cluster": "",
             "split": ("train", "validation", "test")[n % 3]} for n in range(2 * BATCH + 5)]
    spec = DataSpec.load({"name": "m", "sources": [{"kind": "digits"}]}).to_dict()
    manifest = {"modality": "text", "spec": spec, "read": 0, "drops": {}}
    table = pa.Table.from_pylist(many, record_schema())
    made = write_dataset(workspace, "m", table, drop_schema().empty_table(), card="", manifest=manifest)
    review = Review(made, workspace)
    assert review.total == review.kept == len(many) and histograms(review, Quality()) == []
    assert review.row(BATCH + 3)["text"] == made.table()["text"][BATCH + 3].as_py()
    found = review.page(review.mask(split="test"), key="test", text="record 16379 ", patience=30)
    assert 16379 % 3 == 2 and found["total"] == 1 and found["done"]
    empty = write_dataset(workspace, "e", record_schema().empty_table(), drop_schema().empty_table(), card="", manifest=manifest)
    nothing = Review(empty, workspace)
    assert nothing.page(text="x", patience=5) == {"rows": [], "total": 0, "done": True, "scanned": 0} and nothing.total == 0


def test_a_workspace_that_cannot_be_written_is_gone_through_and_old_caches_go(place, review, monkeypatch):
    from workbench.data import review as module
    from workbench.errors import StorageError

    other = Workspace(place.root)

    def refuse(_):
        raise StorageError("can't be written")

    with monkeypatch.context() as patched:
        patched.setattr(module, "FORMAT", "unwritten")
        patched.setattr(module, "staging", refuse)
        found = Review(review.dataset, other)
        own = found._own.name
        assert found.page()["total"] == review.total
        found.close()
        assert not module.Path(own).exists()
    monkeypatch.setattr(module, "REMEMBERED", 1)
    monkeypatch.setattr(module, "FORMAT", "fresh")
    fresh = Review(review.dataset, other)
    assert [f.name[:5] for f in place.path("cache", "review").iterdir()] == ["fresh"]
    assert fresh.row(0) == review.row(0), "what is mapped stays readable"


def test_measures_are_added_to_a_version_that_was_made_without(place):
    run = curated(place, name="again")
    (run.output.path / "scores.parquet").unlink()
    assert Review(run.output, place).scores == {}
    curated(place, name="again", partitions=2)
    assert set(Review(run.output, place).scores) == {"characters", "symbols", "repeated_lines", "repeated_words"}
