"""What is known of ranks at work, from what they say; and when that means that they can't go on."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Mapping
from typing import Any

from ...errors import WorkbenchError

SILENCE = 30.0
"""Seconds without a heartbeat after which a rank counts as lost, though its host says that its process runs."""
LINK = 12.0
"""Seconds without a word of a rank or its host after which the worker counts as lost: a cut link says nothing by itself."""
FROZEN = 5.0
"""Seconds after which a rank is lost whose process is stopped (SIGSTOP)."""
LAST_WORDS = 0.4
"""Seconds that the other ranks get to say what they know, once one has failed."""
OURS = ("beat", "here", "port", "exchange", "held", "paused", "stacks", "done", "error", "ended", "lost", "notice")
"""Kinds of message that the gang takes for itself."""


class RankLost(Exception):
    """A rank or its worker is gone, through no fault of the work: start the gang again; ``ranks`` are those known to be gone."""

    def __init__(self, text: str, ranks: tuple[int, ...] = ()):
        super().__init__(text)
        self.ranks = ranks


class RankError(WorkbenchError):
    """The work itself failed in a rank; ``cause`` is what the rank said, with its traceback."""

    def __init__(self, cause: dict[str, Any]):
        self.cause = cause
        super().__init__(cause["what"], where=cause.get("where"), received=cause.get("received"), allowed=cause.get("allowed"),
                         hint=cause.get("hint"))
        self.add_note(f"in rank {cause.get('rank')}:\n{cause.get('traceback', '')}")

    def __reduce__(self):
        return type(self), (self.cause,)


class Watch:
    """What is known of a started gang; decides, and acts on nothing.

    Parameters
    ----------
    plan : ``token``, ``world`` and the ``worker`` of each of its ``ranks``.
    patience : seconds without a step of any rank, and without a long act that one reports, after which they count as hung.
    """

    def __init__(self, plan: Mapping[str, Any], patience: float | None = None):
        self.patience, self.moved = patience, 0.0
        self.steps: dict[int, int] = {}
        self.rounds: dict[int, dict[int, Any]] = {}
        self.token, self.world = plan["token"], plan["world"]
        self.workers = {r["rank"]: r["worker"] for r in plan["ranks"]}
        self.results: dict[int, Any] = {}
        self.beats: dict[int, float] = {}
        self.hosts: dict[int, float] = {}
        self.stopped: set[int] = set()
        self.unreachable: set[str] = set()
        """workers that are lost because nothing is heard of them: whatever is said to one waits for long"""
        self.ended: set[int] = set()
        self.failed: list[dict[str, Any]] = []
        self.died: dict[int, str] = {}
        self.first_fault: float | None = None
        self.leaving: set[int] = set()
        self.gone: set[int] = set()

    @property
    def complete(self) -> bool:
        return len(self.results) == self.world

    def begin(self, now: float) -> None:
        self.beats = {r: max(now, self.beats.get(r, 0)) for r in range(self.world)}
        self.hosts = dict(self.beats)
        self.moved = max(now, self.moved)

    def take(self, message: dict[str, Any], now: float) -> list[list]:
        """Note a message; returns what must be told to all ranks."""
        if message["kind"] == "lost":  # a worker may leave right behind its rank's last word: what is done stays done
            self.gone |= {r for r, w in self.workers.items() if w == message["worker"] and r not in self.results}
            return []
        if message.get("token") != self.token:
            return []
        rank, kind = message["rank"], message["kind"]
        self.hosts[rank] = now
        if kind == "here":
            (self.stopped.add if message["status"] == "stopped" else self.stopped.discard)(rank)
            return []
        self.beats[rank] = now
        if kind == "port":
            return [["port", message["port"]]]
        if kind == "beat":
            if message["step"] > self.steps.get(rank, -1) or message["doing"]:
                self.moved = now
            self.steps[rank] = max(message["step"], self.steps.get(rank, -1))
        elif kind == "exchange":
            given = self.rounds.setdefault(message["round"], {})
            given[rank] = message["value"]
            if len(given) == self.world:
                return [["exchanged", message["round"], [given[r] for r in range(self.world)]]]
        elif kind == "notice":
            self.leaving.add(rank)
        elif kind == "done":
            self.results[rank] = message["value"]
        elif kind == "error":
            self.first_fault = self.first_fault or now
            self.failed.append(message["error"] | {"rank": rank})
        elif kind == "ended" and rank not in self.results:
            self.first_fault = self.first_fault or now
            self.ended.add(rank)
            if all(f["rank"] != rank for f in self.failed):
                self.died[rank] = f"rank {rank} {_ended(message['status'])}"
        return []

    def judge(self, now: float) -> None:
        """Raise when the gang can't go on.

        A rank whose peer is gone fails too, in a collective: so an error is believed to be the work's own only when
        it does not speak of the connection, and otherwise the peer's end is waited for.
        """
        if self.gone:
            raise RankLost(f"worker {', '.join(sorted({self.workers[r] for r in self.gone}))} left", tuple(sorted(self.gone)))
        robbed = [f for f in self.failed if f.get("lost")]
        if robbed:
            raise RankLost("; ".join(f"rank {f['rank']} {f['lost']}" for f in robbed), tuple(f["rank"] for f in robbed))
        own = [f for f in self.failed if not f.get("peer")]
        # What the others have to say of it, the curve up to there for one, may be on its way.
        if own:
            if len(self.failed) == self.world or now - self.first_fault > LAST_WORDS:
                raise RankError(own[0])
            return
        if self.died:
            raise RankLost("; ".join(self.died.values()), tuple(self.died))
        if self.failed and self.first_fault is not None and now - self.first_fault > 5:
            raise RankLost(f"rank {self.failed[0]['rank']} lost the connection: {self.failed[0]['what']}")
        self._listened(now)

    def _listened(self, now: float) -> None:
        """Raise when nothing is heard for too long of a worker, of a rank that was frozen, of a rank that should be at work."""
        open_ = [r for r in range(self.world) if r not in self.results and r in self.beats]
        away = [r for r in open_ if now - self.hosts[r] > LINK]
        if away:
            self.unreachable |= {self.workers[r] for r in away}
            raise RankLost(f"worker {', '.join(sorted({self.workers[r] for r in away}))} was not heard of for {LINK:g} s", tuple(away))
        frozen = [r for r in open_ if r in self.stopped and now - self.beats[r] > FROZEN]
        if frozen:
            raise RankLost(f"rank {', '.join(map(str, frozen))} was frozen: silent for {FROZEN:g} s, its process stopped", tuple(frozen))
        silent = [r for r in open_ if now - self.beats[r] > SILENCE]
        if silent:
            raise RankLost(f"rank {', '.join(map(str, silent))} was silent for {SILENCE:g} s", tuple(silent))

    def hung(self, now: float) -> bool:
        """True when nothing moved for longer than anybody has the patience for."""
        return self.patience is not None and now - self.moved > self.patience

    def standing(self, shown: Mapping[int, Mapping[str, Any]]) -> RankError:
        """The error of a gang that hangs: where each rank stands, by the stacks that came, those first that are furthest behind."""
        ranks = sorted(range(self.world), key=lambda r: (shown[r]["step"] if r in shown else -1, r))
        lines, whole = [], []
        for rank in ranks:
            said = shown.get(rank)
            lines.append(f"rank {rank} at step {said['step']:,}: {said['threads'][0]['at']}" if said else f"rank {rank} doesn't answer")
            whole += [f"rank {rank}, thread {t['thread']}:\n{t['stack']}" for t in (said["threads"] if said else ())]
        return RankError({"what": f"no step for {self.patience:g} s: {'; '.join(lines)}", "kind": "HungError", "rank": ranks[0],
                          "step": shown[ranks[0]]["step"] if ranks[0] in shown else self.steps.get(ranks[0], 0),
                          "traceback": "\n".join(whole), "peer": False,
                          "hint": "What rightly takes longer needs a larger hardware.hang_seconds; a target of your own says "
                                  "control.busy(...) or control.goes_on(...)"})


def _ended(status: int | None) -> str:
    """How a process ended, in words.

    Examples
    --------
    >>> _ended(-9), _ended(1)
    ('was killed (SIGKILL)', 'ended with status 1')
    """
    if status is not None and status < 0:
        with contextlib.suppress(ValueError):
            return f"was killed ({signal.Signals(-status).name})"
    return f"ended with status {status}"
