"""What a run was told while it trained, in its events: recorded as it comes, and repeated by whoever goes on or begins again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..events import Events
from ..journal import Journal

if TYPE_CHECKING:
    from ..driver import RunContext

KINDS = ("paused", "continued", "changed", "profiling", "profiled", "stacks")
"""Messages of a gang that tell what came of a word; each is a mark of the same name."""


def record(run: RunContext, message: dict[str, Any]) -> None:
    """Note in a run's events what came of a word."""
    kind = message["kind"]
    run.mark(kind, **{k: v for k, v in message.items() if k not in ("kind", "token")})
    said = {"paused": "waits after step {step:,}", "continued": "goes on", "profiling": "profiles {steps} steps from step {step:,}",
            "changed": "a learning rate of {learning_rate:g} from step {step:,}"}.get(kind)
    if said:
        run.log(said.format(**{k: v for k, v in message.items() if k != "values"}, **message.get("values", {})))


def of(run: RunContext) -> list[list[Any]]:
    """The changes of a run so far, ``[[step, values], …]``."""
    return _changes(Events(run.workspace), run.id)


def repeat(run: RunContext) -> None:
    """Let a run that was asked for again make the changes that the newest finished run of the same made."""
    journal = Journal(run.workspace)
    events = journal.events
    if run.attempt > 1 or not any(e.name == "afresh" for e in events.tail(run.id, kinds=("mark",))):
        return
    before = next((e for e in journal.entries(word="train", states=("done",)) if e.key == run.entry.key and e.id != run.id), None)
    for step, values in _changes(events, before.id) if before else ():
        run.mark("changed", step=step, values=values, repeats=before.id)
        run.log(f"a learning rate of {values['learning_rate']:g} from step {step:,}, as in {before.id}")


def words(run: RunContext) -> Callable[[], list[tuple[str, dict[str, Any]]]]:
    """What a gang asks for words to its ranks: those told to the run; first of all to wait, where an attempt that is gone waited."""
    marks = [e.name for e in Events(run.workspace).tail(run.id, kinds=("mark",)) if e.name in ("paused", "continued", "frozen")]
    first = [("pause", {})] if run.attempt > 1 and marks and marks[-1] == "paused" else []

    def asked() -> list[tuple[str, dict[str, Any]]]:
        found = first + run.words()
        first.clear()
        return found

    return asked


def _changes(events: Events, run_id: str) -> list[list[Any]]:
    return [[e.step, e.data["values"]] for e in events.tail(run_id, kinds=("mark",)) if e.name == "changed"]
