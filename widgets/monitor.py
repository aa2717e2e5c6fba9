"""The monitor panel: health, alerts, curves and rules of everything that is watched."""

from __future__ import annotations

import contextlib
import time
from typing import Any, ClassVar

import traitlets

from workbench.drawing import duration
from workbench.errors import NotFoundError, WorkbenchError
from workbench.events import Event
from workbench.journal import Journal
from workbench.runs import Run

from .asking import Reply, slow
from .feed import Feed, Listener, aside
from .panel import Panel

LOOKED = 12.0
"""Seconds after which a page that said nothing looks no more: nothing is gathered then."""
ENDED_ALERTS = 20
LAST_HOUR = 3600.0


class MonitorPanel(Panel):
    """Watches endpoints, runs and machines, and tells when something leaves its bounds."""

    WORD: ClassVar[str] = "monitor"
    ABOUT: ClassVar[str] = "Watches endpoints, runs and machines, and tells when something leaves its bounds."
    EXAMPLE: ClassVar[dict[str, Any]] = {"name": "monitor", "rules": [
        {"rule": "threshold", "name": "disk-full", "metric": "workbench_machine_disk_free_bytes", "below": 2e9, "for": 10,
         "summary": "less than 2 GB of the disk are free"}]}
    MAIN: ClassVar[tuple[str, ...]] = ("name", "rules", "webhooks", "interval", "builtin")
    EDITORS: ClassVar[dict[str, str]] = {"rules.*.metric": "metric"}
    MODULES: ClassVar[tuple[str, ...]] = ("monitor",)
    ESTIMATES: ClassVar[bool] = False

    watching = traitlets.Dict().tag(sync=True)
    """how everything fares: health, alerts, rules, machine, and the evaluator itself"""
    board = traitlets.List().tag(sync=True)
    """the charts of the dashboard, each with its curves as they are asked for"""

    def __init__(self, *arguments: Any, **known: Any):
        self._looked = -1e9
        self._gathering = False
        self._shown: list[dict[str, Any]] = []
        self._cursors: dict[str, float] = {}
        self._listener: Listener | None = None
        self._followed = ""
        super().__init__(*arguments, **known)
        self._listen()
        self._draw_board()
        self._gathering = True
        aside(self._gather)

    def close(self) -> None:
        if self._listener is not None:
            self._listener.leave()
        super().close()

    @property
    def name(self) -> str:
        """Name of the monitor that is shown."""
        spec = self.editor.spec
        return spec.name if spec is not None else str(self.editor.mapping.get("name") or "monitor")

    def _kept(self) -> Any:
        from workbench.monitor.watch import Watch

        return Watch(self.workspace, self.name)

    def _history(self) -> Any:
        from workbench.monitor.history import History

        return History(self.workspace, self.name)

    def _listen(self) -> None:
        if self._followed != self.name:
            feed, self._followed = Feed.of(self.workspace), self.name
            feed.leave(self._listener)
            self._listener = feed.listen(self._pulse, f"monitor/{self.name}")

    # What is so ----------------------------------------------------------------------------------------------------------------

    def _pulse(self, events: list[Event]) -> None:
        """On the feed's thread, each second or when an alert turned; nothing is read while nobody looks."""
        if (events or time.monotonic() - self._looked < LOOKED) and not self._gathering:
            self._gathering = True
            aside(self._gather)

    def _gather(self) -> None:
        try:
            self.watching = self._told()
            self._draw_board()
            self._send_points()
            self._state()
        finally:
            self._gathering = False

    def _told(self) -> dict[str, Any]:
        from workbench.monitor.health import health, looked, machine, rule_states

        watch, spec = self._kept(), self.editor.spec
        wanted, document, alive = watch.wanted, watch.document, watch.alive
        state = "watching" if alive else "none" if not wanted else "died" if watch.died else "ended"
        age = looked(watch)
        interval = float((wanted.get("spec") or {}).get("interval") or 2.0)
        words = {e.id: e.word for e in Journal(self.workspace).entries(limit=300)}
        alerts = watch.alerts(limit=200)
        firing = sorted((a for a in alerts if a.firing), key=lambda a: (a.acknowledged is not None, -a.began))
        history = self._history()
        rules = {r["name"]: r for r in rule_states(watch)} if wanted else {}
        folder = watch.directory / "export"
        owed = watch.store.owed(self.name)
        return {"state": state, "name": self.name, "since": document.get("started"), "interval": interval, "looked": age,
                "late": bool(alive and age is not None and age > 3 * interval + 5), "metrics": document.get("metrics") if alive else None,
                "health": health(watch, spec), "rules": list(rules.values()), "last": history.last(), "now": time.time(),
                "alerts": [self._alert(a, rules, words) for a in firing],
                "ended": [self._alert(a, rules, words) for a in alerts if not a.firing][:ENDED_ALERTS],
                "machine": machine(history), "files": [str(p) for p in sorted(folder.glob("*"))] if folder.is_dir() else [],
                "marks": self._marks(), "owed": len(owed), "owing": next((f"{o['url']}: {o['problem']}" for o in owed if o["problem"]), "")}

    def _alert(self, alert: Any, rules: dict[str, Any], words: dict[str, str]) -> dict[str, Any]:
        from workbench.monitor.units import quantity

        rule = rules.get(alert.rule)
        of = ", ".join(f"{k} {v}" for k, v in alert.labels.items())
        value = None if alert.value is None else quantity(alert.value, rule["metric"] if rule else "")
        return {"id": alert.id, "rule": alert.rule, "of": of, "summary": alert.summary, "value": value,
                "bound": rule["bound"] if rule else "", "expression": rule["expression"] if rule else "",
                "since": alert.since, "began": alert.began, "ended": alert.ended, "why": alert.why,
                "acknowledged": alert.acknowledged, "who": alert.who, "note": alert.note,
                "opens": words.get(alert.labels.get("run", ""), "") or ("serve" if alert.labels.get("endpoint") else "")}

    def _marks(self) -> list[dict[str, Any]]:
        from workbench.monitor.marks import marks

        return marks(self.workspace, time.time() - 7 * 86_400)

    def _draw_board(self) -> None:
        from workbench.monitor.charts import charts_of, label, run_of
        from workbench.monitor.units import unit

        if self.editor.spec is None:
            return
        found = []
        for chart in charts_of(self.editor.spec, self.workspace):
            curves = []
            for c in chart.curves:
                run = run_of(c.of, self.workspace)
                curves.append({"of": c.of, "metric": c.metric, "labels": dict(c.labels), "key": key_of(c.metric, c.labels), "run": run,
                               "label": label(c.of, c.metric, dict(c.labels)), "unit": unit(c.metric)})
            titled = chart.title or curves[0]["label"] + (f" and {len(curves) - 1} more" if len(curves) > 1 else "")
            found.append({"title": titled, "over": chart.over, "log": chart.log, "smooth": chart.smooth, "curves": curves})
        if found != self.board:
            self.board = found

    def _edited(self) -> None:
        super()._edited()
        self._listen()
        self._draw_board()

    def _state(self) -> None:
        with self.hold_sync():
            super()._state()
            told, status = self.watching, self.status
            if status.get("state") == "done" and told:  # whether it watches is more than how the run that began it ended
                firing = len(told["alerts"])
                word, sign, state = {"watching": ("watching", "●", "done"), "died": ("not watching", "✕", "lost"),
                                     "ended": ("not watching", "■", "done")}.get(told["state"], (None, status["sign"], "done"))
                words = f"{firing} alert{'s' * (firing != 1)}" if firing else "the evaluator died" if told["state"] == "died" else ""
                self.status = {**status, "said": word, "sign": sign, "state": state, "words": words}

    def _ended(self) -> None:
        super()._ended()
        if not self._gathering:
            self._gathering = True
            aside(self._gather)
        self._draw_board()

    def needs(self) -> dict[str, Any] | None:
        told = self.watching
        if told.get("state") == "died":
            return {"level": "error", "text": f"The evaluator of {told['name']} died: nothing is watched.",
                    "action": {"label": "Watch again", "ask": "revive"}}
        unknown = [a for a in told.get("alerts", ()) if a["acknowledged"] is None]
        if unknown:
            first, more = unknown[0], len(unknown) - 1
            return {"level": "warning", "text": f"{first['rule']}{' of ' + first['of'] if first['of'] else ''}: {first['summary']}"
                                               + (f" · and {more} more" if more else ""), "action": {"label": "See it", "tab": "live"}}
        if told.get("late"):
            return {"level": "warning", "text": f"The evaluator has not looked for {duration(told['looked'])}.", "action": None}
        return None

    def made(self, run: Run) -> dict[str, Any]:
        files = (run.result or {}).get("files") or {}
        watch = self._kept()
        return {"result": run.result, "html": watch._repr_html_() if watch.wanted else "",
                "files": {n: str(self.workspace.root / p) for n, p in files.items()}}

    def pictured(self, run: Run) -> Any:  # noqa: ARG002 - it made the watch of this name
        watch = self._kept()
        return watch if watch.wanted else None

    def next_step(self, run: Run) -> dict[str, Any] | None:  # noqa: ARG002 - whatever it watches
        for path in ("pipeline.yaml", "notebooks/pipeline.yaml"):
            if (self.workspace.root / path).exists():
                return {"label": "Make a pipeline of this", "word": "pipeline", "spec": str(self.workspace.root / path)}
        return None

    # Curves --------------------------------------------------------------------------------------------------------------------

    @slow
    def ask_looking(self, shown: list[dict[str, Any]] | None = None) -> None:
        """Somebody looks, and at these curves: ``{"of", "metric", "labels", "over"}``."""
        asleep = time.monotonic() - self._looked > LOOKED
        self._looked, self._shown = time.monotonic(), list(shown or ())[:100]
        if asleep:
            self._pulse([])

    @slow
    def ask_series(self, of: str, metric: str, labels: dict[str, str] | None = None, low: float | None = None, high: float | None = None,
                   columns: int = 1000, over: str = "time") -> Reply:
        """A curve of a run, endpoint or machine over time or steps."""
        from workbench.monitor.charts import run_of

        from .curves import thinned

        run = run_of(of, self.workspace)
        if run is not None:
            self._cursors.setdefault(run, Feed.of(self.workspace).newest())
            curve = self.curves(run).seen(metric, low, high)
            window = curve.window(low, high, columns, over=over)
            return {"count": curve.count, **curve.odd()}, [window.tobytes()]
        table = self._history().curve(metric, labels or {}, low or 0.0, high if high is not None else float("inf"), gap=self._gap())
        if len(table):
            self._cursors.setdefault(key_of(f"{of} {metric}", labels or {}), float(table[-1, 0]))
        return {"count": len(table)}, [thinned(table[:, 0], table[:, 1], columns).tobytes()]

    def _gap(self) -> float:
        return max(10.0, 3.0 * float(self.watching.get("interval") or 2.0) + 2.0)

    def _send_points(self) -> None:
        """What came of the curves that a page shows, as messages: no page asks for them."""
        from workbench.monitor.charts import run_of

        names, buffers, history, now = [], [], self._history(), self.watching.get("last")
        runs: dict[str, dict[str, Any]] = {}
        for one in self._shown:
            with contextlib.suppress(KeyError, TypeError):
                of, metric, labels = str(one["of"]), str(one["metric"]), one.get("labels") or {}
                run = run_of(of, self.workspace)
                if run is not None:
                    if run not in runs:
                        runs[run] = self._fresh_of(run)
                    if one.get("over") == "step" and metric in runs[run]:
                        names.append([of, key_of(metric, labels)])
                        buffers.append(runs[run][metric].tobytes())
                    continue
                key = key_of(f"{of} {metric}", labels)
                last = self._cursors.get(key, time.time() - 10)
                table = history.curve(metric, labels, last - 2 * self._gap(), gap=self._gap())
                table = table[table[:, 0] > last]
                if len(table):
                    self._cursors[key] = float(table[-1, 0])
                    names.append([of, key_of(metric, labels)])
                    buffers.append(table.tobytes())
                    now = max(now or 0.0, float(table[-1, 0]))  # it may be newer than what was gathered before
        self.send({"series": names, "now": now}, buffers)

    def _fresh_of(self, run: str) -> dict[str, Any]:
        if self.watch is not None and run == self.watch.run.id:
            return {}
        cursor = int(self._cursors.setdefault(run, Feed.of(self.workspace).newest()))
        events = Feed.of(self.workspace).events.tail(run, after=cursor, kinds=("point",))
        if events:
            self._cursors[run] = events[-1].seq
        return self.curves(run).feed(events)

    @slow
    def ask_offered(self, text: str = "") -> list[dict[str, Any]]:
        """Curves that exist, for the picker."""
        from workbench.monitor.charts import offered

        return offered(self.workspace, self.name, text)

    @slow
    def ask_metrics(self) -> list[str]:
        """Names of the metrics that were seen, for the form of a rule."""
        return sorted({k.metric for k in self._history().series()})

    def act_chart(self, curve: dict[str, Any], chart: int | None = None) -> None:
        """Add a curve: to a chart, or (none) as a chart of its own."""
        charts = self._charts()
        curve_ = {k: v for k, v in (("of", curve["of"]), ("metric", curve["metric"]), ("labels", curve.get("labels") or {})) if v}
        if chart is None:
            charts.append({"curves": [curve_], **({"over": "step"} if curve.get("over") == "step" else {})})
        elif curve_ not in charts[chart]["curves"]:
            charts[chart]["curves"].append(curve_)
        self.editor.put(["charts"], charts)

    def act_unchart(self, chart: int, curve: int | None = None) -> None:
        """Take a curve out of a chart, or (none) the chart away."""
        charts = self._charts()
        if curve is not None and len(charts[chart]["curves"]) > 1:
            del charts[chart]["curves"][curve]
        else:
            del charts[chart]
        self.editor.put(["charts"], charts)

    def act_set(self, chart: int, **known: Any) -> None:
        """Set how a chart is drawn: log, smooth, over, title."""
        charts = self._charts()
        charts[chart] |= {k: v for k, v in known.items() if k in ("log", "smooth", "over", "title")}
        self.editor.put(["charts"], charts)

    def _charts(self) -> list[dict[str, Any]]:
        """The charts as the spec says them; where it says none, those that are shown become its own."""
        from workbench.monitor.charts import charts_of

        return [c.model_dump(mode="json", exclude_defaults=True) for c in charts_of(self.spec, self.workspace)]

    # What a person does ----------------------------------------------------------------------------------------------------------

    def act_acknowledge(self, alert: str, note: str = "") -> None:
        self._kept().store.acknowledge(alert, note=note)
        self.watching = self._told()
        self._state()

    def act_withdraw(self, alert: str) -> None:
        self._kept().store.withdraw(alert)
        self.watching = self._told()
        self._state()

    def act_silence(self, rule: str, seconds: float, note: str = "") -> None:
        self._kept().store.silence(self.name, rule, float(seconds), note=note)
        self.watching = self._told()

    @slow
    def act_revive(self) -> None:
        """Start the evaluator again."""
        try:
            self._kept().revive()
        except WorkbenchError as error:
            self._note("error", str(error))
            raise
        self._gather()

    @slow
    def act_end(self) -> None:
        """Watch no more."""
        self._kept().stop()
        self._gather()

    @slow
    def act_open(self, alert: str | None = None, run: str | None = None, word: str | None = None) -> None:
        """Open the panel of a run or endpoint below this one."""
        from . import panel_class

        if alert is not None:
            labels = self._kept().store.get(alert).labels
            run = labels.get("run") or self._endpoint_run(labels.get("endpoint", ""))
        if run is None:
            raise NotFoundError("nothing to open", where=word or "alert")
        entry = Journal(self.workspace).get(run)
        self.opened = [panel_class(entry.word)(run=entry.id, workspace=self.workspace)]

    def _endpoint_run(self, endpoint: str) -> str | None:
        from workbench.endpoint import Endpoint

        return Endpoint.open(endpoint, self.workspace).document.get("run") if endpoint else None

    @slow
    def ask_trial(self) -> list[dict[str, Any]]:
        """Each rule of the spec as it is edited, tried against the last hour."""
        from workbench.monitor.rules import expression
        from workbench.monitor.trial import trial, words

        spec, history, now = self.editor.spec, self._history(), time.time()
        found = []
        for rule in spec.rules if spec is not None else ():
            tried = trial(rule, history, now - LAST_HOUR, now, stale=max(5.0, 3 * spec.interval))
            found.append({"name": rule.name, "expression": expression(rule), "text": words(tried, rule),
                          "fired": len(tried["fired"]), "known": bool(tried["series"] or (tried["looks"] and rule.rule == "absence")),
                          "times": [{"began": f["began"], "ended": f["ended"]} for f in tried["fired"][-20:]], "now": now})
        return found


def key_of(metric: str, labels: dict[str, str]) -> str:
    """A curve's name within what it tells of."""
    return metric + (" " + " ".join(f"{k}={v}" for k, v in sorted(labels.items())) if labels else "")
