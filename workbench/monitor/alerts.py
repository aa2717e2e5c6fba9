"""Alerts: a pure state machine for each series of each rule, and the durable record of what it said and who was told."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..events import Events
from ..storage import Database, canonical_json, digest_json
from ..workspace import Workspace
from .metrics import Samples
from .rules import Observation, observe, sentence, series_of
from .spec import Absence, Rule

Phase = Literal["inactive", "pending", "firing"]
Turn = Literal["began", "ended"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS standings (
  monitor TEXT NOT NULL, rule TEXT NOT NULL, series TEXT NOT NULL, phase TEXT NOT NULL, since REAL NOT NULL, seen REAL NOT NULL,
  alert TEXT, PRIMARY KEY (monitor, rule, series));
CREATE TABLE IF NOT EXISTS alerts (
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, monitor TEXT NOT NULL, rule TEXT NOT NULL, series TEXT NOT NULL,
  summary TEXT NOT NULL, value REAL, since REAL NOT NULL, began REAL NOT NULL, ended REAL, why TEXT, told INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS deliveries (
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, alert TEXT NOT NULL, monitor TEXT NOT NULL, url TEXT NOT NULL,
  body TEXT NOT NULL, tries INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL, accepted REAL, problem TEXT, UNIQUE (id, url));
CREATE INDEX IF NOT EXISTS deliveries_open ON deliveries (monitor, url) WHERE accepted IS NULL;
"""


@dataclass(frozen=True)
class Standing:
    """How a series stands to a rule. ``since``: when the breach began; ``seen``: when something was last known of it."""

    phase: Phase = "inactive"
    since: float = 0.0
    seen: float = 0.0


def step(standing: Standing, breached: bool | None, now: float, *, lasts: float, stale: float) -> tuple[Standing, Turn | None]:
    """The next standing, and whether an alert begins or ends with it.

    Parameters
    ----------
    breached : None where nothing is known of the series now: it keeps its standing for ``stale`` seconds.
    lasts : seconds that a breach must last before an alert begins.

    Examples
    --------
    >>> standing, turn = step(Standing(), True, 10.0, lasts=5, stale=9)
    >>> standing.phase, turn
    ('pending', None)
    >>> step(standing, True, 15.0, lasts=5, stale=9)[1]
    'began'
    """
    if breached is None:
        if standing.phase == "inactive" or now - standing.seen <= stale:
            return standing, None
        return Standing(seen=standing.seen), "ended" if standing.phase == "firing" else None
    if not breached:
        return Standing(seen=now), "ended" if standing.phase == "firing" else None
    if standing.phase == "firing":
        return Standing("firing", standing.since, now), None
    since = standing.since if standing.phase == "pending" else now
    if now - since >= lasts:
        return Standing("firing", since, now), "began"
    return Standing("pending", since, now), None


@dataclass(frozen=True)
class Alert:
    """One breach, from its begin to its end (None: it goes on)."""

    id: str
    monitor: str
    rule: str
    labels: dict[str, str]
    summary: str
    value: float | None
    since: float
    """when the breach began, in seconds since the epoch"""
    began: float
    """when the alert began: ``for`` seconds later"""
    ended: float | None
    why: str | None
    """why it ended, where it was not that the value was good again"""

    @property
    def firing(self) -> bool:
        return self.ended is None

    def __str__(self) -> str:
        about = ", ".join(f"{k} {v}" for k, v in self.labels.items())
        return f"{self.rule}{f' ({about})' if about else ''}: {self.summary}"


class Alerts:
    """The alerts of a workspace.

    Examples
    --------
    >>> import tempfile
    >>> Alerts(Workspace(tempfile.mkdtemp()).open()).listed()
    []
    """

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self.database = Database(workspace.path("alerts.db"), _SCHEMA)
        self.events = Events(workspace)

    def listed(self, monitor: str | None = None, *, firing: bool = False, limit: int = 200) -> list[Alert]:
        """Alerts, the newest first."""
        sql, values = "SELECT * FROM alerts WHERE 1", []
        if monitor is not None:
            sql, values = sql + " AND monitor = ?", [monitor]
        if firing:
            sql += " AND ended IS NULL"
        return [_alert(r) for r in self.database.rows(sql + " ORDER BY number DESC LIMIT ?", (*values, limit))]

    def apply(self, monitor: str, rules: Sequence[Rule], samples: Samples, now: float, *, stale: float,
              webhooks: Sequence[str] = ()) -> list[tuple[Alert, Turn]]:
        """Take one look at all rules: standings, alerts and what is to be sent change in one transaction, or not at all.

        Parameters
        ----------
        stale : seconds after which a series of which nothing is known counts as good again.
        webhooks : addresses that are told of each begin and end.
        """
        turned: list[tuple[Alert, Turn]] = []
        with self.database.transaction() as connection:
            known = {(r["rule"], r["series"]): r for r in connection.execute("SELECT * FROM standings WHERE monitor = ?", (monitor,))}
            for rule in rules:
                seen = {o.series: o for o in observe(rule, samples)}
                gone = [s for name, s in known if name == rule.name and s not in seen]
                for observation in [*seen.values(), *(Observation(json.loads(s), None) for s in gone)]:
                    row = known.get((rule.name, observation.series))
                    before = Standing(row["phase"], row["since"], row["seen"]) if row else Standing()
                    after, turn = step(before, observation.breached, now, lasts=rule.lasts, stale=stale)
                    alert = row["alert"] if row else None
                    if turn == "began":
                        made = self._begin(connection, monitor, rule, observation, after, now)
                        alert = made.id
                    elif turn == "ended":
                        why = "nothing is known of it any more" if observation.breached is None else None
                        made, alert = self._end(connection, alert, now, why), None
                    if turn:
                        turned.append((made, turn))
                        _owe(connection, made, turn, webhooks, now)
                    if after.phase != "inactive":
                        connection.execute("INSERT OR REPLACE INTO standings VALUES (?,?,?,?,?,?,?)",
                                           (monitor, rule.name, observation.series, after.phase, after.since, after.seen, alert))
                    elif row:
                        connection.execute("DELETE FROM standings WHERE monitor = ? AND rule = ? AND series = ?",
                                           (monitor, rule.name, observation.series))
        return turned

    def retire(self, monitor: str, rules: Sequence[Rule], webhooks: Sequence[str], now: float) -> None:
        """End what rules said that are no longer asked, and forget what was owed to webhooks that are no longer named."""
        names = {r.name for r in rules}
        # An absence rule watches one thing: with other labels it is another.
        only = {r.name: series_of(r.labels) for r in rules if isinstance(r, Absence)}
        with self.database.transaction() as connection:
            for row in connection.execute("SELECT * FROM standings WHERE monitor = ?", (monitor,)).fetchall():
                if row["rule"] in names and only.get(row["rule"], row["series"]) == row["series"]:
                    continue
                if row["phase"] == "firing":
                    _owe(connection, self._end(connection, row["alert"], now, "the rule is no longer asked"), "ended", webhooks, now)
                connection.execute("DELETE FROM standings WHERE monitor = ? AND rule = ? AND series = ?",
                                   (monitor, row["rule"], row["series"]))
            marks = ",".join("?" * len(webhooks))
            connection.execute(f"DELETE FROM deliveries WHERE monitor = ? AND accepted IS NULL AND url NOT IN ({marks})",
                               (monitor, *webhooks))
            connection.execute("UPDATE deliveries SET due = ? WHERE monitor = ? AND accepted IS NULL", (now, monitor))

    def tell(self, monitor: str) -> None:
        """Make events of begins and ends that are none yet; each becomes one, also over a kill between the two."""
        scope = f"monitor/{monitor}"
        for row in self.database.rows("SELECT * FROM alerts WHERE monitor = ? AND (told = 0 OR (told = 1 AND ended IS NOT NULL)) "
                                      "ORDER BY number", (monitor,)):
            alert = _alert(row)
            for order, turn in enumerate(("began", "ended") if alert.ended else ("began",)):
                if row["told"] > order:
                    continue
                said = self.events.database.row("SELECT 1 FROM events WHERE scope = ? AND kind = 'alert' AND name = ? AND "
                                                "json_extract(data, '$.alert') = ?", (scope, turn, alert.id))
                if said is None:
                    self.events.append(scope, "alert", name=turn, value=alert.value, alert=alert.id, rule=alert.rule,
                                       labels=alert.labels, text=str(alert), why=alert.why)
                self.database.execute("UPDATE alerts SET told = ? WHERE id = ?", (order + 1, alert.id))

    # --- what is owed to webhooks ----------------------------------------------------------------------------------

    def due(self, monitor: str, url: str, now: float) -> list[dict[str, Any]]:
        """What may be sent to a webhook now, oldest first; an end waits until its begin was accepted."""
        return [dict(r) for r in self.database.rows(
            "SELECT * FROM deliveries d WHERE monitor = ? AND url = ? AND accepted IS NULL AND due <= ? AND NOT EXISTS (SELECT 1 "
            "FROM deliveries b WHERE b.alert = d.alert AND b.url = d.url AND b.number < d.number AND b.accepted IS NULL) "
            "ORDER BY number LIMIT 50",
            (monitor, url, now))]

    def next_due(self, monitor: str, url: str) -> float | None:
        """When something is next to be sent to a webhook, or None."""
        return self.database.row("SELECT MIN(due) AS due FROM deliveries WHERE monitor = ? AND url = ? AND accepted IS NULL",
                                 (monitor, url))["due"]

    def tried(self, delivery: dict[str, Any], due: float) -> None:
        """Note that it is being sent, and when again if nothing is heard."""
        self.database.execute("UPDATE deliveries SET tries = tries + 1, due = ? WHERE number = ?", (due, delivery["number"]))

    def settle(self, delivery: dict[str, Any], problem: str | None) -> None:
        """Note that it was accepted, or why not."""
        self.database.execute("UPDATE deliveries SET accepted = ?, problem = ? WHERE number = ?",
                              (None if problem else time.time(), problem, delivery["number"]))

    def owed(self, monitor: str) -> list[dict[str, Any]]:
        """Everything that was not accepted yet: url, tries, problem."""
        return [dict(r) for r in self.database.rows("SELECT * FROM deliveries WHERE monitor = ? AND accepted IS NULL ORDER BY number",
                                                    (monitor,))]

    # --- rows ------------------------------------------------------------------------------------------------------

    def _begin(self, connection: Any, monitor: str, rule: Rule, observation: Observation, standing: Standing, now: float) -> Alert:
        name = digest_json([monitor, rule.name, observation.series, repr(standing.since), repr(now)])[:24]
        connection.execute("INSERT INTO alerts (id, monitor, rule, series, summary, value, since, began) VALUES (?,?,?,?,?,?,?,?)",
                           (name, monitor, rule.name, observation.series, sentence(rule, observation), observation.value,
                            standing.since, now))
        return _alert(connection.execute("SELECT * FROM alerts WHERE id = ?", (name,)).fetchone())

    def _end(self, connection: Any, alert: str, now: float, why: str | None) -> Alert:
        connection.execute("UPDATE alerts SET ended = ?, why = ? WHERE id = ?", (now, why, alert))
        return _alert(connection.execute("SELECT * FROM alerts WHERE id = ?", (alert,)).fetchone())


def _owe(connection: Any, alert: Alert, turn: Turn, webhooks: Iterable[str], now: float) -> None:
    name = delivery_id(alert.id, turn)
    body = canonical_json(payload(alert, turn, name)).decode()
    for url in webhooks:
        connection.execute("INSERT OR IGNORE INTO deliveries (id, alert, monitor, url, body, due) VALUES (?,?,?,?,?,?)",
                           (name, alert.id, alert.monitor, url, body, now))


def delivery_id(alert: str, turn: Turn) -> str:
    """The idempotency id of a begin or an end: the same however often it is sent."""
    return f"{alert}-{'begin' if turn == 'began' else 'end'}"


def payload(alert: Alert, turn: Turn, name: str) -> dict[str, Any]:
    """What a webhook gets: Alertmanager's version 4 form, so that its receivers read it, with ``id`` beside."""
    status = "firing" if turn == "began" else "resolved"
    told = {"status": status, "labels": {"alertname": alert.rule, **alert.labels}, "annotations": _annotations(alert),
            "startsAt": _rfc3339(alert.began), "endsAt": _rfc3339(alert.ended), "fingerprint": alert.id, "generatorURL": ""}
    return {"version": "4", "id": name, "status": status, "receiver": alert.monitor, "groupKey": alert.id, "truncatedAlerts": 0,
            "groupLabels": {"alertname": alert.rule}, "commonLabels": told["labels"], "commonAnnotations": told["annotations"],
            "externalURL": "", "alerts": [told]}


def _annotations(alert: Alert) -> Mapping[str, str]:
    found = {"summary": alert.summary}
    if alert.value is not None:
        found["value"] = f"{alert.value:g}"
    if alert.why:
        found["why"] = alert.why
    return found


def _rfc3339(at: float | None) -> str:
    if at is None:
        return "0001-01-01T00:00:00Z"  # Alertmanager's word for "not yet"
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1000):03d}Z"


def _alert(row: Any) -> Alert:
    return Alert(row["id"], row["monitor"], row["rule"], json.loads(row["series"]), row["summary"], row["value"], row["since"],
                 row["began"], row["ended"], row["why"])
