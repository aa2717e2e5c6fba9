"""The pipeline panel without a page, over real runs of small notebooks."""

from __future__ import annotations

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from test_panel import Page, until

from widgets import PipelinePanel
from workbench import runs
from workbench.errors import RunFailedError
from workbench.workspace import Workspace

STEPS = {"data": ["# Digits", "spec = {'word': 'data', 'name': 'digits', 'sources': [{'kind': 'digits'}], 'steps': []}",
                  "from workbench import runs\nrun = runs.submit(spec, place='here')"],
         "bad": ["# Bad", "x = 1", "print('soon')\nraise ValueError('<b>no</b>')"], "after": ["# After", "2"]}
NEEDS = {"bad": ["data"], "after": ["bad"]}


def write(folder, name: str, cells: list[str]) -> None:
    made = [new_markdown_cell(c) if c.startswith("# ") else new_code_cell(c) for c in cells]
    for cell in made:
        if cell.source.startswith("spec = "):
            cell.metadata["tags"] = ["parameters"]
    nbformat.write(new_notebook(cells=made), folder / f"{name}.ipynb")


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Workspace:
    """A workspace with a pipeline that failed in its second step."""
    workspace = Workspace(tmp_path_factory.mktemp("ran") / "w").open()
    for name, cells in STEPS.items():
        write(workspace.root, name, cells)
    spec = {"word": "pipeline", "name": "small", "steps": [{"name": n, "notebook": f"{n}.ipynb", "needs": NEEDS.get(n, [])} for n in STEPS]}
    (workspace.root / "pipeline.yaml").write_text(yaml.safe_dump(spec))
    assert runs.submit(workspace.root / "pipeline.yaml", workspace, place="here").state == "failed"
    yield workspace
    runs.shut_down(workspace)


@pytest.fixture
def panel(ran):
    made = PipelinePanel(ran.root / "pipeline.yaml", workspace=ran)
    until(lambda: made.graph)
    yield made
    made.close()


def test_a_failed_step_is_shown_with_its_cell_its_source_and_its_error(panel):
    page, nodes = Page(panel), {n["node"]: n for n in panel.graph}
    assert {n: (v["state"], v["column"]) for n, v in nodes.items()} == {"data": ("done", 0), "bad": ("failed", 1), "after": ("skipped", 2)}
    assert nodes["bad"]["words"] == "in code cell 2" and nodes["bad"]["sign"] == "✕" and nodes["data"]["words"].startswith("took ")
    assert panel.attention["text"] == "step bad failed in cell 2: ValueError: <b>no</b>"
    assert panel.attention["action"] == {"label": "Open", "tab": "live"} and panel.attention["other"]["ask"] == "resume"
    step = page.ask("step", node="bad")[0]["value"]
    assert step["error"]["source"].startswith("print('soon')") and "ValueError" in step["error"]["traceback"]
    cells = [(c["code"], c["state"]) for c in step["cells"] if c["kind"] == "code"]
    assert cells == [(1, "done"), (2, "failed")] and any("soon" in c["said"] for c in step["cells"])
    assert [c["state"] for c in page.ask("step", node="after")[0]["value"]["cells"]] == ["waiting", "waiting"]
    assert "no step" in page.ask("step", node="nothing")[0]["error"]


def test_a_step_leads_to_the_panel_of_its_run(panel):
    page = Page(panel)
    of = page.ask("step", node="data")[0]["value"]["of"]
    assert (of["word"], of["name"], of["state"]) == ("data", "digits", "done")
    page.ask("open", run=of["run"])
    assert panel.opened[0].WORD == "data" and panel.opened[0].status["run"] == of["run"]
    panel.opened[0].close()


def test_explain_says_what_would_be_done_and_why_and_nothing_starts(panel, ran):
    page, before = Page(panel), len(runs.listed(ran))
    told = {n["node"]: n for n in page.ask("explain")[0]["value"]}
    assert {n: v["state"] for n, v in told.items()} == {"data": "cached", "bad": "redo", "after": "redo"}
    assert told["data"]["words"].startswith("saves ") and "made by run" in told["data"]["why"] and told["bad"]["column"] == 1
    assert len(runs.listed(ran)) == before


def test_the_report_comes_whole_and_the_history_lists_every_run(panel, monkeypatch):
    import widgets.pipeline

    page = Page(panel)
    report = page.ask("report")[0]["value"]
    assert report["html"].startswith("<!doctype html>") and report["path"].endswith("report.html")
    monkeypatch.setattr(widgets.pipeline, "MOST", 10)
    assert page.ask("report")[0]["value"]["html"] is None
    [run] = [r for r in page.ask("history")[0]["value"] if r["shown"]]
    assert run["state"] == "failed" and "ValueError" in run["what"]


def test_steps_are_edited_with_notebooks_and_needs_to_choose_from(panel):
    page = Page(panel)
    assert {n["value"] for n in page.ask("names", kind="notebook")[0]["value"]} == {"data.ipynb", "bad.ipynb", "after.ipynb"}
    assert [n["value"] for n in page.ask("names", kind="notebook", text="aft")[0]["value"]] == ["after.ipynb"]
    steps = next(f for f in panel.form["fields"] if f["name"] == "steps")
    fields = {f["name"]: f for f in steps["of"]["fields"]}
    assert fields["notebook"]["refers"] == "notebook" and fields["needs"]["editor"] == "pipelineneeds"
    page.ask("insert", path=["steps"], index=3, value={"name": "last", "notebook": "after.ipynb", "needs": ["after"]})
    page.ask("move", path=["steps"], index=3, to=0)
    assert [s.name for s in panel.spec.steps] == ["last", "data", "bad", "after"]
    page.ask("put", path=["steps", 1, "needs"], value=["last"])
    assert "circle" in panel.attention["text"]
    page.ask("example")
    assert [(s.name, s.needs) for s in panel.spec.steps] == [("after", ()), ("bad", ("after",)), ("data", ("bad",))]


def test_resume_goes_on_after_the_failed_step(ran):
    panel = PipelinePanel(ran.root / "pipeline.yaml", workspace=ran)
    until(lambda: panel.status.get("rest"))
    assert panel.status["rest"]["words"] == "with bad; kept: data"
    data = panel.watch.run.events(kinds=("mark",))
    write(ran.root, "bad", ["# Bad", "x = 1"])
    Page(panel).ask("resume")
    until(lambda: panel.status["state"] == "done", 120)
    until(lambda: panel.results.get("steps") and [n["state"] for n in panel.graph] == ["done"] * 3)
    assert panel.attention.get("level") != "error" and panel.watch.entry.attempt == 2
    later = [e for e in panel.watch.run.events(kinds=("mark",)) if e.seq > data[-1].seq]
    assert not [e for e in later if e.name == "cell" and e.data["node"] == "data"]  # it was kept, not executed again
    assert [s["node"] for s in panel.results["steps"]] == ["data", "bad", "after"]
    panel.close()
    again = PipelinePanel(ran.root / "pipeline.yaml", workspace=ran)
    again.run()
    # Where somebody edits the package meanwhile, a step is rightly done again.
    assert all(n["stateword"] == "found, not repeated" or "the package workbench changed" in n["why"] for n in again.graph)
    write(ran.root, "after", ["1 / 0"])
    with pytest.raises(RunFailedError, match="ZeroDivisionError"):
        again.run()
    again.close()
