"""The train panel: what a model learns from and how; what it sees, its curves, samples and ranks as it learns, what came of it."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any, ClassVar

import traitlets

from workbench import runs
from workbench.coordinates import best_of, coordinates_svg, trial_rows
from workbench.dataset import Dataset
from workbench.display import flat
from workbench.drawing import ago, duration, number, size
from workbench.errors import NotFoundError, SpecError, WorkbenchError
from workbench.events import Event, Events
from workbench.journal import ENDED, Entry, Journal
from workbench.registry import Registry
from workbench.runs import Run
from workbench.spec import spec_class
from workbench.train.objectives.spec import begun
from workbench.workspace import Workspace

from . import faring, measures, samples, still
from .panel import Panel, slow

OTHERS = 40
"""Runs that are offered to compare with."""
TAIL = 32_768
"""Bytes of the end of a rank's log that are shown."""
OWN = {"learning_rate": "RATE", "batch.sequences": "SEQUENCES", "epochs": "EPOCHS", "optimizer": "OPTIMIZER", "weight_decay": "DECAY"}
"""Fields that an objective has a value of its own for, where the spec says none."""


class TrainPanel(Panel):
    """Trains models."""

    WORD: ClassVar[str] = "train"
    ABOUT: ClassVar[str] = "Trains a model on a dataset, on one process or many; it can be stopped and resumed."
    MAIN: ClassVar[tuple[str, ...]] = ("data", "name", "objective", "model", "tokens", "epochs", "learning_rate", "batch")
    MODULES: ClassVar[tuple[str, ...]] = ("trainform", "trainwork", "trainsweep", "trainsight", "train")
    ESTIMATES: ClassVar[bool] = False

    train = traitlets.Dict().tag(sync=True)
    own = traitlets.Dict().tag(sync=True)
    """what the objective of the spec has of its own: values by field, and the fields that are nothing to it"""

    def __init__(self, spec: object = None, *, workspace: Any = None, **known: Any):
        self._pace: deque[float] = deque(maxlen=40)
        self._ranks: list[dict[str, Any]] = []
        self._trial = 0
        found = Workspace.find(workspace)
        newest = next(iter(Registry(found).versions("dataset")), None)
        self.EXAMPLE = begun(newest.name, Dataset(newest.path).form) if newest else {"data": "python-docs"}  # what there is to begin with
        super().__init__(spec, workspace=found, **known)
        self._own()

    def _edited(self) -> None:
        super()._edited()
        self._own()

    def _own(self) -> None:
        """Say what holds where the spec is silent, and which fields are nothing to the objective that is chosen."""
        kind = measures.objective_of(self.editor.mapping if isinstance(self.editor.mapping.get("objective"), dict) else {})
        part = next(v for v in _objectives() if v.model_fields["kind"].default == kind)
        streams = kind == "pretrain"
        values = {p: getattr(part, a) for p, a in OWN.items() if not (streams and p == "epochs")}
        self.own = {"kind": kind, "values": values, "idle": [] if streams else ["model", "tokens"], "sees": measures.sees(kind),
                    "needs": getattr(part, "NEEDS_DATA", True)}

    # The run as it is --------------------------------------------------------------------------------------------------------

    def attach(self, run: Run | str) -> None:
        run = runs.attach(run, self.workspace) if isinstance(run, str) else run
        self._words = measures.words(run.entry.spec)  # before the first event is heard
        self._swept: tuple[Any, dict[str, Any] | None] = (None, None)
        super().attach(run)
        events = Events(self.workspace)
        rows = events.database.rows("SELECT data FROM events WHERE scope = ? AND kind = 'vitals' AND kind <> 'point' ORDER BY seq DESC "
                                    "LIMIT 5", (self.watch.run.id,))
        told = [json.loads(r["data"])["ranks"] for r in rows]
        with self._lock:
            # While the last is measured no step is made: what they did before says more.
            self._ranks = next((t for t in told if all(r["step_seconds"] for r in t)), told[0] if told else [])
            self._pace.clear()
            rows = events.database.rows("SELECT value FROM events WHERE scope = ? AND kind = 'point' AND name = ? "
                                        "ORDER BY step DESC LIMIT 40", (self.watch.run.id, self._words["rate"]))
            self._pace.extend(r["value"] for r in reversed(rows) if r["value"] is not None)
        self._show()

    def alive(self, fresh: dict[str, Any], events: list[Event]) -> None:
        with self._lock:
            for event in events:
                if event.kind == "vitals" and (not self._ranks or any(r["step_seconds"] for r in event.data["ranks"])):
                    self._ranks = event.data["ranks"]
            if self._words["rate"] in fresh:
                self._pace.extend(fresh[self._words["rate"]][:, 1].tolist())
        self._show()

    def _show(self) -> None:
        watch = self.watch
        if watch is None:
            return
        found, spec = list(watch.marks), watch.entry.spec
        rate = spec.get("learning_rate") or self._rate(spec)
        self.train = {"run": watch.run.id, "headline": self._headline(), "ranks": self._shown_ranks(), "marks": told(found),
                      "words": self._words, "verdict": faring.verdict(found), "costs": faring.costs(found, self._currency()),
                      "told": faring.told(found, rate), "sweep": self._sweep(found)}

    def _currency(self) -> str:
        return self.workspace.settings.currency

    @staticmethod
    def _rate(spec: Mapping[str, Any]) -> float:
        kind = measures.objective_of(spec)
        return next(v for v in _objectives() if v.model_fields["kind"].default == kind).RATE

    def _sweep(self, found: list[dict[str, Any]]) -> dict[str, Any] | None:
        """The trials of a run that is a sweep, drawn anew only when one has changed."""
        told_of = [m for m in found if m["name"] == "trial"]
        if not told_of and not self.watch.entry.spec.get("sweep"):
            return None
        key = (self.watch.run.id, len(told_of))
        if self._swept[0] != key:
            rows, measure = trial_rows(told_of), self._words["measure"]
            shown = {"measure": measure, "measured": self._words["measured"], "best": best_of(rows), "rows": rows,
                     "paths": list(dict.fromkeys(p for r in rows for p in r["values"])), "svg": str(coordinates_svg(rows, measure))}
            self._swept = (key, shown)
        return self._swept[1]

    def _headline(self) -> list[str]:
        watch, progress = self.watch, self.watch.progress or {}
        state, spec = watch.entry.state, watch.entry.spec
        if progress.get("label") != "training":
            return [f"{progress.get('label')}: {progress.get('done', 0):.0f} of {progress.get('total') or 0:.0f}"] if progress else []
        said = [f"step {progress['done']:,} / {progress['total']:,}"]
        if self._pace and state not in ENDED:
            unit = {"tokens": "tok"}.get(self._words["unit"], self._words["unit"])
            said.append(f"{thousands(sum(self._pace) / len(self._pace))} {unit}/s")
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
        return [{"rank": r["rank"], "cpu": f"{100 * r['cpu']:.0f} %", "step": faring.brief(r["step_seconds"]),
                 "wait": faring.brief(r["wait_seconds"]), "power": f"{r['watts']:.0f} W" if r.get("watts") else "",
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
        """The batch of a step, of the spec as it stands or of the run that is shown; all but pictures in a process of its own."""
        from workbench.train.reading.sight import first_batch, look

        shown = of == "run" and self.watch is not None
        spec, digest = (self.watch.run.spec, self.watch.entry.inputs.get("data")) if shown else (self.spec, None)
        light = measures.sees(spec.objective.kind) == "pictures"
        return (first_batch if light else look)(spec, self.workspace, step=step, digest=digest)

    # What came of it -----------------------------------------------------------------------------------------------------------

    def next_step(self, run: Run) -> dict[str, Any] | None:
        if run.output.makes != "text":  # neither probes nor endpoints know what it makes
            return None
        return {"label": "Assess this model", "word": "assess", "spec": {"model": run.result["model"]}}

    def made(self, run: Run) -> dict[str, Any]:
        model, manifest = run.output, run.output.manifest
        metrics, taught = manifest.get("metrics") or {}, manifest.get("dataset") or {}
        version = Registry(self.workspace).resolve("model", f"{model.name}@{model.digest}")
        words = measures.words(self.watch.entry.spec if self.watch and self.watch.run.id == run.id else run.entry.spec)
        value = metrics.get(words["measure"])
        facts = [["model", f"{model.name} v{version.number}", model.digest[:12]],
                 ["parameters", f"{manifest.get('parameters', 0):,}", ""],
                 ["trained", f"{metrics.get(words['unit'], 0):,} {words['unit']}",
                  f"{metrics.get('steps', 0):,} steps in {duration(metrics['seconds'])}" if metrics.get("seconds") else ""],
                 ["taught by", f"{taught['name']}@{taught['digest'][:12]}" if taught else "what its module reads", ""],
                 ["held out", f"{value:.3f} {words['measured']}".strip() if value is not None else "–",
                  f"all of it, {size(metrics['held_out_bytes'])}" if metrics.get("held_out_bytes") else ""],
                 ["memory", size(metrics["memory"]) if metrics.get("memory") else "–", "all ranks, at their peak"]]
        return {"facts": facts, "gain": metrics.get("gain"), "samples": samples.by_step(run), "card": model.card,
                "curves": Events(self.workspace).names(run.id), "reference": model.reference, **self._after(run)}

    def _after(self, run: Run) -> dict[str, Any]:
        """What is told of a run that has ended, however it did."""
        found = marks(self.workspace, run.id)
        return {"marks": told(found), "words": measures.words(run.entry.spec), "costs": faring.costs(found, self._currency())}

    def left(self, run: Run) -> dict[str, Any]:
        return {"samples": samples.by_step(run), "curves": Events(self.workspace).names(run.id), **self._after(run)}

    @slow
    def ask_sample(self, file: str) -> dict[str, str]:
        """A picture, clip or sound that the run's model made, as a data URL."""
        return {"url": samples.data_url(self.watch.run, str(file))}

    @slow
    def ask_trials(self, sort: str | None = None, descending: bool = False, filter: str = "", start: int = 0,
                   count: int = 50) -> dict[str, Any]:
        """A page of a sweep's trials, sorted and filtered."""
        found = self._sweep(list(self.watch.marks)) or {"rows": [], "best": None}
        rows = [{**r["values"], "trial": r["trial"], "state": r["state"], "value": r["value"], "run": r["run"],
                 "best": r["trial"] == found["best"]} for r in found["rows"]]
        rows = [r for r in rows if filter.lower() in " ".join(str(v) for v in r.values()).lower()]
        if sort:
            known = [r for r in rows if r.get(sort) is not None]
            numbers = all(isinstance(r[sort], int | float) for r in known)
            known.sort(key=lambda r: r[sort] if numbers else str(r[sort]), reverse=descending)
            rows = known + [r for r in rows if r.get(sort) is None]
        return {"rows": rows[start:start + count], "total": len(rows)}

    @slow
    def act_open(self, run: str) -> None:
        """Open the panel of a trial's run below this one."""
        self.opened = [TrainPanel(run=str(run), workspace=self.workspace)]

    # While it works ------------------------------------------------------------------------------------------------------------

    @slow
    def act_tell(self, word: str, **values: Any) -> None:
        """Say a word to the run: pause, on, stacks, profile, set."""
        if self.watch is None:
            raise NotFoundError("no run is shown", where=self.WORD)
        self.watch.run.tell(str(word), **values)

    @slow
    def ask_ranklog(self, rank: int | None = None) -> dict[str, Any]:
        """The ranks that wrote a log, and the end of one rank's."""
        folder = self.watch.run.directory / "logs"
        found = sorted(int(f.stem.partition("-")[2]) for f in folder.glob("rank-*.log") if f.stem.partition("-")[2].isdigit())
        if rank is None or int(rank) not in found:
            return {"ranks": found, "text": "", "rank": None}
        file = folder / f"rank-{int(rank)}.log"
        length = file.stat().st_size
        with file.open("rb") as stream:
            stream.seek(max(0, length - TAIL))
            text = stream.read(TAIL).decode("utf-8", "replace")
        return {"ranks": found, "rank": int(rank), "text": text.partition("\n")[2] if length > TAIL else text,
                "path": f"logs/{file.name}", "cut": max(0, length - TAIL)}

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


def _objectives() -> tuple[Any, ...]:
    """The parts of a spec that are objectives."""
    from typing import get_args

    from workbench.train.objectives.spec import Objective

    return get_args(get_args(Objective)[0])


def _whole(entry: Entry) -> dict[str, Any]:
    """The spec of a run with its defaults, and those of its objective."""
    try:
        spec = spec_class(entry.word).load(entry.spec)
    except SpecError:  # a run of another workbench is compared as it stands
        return entry.spec
    found = spec.to_dict()
    for path, attribute in OWN.items():
        *above, name = path.split(".")
        place = found[above[0]] if above else found
        if place.get(name) is None and not (path == "epochs" and spec.objective.kind == "pretrain"):
            place[name] = getattr(spec.objective, attribute)
    return found


def _offered(entry: Entry) -> dict[str, Any]:
    metrics, words = (entry.result or {}).get("metrics") or {}, measures.words(entry.spec)
    value, unit = metrics.get(words["measure"]), words["unit"]
    return {"run": entry.id, "name": entry.name, "state": entry.state, "when": ago(entry.submitted),
            "bits": f"{value:.3f} {words['measured']}".strip() if value is not None else "",
            "loss": number(metrics["loss"]) if metrics.get("loss") else "",
            "tokens": f"{number(metrics[unit])} {unit}" if metrics.get(unit) else "",
            "seconds": duration(metrics["seconds"]) if metrics.get("seconds") else ""}
