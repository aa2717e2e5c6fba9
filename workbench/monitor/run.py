"""A run of a monitor: starts its evaluator and is done, or watches for the seconds that the spec says."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ..workspace import Workspace
from .charts import charts_of
from .exporters.files import write_files
from .rules import rules_of
from .spec import MonitorSpec
from .watch import Watch

if TYPE_CHECKING:
    from ..driver import RunContext

ALWAYS = True
"""Whether the evaluator still works is asked anew each time; where it does, nothing is done."""


def inputs(spec: MonitorSpec, workspace: Workspace) -> dict[str, str]:
    """Nothing: a monitor reads what is there at each moment. Refuses secrets that have no value.

    Raises
    ------
    NotFoundError
        For a webhook's secret that the settings do not name, or that is not set.
    """
    for webhook in spec.webhooks:
        if webhook.secret:
            workspace.secret(webhook.secret)
    return {}


def execute(spec: MonitorSpec, run: RunContext) -> dict[str, Any]:
    """Bring the evaluator up; with ``seconds``, watch that long (an evaluator that dies is started again) and end it.

    Returns
    -------
    ``{"monitor": name, "metrics": address of /metrics, "port", "rules": [...], "alerts": [those of this run's time],
    "files": {name: path of what other monitoring systems read}}``
    """
    watch = Watch(run.workspace, spec.name)
    begun = run.entry.started or time.time()
    until = begun + spec.seconds if spec.seconds else None
    rules = [r.name for r in rules_of(spec)]
    document = watch.start(spec, run.id, until=until)
    files = _export(spec, watch, document)
    if spec.port not in (0, document["port"]):
        run.log(f"port {spec.port} is taken: /metrics answers on {document['port']}", level="warning")
    run.log(f"{len(rules)} rules every {spec.interval:g} s; metrics at {document['metrics']}")
    if until is not None:
        _watch(spec, run, watch, begun, until)
    told = [{"rule": a.rule, "labels": a.labels, "summary": a.summary, "began": a.began, "ended": a.ended}
            for a in watch.alerts() if a.ended is None or a.ended >= begun]
    return {"monitor": spec.name, "metrics": document["metrics"], "port": document["port"], "rules": rules, "alerts": told,
            "files": files}


def _export(spec: MonitorSpec, watch: Watch, document: dict[str, Any]) -> dict[str, str]:
    """Write what Prometheus and Grafana read, for what is there now; name -> path below the workspace."""
    from ..endpoint import Endpoint

    targets = {f"monitor-{spec.name}": f"127.0.0.1:{document['port']}"}
    targets |= {f"endpoint-{e.name}": e.metrics_url.split("/")[2] for e in Endpoint.listed(watch.workspace) if e.alive}
    made = write_files(watch.directory / "export", spec, targets, charts_of(spec, watch.workspace))
    return {path.name: watch.workspace.relative(path) for path in made}


def _watch(spec: MonitorSpec, run: RunContext, watch: Watch, begun: float, until: float) -> None:
    try:
        while (now := time.time()) < until:
            run.check_stop()
            run.progress(now - begun, until - begun, "seconds", "watching")
            if watch.process is None and until - now > 0.5:
                run.log("the evaluator was gone and is started again", level="warning")
                watch.start(spec, run.id, until=until)
            run.stopping.wait(min(0.5, max(0.0, until - time.time())))
    finally:
        watch.stop()
    run.progress(until - begun, until - begun, "seconds", "watching")
