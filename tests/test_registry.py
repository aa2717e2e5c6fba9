"""Names, versions and aliases: what a reference means, from many processes at once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import NotFoundError, PolicyError, SpecError
from workbench.registry import Registry
from workbench.workspace import Workspace

ONE, TWO = "1a" * 32, "2b" * 32


@pytest.fixture
def registry(tmp_path) -> Registry:
    made = Registry(Workspace(tmp_path).open())
    for name, digest in (("m", ONE), ("m", TWO), ("other", ONE)):
        made.register("model", name, digest, tmp_path / ".workbench" / "models" / name / digest, run="r", meta={"n": name})
    return made


def test_what_references_mean(registry):
    registry.set_alias("model", "m@v1", "best")
    meant = {"m": TWO, "m@latest": TWO, "m@v1": ONE, "m@v2": TWO, f"m@{ONE[:6]}": ONE, f"m@{TWO}": TWO, "m@best": ONE, "other": ONE}
    assert {r: registry.resolve("model", r).digest for r in meant} == meant
    version = registry.resolve("model", "m@v2")
    assert (version.number, version.run, version.meta, version.reference) == (2, "r", {"n": "m"}, f"m@{TWO[:12]}")
    assert version.path.relative_to(registry.workspace.root).as_posix() == f".workbench/models/m/{TWO}"
    assert registry.names("model") == ["m", "other"] and registry.names("dataset") == []
    assert registry.by_digest("model", TWO).name == "m"


@pytest.mark.parametrize(("reference", "said"), [("n", 'no model "n"'), ("mm", 'Did you mean "m"'), ("m@v3", "v1, v2"),
                                                 ("m@bets", 'Did you mean "best"'), (f"m@{ONE[:5]}", "no version of model m")])
def test_what_is_not_there_is_told_with_what_is(registry, reference, said):
    registry.set_alias("model", "m@v1", "best")
    with pytest.raises(NotFoundError, match=said):
        registry.resolve("model", reference)


def test_registering_again_makes_it_the_newest_and_keeps_its_number(registry, tmp_path):
    assert registry.register("model", "m", ONE, tmp_path).number == 1
    assert registry.resolve("model", "m").digest == ONE
    assert [v.number for v in registry.versions("model", "m")] == [1, 2]
    assert registry.register("model", "m", "3c" * 32, tmp_path).number == 3


def test_an_alias_moves_and_stays_where_it_was_put(registry, tmp_path):
    registry.set_alias("model", "m@v1", "best")
    registry.register("model", "m", "3c" * 32, tmp_path)
    assert registry.aliases("model", "m") == {"best": ONE}
    registry.set_alias("model", "m", "best")
    assert registry.aliases("model", "m") == {"best": "3c" * 32} and registry.aliases("model", "other") == {}
    assert [e["details"]["digest"] for e in registry.workspace.audit.entries()] == [ONE, "3c" * 32]


@settings(max_examples=50)
@given(st.one_of(st.sampled_from(["latest", "v1", "v23", "abcdef", "0123456789ab", "", "a b", "-x", "1st", "a/b", "a@b", "é", "x" * 65,
                                  "a\n"]),
                 st.from_regex(r"[0-9a-f]{6,64}", fullmatch=True)))
def test_an_alias_is_a_word_that_nothing_else_means(alias):
    with pytest.raises(SpecError):
        Registry(Workspace("/nowhere")).set_alias("model", "m", alias)


@pytest.mark.parametrize("alias", ["production", "Production", "PRODUCTION"])
def test_the_protected_alias_is_refused_without_a_permit(registry, alias):
    with pytest.raises(PolicyError, match="needs a passing assessment"):
        registry.set_alias("model", "m", alias)
    assert registry.aliases("model", "m") == {} and registry.workspace.audit.entries() == []


def test_it_protects_models_only(registry, tmp_path):
    registry.register("dataset", "d", ONE, tmp_path)
    assert registry.set_alias("dataset", "d", "production").digest == ONE


def test_many_processes_register_without_losing_a_number(tmp_path):
    workspace = Workspace(tmp_path).open()
    code = ("import sys, hashlib; from workbench import Registry, Workspace; r = Registry(Workspace.find())\n"
            "for n in range(20): r.register('model', 'm', hashlib.sha256(f'{sys.argv[1]} {n // 2}'.encode()).hexdigest(), 'p')")
    environment = {**os.environ, "WORKBENCH_ROOT": str(tmp_path)}
    children = [subprocess.Popen([sys.executable, "-c", code, str(n)], env=environment) for n in range(3)]
    assert [c.wait(60) for c in children] == [0, 0, 0]
    assert sorted(v.number for v in Registry(workspace).versions("model", "m")) == list(range(1, 31))
