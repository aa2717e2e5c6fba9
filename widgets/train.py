"""The train panel: what a model learns from and how; what it sees, its curves, samples and ranks as it learns, what came of it."""

from __future__ import annotations

import json
import threading
from collections import deque
from typing import Any, ClassVar

import traitlets

from workbench import runs
from workbench.display import flat
from workbench.drawing import ago, duration, number, size
from workbench.errors import NotFoundError, SpecError, WorkbenchError
from workbench.events import Event, Events
from workbench.journal import ENDED, Entry, Journal
from workbench.registry import Registry
from workbench.runs import Run
from workbench.spec import spec_class
from workbench.workspace import Workspace

from . import still
from .panel import Panel, slow

OTHERS = 40
"""Runs that are offered to compare with."""
STEPS = 12
"""Steps whose samples stand side by side."""


class TrainPanel(Panel):
    """Trains models."""

    WORD: ClassVar[str] = "train"
    ABOUT: ClassVar[str] = "Trains a language model on a dataset, on one process or many; it can be stopped and resumed."
    MAIN: ClassVar[tuple[str, ...]] = ("data", "name", "model", "tokens", "learning_rate")
    CURVES: ClassVar[tuple[str, ...]] = ("loss", "bits_per_byte", "learning_rate", "tokens_per_second", "gradient_norm")
    MODULES: ClassVar[tuple[str, ...]] = ("train",)
    ESTIMATES: ClassVar[bool] = False

    train = traitlets.Dict().tag(sync=True)

    def __init__(self, spec: object = None, *, workspace: Any = None, **known: Any):
        self._pace: deque[float] = deque(maxlen=40)
        self._ranks: list[dict[str, Any]] = []
        self._trial = 0
        found = Workspace.find(workspace)
        newest = next(iter(Registry(found).versions("dataset")), None)
        self.EXAMPLE = {"data": newest.name if newest else "python-docs"}  # what there is to begin with
        super().__init__(spec, workspace=found, **known)

    # The run as it is --------------------------------------------------------------------------------------------------------

    def attach(self, run: Run | str) -> None:
        super().attach(run)
        events = Events(self.workspace)
        rows = events.database.rows("SELECT data FROM events WHERE scope = ? AND kind = 'vitals' AND kind <> 'point' ORDER BY seq DESC "
                                    "LIMIT 5", (self.watch.run.id,))
        told = [json.loads(r["data"])["ranks"] for r in rows]
        with self._lock:
            # While the last is measured no step is made: what they did before says more.
            self._ranks = next((t for t in told if all(r["step_seconds"] for r in t)), told[0] if told else [])
            self._pace.clear()
            rows = events.database.rows("SELECT value FROM events WHERE scope = ? AND kind = 'point' AND name = 'tokens_per_second' "
                                        "ORDER BY step DESC LIMIT 40", (self.watch.run.id,))
            self._pace.extend(r["value"] for r in reversed(rows) if r["value"] is not None)
        self._show()

    def alive(self, fresh: dict[str, Any], events: list[Event]) -> None:
        with self._lock:
            for event in events:
                if event.kind == "vitals" and (not self._ranks or any(r["step_seconds"] for r in event.data["ranks"])):
                    self._ranks = event.data["ranks"]
            if "tokens_per_second" in fresh:
                self._pace.extend(fresh["tokens_per_second"][:, 1].tolist())
        self._show()

    def _show(self) -> None:
        watch = self.watch
        if watch is None:
            return
        self.train = {"run": watch.run.id, "headline": self._headline(), "ranks": self._shown_ranks(), "marks": told(watch.marks)}

    def _headline(self) -> list[str]:
        watch, progress = self.watch, self.watch.progress or {}
        state, spec = watch.entry.state, watch.entry.spec
        if progress.get("label") != "training":
            return [f"{progress.get('label')}: {progress.get('done', 0):.0f} of {progress.get('total') or 0:.0f}"] if progress else []
        said = [f"step {progress['done']:,} / {progress['total']:,}"]
        if self._pace and state not in ENDED:
            said.append(f"{thousands(sum(self._pace) / len(self._pace))} tok/s")
        ranks = len(self._ranks) or (spec.get("hardware") or {}).get("ranks") or 2
        said.append(f"{ranks} rank{'s' * (ranks != 1)}")
        if state in ENDED:
            said.append(f"took {duration(watch.run.worked)}")
        elif progress.get("left") is not None and state == "running":
            said.append(f"{duration(max(0, progress['left']))} left")
        return said

    def _shown_ranks(self) -> list[dict[str, Any]]:
        started = next((m["ranks"] for m in reversed(self.watch.marks) if m["name"] == "ranks"), [])
        where = {r["rank"]: r for r in started}
        return [{"rank": r["rank"], "cpu": f"{100 * r['cpu']:.0f} %", "step": _brief(r["step_seconds"]), "wait": _brief(r["wait_seconds"]),
                 "memory": size(r["memory"]), "host": where.get(r["rank"], {}).get("host", ""), "pid": where.get(r["rank"], {}).get("pid")}
                for r in self._ranks]

    # What it will take, and what it will see -----------------------------------------------------------------------------------

    def ask_estimate(self) -> dict[str, Any]:
        """Try one step on the cluster, off every thread that a page waits for; the plan says so meanwhile."""
        spec = self.spec
        self._trial += 1
        ranks = spec.hardware.ranks
        self.plan = {**self.plan, "text": f"trying one step on {ranks} rank{'s' * (ranks != 1)} …", "trying": True}
        threading.Thread(target=self._try, args=(spec, self._trial), name="workbench-trial", daemon=True).start()
        return self.plan

    def _try(self, spec: Any, trial: int) -> None:
        try:
            inputs, found, estimate = runs.foresee(spec, self.workspace)
            plan = {"inputs": inputs, "found": found.id if found else None, "estimate": estimate, "text": still.plan_text(found, estimate)}
        except (WorkbenchError, OSError, ImportError) as error:
            plan = {k: v for k, v in self.plan.items() if k not in ("text", "trying")}
            self._note("warning", str(error))
        if trial == self._trial and self.editor.spec == spec:  # else another look ahead has said more since
            self.plan = plan

    @slow
    def ask_sight(self, step: int = 1, of: str = "spec") -> dict[str, Any]:
        """The batch of a step, of the spec as it stands or of the run that is shown; worked out in a process of its own."""
        from workbench.train.sight import look

        if of == "run" and self.watch is not None:
            entry = self.watch.entry
            return look(self.watch.run.spec, self.workspace, step=step, digest=entry.inputs.get("data"))
        return look(self.spec, self.workspace, step=step)

    # What came of it -----------------------------------------------------------------------------------------------------------

    def next_step(self, run: Run) -> dict[str, Any] | None:
        return {"label": "Assess this model", "word": "assess", "spec": {"model": run.result["model"]}}

    def made(self, run: Run) -> dict[str, Any]:
        model, manifest = run.output, run.output.manifest
        metrics, taught = manifest.get("metrics") or {}, manifest.get("dataset") or {}
        version = Registry(self.workspace).resolve("model", f"{model.name}@{model.digest}")
        facts = [["model", f"{model.name} v{version.number}", model.digest[:12]],
                 ["parameters", f"{manifest.get('parameters', 0):,}", ""],
                 ["trained", f"{metrics.get('tokens', 0):,} tokens", f"{metrics.get('steps', 0):,} steps in {duration(metrics['seconds'])}"
                  if metrics.get("seconds") else ""],
                 ["taught by", f"{taught.get('name', '?')}@{str(taught.get('digest', ''))[:12]}", ""],
                 ["held out", f"{metrics['bits_per_byte']:.3f} bits a byte" if metrics.get("bits_per_byte") else "–",
                  f"all of it, {size(metrics['held_out_bytes'])}" if metrics.get("held_out_bytes") else ""],
                 ["memory", size(metrics["memory"]) if metrics.get("memory") else "–", "all ranks, at their peak"]]
        return {"facts": facts, "gain": metrics.get("gain"), "samples": self._samples(run), "card": model.card,
                "curves": Events(self.workspace).names(run.id), "reference": model.reference, "marks": told(marks(self.workspace, run.id))}

    def left(self, run: Run) -> dict[str, Any]:
        return {"samples": self._samples(run), "curves": Events(self.workspace).names(run.id), "marks": told(marks(self.workspace, run.id))}

    def _samples(self, run: Run) -> dict[str, Any]:
        """Prompts down, steps across: the first, the last, and some between."""
        found: dict[int, dict[str, str]] = {}
        for event in run.events(kinds=("sample",)):
            found.setdefault(event.step or 0, {})[str(event.data.get("prompt", ""))] = str(event.data.get("text", ""))
        steps = sorted(found)
        if len(steps) > STEPS:
            steps = sorted({steps[round(n * (len(steps) - 1) / (STEPS - 1))] for n in range(STEPS)})
        prompts = list(dict.fromkeys(p for s in steps for p in found[s]))
        return {"steps": steps, "rows": [{"prompt": p, "texts": [found[s].get(p) for s in steps]} for p in prompts]}

    @slow
    def ask_others(self) -> list[dict[str, Any]]:
        """Runs of train to compare with, the newest first."""
        shown = self.watch.run.id if self.watch else None
        return [_offered(e) for e in Journal(self.workspace).entries(word=self.WORD, limit=OTHERS + 1)
                if e.id != shown and e.started is not None][:OTHERS]

    @slow
    def ask_compare(self, others: list[str]) -> dict[str, Any]:
        """This run beside others: what came of each, and the fields of their specs that differ."""
        journal = Journal(self.workspace)
        entries = [self.watch.run.entry, *(journal.get(str(o)) for o in others[:8])]
        specs = [dict(flat(_whole(e))) for e in entries]
        paths = [p for p in dict.fromkeys(p for s in specs for p in s) if len({s.get(p) for s in specs}) > 1 and p != "version"]
        data = [{e.inputs.get("data", "")[:12] for e in entries}]
        rows = [{"path": p, "values": [str(s.get(p, "–")) for s in specs]} for p in paths]
        if len(data[0]) > 1:
            rows.insert(0, {"path": "dataset version", "values": [e.inputs.get("data", "")[:12] for e in entries]})
        return {"runs": [_offered(e) for e in entries], "rows": rows}

    @slow
    def act_dataset(self) -> None:
        """Open the panel of the dataset that taught the model below this one."""
        from . import panel_class

        digest = self.watch.entry.inputs.get("data", "")
        done = Journal(self.workspace).entries(word="data", states=("done",))
        made = next((e for e in done if (e.result or {}).get("digest") == digest), None)
        if made is None:
            raise NotFoundError("no run here made that dataset", where=self.watch.entry.spec.get("data"))
        self.opened = [panel_class("data")(run=made.id, workspace=self.workspace)]


def marks(workspace: Workspace, run_id: str) -> list[dict[str, Any]]:
    """The marks of a run as a watch keeps them."""
    return [{"at": e.at, "step": e.step, "name": e.name, **e.data} for e in Events(workspace).tail(run_id, kinds=("mark",))]


def told(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What happened on the way, as marks on curves: ``step``, ``kind`` and ``text``.

    Examples
    --------
    >>> told([{"name": "restart", "step": 40, "ranks": [1], "why": "rank 1 was killed (SIGKILL)"},
    ...       {"name": "back", "step": 40, "ranks": [1], "seconds": 0.41}])
    [{'step': 40, 'kind': 'restart', 'text': 'rank 1 came back after 0.4 s'}]
    """
    shown: list[dict[str, Any]] = []
    open_: str | None = None
    for mark in found:
        name = mark["name"]
        who = f"rank {mark['ranks'][0]}" if len(mark.get("ranks") or ()) == 1 and name in ("restart", "back") else "the ranks"
        if name == "restart":
            if open_ == "restart":
                shown.pop()
            shown.append({"step": mark["step"], "kind": "restart", "text": f"{who} was lost" if who != "the ranks" else "ranks were lost"})
            open_ = "restart"
        elif name == "back" and open_ == "restart":
            seconds = mark["seconds"]
            shown[-1] = {"step": mark["step"], "kind": "restart",
                         "text": f"{who} came back after {f'{seconds:.1f} s' if seconds < 10 else duration(seconds)}"}
            open_ = None
        elif name == "frozen":
            shown.append({"step": mark["step"], "kind": "stop", "text": "stopped"})
            open_ = "frozen"
        elif name == "resumed" and open_ == "frozen":
            shown[-1]["text"], open_ = "stopped, then resumed", None
        elif name == "resumed" and open_ is None and mark["step"] and not any(m["step"] == mark["step"] for m in shown):
            shown.append({"step": mark["step"], "kind": "restart", "text": "went on"})
    return shown


def thousands(value: float) -> str:
    """A rate as it is said in passing.

    Examples
    --------
    >>> thousands(18_240), thousands(940), thousands(2_310_000)
    ('18.2k', '940', '2.31M')
    """
    for limit, unit in ((1e6, "M"), (1e4, "k")):
        if value >= limit:
            return f"{value / (1e6 if unit == 'M' else 1e3):.3g}{unit}"
    return f"{value:,.0f}"


def _brief(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{1000 * seconds:.1f} ms" if seconds < 0.0995 else f"{1000 * seconds:.0f} ms" if seconds < 10 else duration(seconds)


def _whole(entry: Entry) -> dict[str, Any]:
    """The spec of a run with its defaults."""
    try:
        return spec_class(entry.word).load(entry.spec).to_dict()
    except SpecError:  # a run of another workbench is compared as it stands
        return entry.spec


def _offered(entry: Entry) -> dict[str, Any]:
    metrics = (entry.result or {}).get("metrics") or {}
    bits = metrics.get("bits_per_byte")
    return {"run": entry.id, "name": entry.name, "state": entry.state, "when": ago(entry.submitted),
            "bits": f"{bits:.3f}" if bits else "", "loss": number(metrics["loss"]) if metrics.get("loss") else "",
            "tokens": number(metrics["tokens"]) if metrics.get("tokens") else "",
            "seconds": duration(metrics["seconds"]) if metrics.get("seconds") else ""}
