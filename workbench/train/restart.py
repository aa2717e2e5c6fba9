"""A training over its restarts: the ranks are called until they are done, whatever dies meanwhile."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..driver import Stopped
from ..errors import StorageError
from ..journal import ENDED, Journal
from . import changes
from .ranks.gang import HANG, Gang, RankError, RankLost
from .reading import own
from .recorder import BEFORE, Recorder
from .state import checkpoints, memory
from .state.branch import begin

if TYPE_CHECKING:
    from ..driver import RunContext

FIT = "workbench.train.fit:fit"
MOST_RESTARTS = 3
"""Restarts without a step's progress between them after which a run fails: then it is no accident any more."""
MOST_SKIPPED = 10
"""Steps that rollbacks leave out at most: a training that diverges again and again has another fault."""


def train(gang: Gang, told: dict[str, Any], recorder, run: RunContext) -> dict[str, Any]:
    """Call the ranks until they are done; what a dead rank or worker costs is the way back to the last checkpoint."""
    folder, words = Path(told["checkpoints"]), changes.words(run)
    fruitless, began_at = 0, -1
    checkpoints.tidy(folder)
    changes.repeat(run)
    if not checkpoints.listed(folder):
        _take_over(run, folder)
    while True:
        run.check_stop()
        gang.claim(run.check_stop, run.log, patience=run.workspace.settings.cluster.PATIENCE)
        _say_how_many(gang, told, run)
        path, broken = checkpoints.newest(folder)
        for bad in broken:
            run.log(f"checkpoint {bad.name} {checkpoints.fault_of(bad)}: going on from the one before it", "warning")
            checkpoints.remove(bad)
        if path is None and told["branch"] is not None:
            path = begin(run.workspace, told["start"], told["branch"], folder)
            run.log(f"begins with step {checkpoints.step_of(path):,} of {told['start'].partition('@')[0]}")
        step = checkpoints.step_of(path) if path else 0
        fruitless = fruitless + 1 if max(step, recorder.copied) == began_at else 0
        began_at = max(step, recorder.copied)
        if step:
            run.log(f"goes on from step {step}")
            run.mark("resumed", step=step)
        try:
            asked = told | {"checkpoint": str(path) if path else None, "before": recorder.before() is None,
                            "changes": changes.of(run)}
            results = gang.call(FIT, asked, stop=_Ends(run, recorder), words=words, grow=gang.maximum > told["world"],
                                patience=told.get("hang_seconds", HANG), check=run.check_end, on_message=recorder.take,
                                known=lambda: recorder.step)
        except Stopped:
            recorder.meter.keep()
            left = checkpoints.listed(folder)
            run.log(f"ended at once in step {recorder.step + 1:,}: workbench resume {run.id} goes on from " + (
                f"step {checkpoints.step_of(left[0]):,}" if left else "the beginning"), "warning")
            raise
        except RankLost as lost:
            run.check_current()
            recorder.lost(str(lost), lost.ranks)
            if fruitless >= MOST_RESTARTS:
                raise StorageError("ranks were lost again and again without a step between", where=run.id, received=str(lost),
                                   hint=f"{_smaller(told['objective']['kind'])}, if it was for memory: too little ends a rank without a "
                                   f"word. What they said is in {gang.logs}") from lost
            continue
        except RankError as error:
            if _mended(error, told, run):
                continue
            error.place = f"rank {error.cause.get('rank')}, step {error.cause.get('step', 0):,}"
            error.hint = error.hint or _what_next(error.cause, told["objective"]["kind"])
            memory.clear(memory.place(Path(told["directory"])))
            if error.cause["kind"] == "DivergedError":
                shutil.rmtree(folder, ignore_errors=True)
            raise
        spent = recorder.meter.over()
        if results[0]["stopped"] and spent and not run.stopping.is_set():
            recorder.meter.keep(ended=True)
            run.log(f"{spent}: ended after step {results[0]['step']:,}; workbench resume {run.id} grants it once more", "warning")
            run.mark("budget", step=results[0]["step"], why=spent, spent=recorder.meter.spent)
            run.stopping.set()
            run.check_stop()
        if results[0]["stopped"] and gang.ended_for == "growth" and not run.stopping.is_set():
            run.log(f"there are more workers: a checkpoint at step {results[0]['step']:,}, and on with more ranks")
            continue
        if results[0]["stopped"] and not run.stopping.is_set():
            run.log(f"a worker is about to end: a checkpoint at step {results[0]['step']:,}, and on with those that are left")
            run.mark("notice", step=results[0]["step"])
            continue
        if results[0]["stopped"]:
            run.log(f"stopped after step {results[0]['step']}: workbench resume {run.id} goes on from there")
            run.mark("frozen", step=results[0]["step"], ranks=[r["step"] for r in results])
            run.stopping.set()
            run.check_stop()
        recorder.meter.keep()
        memory.clear(memory.place(Path(told["directory"])))
        return results[0] | {"memory": sum(r["memory"] for r in results)}


def end_frozen(run: RunContext) -> bool:
    """End the process that keeps a local cluster and was stopped (SIGSTOP): whoever looks at the run starts both again."""
    import psutil

    from .. import cluster, processes

    process = processes.find(run.workspace, cluster.PROCESS) if run.workspace.settings.cluster.kind == "local" else None
    with contextlib.suppress(psutil.Error):
        if process is not None and psutil.Process(process.pid).status() == psutil.STATUS_STOPPED:
            run.log("the scheduler is frozen: it is ended, and the run begins again on another", "warning")
            psutil.Process(process.pid).kill()
            return True
    return False


def _say_how_many(gang: Gang, told: dict[str, Any], run: RunContext) -> None:
    """Tell ranks, and whoever reads the run where that changes, with how many ranks it goes on."""
    before, told["world"] = told["world"], len(gang.workers)
    if told["world"] != before:
        run.mark("world", ranks=told["world"], planned=told["ranks"])
        run.log(f"with {told['world']} rank{'s' * (told['world'] > 1)}, where {told['ranks']} are planned: each step takes the same samples"
                if told["world"] != told["ranks"] else f"with all {told['world']} ranks")


class _Ends:
    """Set when a run is to end at a checkpoint: by whoever stops it, or because its budget is spent."""

    def __init__(self, run: RunContext, recorder: Recorder):
        self.run, self.recorder = run, recorder

    def is_set(self) -> bool:
        return self.run.stopping.is_set() or self.recorder.meter.over() is not None


def _mended(error: RankError, told: dict[str, Any], run: RunContext) -> bool:
    """Change what the ranks are told so that the error does not come again, where a rule says how; true if it was."""
    kind, step = error.cause["kind"], error.cause.get("step", 0)
    if kind == "DivergedError" and told["diverged"] == "rollback" and step not in told["skip"] and len(told["skip"]) < MOST_SKIPPED:
        told["skip"] = (*told["skip"], step)
        run.mark("rollback", step=step, why=error.cause["what"])
        run.log(f"{error.cause['what']} at step {step:,}: back to the last checkpoint, and on without that step", "warning")
        return True
    if _out_of_memory(error.cause) and 2 * told["split"] <= told["sequences"]:
        told["split"] *= 2
        parts = told["split"]
        run.mark("halved", step=step, split=parts)
        run.log(f"out of memory at step {step:,}: {told['sequences']} a rank and step are computed in {parts} parts from here on; a step "
                "is the same but for rounding", "warning")
        return True
    return False


def told_before(run: RunContext) -> dict[str, Any]:
    """Steps that are left out, and parts of a batch, as earlier attempts of the run found them."""
    marks = [e for e in Journal(run.workspace).events.tail(run.id, kinds=("mark",)) if e.name in ("rollback", "halved")]
    skip = tuple(dict.fromkeys(e.step for e in marks if e.name == "rollback"))
    return {"skip": skip, "split": max((e.data["split"] for e in marks if e.name == "halved"), default=1)}


def _out_of_memory(cause: dict[str, Any]) -> bool:
    words = ("out of memory", "can't allocate memory", "bad_alloc", "annot allocate memory")
    return cause["kind"] in ("OutOfMemoryError", "MemoryError") or any(w in cause["what"] for w in words)


def _what_next(cause: dict[str, Any], kind: str) -> str | None:
    """What to do about an error that nobody foresaw, in a training of this kind of objective."""
    if _out_of_memory(cause):
        return f"{_smaller(kind)} and raise batch.accumulate by as much: a step is the same, and takes less memory"
    return own.what_next(cause["what"]) if kind == "module" else None


def _smaller(kind: str) -> str:
    """What makes a rank take less at once: a module's batches are its dataloader's to make."""
    return "Make the dataloader's batches smaller" if kind == "module" else "Lower batch.sequences"


def _take_over(run: RunContext, folder: Path) -> None:
    """Begin with the last checkpoint of the same training, if the run before this one was stopped or failed."""
    if any(e.name == "afresh" for e in Journal(run.workspace).events.tail(run.id, kinds=("mark",))):
        return
    ended = Journal(run.workspace).entries(word="train", states=ENDED)
    before = next((e for e in ended if e.key == run.entry.key and e.id != run.id), None)
    if before is None or before.state == "done":
        return
    path, _ = checkpoints.newest(run.workspace.path("runs", before.id, "checkpoints"))
    if path:
        checkpoints.copy(path, folder)
        scored = run.workspace.path("runs", before.id, BEFORE)
        if scored.exists():
            shutil.copyfile(scored, run.directory / BEFORE)
        run.log(f"goes on where {before.id} ended")
