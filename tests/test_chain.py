"""The chain of the latest work, read from real records of a taught workspace."""

from __future__ import annotations

from workbench import runs
from workbench.chain import read_chain
from workbench.journal import Journal

DIGITS = {"word": "data", "name": "digits", "sources": [{"kind": "digits"}], "steps": []}


def test_each_state_of_a_chain_has_one_next_step(taught):
    chain = read_chain(taught)
    dataset, model, assessment, endpoint = chain.links
    assert (dataset.name, dataset.version, dataset.state) == ("docs", "v1", "done")
    assert "records" in dataset.figure and "parameters" in model.figure
    assert (model.name, assessment.state, endpoint.state) == ("docs-lm", "missing", "missing")
    assert (chain.next.word, chain.next.spec) == ("assess", {"model": "docs-lm"})
    journal = Journal(taught)
    spec = {"word": "assess", "version": 1, "model": "docs-lm"}
    entry, _ = journal.add("assess", "docs-lm", "k", spec, {}, place="here")
    journal.claim(entry.id)
    chain = read_chain(taught)
    assert (chain.links[2].state, chain.links[2].run, chain.next.run) == ("running", entry.id, entry.id)
    journal.move(entry.id, "failed", failure={"what": "no"})
    chain = read_chain(taught)
    assert (chain.links[2].state, chain.next.label, chain.next.run) == ("failed", "See what failed", entry.id)


def test_newer_work_begins_a_chain_of_its_own_and_names_the_version_that_is_not_the_newest(taught):
    run = runs.submit(DIGITS, taught, place="here")
    chain = read_chain(taught)
    assert [link.state for link in chain.links] == ["done", "missing", "missing", "missing"]
    assert chain.runs == [run.id] and chain.next.spec == {"data": "digits", "objective": {"kind": "diffusion"}}
    changed = runs.submit({**DIGITS, "split": {"test": 0.2}}, taught, place="here")
    assert read_chain(taught).runs == [changed.id]
    journal = Journal(taught)
    entry, _ = journal.add("train", "digits-lm", "t", {"word": "train", "version": 1, "data": "digits@v1"}, {}, place="here")
    chain = read_chain(taught)
    assert (chain.links[0].version, chain.links[1].state, chain.links[1].run) == ("v1", "queued", entry.id)
    journal.move(entry.id, "stopped")


def test_a_verdict_decides_what_comes_next(taught):
    from workbench.assessment import workspace_policy, write_assessment
    from workbench.policy import Evidence
    from workbench.registry import Registry

    registry = Registry(taught)
    model, dataset = registry.resolve("model", "docs-lm"), registry.resolve("dataset", "docs")
    policy = workspace_policy(taught)

    def assess(memorised: float) -> None:
        import time

        value = {"bits_per_byte": 2.0, "memorised": memorised}
        evidence = [Evidence(r.metric, value.get(r.metric, 0.0), value.get(r.metric, 0.0), value.get(r.metric, 0.0), 500, r.variant or "",
                             model.digest, dataset.digest, policy.digest(), time.time(), beside={"xz": 3.0}) for r in policy.rules]
        write_assessment(taught, "docs-lm", model={"name": "docs-lm", "digest": model.digest}, taught=dataset.digest, policy=policy,
                         dataset={"name": "docs", "digest": dataset.digest}, evidence=evidence, card="")

    assess(memorised=0.5)
    chain = read_chain(taught)
    assert (chain.links[2].state, chain.links[2].figure) == ("fail", "3 of 4 rules met")
    assert chain.next.word == "assess" and "must not be deployed" in chain.next.why
    assess(memorised=0.0)
    chain = read_chain(taught)
    assert (chain.links[2].state, chain.links[2].figure) == ("pass", "4 of 4 rules met")
    assert chain.next.spec == {"name": "docs-lm", "models": [{"model": "docs-lm"}]}
