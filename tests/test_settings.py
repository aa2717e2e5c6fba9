"""Settings of clusters: chosen by kind, every problem told at once with what is allowed."""

from __future__ import annotations

import pytest

from workbench import cluster
from workbench.errors import ClusterError, SpecError
from workbench.settings import KINDS
from workbench.workspace import Workspace


def settings(folder, text: str):
    (folder / "workbench.toml").write_text("[cluster]\n" + text)
    return Workspace(folder).settings.cluster


@pytest.mark.parametrize(("text", "kind", "most"), [
    ("", "local", 2), ("workers = 5", "local", 5), ("minimum = 1\nmaximum = 8", "local", 8),
    ('address = "tcp://here:1"', "address", None), ('kind = "address"\naddress = "tls://here:1"', "address", None),
    ('kind = "ssh"\nhosts = ["a", "b"]', "ssh", 2), ('kind = "slurm"\nmemory = "4GB"\nwalltime = "1-00:00:00"', "slurm", 2),
    ('kind = "kubernetes"\nimage = "i"\nresources = {requests = {cpu = "1"}}', "kubernetes", 2), ('kind = "aws"', "aws", 2),
    ('kind = "gcp"\nproject = "p"\nzone = "europe-west1-b"\nmaximum = 3', "gcp", 3),
    ('kind = "azure"\nlocation = "l"\nresource_group = "r"\nvnet = "v"\nsecurity_group = "s"', "azure", 2),
])
def test_a_kind_is_chosen_by_the_settings_alone(text, kind, most, tmp_path):
    found = settings(tmp_path, text)
    assert found.kind == kind and type(found) is KINDS[kind] and found.most == most


@pytest.mark.parametrize(("text", "words"), [
    ('kind = "slrm"', ["cluster: received 'slrm'; expected one of 'local', 'address', 'ssh', 'slurm'", 'did you mean "slurm"?']),
    ('kind = "slurm"\nqueu = "x"\nmemory = "many"\nminimum = 5\nmaximum = 2\nwalltime = "soon"', [
        "4 problems", 'cluster.queu: unknown field; did you mean "queue"?', "cluster.memory: received 'many'", "cluster.walltime",
        "cluster.maximum: received 2", "≥ minimum, which is 5"]),
    ('kind = "address"\naddress = "here:1"\ntls = 1', ["2 problems", "cluster.address: received 'here:1'", "cluster.tls: unknown field"]),
    ('kind = "ssh"\nhosts = []\nport = 0', ["2 problems", "cluster.hosts", "cluster.port: received 0; expected a number ≥ 1"]),
    ('kind = "kubernetes"\nname = "X"\nresources = {request = {cpu = "1"}}', ["cluster.image: is missing", "cluster.name", "'requests'"]),
    ('kind = "azure"', ["4 problems", "cluster.vnet: is missing"]),
    ('kind = "gcp"\nproject = "p"\nzone = "europe"', ["1 problem", "cluster.zone: received 'europe'"]),
])
def test_every_problem_is_told_at_once(text, words, tmp_path):
    with pytest.raises(SpecError) as caught:
        settings(tmp_path, text)
    for said in words:
        assert said in str(caught.value), str(caught.value)


def test_a_missing_library_is_told_with_the_line_that_brings_it(tmp_path, monkeypatch):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "asyncssh" else found(name, *a))
    settings(tmp_path, 'kind = "ssh"\nhosts = ["a"]')
    with pytest.raises(ClusterError, match=r'kind "ssh" needs asyncssh.*pip install \'genai-workbench\[ssh\]\''):
        cluster.up(Workspace(tmp_path).open())


def test_each_extra_that_an_error_names_is_there():
    import tomllib
    from pathlib import Path

    from workbench.cluster.kinds import KINDS as made

    extras = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {extra for _, _, extra in made.values() if extra} <= set(extras) and set(made) == set(KINDS)
