"""Files for other monitoring systems: Prometheus' configuration and rules, a Grafana dashboard; made from the spec alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...spec import dump_yaml
from ...storage import write_atomic
from ..history import is_counter
from ..rules import rules_of
from ..spec import Absence, Chart, MonitorSpec, Rule

FILES = ("prometheus.yml", "rules.yml", "grafana.json")


def write_files(folder: Path, spec: MonitorSpec, targets: Mapping[str, str], charts: tuple[Chart, ...]) -> list[Path]:
    """Write all of them; returns their paths.

    Parameters
    ----------
    targets : name of what is scraped -> ``host:port``.
    charts : the dashboard's panels.
    """
    made = {"prometheus.yml": dump_yaml(scraping(spec, targets)), "rules.yml": dump_yaml(alerting(spec)),
            "grafana.json": json.dumps(dashboard(spec, charts), indent=1) + "\n"}
    for name, text in made.items():
        write_atomic(folder / name, text)
    return [folder / name for name in made]


def scraping(spec: MonitorSpec, targets: Mapping[str, str]) -> dict[str, Any]:
    """Prometheus' configuration (Prometheus, "Configuration"): what is scraped, and the file of the rules."""
    every = f"{max(1, round(spec.interval))}s"
    return {"global": {"scrape_interval": every, "evaluation_interval": every}, "rule_files": ["rules.yml"],
            "scrape_configs": [{"job_name": name, "static_configs": [{"targets": [address]}]} for name, address in targets.items()]}


def alerting(spec: MonitorSpec) -> dict[str, Any]:
    """Prometheus' alerting rules: the same rules, told by another."""
    rules = [{"alert": r.name, "expr": promql(r), "for": f"{r.lasts:g}s" if r.lasts == int(r.lasts) else f"{round(1000 * r.lasts)}ms",
              "annotations": {"summary": r.summary or r.name}} for r in rules_of(spec)]
    return {"groups": [{"name": f"workbench-{spec.name}", "rules": rules}]}


def promql(rule: Rule) -> str:
    """A rule as PromQL.

    Examples
    --------
    >>> from workbench.monitor.spec import Threshold
    >>> promql(Threshold(name="hot", metric="t", labels={"gpu": "0"}, above=80))
    't{gpu="0"} > 80'
    """
    series = selector(rule.metric, rule.labels)
    if isinstance(rule, Absence):
        return f"absent({series})"
    return " or ".join(f"{series} {sign} {bound!r}".replace(".0", "") if bound == int(bound) else f"{series} {sign} {bound!r}"
                       for sign, bound in ((">", rule.above), ("<", rule.below)) if bound is not None)


def selector(metric: str, labels: Mapping[str, str]) -> str:
    """A metric with labels in PromQL."""
    if not labels:
        return metric
    quoted = ", ".join(f"{k}={json.dumps(v, ensure_ascii=False)}" for k, v in labels.items() if re.fullmatch(r"[A-Za-z_]\w*", k))
    return f"{metric}{{{quoted}}}"


def query(of: str, metric: str, labels: Mapping[str, str]) -> str:
    """What Grafana asks Prometheus for a curve of the dashboard."""
    kind, _, name = of.partition("/")
    if kind == "endpoint":
        return _shown(metric, {"endpoint": name, **labels})
    if kind == "run":
        return selector("workbench_run_value", {"run": name, "name": metric})
    if name:  # the newest run of a word and name: Prometheus knows its id by its state
        return (f'{selector("workbench_run_value", {"name": metric})} * on (run) group_left () '
                f'max by (run) ({selector("workbench_run_state", {"word": kind, "name": name})})')
    return _shown(metric, labels)


def _shown(metric: str, labels: Mapping[str, str]) -> str:
    series = selector(metric, labels)
    return f"sum(rate({series}[1m]))" if is_counter(metric) else f"max({series})"


def dashboard(spec: MonitorSpec, charts: tuple[Chart, ...]) -> dict[str, Any]:
    """A Grafana dashboard (its JSON model, schema version 39): a panel a chart, and one of alerts."""
    source = {"type": "prometheus", "uid": "${source}"}
    panels = [{"id": number, "type": "timeseries", "title": chart.title or ", ".join(c.metric for c in chart.curves), "datasource": source,
               "gridPos": {"h": 8, "w": 12, "x": 12 * (number % 2), "y": 8 * (number // 2)},
               "fieldConfig": {"defaults": {"custom": {"scaleDistribution": {"type": "log", "log": 10} if chart.log else
                                                                             {"type": "linear"}}}, "overrides": []},
               "targets": [{"refId": chr(65 + n % 26), "datasource": source, "expr": query(c.of, c.metric, c.labels),
                            "legendFormat": f"{c.of} {c.metric}"} for n, c in enumerate(chart.curves)]}
              for number, chart in enumerate(charts)]
    alerts = {"id": len(panels), "type": "timeseries", "title": "Alerts that go on", "datasource": source,
              "gridPos": {"h": 6, "w": 24, "x": 0, "y": 8 * ((len(panels) + 1) // 2)}, "fieldConfig": {"defaults": {}, "overrides": []},
              "targets": [{"refId": "A", "datasource": source, "legendFormat": "{{rule}}",
                           "expr": f"max by (rule) ({selector('workbench_alerts_firing', {'monitor': spec.name})})"}]}
    return {"title": f"workbench {spec.name}", "uid": f"workbench-{spec.name}"[:40], "schemaVersion": 39, "version": 1, "editable": True,
            "refresh": "5s", "time": {"from": "now-15m", "to": "now"}, "tags": ["workbench"], "annotations": {"list": []},
            "templating": {"list": [{"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"}]},
            "panels": [*panels, alerts]}
