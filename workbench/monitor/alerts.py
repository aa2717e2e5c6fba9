"""Alerts: a pure state machine for each series of each rule, and the durable record of what it said and who was told."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import NotFoundError, WorkbenchError
from ..events import Events
from ..storage import Database, canonical_json, digest_json
from ..workspace import Workspace
from .metrics import Samples
from .rules import Observation, nearest, observe, sentence, series_of
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
CREATE TABLE IF NOT EXISTS acknowledgements (
  alert TEXT PRIMARY KEY, at REAL NOT NULL, who TEXT NOT NULL, note TEXT NOT NULL, told INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS silences (
  monitor TEXT NOT NULL, rule TEXT NOT NULL, until REAL NOT NULL, at REAL NOT NULL, who TEXT NOT NULL, note TEXT NOT NULL,
  PRIMARY KEY (monitor, rule));
CREATE TABLE IF NOT EXISTS hushed (alert TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS seen (
  monitor TEXT NOT NULL, rule TEXT NOT NULL, at REAL NOT NULL, series INTEGER NOT NULL, value REAL, PRIMARY KEY (monitor, rule));
"""
_ALERT = "SELECT a.*, k.at AS acknowledged, k.who, k.note FROM alerts a LEFT JOIN acknowledgements k ON k.alert = a.id"


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
    acknowledged: float | None = None
    """when somebody said that they know of it; it counts until the alert ends"""
    who: str | None = None
    note: str | None = None

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
        sql, values = f"{_ALERT} WHERE 1", []
        if monitor is not None:
            sql, values = sql + " AND monitor = ?", [monitor]
        if firing:
            sql += " AND ended IS NULL"
        return [_alert(r) for r in self.database.rows(sql + " ORDER BY number DESC LIMIT ?", (*values, limit))]

    def get(self, name: str) -> Alert:
        """The alert of an id, or of an id's unambiguous beginning.

        Raises
        ------
        NotFoundError
        """
        rows = self.database.rows(f"{_ALERT} WHERE a.id LIKE ? LIMIT 2", (name.replace("%", "").replace("_", "") + "%",)) if name else []
        if len(rows) != 1:
            raise NotFoundError.of("alert", name, [a.id[:12] for a in self.listed(firing=True)], hint="List them: workbench alerts")
        return _alert(rows[0])

    def acknowledge(self, name: str, *, note: str = "", who: str | None = None) -> Alert:
        """Say that somebody knows of an alert and looks after it; said once, it counts until the alert ends.

        Parameters
        ----------
        name : the alert's id, or its beginning.
        who : none: this user.

        Raises
        ------
        NotFoundError
        WorkbenchError
            Where the alert has ended, or somebody else has it already.
        """
        alert = self.get(name)
        with self.database.transaction() as connection:
            ended = connection.execute("SELECT ended FROM alerts WHERE id = ?", (alert.id,)).fetchone()["ended"]
            if ended is not None:
                raise WorkbenchError("the alert has ended by itself", where=f"alert {alert.id[:12]}", hint="Nothing is left to do")
            connection.execute("INSERT OR IGNORE INTO acknowledgements (alert, at, who, note) VALUES (?,?,?,?)",
                               (alert.id, time.time(), who or user(), note.strip()[:2000]))
        self.tell(alert.monitor)
        return self.get(alert.id)

    def withdraw(self, name: str) -> Alert:
        """Take an acknowledgement back."""
        alert = self.get(name)
        if self.database.execute("DELETE FROM acknowledgements WHERE alert = ?", (alert.id,)).rowcount:
            self.events.append(f"monitor/{alert.monitor}", "alert", name="withdrawn", alert=alert.id, rule=alert.rule,
                               labels=alert.labels, text=str(alert), who=user())
        return self.get(alert.id)

    def silence(self, monitor: str, rule: str, seconds: float, *, note: str = "", who: str | None = None) -> None:
        """Tell no webhook of a rule's alerts for a while; what still goes on when it is over is told then. 0 ends a silence."""
        now = time.time()
        if seconds <= 0:
            self.database.execute("UPDATE silences SET until = ? WHERE monitor = ? AND rule = ? AND until > ?", (now, monitor, rule, now))
        else:
            self.database.execute("INSERT OR REPLACE INTO silences VALUES (?,?,?,?,?,?)",
                                  (monitor, rule, now + seconds, now, who or user(), note.strip()[:2000]))
        self.events.append(f"monitor/{monitor}", "alert", name="silenced" if seconds > 0 else "unsilenced", rule=rule, seconds=seconds,
                           who=who or user(), text=note)

    def silences(self, monitor: str, now: float | None = None) -> dict[str, dict[str, Any]]:
        """The rules that are silenced now: until, at, who, note."""
        rows = self.database.rows("SELECT * FROM silences WHERE monitor = ? AND until > ?", (monitor, time.time() if now is None else now))
        return {r["rule"]: {"until": r["until"], "at": r["at"], "who": r["who"], "note": r["note"]} for r in rows}

    def standings(self, monitor: str) -> list[dict[str, Any]]:
        """What is pending or firing: rule, labels, phase, since, alert."""
        return [{"rule": r["rule"], "labels": json.loads(r["series"]), "phase": r["phase"], "since": r["since"], "alert": r["alert"]}
                for r in self.database.rows("SELECT * FROM standings WHERE monitor = ?", (monitor,)) if r["phase"] != "inactive"]

    def seen(self, monitor: str) -> dict[str, dict[str, Any]]:
        """What each rule saw at the last look: at, series (how many it saw), value (the nearest to its bound or beyond)."""
        return {r["rule"]: {"at": r["at"], "series": r["series"], "value": r["value"]}
                for r in self.database.rows("SELECT * FROM seen WHERE monitor = ?", (monitor,))}

    def apply(self, monitor: str, rules: Sequence[Rule], samples: Samples, now: float, *, stale: float,
              webhooks: Sequence[str] = ()) -> list[tuple[Alert, Turn]]:
        """Take one look at all rules: standings, alerts and what is to be sent change in one transaction, or not at all.

        Parameters
        ----------
        stale : seconds after which a series of which nothing is known counts as good again.
        webhooks : addresses that are told of each begin and end.
        """
        turned: list[tuple[Alert, Turn]] = []
        silent = self.silences(monitor, now)
        with self.database.transaction() as connection:
            self._speak(connection, monitor, silent, webhooks, now)
            known = {(r["rule"], r["series"]): r for r in connection.execute("SELECT * FROM standings WHERE monitor = ?", (monitor,))}
            for rule in rules:
                seen = {o.series: o for o in observe(rule, samples)}
                connection.execute("INSERT OR REPLACE INTO seen VALUES (?,?,?,?,?)",
                                   (monitor, rule.name, now, sum(o.value is not None for o in seen.values()), nearest(rule, seen.values())))
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
                        if turn == "began" and rule.name in silent:
                            connection.execute("INSERT INTO hushed VALUES (?)", (made.id,))
                        elif turn == "began" or not connection.execute("DELETE FROM hushed WHERE alert = ?", (made.id,)).rowcount:
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
                    ended = self._end(connection, row["alert"], now, "the rule is no longer asked")
                    if not connection.execute("DELETE FROM hushed WHERE alert = ?", (ended.id,)).rowcount:
                        _owe(connection, ended, "ended", webhooks, now)
                connection.execute("DELETE FROM standings WHERE monitor = ? AND rule = ? AND series = ?",
                                   (monitor, row["rule"], row["series"]))
            marks = ",".join("?" * len(webhooks))
            connection.execute(f"DELETE FROM deliveries WHERE monitor = ? AND accepted IS NULL AND url NOT IN ({marks})",
                               (monitor, *webhooks))
            connection.execute(f"DELETE FROM seen WHERE monitor = ? AND rule NOT IN ({','.join('?' * len(names))})", (monitor, *names))
            connection.execute("UPDATE deliveries SET due = ? WHERE monitor = ? AND accepted IS NULL", (now, monitor))

    def tell(self, monitor: str) -> None:
        """Make events of begins and ends that are none yet; each becomes one, also over a kill between the two."""
        scope = f"monitor/{monitor}"
        for row in self.database.rows(f"{_ALERT} WHERE monitor = ? AND (a.told = 0 OR (a.told = 1 AND ended IS NOT NULL)) "
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
        for row in self.database.rows(f"{_ALERT} WHERE monitor = ? AND k.told = 0", (monitor,)):
            alert = _alert(row)
            said = self.events.database.row("SELECT 1 FROM events WHERE scope = ? AND kind = 'alert' AND name = 'acknowledged' AND "
                                            "json_extract(data, '$.alert') = ? AND at >= ?", (scope, alert.id, alert.acknowledged))
            if said is None:
                self.events.append(scope, "alert", name="acknowledged", alert=alert.id, rule=alert.rule, labels=alert.labels,
                                   text=str(alert), who=alert.who, note=alert.note)
            self.database.execute("UPDATE acknowledgements SET told = 1 WHERE alert = ?", (alert.id,))

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
        return _alert(connection.execute(f"{_ALERT} WHERE a.id = ?", (name,)).fetchone())

    def _end(self, connection: Any, alert: str, now: float, why: str | None) -> Alert:
        connection.execute("UPDATE alerts SET ended = ?, why = ? WHERE id = ?", (now, why, alert))
        return _alert(connection.execute(f"{_ALERT} WHERE a.id = ?", (alert,)).fetchone())

    def _speak(self, connection: Any, monitor: str, silent: Mapping[str, Any], webhooks: Sequence[str], now: float) -> None:
        """Owe the begins of what began in a silence that is over."""
        for row in connection.execute(f"{_ALERT} JOIN hushed h ON h.alert = a.id WHERE monitor = ?", (monitor,)).fetchall():
            if row["rule"] not in silent:
                _owe(connection, _alert(row), "began", webhooks, now)
                connection.execute("DELETE FROM hushed WHERE alert = ?", (row["id"],))


def user() -> str:
    """Who this is, as the machine knows them."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


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
                 row["began"], row["ended"], row["why"], row["acknowledged"], row["who"], row["note"])
