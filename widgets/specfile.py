"""The file that a panel's spec came from: saved to, and watched for changes by others."""

from __future__ import annotations

import os
from pathlib import Path

from workbench.errors import StorageError
from workbench.spec import spec_path
from workbench.storage import write_atomic


class SpecFile:
    """A YAML file as it was last read or written here.

    Examples
    --------
    >>> SpecFile.of({"data": "docs"}) is None
    True
    """

    def __init__(self, path: Path):
        self.path = path
        self.text = path.read_text("utf-8")
        self._stat = self._look()

    @classmethod
    def of(cls, value: object) -> SpecFile | None:
        """The file that a value given as a spec names, or None."""
        path = spec_path(value)
        return cls(path.resolve()) if path is not None and path.is_file() else None

    def _look(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size

    def moved(self) -> bool:
        """True once for each change by somebody else."""
        now = self._look()
        if now == self._stat or now is None:
            return False
        self._stat = now
        return self.path.read_text("utf-8") != self.text

    def read(self) -> str:
        """The text as it is now."""
        self._stat = self._look()
        self.text = self.path.read_text("utf-8")
        return self.text

    def save(self, text: str) -> None:
        """Write a spec's text.

        Raises
        ------
        StorageError
            When somebody else changed the file since it was read.
        """
        if self.path.exists() and self.path.read_text("utf-8") != self.text:
            raise StorageError(f"{self.path.name} was changed on disk since it was read here", where=str(self.path),
                               hint="Read it again first (undo brings your edits back), or copy the YAML elsewhere.")
        write_atomic(self.path, text)
        self.text, self._stat = text, self._look()
