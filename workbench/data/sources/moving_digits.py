"""scikit-learn's digits moving over a canvas and off its borders: short clips that are there offline."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from ...errors import SourceError
from ...pictures import apng
from ...workspace import Workspace
from ..spec import MovingDigits
from . import Record, Unit
from . import digits as table

MODALITY = "clip"
AT_ONCE = 500
"""Clips of one unit."""


def inputs(source: MovingDigits, workspace: Workspace) -> dict[str, str]:
    """The digest of the table that scikit-learn brings along.

    Raises
    ------
    SourceError
        Where the canvas has no room for the digits to move.
    """
    if source.size <= table.SIDE:
        raise SourceError("the canvas leaves a digit no room to move", where="moving-digits", received=source.size,
                          allowed=f"size from {table.SIDE + 1}")
    return {"moving-digits": table.inputs(source, workspace)["digits"]}


def facts(source: MovingDigits, _workspace: Workspace) -> dict[str, Any]:
    """The shape of every clip."""
    return {"frames": source.frames, "height": source.size, "width": source.size, "channels": 1}


def units(source: MovingDigits, workspace: Workspace) -> list[Unit]:
    """Some hundred clips each."""
    [whole] = table.units(source, workspace)
    weight = source.frames * source.size * source.size
    return [Unit("moving-digits", whole.path, f"clips {first}", weight * (min(first + AT_ONCE, source.count) - first),
                 {"first": first, "last": min(first + AT_ONCE, source.count), **source.model_dump(exclude={"kind", "count"})})
            for first in range(0, source.count, AT_ONCE)]


def read(unit: Unit) -> Iterator[Record]:
    """A record a clip, labelled with its digit, where there is one only."""
    options = unit.options
    known = [(r.label, g) for r, g in table.rows(unit.path)]
    order = list(range(len(known)))
    random.Random(f"digits {options['seed']}").shuffle(order)
    for number in range(options["first"], options["last"]):
        chance = random.Random(f"clip {options['seed']} {number}")
        chosen = [known[order[(number * options["digits"] + n) % len(order)]] for n in range(options["digits"])]
        ways = [_way(chance, options["size"] - table.SIDE, options["frames"]) for _ in chosen]
        frames = [_frame(options["size"], [(grey, way[t]) for (_, grey), way in zip(chosen, ways, strict=True)])
                  for t in range(options["frames"])]
        yield Record("moving-digits", f"clip {number + 1}", image=apng(frames, options["size"], options["size"]),
                     label=chosen[0][0] if len(chosen) == 1 else None)


def most(_source: MovingDigits) -> None:
    """No limit."""


def _way(chance: random.Random, room: int, frames: int) -> list[tuple[int, int]]:
    """Where a digit's corner is in each frame: along a straight line, back from the borders."""
    places = []
    for _ in range(2):
        at, speed, line = chance.uniform(0, room), chance.choice((-1, 1)) * chance.uniform(0.6, 2.0), []
        for _ in range(frames):
            line.append(round(at))
            at += speed
            if not 0 <= at <= room:
                speed = -speed
                at = min(max(-at if at < 0 else 2 * room - at, 0), room)
        places.append(line)
    return list(zip(*places, strict=True))


def _frame(size: int, digits: list[tuple[bytes, tuple[int, int]]]) -> bytes:
    """The digits on a black canvas; where two meet, the lighter pixel shows."""
    canvas = bytearray(size * size)
    for grey, (x, y) in digits:
        for row in range(table.SIDE):
            at = (y + row) * size + x
            here = grey[row * table.SIDE:(row + 1) * table.SIDE]
            canvas[at:at + table.SIDE] = bytes(map(max, canvas[at:at + table.SIDE], here)) if len(digits) > 1 else here
    return bytes(canvas)
