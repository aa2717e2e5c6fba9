"""How a training fares, in words: what bounds it, what a step is spent on, what it takes and has taken, what it was told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from workbench.drawing import duration, number, size

PARTS = (("wait", "data"), ("forward", "forward"), ("backward", "backward"), ("blocked", "other ranks"), ("starved", "core"),
         ("optimizer", "optimizer"))
"""Parts of a step as vitals name them and as they are called here."""
STACK = 6000
"""Characters of a thread's stack that are shown, the innermost."""


def newest(marks: Iterable[Mapping[str, Any]], name: str) -> Mapping[str, Any] | None:
    """The last mark of a name."""
    return next((m for m in reversed(list(marks)) if m["name"] == name), None)


def step_parts(rank: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Shares of a rank's step, by what it was spent on; the waits within the backward pass are parts of their own.

    Examples
    --------
    >>> found = step_parts({"step_seconds": 0.1, "forward_seconds": 0.02, "backward_seconds": 0.06, "blocked_seconds": 0.04})
    >>> [(p["name"], p["text"]) for p in found]
    [('forward', '20 %'), ('backward', '20 %'), ('other ranks', '40 %'), ('other', '20 %')]
    """
    step = rank.get("step_seconds")
    if not step:
        return []
    spent = {name: rank.get(f"{name}_seconds") or 0.0 for name, _ in PARTS}
    spent["backward"] = max(0.0, spent["backward"] - spent["blocked"] - spent["starved"])
    shares = [(said, spent[name] / step) for name, said in PARTS]
    shares.append(("other", 1 - sum(s for _, s in shares)))
    whole = max(1.0, sum(max(0.0, s) for _, s in shares))
    return [{"name": n, "share": round(s / whole, 4), "text": f"{100 * s / whole:.0f} %" if s >= 0.01 else "under 1 %"}
            for n, s in shares if s > 0.0005]


def verdict(marks: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The newest verdict with its figures per rank, ready to be shown."""
    found = newest(marks, "verdict")
    if found is None:
        return None
    ranks = [{"rank": r["rank"], "step": brief(r.get("step_seconds")), "parts": step_parts(r), "memory": _memory(r),
              "cpu": f"{100 * r['cpu']:.0f} %" if r.get("cpu") is not None else "–"} for r in found.get("ranks") or ()]
    return {"bound": found["bound"], "words": found["words"], "do": found["do"], "ranks": ranks}


def _memory(rank: Mapping[str, Any]) -> str:
    """What a rank takes of what it can have: of its GPU where it has one."""
    which = "gpu_memory" if rank.get("gpu_memory") is not None else "memory"
    if rank.get(which) is None:
        return "–"
    limit = rank.get(f"{which}_limit")
    return f"{size(rank[which])} of {size(limit)}" if limit else size(rank[which])


def costs(marks: list[Mapping[str, Any]], currency: str = "") -> list[list[str]]:
    """What it was estimated to take beside what it has taken: rows of a name, an estimate and what is spent so far.

    Examples
    --------
    >>> costs([{"name": "estimate", "seconds": 90, "memory": 2e9, "kwh": 0.002, "money": None}])
    [['time', '1 min 30 s', '–'], ['memory', '2 GB', '–'], ['energy', '2 Wh', '–']]
    """
    whole, last = newest(marks, "estimate") or {}, newest(marks, "verdict") or {}
    spent = last.get("spent") or {}
    peak = sum(r.get("memory") or 0 for r in last.get("ranks") or ())
    rows = [["time", whole.get("seconds") and duration(whole["seconds"]), spent.get("hours") and duration(3600 * spent["hours"])],
            ["memory", whole.get("memory") and size(whole["memory"]), size(peak) if peak else None],
            ["energy", energy(whole.get("kwh")), energy(spent.get("kwh"))],
            ["money", money(whole.get("money"), currency), money(spent.get("money") or None, currency)]]
    return [[name, before or "–", now or "–"] for name, before, now in rows if before or now]


def energy(kwh: float | None) -> str | None:
    """Energy in the unit that fits.

    Examples
    --------
    >>> energy(0.0042), energy(1.25), energy(2e-5)
    ('4.2 Wh', '1.25 kWh', '0.02 Wh')
    """
    return None if not kwh else f"{number(kwh)} kWh" if kwh >= 1 else f"{1000 * kwh:.2g} Wh"


def money(amount: float | None, currency: str) -> str | None:
    """An amount as it is paid."""
    return None if amount is None else f"{amount:,.2f} {currency}".strip() if amount >= 0.01 else f"under 0.01 {currency}".strip()


def told(marks: list[Mapping[str, Any]], rate: float | None) -> dict[str, Any]:
    """What a run was told while it worked: ``paused``, ``rate`` (the largest of the schedule now), ``stacks``, ``profile``."""
    last = next((m["name"] for m in reversed(marks) if m["name"] in ("paused", "continued", "resumed", "frozen")), None)
    changed, shown, profiled = newest(marks, "changed"), newest(marks, "stacks"), newest(marks, "profiled")
    found: dict[str, Any] = {"paused": last == "paused", "rate": (changed or {}).get("values", {}).get("learning_rate", rate),
                             "changed": f"since step {changed['step']:,}" if changed else ""}
    if shown is not None:
        found["stacks"] = [{"rank": r["rank"], "step": r["step"], "doing": str(r.get("doing") or ""),
                            "threads": [{"thread": t["thread"], "at": t["at"], "stack": t["stack"][-STACK:]} for t in r["threads"]]}
                           for r in shown["ranks"]]
        found["shown"] = shown["at"]
    if profiled is not None:
        found["profile"] = {"step": profiled["step"], "steps": profiled["steps"], "file": f"profile/{profiled['file']}",
                            "longest": [[name, brief(seconds), count] for name, seconds, count in profiled["longest"]]}
    profiling = newest(marks, "profiling")
    found["profiling"] = bool(profiling) and (profiled is None or profiled["at"] < profiling["at"])
    return found


def brief(seconds: float | None) -> str:
    """Seconds in the fewest signs."""
    if seconds is None:
        return "–"
    return f"{1000 * seconds:.1f} ms" if seconds < 0.0995 else f"{1000 * seconds:.0f} ms" if seconds < 10 else duration(seconds)
