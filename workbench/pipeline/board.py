"""How the steps of a run stand, put together from the marks that it leaves: while it works, and after it has ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..events import Event
from ..journal import ENDED
from .graph import GOOD, Graph
from .spec import PipelineSpec


@dataclass
class Standing:
    """One step: ``state`` as ``graph.State`` says, or ``stopped`` where the run ended before the step did."""

    node: str
    needs: list[str] = field(default_factory=list)
    column: int = 0
    notebook: str = ""
    title: str = ""
    word: str | None = None
    state: str = "waiting"
    why: str = ""
    seconds: float | None = None
    begun: float | None = None
    cell: int | None = None
    """cell at work, counted from 1 over all cells"""
    of: int | None = None
    runs: list[str] = field(default_factory=list)
    error: dict[str, Any] | None = None


class Board:
    """The steps of one run, by name.

    Examples
    --------
    >>> board = Board()
    >>> board.take([Event(1, "run", "mark", 0.0, "graph", data={"nodes": [{"node": "data", "needs": [], "column": 0}]}),
    ...             Event(2, "run", "mark", 5.0, "step", data={"node": "data", "state": "running", "why": "was not made yet"})])
    >>> board.steps["data"].state
    'running'
    """

    def __init__(self, spec: PipelineSpec | None = None):
        self.steps: dict[str, Standing] = {}
        self.seen = 0
        if spec is not None:  # before the run says so itself
            graph = Graph(spec.steps)
            depth = graph.depth()
            self.steps = {s.name: Standing(s.name, list(s.needs), depth[s.name], s.notebook, s.name) for s in spec.steps}

    def take(self, events: Iterable[Event]) -> None:
        """Fold events in, in any number of portions; what was taken already is left alone."""
        for event in events:
            if event.kind != "mark" or event.seq <= self.seen:
                continue
            self.seen = event.seq
            if event.name == "graph":  # another attempt begins anew: what it finds done it says
                self.steps = {n["node"]: Standing(**{k: v for k, v in n.items() if k in Standing.__dataclass_fields__ and v is not None})
                              for n in event.data["nodes"]}
            elif event.name == "step" and event.data["node"] in self.steps:
                self._step(self.steps[event.data["node"]], event)
            elif event.name == "cell" and event.data.get("node") in self.steps:
                step = self.steps[event.data["node"]]
                step.cell, step.of = event.data["cell"], event.data["of"]

    def _step(self, step: Standing, event: Event) -> None:
        data = event.data
        if data["state"] == "running" and step.state != "running":
            step.begun = event.at
        step.state, step.why, step.seconds = data["state"], data.get("why", ""), data.get("seconds")
        step.runs, step.error = data.get("runs") or step.runs, data.get("error")

    def settle(self, state: str) -> None:
        """The run has ended: what was at work is not any more."""
        if state in ENDED:
            for step in self.steps.values():
                if step.state == "running":
                    step.state, step.why = "stopped", f"the run {'was stopped' if state == 'stopped' else 'ended'} while it was at work"

    @property
    def failing(self) -> Standing | None:
        """The first step that failed."""
        return next((s for s in self.steps.values() if s.state == "failed"), None)

    @property
    def kept(self) -> list[str]:
        """Steps that are done or were found."""
        return [s.node for s in self.steps.values() if s.state in GOOD]
