"""A run of a pipeline: begins steps as their needs are met, redoes only what must be, tells how each stands."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..drawing import duration
from ..errors import RunFailedError, WorkbenchError
from ..events import Events
from ..journal import ENDED, Entry, Journal
from ..storage import digest_json, write_atomic
from ..workspace import Workspace
from .board import Board
from .cache import Cache, Plan, Record, explain, plan, products
from .graph import GOOD, Graph, State
from .notebook import Execution
from .spec import PipelineSpec
from .steps import BoundStep, bind

if TYPE_CHECKING:
    from ..driver import RunContext

__all__ = ["ALWAYS", "Outcome", "execute", "explain", "inputs"]

ALWAYS = True
"""Never found instead of run: each step is asked anew whether it still stands, and that costs next to nothing."""
PAUSE = 0.05
"""Seconds between looks at the steps at work."""


@dataclass
class Outcome:
    """How a step stands, and at the end how it went."""

    step: BoundStep
    needs: tuple[str, ...]
    notebook: Path
    """where its executed notebook is or will be"""
    state: State = "waiting"
    why: str = ""
    begun: float | None = None
    seconds: float | None = None
    """time it took when it was made, in this run or the one it was found from"""
    made: float | None = None
    runs: list[str] = field(default_factory=list)
    products: list[dict[str, Any]] = field(default_factory=list)
    error: dict[str, Any] | None = None
    plan: Plan | None = None
    execution: Execution | None = None
    cursor: int = 0

    def told(self, workspace: Workspace) -> dict[str, Any]:
        """The part of the run's result that speaks of this step."""
        return {"state": self.state, "why": self.why, "seconds": self.seconds, "runs": self.runs, "products": self.products,
                "run": self.runs[-1] if self.runs else None, "notebook": workspace.relative(self.notebook),
                "result": Journal(workspace).get(self.runs[-1]).result if self.runs else None}


def inputs(spec: PipelineSpec, workspace: Workspace) -> dict[str, str]:
    """Digests of the notebooks' code and of the specs; refuses what can't run, all problems at once."""
    return {name: digest_json([step.notebook.parts(), step.spec.to_dict() if step.spec else None])
            for name, step in bind(spec, workspace).items()}


def estimate(spec: PipelineSpec, workspace: Workspace) -> dict[str, Any]:
    """How many steps would be done and how many are found; as long as those to be done took when they were last made."""
    plans = explain(spec, workspace)
    cache, todo = Cache(workspace), [p for p in plans if p.state != "cached"]
    known = [record.seconds for p in todo if (record := cache.latest(spec.name, p.step))]
    told: dict[str, Any] = {"seconds": round(sum(known), 1)} if todo and len(known) == len(todo) else {}
    return {**told, "steps to do": len(todo), "found": len(plans) - len(todo)}


def kept(workspace: Workspace, entry: Entry) -> dict[str, Any] | None:
    """What a run that was stopped or failed goes on from: the steps that are done, if any is."""
    board = Board()
    board.take(Events(workspace).tail(entry.id, kinds=("mark",), limit=100_000))
    board.settle(entry.state)
    left = [s.node for s in board.steps.values() if s.node not in board.kept]
    if not board.kept or not left:
        return None
    first = board.failing.node if board.failing else left[0]
    return {"words": f"with {first}; kept: {', '.join(board.kept)}", "steps": board.kept}


def execute(spec: PipelineSpec, run: RunContext) -> dict[str, Any]:
    """Bring every step up to date and write the report.

    Returns
    -------
    ``{"report": path, "steps": {name: {"state", "why", "run", "result", "notebook", ...}}}``

    Raises
    ------
    RunFailedError
        When a step failed: with its error whole. Steps that did not need it were done all the same.
    """
    begun = time.time()
    driver = _Driver(spec, run)
    try:
        driver.work()
    finally:
        driver.end()
    outcomes = driver.outcomes
    report = _report(spec, run, outcomes, begun)
    failed = [o for o in outcomes.values() if o.state == "failed"]
    if failed:
        raise RunFailedError("\n\n".join(_words(o) for o in failed), where=f"pipeline {spec.name}",
                             hint=f"Mend it and run the pipeline again: it goes on from there. Report: {run.workspace.relative(report)}")
    return {"report": run.workspace.relative(report), "steps": {n: o.told(run.workspace) for n, o in outcomes.items()}}


class _Driver:
    """One thread looks after all steps; each works in processes of its own."""

    def __init__(self, spec: PipelineSpec, run: RunContext):
        self.spec, self.run, self.graph = spec, run, Graph(spec.steps)
        self.cache, self.events = Cache(run.workspace), Events(run.workspace)
        bound = bind(spec, run.workspace)
        self.outcomes = {n: Outcome(s, self.graph.needs(n), run.directory / s.file) for n, s in bound.items()}
        depth = self.graph.depth()
        run.mark("graph", nodes=[{"node": n, "needs": list(o.needs), "column": depth[n], "notebook": o.step.notebook.path.name,
                                  "word": o.step.spec.WORD if o.step.spec else None, "title": o.step.notebook.title}
                                 for n, o in self.outcomes.items()])
        self._relayed = 0.0

    @property
    def states(self) -> dict[str, State]:
        return {n: o.state for n, o in self.outcomes.items()}

    @property
    def active(self) -> list[Outcome]:
        return [o for o in self.outcomes.values() if o.execution is not None]

    def work(self) -> None:
        """Until every step is over."""
        self._progress()
        while not self.graph.over(self.states):
            self.run.check_stop()
            for name in self.graph.lost(self.states):
                self._turn(self.outcomes[name], "skipped", f"skipped: {self._culprits(name)} failed")
            for name in self.graph.ready(self.states):
                if len(self.active) < self.spec.parallel:
                    self._begin(self.outcomes[name])
            for outcome in self.active:
                if outcome.execution.poll() is not None:
                    self._finish(outcome)
            self._relay()
            if self.active and not self.graph.over(self.states):
                time.sleep(PAUSE)

    def end(self) -> None:
        """Leave no kernel; where the pipeline itself was stopped, stop the runs too that its steps began."""
        journal = Journal(self.run.workspace)
        entry = journal.get(self.run.id)
        for outcome in self.active:
            outcome.execution.end()
            if entry.state == "stopping" and entry.attempt == self.run.attempt:
                self._stop_runs(outcome)
            outcome.execution = None

    def _stop_runs(self, outcome: Outcome) -> None:
        from ..runs import Run

        for mark in self._submitted(outcome):
            if not mark.data.get("found"):
                Run(self.run.workspace, mark.data["run"]).stop(now=self.run.ending.is_set())

    def _begin(self, outcome: Outcome) -> None:
        step, workspace = outcome.step, self.run.workspace
        outcome.begun = time.time()
        try:
            outcome.plan = plan(self.spec, step, workspace)
            outcome.why = outcome.plan.why
            if outcome.plan.state == "cached":
                self._take(outcome, outcome.plan.record)
                return
            last = self.events.last(self._mark(outcome), "mark")
            outcome.cursor = last.seq if last else 0
            outcome.execution = Execution(workspace, step.notebook.path, outcome.notebook, step.parameters, self._mark(outcome))
        except WorkbenchError as error:
            self._fail(outcome, {"what": str(error), "traceback": ""})
            return
        self._turn(outcome, "running", outcome.why)

    def _take(self, outcome: Outcome, record: Record) -> None:
        """Found: its notebook is copied here, so that this run's directory and report are whole."""
        self.cache.use(record, self.spec.name, outcome.step.name)
        kept = self.run.workspace.root / record.notebook
        if kept != outcome.notebook:
            shutil.copyfile(kept, outcome.notebook)
        outcome.runs, outcome.products, outcome.seconds, outcome.made = record.runs, record.products, record.seconds, record.made
        # What an earlier attempt of this very run made was not found: it was done here.
        here = record.run == self.run.id
        why = f"kept: done in {duration(record.seconds)} before the run went on" if here else outcome.why
        self._turn(outcome, "done" if here else "cached", why)

    def _finish(self, outcome: Outcome) -> None:
        failure = outcome.execution.failure()
        outcome.execution = None
        outcome.seconds, outcome.made = time.time() - outcome.begun, time.time()
        outcome.runs = list(dict.fromkeys(m.data["run"] for m in self._submitted(outcome)))
        if failure:
            self._fail(outcome, failure)
            return
        workspace = self.run.workspace
        parts = outcome.plan.parts
        try:
            outcome.products = products(workspace, outcome.runs)
            stands = outcome.step.inputs(workspace) == parts["inputs"]
        except WorkbenchError:  # what it read is gone by now
            stands = False
        if stands:
            self.cache.keep(Record(self.spec.name, outcome.step.name, digest_json(parts), parts, self.run.id,
                                   workspace.relative(outcome.notebook), outcome.runs, outcome.products, outcome.seconds, outcome.made))
        late = "" if stands else "; what it reads changed meanwhile, so that the next run does it again"
        self._turn(outcome, "done", f"done in {duration(outcome.seconds)} ({outcome.why}){late}")

    def _fail(self, outcome: Outcome, failure: dict[str, Any]) -> None:
        outcome.error = failure
        outcome.seconds = time.time() - outcome.begun
        self.run.log(_words(outcome), level="error")
        self._turn(outcome, "failed", f"failed: {failure['what']}")

    def _turn(self, outcome: Outcome, state: State, why: str) -> None:
        outcome.state, outcome.why = state, why
        self.run.mark("step", node=outcome.step.name, state=state, why=why, seconds=outcome.seconds, runs=outcome.runs,
                      error=outcome.error)
        if state != "failed":  # that was said, whole
            self.run.log(f"{outcome.step.name}: {why}")
        self._progress()

    def _progress(self) -> None:
        done = sum(o.state in GOOD for o in self.outcomes.values())
        self.run.progress(done, len(self.outcomes), "steps", "pipeline")

    def _relay(self) -> None:
        """Say of each step at work how far the run is that it waits for."""
        if time.monotonic() - self._relayed < 0.5:
            return
        self._relayed = time.monotonic()
        journal = Journal(self.run.workspace)
        for outcome in self.active:
            known = [m.data["run"] for m in self._submitted(outcome)]
            if not known or journal.get(known[-1]).state in ENDED:
                continue
            if known != outcome.runs:
                outcome.runs = known
                self.run.mark("step", node=outcome.step.name, state="running", why=outcome.why, seconds=None, runs=known, error=None)
            event = self.events.last(known[-1], "progress")
            if event:
                label = f"{outcome.step.name}: {event.data.get('label') or ''}".rstrip(": ")
                self.run.progress(event.data["done"], event.data.get("total"), event.data.get("unit", ""), label)

    def _submitted(self, outcome: Outcome) -> list[Any]:
        return [e for e in self.events.tail(self._mark(outcome), after=outcome.cursor, kinds=["mark"]) if e.name == "submitted"]

    def _mark(self, outcome: Outcome) -> str:
        return f"{self.run.id}/{outcome.step.name}"

    def _culprits(self, name: str) -> str:
        return " and ".join(sorted(n for n in self.graph.above(name) if self.outcomes[n].state == "failed"))


def _words(outcome: Outcome) -> str:
    """A failed step with its error whole."""
    return f"step {outcome.step.name}: {outcome.error['what']}\n{outcome.error['traceback']}".rstrip()


def _report(spec: PipelineSpec, run: RunContext, outcomes: dict[str, Outcome], begun: float) -> Path:
    from .report import report_html

    path = run.directory / "report.html"
    write_atomic(path, report_html(spec, run.workspace, run.id, list(outcomes.values()), begun=begun, ended=time.time()))
    return path
