"""The data panel without a page: files sent, guesses, decisions, bounds, versions compared, over real runs."""

from __future__ import annotations

import json
import random

import pytest
from test_panel import Page, until

from widgets import DataPanel
from workbench import runs
from workbench.data.spec import DataSpec

WORDS = "river night bridge morning stone water leaf window paper garden letter winter summer mountain harbour candle silver quiet".split()


def texts() -> list[str]:
    generator = random.Random(3)
    prose = [" ".join(generator.choice(WORDS) for _ in range(generator.randint(12, 60))) + f" {n}." for n in range(60)]
    return [*prose, prose[5], prose[6] + " Later on.", "short", "=!" * 60, f"{prose[7]} Write to ada@example.org."]


@pytest.fixture
def curated(workspace):
    """A panel that shows a done run over texts of its own."""
    (workspace.root / "t.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts()))
    spec = {"name": "d", "sources": [{"kind": "files", "paths": ["t.jsonl"]}]}
    runs.submit({"word": "data", **spec}, workspace, place="here")
    panel = DataPanel(spec, workspace=workspace)
    until(lambda: panel.results.get("kept"))
    yield panel
    panel.close()


@pytest.fixture
def empty(workspace):
    panel = DataPanel(workspace=workspace)
    yield panel
    panel.close()


def value(page: Page, name: str, /, **known):
    reply, _ = page.ask(name, **known)
    assert "error" not in reply, reply
    return reply.get("value")


def test_a_file_that_is_sent_becomes_the_source_of_a_dataset_named_after_it(empty, workspace):
    page, content = Page(empty), b"title,body\n" + b"".join(b"t%d,a longer text %d\n" % (n, n) for n in range(50))
    mark = value(page, "arrive", name="My notes (1).csv", size=len(content))
    for at in range(0, len(content), 100):
        empty._handle_custom_msg({"ask": "piece", "id": f"p{at}", "with": {"mark": mark, "offset": at}}, [memoryview(content[at:at + 100])])
        page.wait(lambda c, at=at: c.get("reply") == f"p{at}")
    path = value(page, "arrived", mark=mark)
    assert (workspace.root / path).read_bytes() == content
    value(page, "add", paths=[path])
    assert empty.spec.name == "My-notes-1" and empty.spec.sources[0].paths == (path,)
    found = value(page, "guess", index=0)
    assert (found["records"], found["files"][0]["text"], found["files"][0]["format"]) == (50, "body", "csv")
    value(page, "put", path=["sources", 0, "text"], value="title")
    assert value(page, "guess", index=0)["files"][0]["first"][0]["text"] == "t0"
    value(page, "undo")
    value(page, "undo")
    assert empty.editor.mapping == {}
    assert "no format is known" in page.ask("arrive", name="a.exe", size=3)[0]["error"]
    assert "Send it again" in page.ask("piece", mark="none", offset=0, buffers=[])[0]["error"]


def test_files_of_one_kind_join_one_source_and_built_in_ones_stand_alone(empty, workspace):
    page = Page(empty)
    for name in ("a.txt", "b.txt"):
        (workspace.root / name).write_text("x")
        value(page, "add", paths=[name])
    value(page, "add", kind="python-docs")
    value(page, "add", paths=["c.csv"])
    kinds = [(s.kind, getattr(s, "paths", None)) for s in empty.spec.sources]
    assert kinds == [("files", ("a.txt", "b.txt")), ("python-docs", None), ("files", ("c.csv",))] and empty.spec.name == "a"


def test_visitors_see_no_directory_and_send_nothing(empty, monkeypatch):
    monkeypatch.setattr(empty, "readonly", True)
    page = Page(empty)
    for name, known in (("listing", {}), ("arrive", {"name": "a.txt", "size": 1}), ("add", {"paths": ["a"]}), ("decide", {"record": "0"}),
                        ("bound", {"field": "max_symbols", "value": 0.1})):
        assert "visitors" in page.ask(name, **known)[0]["error"]


def test_a_preview_says_what_the_steps_do_and_writes_nothing(curated, workspace):
    page = Page(curated)
    before = sorted(workspace.path("datasets").rglob("*"))
    found = value(page, "preview")
    assert found["read"] == len(texts()) and found["kept"] == curated.results["kept"]
    record = value(page, "previewed", index=0, show="dropped", by="quality", reason="symbols")
    assert record["total"] == 1 and record["segments"][0]["kind"] == "reason"
    kept = [value(page, "previewed", index=n, show="kept") for n in range(found["kept"])]
    changed = [r for r in kept if "twin" in r]
    assert len(changed) == 1 and any(s["text"] == "<EMAIL>." for s in changed[0]["segments"])
    assert sorted(workspace.path("datasets").rglob("*")) == before


def test_drops_are_gone_through_reason_by_reason_with_the_reason_marked(curated):
    page, results = Page(curated), curated.results
    assert results["read"] == len(texts()) and sum(d["count"] for d in results["drops"]) == results["read"] - results["kept"]
    reasons = [d["reason"] for d in results["drops"]]
    assert reasons[:2] == ["same content", "near duplicate"] and sorted(reasons[2:]) == ["symbols", "too short"]
    for drop in results["drops"]:
        rows = value(page, "page", show="dropped", code=drop["code"])
        assert rows["total"] == drop["count"] and rows["rows"][0]["reason"] == drop["reason"] and rows["of"] == results["read"]
    record = value(page, "record", index=0, show="dropped", code=results["drops"][1]["code"])
    assert any(s.get("kind") == "differs" for s in record["segments"] + record["twin"]["segments"])
    found = value(page, "record", index=0, text="harbour")
    assert {s["text"].lower() for s in found["segments"] if s.get("kind") == "found"} == {"harbour"}
    assert value(page, "record", index=10_000)["total"] == results["read"]


def test_decisions_are_in_the_spec_are_undone_and_the_next_run_does_them(curated, workspace):
    page = Page(curated)
    drop = value(page, "record", index=0, show="kept")["id"]
    code = next(d["code"] for d in curated.results["drops"] if d["reason"] == "too short")
    keep = value(page, "record", index=0, show="dropped", code=code)["id"]
    other = value(page, "record", index=1, show="kept")["id"]
    for record, choice in ((drop, "drop"), (keep, "keep"), (other, "unsure"), (keep, "unsure"), (keep, "keep")):
        value(page, "decide", record=record, choice=choice)
    assert (curated.spec.keep, curated.spec.drop, curated.spec.unsure) == ((keep,), (drop,), (other,))
    assert value(page, "page", show="hand")["total"] == 2 and value(page, "page", show="unsure")["rows"][0]["id"] == other
    assert value(page, "undecide") == {"id": keep, "left": 4} and keep in curated.spec.unsure
    assert [value(page, "undecide")["id"] for _ in range(4)] == [keep, other, keep, drop]
    assert value(page, "undecide") is None and curated.spec.keep == curated.spec.drop == curated.spec.unsure == ()
    assert not curated.status["edited"]
    value(page, "decide", record=other, choice="unsure")
    assert not curated.status["edited"], "a note makes no other dataset"
    value(page, "decide", record=keep, choice="keep")
    value(page, "decide", record=drop, choice="drop")
    assert curated.status["edited"]
    spec = DataSpec.load(curated.edit["yaml"])  # what the batch reads
    run = runs.submit(spec, workspace, place="here")
    ids = run.output.table()["id"].to_pylist()
    assert keep in ids and drop not in ids
    assert [(r["step"], r["reason"]) for r in run.output.dropped().to_pylist() if r["id"] == drop] == [("by hand", "dropped by hand")]


def test_a_bound_says_what_it_moves_is_written_to_the_spec_and_a_run_moves_that(curated, workspace):
    page = Page(curated)
    assert value(page, "moved") == {"goes": 0, "back": 0}
    said = value(page, "moved", bounds={"min_characters": 150})
    assert said["goes"] > 0 and said["back"] == 0 and curated.spec.steps[3].min_characters == 80
    assert value(page, "page", show="moved", bounds={"min_characters": 150})["total"] == said["goes"]
    value(page, "bound", field="min_characters", value=150)
    assert curated.spec.steps[3].min_characters == 150 and value(page, "moved") == said
    run = runs.submit(curated.spec, workspace, place="here")
    assert run.output.table().num_rows == curated.results["kept"] - said["goes"]
    value(page, "undo")
    assert curated.spec.steps[3].min_characters == 80
    value(page, "put", path=["steps", 3, "on"], value=False)
    assert "no quality step" in page.ask("bound", field="min_characters", value=1)[0]["error"]


def test_versions_are_compared_and_shown(curated, workspace):
    page = Page(curated)
    gone = value(page, "record", index=0, show="kept")["id"]
    spec = DataSpec.load({**curated.spec.to_dict(), "drop": [gone]})
    runs.submit(spec, workspace, place="here")
    panel = DataPanel(spec, workspace=workspace)
    until(lambda: panel.results.get("kept"))
    other = Page(panel)
    assert [v["number"] for v in panel.results["versions"]] == [2, 1]
    before = panel.results["versions"][1]["digest"]
    assert value(other, "compare", digest=before) == {"added": 0, "removed": 1, "changed": 0}
    assert value(other, "page", show="removed")["rows"][0]["id"] == gone
    assert value(other, "record", index=0, show="removed")["id"] == gone
    value(other, "version", digest=before)
    until(lambda: panel.results.get("digest") == before)
    assert panel.status["edited"] and "no version is compared" in other.ask("page", show="added")[0]["error"]
    panel.close()


def test_images_are_gone_through_as_pictures(workspace):
    spec = {"name": "digits", "sources": [{"kind": "digits"}], "steps": []}
    runs.submit({"word": "data", **spec}, workspace, place="here")
    panel = DataPanel(spec, workspace=workspace)
    until(lambda: panel.results.get("kept"))
    reply, buffers = Page(panel).ask("record", index=3)
    assert bytes(buffers[0]).startswith(b"\x89PNG") and reply["value"]["picture"] and panel.results["histograms"] == []
    panel.close()
