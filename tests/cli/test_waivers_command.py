"""Waivers by the command line: granted, listed, refused, withdrawn."""

from __future__ import annotations

import datetime
import json
import time

from workbench import runs
from workbench.assessment import workspace_policy, write_assessment
from workbench.dataset import Dataset
from workbench.model import Model
from workbench.policy import Evidence
from workbench.workspace import Workspace

SOON = str(datetime.date.today() + datetime.timedelta(days=3))


def test_a_waiver_is_granted_listed_and_withdrawn(cli, copy_of_taught, tmp_path):
    root = copy_of_taught(tmp_path / "w").root
    (root / "workbench.toml").write_text('policy = "policy.yaml"\n')
    (root / "policy.yaml").write_text("rules: [{metric: memorised, at_most: 0.1}]\n")
    workspace = Workspace(root)
    model, data, policy = Model.open("docs-lm", workspace), Dataset.open("docs", workspace), workspace_policy(workspace)
    asked = ("models", "waive", "docs-lm", "memorised", "--until", SOON, "--reason", "only invented records")
    assert "can't stand in" in cli(*asked, cwd=root, code=3).stderr
    evidence = Evidence("memorised", 0.2, 0.1, 0.3, 50, "test", model.digest, data.digest, policy.digest(), time.time())
    write_assessment(workspace, "docs-lm", model={"name": model.name, "digest": model.digest}, policy=policy, evidence=[evidence],
                     dataset={"name": data.name, "digest": data.digest}, taught=data.digest, card="# card\n")
    cli("models", "alias", "docs-lm", "production", cwd=root, code=3)
    told = json.loads(cli(*asked, "--asked-by", "ada", "--json", cwd=root).stdout)
    assert told["asked_by"] == "ada" and told["verdict"].startswith("may be deployed with 1 waiver")
    cli("models", "alias", "docs-lm", "production", cwd=root)
    listed = cli("models", "waivers", cwd=root).stdout
    assert told["waiver"][:12] in listed and "counts" in listed and "ada" in listed
    assert "must not be deployed" in cli("models", "withdraw", told["waiver"][:12], cwd=root).stdout
    assert json.loads(cli("models", "waivers", "--json", cwd=root).stdout)[0]["counts"] is False
    cli("models", "withdraw", told["waiver"][:12], cwd=root, code=2)
    runs.shut_down(workspace)
