"""What an endpoint was, what it goes back to, and the specs of small changes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from conftest import teach_slow
from hypothesis import given
from hypothesis import strategies as st

from workbench import runs
from workbench.errors import SpecError
from workbench.model import Model
from workbench.serve.deployments import deployments, joined, previous, scaled, shifted, standing_deployment, without
from workbench.serve.spec import ServeSpec


def test_one_click_goes_back_and_forth_with_versions_pinned(taught):
    spec = {"word": "serve", "name": "bot", "port": 0, "replicas": 1, "models": [{"model": "docs-lm"}]}
    assert standing_deployment(taught, "bot") is None and previous(taught, "bot") is None
    endpoint = runs.run(spec, taught).output
    assert previous(taught, "bot") is None and standing_deployment(taught, "bot").words == "docs-lm@v1 100 %"
    teach_slow(taught, "docs-lm")  # "docs-lm" now means another version: what stands goes on meaning the first
    now = standing_deployment(taught, "bot").spec
    runs.run(shifted(joined(now, "docs-lm@v2", 10), {"docs-lm@v1": 60, "docs-lm@v2": 40}), taught)
    assert [m["weight"] for m in endpoint.document["models"]] == [60, 40]
    before = previous(taught, "bot")
    assert before.words == "docs-lm@v1 100 %"
    told = subprocess.run([sys.executable, "-m", "workbench.cli", "endpoints", "back", "bot", "--json"], cwd=taught.root,
                          capture_output=True, text=True, check=True)
    back = runs.attach(json.loads(told.stdout)["run"], taught)
    assert [m["digest"] for m in endpoint.document["models"]] == [Model.open("docs-lm@v1", taught).digest]
    assert standing_deployment(taught, "bot").run == back.id and previous(taught, "bot").words == "docs-lm@v1 60 %, docs-lm@v2 40 %"
    runs.run(scaled(before.spec, 2), taught)
    assert len(endpoint.document["replicas"]) == 2
    assert previous(taught, "bot").traffic == {"docs-lm@v1": 0.6, "docs-lm@v2": 0.4}  # replicas are no other traffic
    assert len(deployments(taught, "bot")) == 4


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=5).filter(any), st.floats(1, 99))
def test_shares_stay_in_proportion(weights, share):
    spec = ServeSpec(name="bot", models=tuple({"model": f"lm@v{n + 1}", "weight": w} for n, w in enumerate(weights)))
    more = joined(spec, "lm@v99", share)
    assert sum(s.weight for s in more.models) == pytest.approx(100, abs=1e-4) and more.models[-1].weight == share
    for was, now in zip(spec.models, more.models, strict=False):
        assert now.weight == pytest.approx(was.weight / sum(weights) * (100 - share), abs=1e-4)
    less = without(more, "lm@v99")
    assert [s.model for s in less.models] == [s.model for s in spec.models]
    assert [s.weight for s in less.models] == pytest.approx([100 * w / sum(weights) for w in weights], abs=1e-3)


def test_what_can_not_be_is_refused():
    spec = ServeSpec(name="bot", models=({"model": "lm@v1"},))
    for change in (lambda: shifted(spec, {"lm@v1": 0}), lambda: shifted(spec, {"lm@v2": 1}), lambda: without(spec, "lm@v1"),
                   lambda: joined(spec, "lm@v1"), lambda: scaled(spec, 0)):
        with pytest.raises(SpecError):
            change()
