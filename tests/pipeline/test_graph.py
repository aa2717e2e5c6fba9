"""The graph decides from states alone: any order of endings and failures leaves every step over, each for the right reason."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workbench.pipeline.graph import GOOD, Graph
from workbench.pipeline.spec import Step


@st.composite
def graphs(draw):
    count = draw(st.integers(1, 8))
    names = draw(st.permutations([f"s{n}" for n in range(count)]))
    needs = {n: draw(st.lists(st.sampled_from(names[:i]), unique=True)) if i else [] for i, n in enumerate(names)}
    order = draw(st.permutations(names))
    return Graph([Step(name=n, notebook="x.ipynb", needs=tuple(needs[n])) for n in order])


@given(graphs(), st.data())
def test_every_step_ends_once_and_is_skipped_only_below_a_failure(graph, data):
    states = dict.fromkeys(graph.names(), "waiting")
    began = []
    while not graph.over(states):
        for name in graph.lost(states):
            states[name] = "skipped"
        for name in graph.ready(states):
            assert all(states[n] in GOOD for n in graph.above(name))
            states[name] = "running"
            began.append(name)
        running = [n for n, s in states.items() if s == "running"]
        if running:
            states[data.draw(st.sampled_from(running))] = data.draw(st.sampled_from(["done", "cached", "failed"]))
    assert len(began) == len(set(began))
    for name, state in states.items():
        assert (state == "skipped") == any(states[n] in ("failed", "skipped") for n in graph.above(name))


@given(graphs())
def test_the_order_and_the_columns_agree_with_the_needs(graph):
    names, depth = graph.names(), graph.depth()
    assert sorted(names) == sorted(s.name for s in graph.steps)
    for name in names:
        assert all(names.index(n) < names.index(name) and depth[n] < depth[name] for n in graph.needs(name))
        assert depth[name] == 0 or any(depth[n] == depth[name] - 1 for n in graph.needs(name))
