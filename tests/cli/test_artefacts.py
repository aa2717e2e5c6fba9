"""What was made, listed and named: aliases behind the policy, the record of decisions, JSON everywhere."""

from __future__ import annotations

import json
import time

import pytest

from workbench import runs
from workbench.assessment import workspace_policy, write_assessment
from workbench.dataset import Dataset
from workbench.model import Model
from workbench.policy import Evidence
from workbench.registry import Registry

POLICY = "rules:\n- {metric: memorised, at_most: 0.1, min_sample: 10, theme: privacy}\n"


@pytest.fixture(scope="module")
def shelf(copy_of_taught, tmp_path_factory):
    """A workspace with the dataset "docs" and the model "docs-lm", and a policy of one rule."""
    workspace = copy_of_taught(tmp_path_factory.mktemp("shelf") / "w")
    (workspace.root / "workbench.toml").write_text('policy = "policy.yaml"\n')
    (workspace.root / "policy.yaml").write_text(POLICY)
    yield workspace
    runs.shut_down(workspace)


def assess(workspace, high: float) -> None:
    """Write an assessment whose only interval ends at ``high``."""
    model, data = Model.open("docs-lm", workspace), Dataset.open("docs", workspace)
    policy = workspace_policy(workspace)
    evidence = Evidence("memorised", high / 2, 0.0, high, 50, "test", model.digest, data.digest, policy.digest(), time.time())
    write_assessment(workspace, "docs-lm", model={"name": model.name, "digest": model.digest},
                     dataset={"name": data.name, "digest": data.digest}, taught=data.digest, policy=policy, evidence=[evidence],
                     card="# card\n")


def test_lists_are_tables_and_json(cli, shelf):
    digest = Model.open("docs-lm", shelf).digest
    assert all(w in cli("models", cwd=shelf.root).stdout for w in ("docs-lm", "v1", digest[:12], "docs@", "not yet"))
    told = json.loads(cli("models", "--json", cwd=shelf.root).stdout)
    assert [(m["name"], m["digest"], m["aliases"], m["assessed"]) for m in told] == [("docs-lm", digest, [], None)]
    assert json.loads(cli("datasets", "--json", cwd=shelf.root).stdout)[0]["digest"] == Dataset.open("docs", shelf).digest
    assert "docs" in cli("datasets", cwd=shelf.root).stdout
    assert json.loads(cli("endpoints", "--json", cwd=shelf.root).stdout) == []
    assert "workbench serve MODEL" in cli("endpoints", cwd=shelf.root).stdout
    assert json.loads(cli("runs", "--json", cwd=shelf.root).stdout) == []


def test_production_needs_a_passing_assessment_and_other_aliases_do_not(cli, shelf):
    cli("models", "alias", "docs-lm", "staging", cwd=shelf.root)
    refused = cli("models", "alias", "docs-lm@staging", "production", cwd=shelf.root, code=3)
    assert '"production" needs a passing assessment' in refused.stderr and "workbench assess docs-lm" in refused.stderr
    assess(shelf, high=0.5)
    cli("models", "alias", "docs-lm", "production", cwd=shelf.root, code=3)
    assert json.loads(cli("models", "--json", cwd=shelf.root).stdout)[0]["assessed"] is False
    assess(shelf, high=0.05)
    told = json.loads(cli("models", "alias", "docs-lm", "production", "--json", cwd=shelf.root).stdout)
    assert told["digest"] == Model.open("docs-lm@production", shelf).digest
    told = json.loads(cli("models", "--json", cwd=shelf.root).stdout)[0]
    assert told["aliases"] == ["production", "staging"] and told["assessed"] is True


def test_what_was_decided_stands_in_the_audit_and_a_changed_line_is_noticed(cli, shelf):
    cli("models", "alias", "docs-lm", "kept", cwd=shelf.root)
    told = json.loads(cli("audit", "--json", "--limit", "100", cwd=shelf.root).stdout)
    assert told["verified"] == len(told["entries"]) > 0
    assert ("alias", "kept") in [(e["action"], e["details"].get("alias")) for e in told["entries"]]
    assert "none was changed or lost" in cli("audit", cwd=shelf.root).stdout
    log = shelf.path("audit.jsonl")
    whole = log.read_text()
    try:
        log.write_text(whole.replace('"alias":"kept"', '"alias":"kopt"'))
        assert "was changed" in cli("audit", cwd=shelf.root, code=1).stderr
        log.write_text("\n".join(whole.splitlines()[:-1]) + "\n")
        assert "missing at the end" in cli("audit", cwd=shelf.root, code=1).stderr
    finally:
        log.write_text(whole)


def test_show_finds_anything_by_its_name(cli, shelf):
    assert "docs-lm@" in cli("show", "docs-lm@v1", cwd=shelf.root).stdout
    assert json.loads(cli("show", "docs", "--json", cwd=shelf.root).stdout)["kind"] == "dataset"
    assert "no version of model docs-lm" in cli("show", "docs-lm@v9", cwd=shelf.root, code=2).stderr


def test_a_name_that_is_hostile_can_not_steer_the_terminal(cli, shelf):
    data = Dataset.open("docs", shelf)
    Registry(shelf).register("dataset", "\x1b[31mred", "f" * 64, data.path, meta={"splits": data.manifest["splits"]})
    try:
        shown = cli("datasets", cwd=shelf.root).stdout
        assert "\x1b" not in shown and "x1b[31mred" in shown
    finally:
        Registry(shelf).database.execute("DELETE FROM versions WHERE digest = ?", ("f" * 64,))
