"""Repeats as they are played: ``|: :|`` and first and second endings."""

from __future__ import annotations

from typing import Any, NamedTuple

from .tune import MOST


class Mark(NamedTuple):
    """Where a repeat starts or ends (with how often it is played), a section ends, or an ending for some of the times begins."""

    kind: str
    """``start``, ``end``, ``section`` or ``ending``"""
    times: tuple[int, ...] = ()


def unfolded(found: list[Any]) -> list[Any]:
    """What stands between marks in the order in which it is played.

    A repeat without a start goes back to the last section, or to the beginning.

    Raises
    ------
    OverflowError
        Where it is longer than any tune.

    Examples
    --------
    >>> "".join(unfolded(["a", Mark("ending", (1,)), "b", Mark("end"), Mark("ending", (2,)), "c"]))
    'abac'
    """
    played: list[Any] = []
    begin, time, marked, ending = 0, 1, False, False
    at = 0
    while at < len(found):
        item = found[at]
        at += 1
        if not isinstance(item, Mark):
            played.append(item)
            if len(played) > MOST:
                raise OverflowError
        elif item.kind == "start":
            begin, time, marked, ending = at, 1, True, False
        elif item.kind == "section":
            if (ending and time > 1) or (not ending and not marked and time == 1):
                begin, time, marked, ending = at, 1, False, False
        elif item.kind == "ending":
            if time in item.times:
                ending = True
            else:
                at = _next(found, at, time)
        elif time < (_times(found, begin) or max(item.times, default=2)):
            at, time, ending = begin, time + 1, False
        else:
            begin, time, marked, ending = at, 1, False, False
    return played


def _next(found: list[Any], at: int, time: int) -> int:
    """Where the ending for this time begins; where there is none, behind the repeat."""
    behind = len(found)
    for n in range(at, len(found)):
        if isinstance(found[n], Mark):
            if found[n].kind == "ending" and time in found[n].times:
                return n
            if found[n].kind in ("start", "section") or (found[n].kind == "end" and not _is_ending(found, n + 1)):
                behind = n
                break
    return behind


def _times(found: list[Any], begin: int) -> int:
    """How often what begins here is played, as its endings say; 0 where it has none."""
    most = 0
    for n in range(begin, len(found)):
        if isinstance(found[n], Mark):
            if found[n].kind == "ending":
                most = max(most, *found[n].times)
            elif found[n].kind == "start" or (found[n].kind == "end" and not _is_ending(found, n + 1)):
                break
    return most


def _is_ending(found: list[Any], at: int) -> bool:
    return at < len(found) and isinstance(found[at], Mark) and found[at].kind == "ending"
