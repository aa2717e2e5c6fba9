"""CPU seconds of ``import workbench`` and of ``workbench --help``, and what they load.

    python tests/benchmarks/startup.py
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys

ROUNDS = 7
HEAVY = ("torch", "distributed", "mlflow")
CASES = {
    "nothing": ("pass", None),
    "import workbench": ("import workbench", 0.15),
    "workbench --help": ("import sys; sys.argv[1:] = ['--help']; from workbench.cli import main; main()", 0.4),
    "workbench train --help": ("import sys; sys.argv[1:] = ['train', '--help']; from workbench.cli import main; main()", 0.4),
}
# The peers: what the same question costs where a command line imports what it may need.
PEERS = {"mlflow --help": ["-m", "mlflow", "--help"], "jupyter lab --help": ["-m", "jupyterlab", "--help"]}


def cpu(arguments: list[str]) -> float:
    """CPU seconds, user and system, of one Python."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def loaded(code: str) -> list[str]:
    """Which of the heavy modules a piece of code loads."""
    asked = (f"import sys\ntry:\n    exec({code!r})\nexcept SystemExit:\n    pass\n"
             f"print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", asked], check=True, capture_output=True, text=True)
    return [m for m in HEAVY if repr(m) in done.stderr.splitlines()[-1]]


def main() -> int:
    """Print a row for each case; 1 where a bound is missed."""
    missed = False
    print(f"{'':<24} {'median':>8} {'least':>8} {'bound':>8}  loads")
    for name, (code, bound) in CASES.items():
        times = [cpu(["-c", code]) for _ in range(ROUNDS)]
        heavy = loaded(code)
        middle = statistics.median(times)
        missed |= bool(bound and middle > bound) or bool(heavy)
        print(f"{name:<24} {middle:8.3f} {min(times):8.3f} {bound or '':>8}  {', '.join(heavy) or 'none of ' + ', '.join(HEAVY)}")
    for name, arguments in PEERS.items():
        times = [cpu(arguments) for _ in range(3)]
        print(f"{name:<24} {statistics.median(times):8.3f} {min(times):8.3f}")
    return missed


if __name__ == "__main__":
    sys.exit(main())
