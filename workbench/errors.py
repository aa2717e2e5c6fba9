"""Every error a user can meet: what, where, what was received, what is allowed, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


def near(name: str, allowed: Iterable[str]) -> str | None:
    """The allowed name closest to a misspelt one, or None.

    Examples
    --------
    >>> near("siez", ["size", "context"])
    'size'
    """
    found = difflib.get_close_matches(str(name), [str(a) for a in allowed], n=1, cutoff=0.6)
    return found[0] if found else None


class WorkbenchError(Exception):
    """Base of all errors meant for a user.

    Parameters
    ----------
    what : what went wrong, as a sentence without a full stop.
    where : file, field, run or address that it concerns.
    received : the offending value, shown as ``repr`` and cut at 200 characters.
    allowed : what would have been accepted, in words.
    hint : what to do next.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: object = None, received: object = None,
                 allowed: str | None = None, hint: str | None = None):
        self.what, self.where, self.received = what, where, received
        self.allowed, self.hint = allowed, hint
        super().__init__(what, where, received, allowed, hint)

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where is not None else self.what
        if self.received is not None:
            shown = repr(self.received)
            text += f"; received {shown if len(shown) <= 200 else shown[:197] + '...'}"
        if self.allowed:
            text += f"; expected {self.allowed}"
        return text + (f". {self.hint}" if self.hint else "")

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: an error meant for a user needs no stack."""
        return [f"{type(self).__name__}: {self}"]

    def __reduce__(self):
        # Errors cross process boundaries with all five parts intact.
        return _rebuild, (type(self), self.what, str(self.where) if self.where is not None else None,
                          self.received, self.allowed, self.hint)


def _rebuild(kind, what, where, received, allowed, hint):
    return kind(what, where=where, received=received, allowed=allowed, hint=hint)


@dataclass(frozen=True)
class Problem:
    """One fault of a spec: the path to the field and the sentence about it."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class SpecError(WorkbenchError):
    """A spec that can't be taken; ``problems`` holds every fault at once."""

    exit_code = 2

    def __init__(self, problems: Iterable[Problem], *, source: str = "spec"):
        self.problems, self.source = tuple(problems), source
        super().__init__(f"{len(self.problems)} problem{'s' * (len(self.problems) != 1)}", where=source)

    def __str__(self) -> str:
        return "\n".join([f"{self.where}: {self.what}", *(f"  {p}" for p in self.problems)])

    def __reduce__(self):
        return _rebuild_spec_error, (self.problems, self.source)

    @classmethod
    def one(cls, path: str, message: str, *, source: str = "spec") -> SpecError:
        """A spec error with a single fault."""
        return cls([Problem(path, message)], source=source)


def _rebuild_spec_error(problems, source):
    return SpecError(problems, source=source)


class NotFoundError(WorkbenchError):
    """A name that nothing here bears."""

    exit_code = 2

    @classmethod
    def of(cls, kind: str, name: str, existing: Iterable[str], hint: str | None = None) -> NotFoundError:
        """An error that names what exists and the near name."""
        names = sorted({str(e) for e in existing})
        close = near(name, names)
        tip = f'Did you mean "{close}"?' if close else hint
        return cls(f'no {kind} "{name}"', allowed=f"one of {', '.join(names[:12])}" if names else f"any {kind} (there is none yet)",
                   hint=tip)


class PolicyError(WorkbenchError):
    """What the policy refuses: a public bind or a protected alias without the evidence."""

    exit_code = 3


class SourceError(WorkbenchError):
    """Input data that can't be read or is empty."""

    exit_code = 2


class StorageError(WorkbenchError):
    """A disk that is full or read-only, or a file that is damaged."""


class WorkspaceError(WorkbenchError):
    """A workspace that can't be used: written by a newer version, or not writable."""


class ClusterError(WorkbenchError):
    """A cluster that can't be reached or started."""


class RunFailedError(WorkbenchError):
    """A run that ended as failed; the message carries its own words."""


class UnsafeFileError(WorkbenchError):
    """A file that could run code when opened (a pickle offered as weights)."""
