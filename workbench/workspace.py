"""Where state lives: the workspace found upwards like ``.git``, its settings and its paths."""

from __future__ import annotations

import os
import secrets as random_secrets
import tomllib
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError

from .audit import AuditLog
from .errors import NotFoundError, Problem, SpecError, WorkspaceError
from .settings import Settings
from .spec import problems
from .storage import storage_errors, write_atomic

FORMAT = 1
"""Format of ``.workbench``; a newer one is refused."""


class Workspace:
    """One directory with ``workbench.toml`` (settings) and ``.workbench`` (all state).

    Parameters
    ----------
    root : the directory that holds both.
    """

    def __init__(self, root: str | os.PathLike):
        self.root = Path(root).resolve()
        self.state = self.root / ".workbench"

    @classmethod
    def find(cls, start: str | os.PathLike | None = None) -> Workspace:
        """The workspace of a directory: the nearest above with ``workbench.toml`` or ``.workbench``.

        ``WORKBENCH_ROOT`` names it outright. Where none is found, the start directory becomes one.

        Raises
        ------
        WorkspaceError
            When the state was written by a newer workbench.
        """
        if isinstance(start, Workspace):
            return start
        if start is None and os.environ.get("WORKBENCH_ROOT"):
            return cls(os.environ["WORKBENCH_ROOT"]).open()
        here = Path(start or os.getcwd()).resolve()
        for place in (here, *here.parents):
            if (place / "workbench.toml").is_file() or (place / ".workbench").is_dir():
                return cls(place).open()
        return cls(here).open()

    def open(self) -> Workspace:
        """Make the state directory if need be and check its format."""
        mark = self.state / "format"
        try:
            found = int(mark.read_text())
        except FileNotFoundError:
            with storage_errors(self.state):
                self.state.mkdir(parents=True, exist_ok=True)
            write_atomic(mark, f"{FORMAT}\n")
            if not (self.state / ".gitignore").exists():
                write_atomic(self.state / ".gitignore", "*\n")
            return self
        except ValueError:
            found = -1
        if found != FORMAT:
            raise WorkspaceError("was written by a newer workbench" if found > FORMAT else "has an unreadable format mark",
                                 where=self.state, received=found, allowed=f"format {FORMAT}",
                                 hint="Update genai-workbench, or use another directory")
        return self

    @cached_property
    def settings(self) -> Settings:
        """The settings; all problems of the file at once."""
        path = self.root / "workbench.toml"
        if not path.exists():
            return Settings()
        try:
            return Settings.model_validate(tomllib.loads(path.read_text("utf-8")))
        except ValidationError as error:
            raise SpecError(problems(Settings, error), source=str(path)) from None
        except tomllib.TOMLDecodeError as error:
            raise SpecError([Problem("", f"{error}; expected TOML")], source=str(path)) from None

    @cached_property
    def audit(self) -> AuditLog:
        """The record of decisions."""
        return AuditLog(self.state / "audit.jsonl")

    def path(self, *parts: str) -> Path:
        """A path inside the state directory."""
        return self.state.joinpath(*parts)

    def relative(self, path: str | os.PathLike) -> str:
        """A path as records name it: relative to the root where it lies inside, else absolute."""
        full = Path(path).expanduser().resolve()
        return full.relative_to(self.root).as_posix() if full.is_relative_to(self.root) else full.as_posix()

    def secret(self, name: str) -> str:
        """The value of a secret that the settings name, from the environment.

        Raises
        ------
        NotFoundError
            Where the settings do not name it or the variable is not set.
        """
        if name not in self.settings.secrets:
            raise NotFoundError.of("secret", name, self.settings.secrets, hint="Name it under [secrets] in workbench.toml")
        variable = self.settings.secrets[name]
        if variable not in os.environ:
            raise NotFoundError(f'the secret "{name}" has no value', where="workbench.toml",
                                hint=f"Set the environment variable {variable}")
        return os.environ[variable]

    def token(self, path: Path) -> str:
        """The token kept in a file that only this user reads; made on first use."""
        if not path.exists():
            write_atomic(path, random_secrets.token_urlsafe(24) + "\n", mode=0o600)
        return path.read_text().strip()

    @property
    def tracking_uri(self) -> str:
        """Where MLflow keeps runs and metrics."""
        return self.settings.tracking_uri or f"sqlite:///{self.path('mlflow.db')}"

    def __repr__(self) -> str:
        return f"Workspace({str(self.root)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Workspace) and other.root == self.root

    def __hash__(self) -> int:
        return hash(self.root)

    def __reduce__(self):
        return Workspace, (str(self.root),)
