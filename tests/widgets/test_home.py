"""Home without a page: what it shows of a workspace as that changes, and what a page asks."""

from __future__ import annotations

import pytest
from test_panel import Page, until

from widgets import DataPanel, Home, TrainPanel
from workbench import runs
from workbench.journal import Journal

DIGITS = {"word": "data", "name": "digits", "sources": [{"kind": "digits"}], "steps": []}


@pytest.fixture
def home():
    made = []

    def make(workspace):
        made.append(Home(workspace))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_an_empty_workspace_offers_two_ways_to_begin(home, workspace):
    shown = home(workspace)
    assert shown.now["empty"] and shown.now["chain"]["next"] is None
    page = Page(shown)
    assert "error" not in page.ask("begin", how="example")[0]
    (panel,) = shown.opened
    assert isinstance(panel, DataPanel) and panel.spec.sources[0].kind == "python-docs"  # valid: one press runs it
    assert "error" not in page.ask("begin", how="files")[0]
    assert shown.opened[0].status["state"] == "empty" and len(shown.opened) == 2  # an empty data panel takes files
    assert "error" not in page.ask("close", model=panel.model_id)[0]
    assert panel not in shown.opened


def test_a_run_of_another_process_appears_moves_and_leads_to_the_next_step(home, workspace):
    shown = home(workspace)
    page = Page(shown)
    journal = Journal(workspace)
    entry, _ = journal.add("train", "far", "k", {"word": "train", "version": 1, "data": "docs"}, {}, place="here")
    journal.claim(entry.id)
    until(lambda: [r["state"] for r in shown.now["running"]] == ["running"], 10)
    assert not shown.now["empty"]
    journal.events.append(entry.id, "progress", done=30, total=60, unit="steps", label="train", rate=5.0, left=6.0)
    until(lambda: (shown.now["running"][0]["progress"] or {}).get("share") == 0.5, 10)
    assert "5 steps a second · 6.0 s left" in shown.now["running"][0]["progress"]["text"]
    journal.move(entry.id, "failed", failure={"what": "no"})
    until(lambda: not shown.now["running"] and shown.now["needs"], 10)
    assert shown.now["needs"][0]["open"] == {"run": entry.id}
    page.ask("dismiss", need=shown.now["needs"][0]["id"])
    assert shown.now["needs"] == []
    runs.submit(DIGITS, workspace, place="here")
    until(lambda: ((shown.now["chain"]["next"] or {}).get("spec") or {}).get("data") == "digits", 10)
    step = shown.now["chain"]["next"]
    assert "error" not in page.ask("open", word=step["word"], spec=step["spec"])[0]
    assert isinstance(shown.opened[0], TrainPanel) and shown.opened[0].spec.data == "digits"
    assert page.ask("open", word=step["word"], spec=step["spec"])[0]["value"]["model"] == shown.opened[0].model_id  # found, not made twice
    assert len(shown.opened) == 1


def test_everything_found_opens_as_a_panel(home, taught):
    run = runs.submit(DIGITS, taught, place="here")
    shown = home(taught)
    page = Page(shown)
    rows = page.ask("find", text="")[0]["value"]["rows"]
    assert {(r["kind"], r["name"]) for r in rows} == {("run", "digits"), ("dataset", "digits"), ("dataset", "docs"), ("model", "docs-lm")}
    for row in rows:
        assert "error" not in page.ask("open", kind=row["kind"], id=row["id"])[0], row
        panel = shown.opened[0]
        assert row["word"] == panel.WORD
        assert (panel.watch.run.id if panel.watch else None) == (run.id if row["name"] == "digits" else None)
    assert "no run" in page.ask("open", run="nowhere")[0]["error"]


def test_what_ended_meanwhile_is_said_and_visitors_change_nothing(home, workspace, monkeypatch):
    first = home(workspace)
    Page(first).ask("look")
    first.close()
    run = runs.submit(DIGITS, workspace, place="here")
    monkeypatch.setenv("WORKBENCH_READ_ONLY", "1")
    shown = home(workspace)
    assert [(e["run"], e["text"]) for e in shown.now["ended"]] == [(run.id, "data digits is done")]
    page = Page(shown)
    before = (workspace.path("home.json")).read_text()
    page.ask("look")
    asked = {"stop": {"run": run.id}, "dismiss": {"need": "run/x"}, "save": {"folder": "there"}, "acknowledge": {"need": "x"}}
    for name, known in asked.items():
        assert "visitors" in page.ask(name, **known)[0]["error"]
    assert (workspace.path("home.json")).read_text() == before and not (workspace.root / "there").exists()


def test_the_chain_is_saved_as_a_pipeline_and_drawn_still(home, workspace):
    runs.submit(DIGITS, workspace, place="here")
    shown = home(workspace)
    answer = Page(shown).ask("save", folder="nightly")[0]["value"]
    assert answer == {"path": "nightly/pipeline.yaml", "command": "workbench pipeline nightly/pipeline.yaml"}
    assert (workspace.root / "nightly" / "1-data.ipynb").exists()
    still = shown._still()
    assert "digits v1" in still and "1,797 records" in still and "<script" not in still


def test_open_shows_home_a_panel_or_a_run(workspace):
    from workbench.cli.opening import shown
    from workbench.errors import NotFoundError

    run = runs.submit(DIGITS, workspace, place="here")
    for what, kind in ((None, Home), ("train", TrainPanel), (run.id[:12], DataPanel)):
        panel = shown(what, workspace)
        assert isinstance(panel, kind)
        panel.close()
    with pytest.raises(NotFoundError, match='Did you mean "train"'):
        shown("trian", workspace)
