"""The data panel over records that are no plain text: chats are read, tunes heard, clips seen."""

from __future__ import annotations

import json

import pytest
from test_panel import Page, until

from widgets import DataPanel
from workbench import runs


@pytest.fixture
def shown(workspace):
    """A function that shows a done run of a spec."""
    panels = []

    def show(name: str, **source):
        spec = {"name": name, "sources": [source]}
        runs.submit({"word": "data", **spec}, workspace, place="here")
        panels.append(DataPanel(spec, workspace=workspace))
        until(lambda: panels[-1].results.get("kept"))
        return panels[-1]

    yield show
    for panel in panels:
        panel.close()


def test_a_tune_is_heard_beside_its_notes(shown):
    reply, buffers = Page(shown("tunes", kind="tunes", count=12)).ask("record", index=2)
    assert reply["value"]["sound"] and bytes(buffers[0])[:4] == b"RIFF"
    assert "\nK:" in "".join(s["text"] for s in reply["value"]["segments"])


def test_a_clip_is_seen_and_a_chat_read_and_searched(shown, workspace):
    reply, buffers = Page(shown("moving", kind="moving-digits", count=12)).ask("record", index=0)
    assert reply["value"]["picture"] and b"acTL" in bytes(buffers[0])[:100]
    assert reply["value"]["facts"]["label"] in map(str, range(10))
    rows = [{"prompt": f"Which town has {n} bridges over its river, and which of them is old?", "completion": f"Town {n} <b>does</b>."}
            for n in range(12)]
    (workspace.root / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = Page(shown("towns", kind="files", paths=["t.jsonl"]))
    told = page.ask("record", index=0, text="town 7 <b>does")[0]["value"]
    assert told["total"] == 1
    text = "".join(s["text"] for s in told["segments"])
    assert text == f"user: {rows[7]['prompt']}\n\nassistant: {rows[7]['completion']}"
    assert page.ask("guess", index=0)[0]["value"]["files"][0]["form"] == "chat"


def test_built_in_sources_are_added_by_one_press(workspace):
    panel = DataPanel(workspace=workspace)
    for kind in ("moving-digits", "tunes", "questions"):
        Page(panel).ask("add", kind=kind)
    assert [s["kind"] for s in panel.editor.mapping["sources"]] == ["moving-digits", "tunes", "questions"]
    assert panel.editor.mapping["name"] == "moving-digits"
    panel.close()
