"""What runs and the machine say, as metrics: read from the journal and the events, a cursor a run."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .. import processes
from ..events import Events
from ..journal import ENDED, Entry, Journal
from ..workspace import Workspace
from . import hardware

if TYPE_CHECKING:
    from prometheus_client.core import Metric

RECENT = 3600.0
"""Seconds for which a run that has ended is still told of."""
MOST_ENDED = 20
"""Ended runs told of at most: each is a few series."""
BATCH = 10_000

Series = tuple[dict[str, str], float]
Samples = dict[str, list[Series]]
"""name of a metric, as ``/metrics`` gives it -> its series: labels and value."""


@dataclass
class _Followed:
    """A run as far as its events were read."""

    cursor: int = 0
    heard: float = 0.0
    progress: float | None = None
    values: dict[str, float] = field(default_factory=dict)
    not_finite: dict[str, int] = field(default_factory=dict)
    over: bool = False


class Gatherer:
    """Reads a workspace's runs and the machine; each call reads only what is new."""

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self.journal, self.events = Journal(workspace), Events(workspace)
        self._followed: dict[str, _Followed] = {}
        self._busy: tuple[float, float] | None = None

    def collect(self) -> list[Metric]:
        """Everything, as prometheus_client's metric families."""
        return [*self._runs(time.time()), *self._machine(), *self._processes()]

    def _watched(self, now: float) -> list[Entry]:
        active = self.journal.entries(states=("queued", "running", "stopping"))
        ended = [e for e in self.journal.entries(states=ENDED, limit=MOST_ENDED) if now - (e.ended or 0) < RECENT]
        return [*active, *ended]

    def _runs(self, now: float) -> Iterator[Metric]:
        entries = self._watched(now)
        self._followed = {e.id: self._followed.get(e.id, _Followed()) for e in entries}
        counted = self.journal.database.rows("SELECT word, state, COUNT(*) AS n FROM runs GROUP BY word, state")
        yield gauge("workbench_runs", "Runs recorded, by word and state.",
                    [({"word": r["word"], "state": r["state"]}, r["n"]) for r in counted])
        yield gauge("workbench_run_state", "1 for the state that a run is in.",
                    [({"run": e.id, "word": e.word, "name": e.name, "state": e.state}, 1) for e in entries])
        progress, silence, values, lost = [], [], [], []
        for entry in entries:
            told = self._read(entry)
            run = {"run": entry.id}
            if told.progress is not None:
                progress.append((run, told.progress))
            if entry.state in ("running", "stopping"):
                silence.append((run, max(0.0, now - max(told.heard, entry.started or entry.submitted))))
            values += [({**run, "name": n}, v) for n, v in told.values.items()]
            if entry.state not in ENDED:
                lost += [({**run, "name": n}, c) for n, c in told.not_finite.items()]
        yield gauge("workbench_run_progress", "Share of the work that is done, 0 to 1.", progress)
        yield gauge("workbench_run_silence_seconds", "Seconds since a run at work last said anything.", silence)
        yield gauge("workbench_run_value", "The newest value of each curve of a run.", values)
        yield gauge("workbench_run_not_finite", "Values of a curve of an active run that were NaN or infinite.", lost)

    def _read(self, entry: Entry) -> _Followed:
        told = self._followed[entry.id]
        if not told.cursor and entry.state in ENDED:  # its last values are enough, and they are cheap
            told.values, told.over = self._last_values(entry.id), True
        while not told.over:
            batch = self.events.tail(entry.id, after=told.cursor, limit=BATCH)
            for event in batch:
                told.heard = max(told.heard, event.at)
                if event.kind == "point" and event.name and event.value is not None:
                    told.values[event.name] = event.value
                    told.not_finite[event.name] = told.not_finite.get(event.name, 0) + (not math.isfinite(event.value))
                elif event.kind == "progress" and event.data.get("total"):
                    told.progress = min(1.0, max(0.0, event.data["done"] / event.data["total"]))
            if batch:
                told.cursor = batch[-1].seq
            if len(batch) < BATCH:
                # The entry was read before its events: once it had ended then, no event is missed by now.
                told.over = entry.state in ENDED
                break
        return told

    def _last_values(self, run_id: str) -> dict[str, float]:
        rows = self.events.database.rows("SELECT MAX(seq) - 1 AS before FROM events WHERE scope = ? AND kind = 'point' AND name NOT NULL "
                                         "GROUP BY name", (run_id,))
        last = [self.events.tail(run_id, after=r["before"], limit=1)[0] for r in rows]
        return {e.name: e.value for e in last if e.value is not None}

    def _machine(self) -> Iterator[Metric]:
        now = hardware.sample(self.workspace.root)
        prefix = "workbench_machine_"
        for name, words, value in (
                ("cpus", "Logical processors.", now.cpus), ("load", "Processes that use or await a processor, over a minute.", now.load),
                ("memory_bytes", "Memory of the machine.", now.memory),
                ("memory_available_bytes", "Memory that can be had without swapping.", now.memory_available),
                ("disk_bytes", "Size of the disk that holds the workspace.", now.disk),
                ("disk_free_bytes", "Room left on it.", now.disk_free)):
            yield gauge(prefix + name, words, [({}, value)])
        moment = time.monotonic()
        if self._busy is not None and moment > self._busy[0]:
            share = (now.cpu_seconds - self._busy[1]) / ((moment - self._busy[0]) * now.cpus)
            yield gauge(prefix + "cpu_ratio", "Share of the processors' time used since the last look, 0 to 1.",
                        [({}, min(1.0, max(0.0, share)))])
        self._busy = moment, now.cpu_seconds
        for name, words, value in (
                ("cpu_seconds_total", "Processor time used by all processes.", now.cpu_seconds),
                ("disk_read_bytes_total", "Bytes read from disks.", now.read),
                ("disk_written_bytes_total", "Bytes written to disks.", now.written),
                ("network_received_bytes_total", "Bytes received.", now.received), ("network_sent_bytes_total", "Bytes sent.", now.sent)):
            yield counter(prefix + name, words, [({}, value)])
        for name, words in (("memory", "Memory of a GPU in bytes."), ("memory_used", "Memory of a GPU in use, in bytes."),
                            ("busy", "Share of time that a GPU computed, 0 to 1."), ("temperature", "Temperature of a GPU in °C."),
                            ("power", "Power that a GPU draws, in watts.")):
            told = [({"gpu": g.index, "name": g.name}, v) for g in now.gpus if (v := getattr(g, name)) is not None]
            if told:
                unit = {"memory": "_bytes", "memory_used": "_bytes", "busy": "_ratio", "temperature": "_celsius", "power": "_watts"}[name]
                yield gauge(f"{prefix}gpu_{name}{unit}", words, told)

    def _processes(self) -> Iterator[Metric]:
        import psutil

        listed = processes.listed(self.workspace)
        children: dict[int, list[psutil.Process]] = {}
        for process in psutil.process_iter(["ppid"]) if listed else ():  # one pass, however many are asked for
            children.setdefault(process.info["ppid"], []).append(process)
        memory, spent = [], []
        for top in listed:
            open_, resident, seconds = [psutil.Process(top.pid)] if psutil.pid_exists(top.pid) else [], 0.0, 0.0
            while open_:
                process = open_.pop()
                open_ += children.get(process.pid, [])
                try:
                    with process.oneshot():
                        times, rss = process.cpu_times(), process.memory_info().rss
                except psutil.Error:  # ended while we looked
                    continue
                resident, seconds = resident + rss, seconds + times.user + times.system
            memory.append(({"process": top.name}, resident))
            spent.append(({"process": top.name}, seconds))
        yield gauge("workbench_process_memory_bytes", "Resident memory of a background process and its descendants.", memory)
        yield gauge("workbench_process_cpu_seconds", "Processor time of a background process and its living descendants.", spent)


def gauge(name: str, words: str, series: Iterable[Series]) -> Metric:
    """A gauge family with its series."""
    from prometheus_client.core import GaugeMetricFamily

    return _family(GaugeMetricFamily(name, words), name, series)


def counter(name: str, words: str, series: Iterable[Series]) -> Metric:
    """A counter family; its name ends in ``_total``."""
    from prometheus_client.core import CounterMetricFamily

    return _family(CounterMetricFamily(name, words), name, series)


def _family(family: Metric, name: str, series: Iterable[Series]) -> Metric:
    for labels, value in series:
        family.add_sample(name, labels, float(value))
    return family


def page(families: Iterable[Metric]) -> bytes:
    """The families in Prometheus' text format."""
    from prometheus_client import generate_latest

    return generate_latest(_Once(families))


class _Once:
    """What ``generate_latest`` reads of a registry."""

    def __init__(self, families: Iterable[Metric]):
        self.families = families

    def collect(self) -> Iterable[Metric]:
        return self.families


def samples(families: Iterable[Metric]) -> Samples:
    """Families as series by the name that ``/metrics`` gives them."""
    found: Samples = {}
    for family in families:
        for sample in family.samples:
            found.setdefault(sample.name, []).append((dict(sample.labels), float(sample.value)))
    return found


def parse(text: str) -> Samples:
    r"""A page of ``/metrics`` as series.

    Examples
    --------
    >>> parse('requests_total{code="200"} 3\n')
    {'requests_total': [({'code': '200'}, 3.0)]}
    """
    from prometheus_client.parser import text_string_to_metric_families

    return samples(text_string_to_metric_families(text))
