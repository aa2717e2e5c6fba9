"""Names, versions and aliases of datasets, models and assessments, each bound to a digest."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .errors import NotFoundError, PolicyError, SpecError
from .storage import Database
from .workspace import Workspace

Kind = Literal["dataset", "model", "assessment"]
PROTECTED = ("production",)
"""Aliases that a policy must allow before a model bears them, in whatever case they are written."""
PERMIT_SECONDS = 3600
"""Age from which a permit no longer opens anything."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS versions (
  kind TEXT NOT NULL, name TEXT NOT NULL, number INTEGER NOT NULL, digest TEXT NOT NULL, path TEXT NOT NULL,
  run TEXT, created REAL NOT NULL, touched REAL NOT NULL, meta TEXT NOT NULL,
  PRIMARY KEY (kind, name, number), UNIQUE (kind, name, digest));
CREATE TABLE IF NOT EXISTS aliases (
  kind TEXT NOT NULL, name TEXT NOT NULL, alias TEXT NOT NULL, digest TEXT NOT NULL, at REAL NOT NULL,
  PRIMARY KEY (kind, name, alias));
"""


@dataclass(frozen=True)
class Version:
    """One registered version: ``number`` counts from 1 within its name."""

    kind: str
    name: str
    number: int
    digest: str
    path: Path
    run: str | None
    created: float
    meta: dict[str, Any]

    @property
    def reference(self) -> str:
        """``name@digest12``: says exactly this version, whatever is registered later."""
        return f"{self.name}@{self.digest[:12]}"


class Registry:
    """Versions and aliases of a workspace.

    A reference is ``name`` (the newest), ``name@v3``, ``name@alias`` or ``name@<digest, 6 digits or more>``.
    """

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self.database = Database(workspace.path("registry.db"), _SCHEMA)

    def register(self, kind: Kind, name: str, digest: str, path: str | Path, *, run: str | None = None,
                 meta: dict[str, Any] | None = None) -> Version:
        """Record a version; the same name and digest are recorded once and become the newest again."""
        now = time.time()
        stored = self.workspace.relative(path)
        with self.database.transaction() as connection:
            connection.execute(
                "INSERT INTO versions SELECT ?, ?, COALESCE(MAX(number), 0) + 1, ?, ?, ?, ?, ?, ? FROM versions "
                "WHERE kind = ? AND name = ? ON CONFLICT (kind, name, digest) DO UPDATE SET touched = excluded.touched",
                (kind, name, digest, stored, run, now, now, json.dumps(meta or {}), kind, name))
        return self.resolve(kind, f"{name}@{digest}")

    def resolve(self, kind: Kind, reference: str) -> Version:
        """The version that a reference means.

        Raises
        ------
        NotFoundError
            With the names that exist and the near one.
        """
        name, _, which = reference.partition("@")
        versions = self.versions(kind, name)
        if not versions:
            raise NotFoundError.of(kind, name, self.names(kind), hint=_HINT.get(kind))
        if which in ("", "latest"):
            return versions[0]
        for version in versions:
            if which == f"v{version.number}" or (len(which) >= 6 and version.digest.startswith(which)):
                return version
        digest = self.aliases(kind, name).get(which)
        if digest:
            return next(v for v in versions if v.digest == digest)
        raise NotFoundError.of(f"version of {kind} {name}", which,
                               [*(f"v{v.number}" for v in versions), *self.aliases(kind, name)])

    def by_digest(self, kind: Kind, digest: str) -> Version:
        """The newest version with a digest, whatever its name."""
        row = self.database.row("SELECT * FROM versions WHERE kind = ? AND digest = ? ORDER BY touched DESC LIMIT 1", (kind, digest))
        if row is None:
            raise NotFoundError.of(kind, digest[:12], self.names(kind))
        return self._version(row)

    def names(self, kind: Kind) -> list[str]:
        """All names of a kind, in alphabetical order."""
        return [r["name"] for r in self.database.rows("SELECT DISTINCT name FROM versions WHERE kind = ? ORDER BY name", (kind,))]

    def versions(self, kind: Kind, name: str | None = None) -> list[Version]:
        """Versions, the newest first."""
        sql, values = "SELECT * FROM versions WHERE kind = ?", [kind]
        if name is not None:
            sql, values = sql + " AND name = ?", [*values, name]
        return [self._version(r) for r in self.database.rows(sql + " ORDER BY touched DESC, number DESC", tuple(values))]

    def aliases(self, kind: Kind, name: str) -> dict[str, str]:
        """Digests by alias."""
        return {r["alias"]: r["digest"] for r in self.database.rows(
            "SELECT alias, digest FROM aliases WHERE kind = ? AND name = ? ORDER BY alias", (kind, name))}

    def set_alias(self, kind: Kind, reference: str, alias: str, *, permit: object = None) -> Version:
        """Point an alias at a version.

        Parameters
        ----------
        permit : for a protected alias of a model, what ``assessment.permit_for`` gave for that very digest; it counts
            for an hour, and only if the audit log holds the line that records it.

        Raises
        ------
        PolicyError
            When the alias is protected and no valid permit for this digest is shown.
        """
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]{0,63}", alias) or re.fullmatch(r"v\d+|latest|[0-9a-f]{6,64}", alias):
            raise SpecError.one("alias", f"received {alias!r}; expected a word that is no version, digest or 'latest'")
        version = self.resolve(kind, reference)
        if kind == "model" and alias.casefold() in PROTECTED and not self._permitted(version.digest, permit):
            raise PolicyError(f'the alias "{alias}" needs a passing assessment', where=version.reference,
                              hint=f"Run: workbench assess {version.name}")
        self.database.execute("INSERT INTO aliases VALUES (?,?,?,?,?) ON CONFLICT (kind, name, alias) DO UPDATE SET "
                              "digest = excluded.digest, at = excluded.at", (kind, version.name, alias, version.digest, time.time()))
        self.workspace.audit.append("alias", kind=kind, name=version.name, alias=alias, digest=version.digest)
        return version

    def _permitted(self, digest: str, permit: object) -> bool:
        entry = self.workspace.audit.find(getattr(permit, "proof", None) or "-")
        return (entry is not None and entry["action"] == "permit" and entry["details"].get("model") == digest
                and getattr(permit, "digest", None) == digest and time.time() - entry["at"] <= PERMIT_SECONDS)

    def _version(self, row) -> Version:
        return Version(row["kind"], row["name"], row["number"], row["digest"], self.workspace.root / row["path"],
                       row["run"], row["created"], json.loads(row["meta"]))


_HINT = {"dataset": "Make one: workbench data FILES --name NAME", "model": "Make one: workbench train --data NAME",
         "assessment": "Make one: workbench assess MODEL"}
