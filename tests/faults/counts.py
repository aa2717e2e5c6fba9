"""A table of faults over rounds, survived/tried: ``python counts.py FILE [ROUNDS]``.

Status 1 where one was not survived, or was tried less often than there were rounds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable


def counted(lines: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Test -> how often it was survived, of how many tries; a try whose fixtures failed is one that was not survived.

    Examples
    --------
    >>> line = '{"test": "tests/faults/test_a.py::test_kill", "when": "%s", "outcome": "%s"}'
    >>> counted([line % ("call", "passed"), line % ("teardown", "failed"), line % ("call", "passed"), line % ("setup", "skipped")])
    {'test_a.py::test_kill': (1, 2)}
    """
    tried: dict[str, list[bool]] = {}
    for line in lines:
        said = json.loads(line)
        rounds = tried.setdefault(said["test"].rpartition("/")[2], [])
        if said["outcome"] == "skipped":
            continue
        if said["when"] == "teardown" and rounds:
            rounds[-1] = False
        else:
            rounds.append(said["outcome"] == "passed")
    return {test: (sum(rounds), len(rounds)) for test, rounds in tried.items()}


def main(file: str, rounds: int = 1) -> int:
    """Print the table; the status to end with."""
    with open(file, encoding="utf-8") as lines:
        found = counted(lines)
    for test, (survived, tries) in sorted(found.items()):
        print(f"{survived:>4}/{tries:<4} {test}" + ("" if survived == tries else "   <-") + ("" if tries else "   left out"))
    survived, tries = (sum(f[n] for f in found.values()) for n in (0, 1))
    print(f"{survived:>4}/{tries:<4} survived, {sum(1 for f in found.values() if f[1])} faults")
    return int(survived < tries or not tries or any(0 < f[1] < rounds for f in found.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:3])))
