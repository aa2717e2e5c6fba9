"""Alerts: listed, acknowledged, and rules silenced for a while."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Json, examples
from .screen import print_json, print_table, say

if TYPE_CHECKING:
    from ..monitor.alerts import Alert


def alerts(monitor: Annotated[str | None, typer.Argument(metavar="MONITOR", help="Only those of one monitor.")] = None,
           every: Annotated[bool, typer.Option("--all", help="Those that ended too.")] = False,
           limit: Annotated[int, typer.Option("--limit", min=1, help="How many, the newest first.")] = 50, as_json: Json = False) -> None:
    """List the alerts that go on."""
    import time

    from ..drawing import ago, duration, number
    from ..monitor.alerts import Alerts
    from ..workspace import Workspace

    found = Alerts(Workspace.find()).listed(monitor, firing=not every, limit=limit)
    if as_json:
        print_json([_told(a) for a in found])
        return
    rows = []
    for a in found:
        state = "ended" if a.ended else f"{a.who} knows" if a.acknowledged else "firing"
        of = ", ".join(f"{k} {v}" for k, v in a.labels.items())
        rows.append([a.id[:12], a.rule, of, "–" if a.value is None else number(float(a.value)), ago(a.began),
                     duration((a.ended or time.time()) - a.began), state, a.note or a.summary])
    print_table(["alert", "rule", "of", "value", "began", "lasts", "state", "what it means"], rows, "Nothing is wrong: no alert goes on.")


def ack(alert: Annotated[str, typer.Argument(metavar="ALERT", help="An alert's id, or its beginning.")],
        note: Annotated[str, typer.Option("--note", help="What you do about it.")] = "",
        undo: Annotated[bool, typer.Option("--undo", help="Take it back.")] = False, as_json: Json = False) -> None:
    """Say that you know of an alert and look after it."""
    from ..monitor.alerts import Alerts
    from ..workspace import Workspace

    store = Alerts(Workspace.find())
    done = store.withdraw(alert) if undo else store.acknowledge(alert, note=note)
    if as_json:
        print_json(_told(done))
    else:
        say(f"{done}\n" + ("nobody looks after it" if undo else f"{done.who} knows{f': {done.note}' if done.note else ''}"))


def silence(rule: Annotated[str, typer.Argument(metavar="RULE", help="The rule whose alerts no webhook shall hear of.")],
            lasts: Annotated[str, typer.Option("--for", metavar="TIME", help="e.g. 30m, 2h; 0 ends a silence.")] = "1h",
            note: Annotated[str, typer.Option("--note", help="Why.")] = "",
            monitor: Annotated[str, typer.Option("--monitor", help="Of which monitor.")] = "monitor", as_json: Json = False) -> None:
    """Tell no webhook of a rule's alerts for a while."""
    from ..drawing import duration
    from ..errors import NotFoundError
    from ..monitor.watch import Watch
    from ..workspace import Workspace

    seconds = parse_time(lasts)
    watch = Watch.open(monitor, Workspace.find())
    names = [r.name for r in watch.rules]
    if rule not in names:
        raise NotFoundError.of("rule", rule, names)
    watch.store.silence(monitor, rule, seconds, note=note)
    if as_json:
        print_json({"monitor": monitor, "rule": rule, "seconds": seconds})
    else:
        say(f"{rule}: silent for {duration(seconds)}" if seconds else f"{rule}: told again")


def parse_time(text: str) -> float:
    """Seconds of ``90``, ``30s``, ``15m``, ``2h``, ``1d``.

    Raises
    ------
    SpecError
    """
    from ..errors import SpecError

    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd]?)\s*", text)
    if not found:
        raise SpecError.one("--for", f"received {text!r}; expected a time such as 30m or 2h", source="command line")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}[found[2]]


def add_to(app: typer.Typer) -> None:
    """Put the commands into the application."""
    app.command(epilog=examples("workbench alerts", "workbench alerts --all --json"))(alerts)
    app.command(epilog=examples('workbench ack 3f9a1c --note "more replicas are on their way"'))(ack)
    app.command(epilog=examples("workbench silence endpoint-slow --for 2h"))(silence)


def _told(alert: Alert) -> dict[str, object]:
    return {"alert": alert.id, "monitor": alert.monitor, "rule": alert.rule, "labels": alert.labels, "summary": alert.summary,
            "value": alert.value, "since": alert.since, "began": alert.began, "ended": alert.ended, "why": alert.why,
            "acknowledged": alert.acknowledged, "who": alert.who, "note": alert.note}
