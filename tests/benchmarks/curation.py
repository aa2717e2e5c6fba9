"""Near-duplicates a core beside datasketch, each step's rate, and the whole default curation on the cluster.

    python tests/benchmarks/curation.py [megabytes]

Everything in one run on the same records: docstrings and comments of the packages installed. Rates are megabytes of
text a CPU second of one process.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from workbench import cluster, runs
from workbench.data import minhash
from workbench.data.minhash import Sketch, shingles
from workbench.data.sources import python_docs
from workbench.data.spec import Normalise, Pii, PythonDocs, Quality
from workbench.data.steps import normalise, pii, quality
from workbench.dataset import record_id
from workbench.workspace import Workspace

THRESHOLD = 0.8


def measured(work: Callable) -> tuple[float, object]:
    begin = time.process_time()
    told = work()
    return time.process_time() - begin, told


def records(workspace: Workspace, megabytes: float) -> Iterator[tuple[str, str]]:
    source, size = PythonDocs(max_megabytes=megabytes), 0
    for unit in python_docs.units(source, workspace):
        for record in python_docs.read(unit):
            yield record_id(record.source, record.locator, record.text.encode()), record.text
            size += len(record.text.encode())
        if size >= megabytes * 1e6:
            return


def ours(ids: list[str], texts: list[str]) -> set[str]:
    gone = minhash.near_duplicates(Sketch.of(ids, texts, words=5, threshold=THRESHOLD), THRESHOLD)
    return {f"{i:016x}" for i in gone}


def datasketch(ids: list[str], texts: list[str]) -> set[str]:
    """Its MinHash and LSH over the same shingles, each proposal verified exactly, as ours are."""
    from datasketch import MinHash, MinHashLSH

    lsh, gone, sets = MinHashLSH(threshold=THRESHOLD, num_perm=128), set(), {}
    for name, text in sorted(zip(ids, texts, strict=True)):
        found = shingles(text)
        if not found:
            continue
        signature = MinHash(num_perm=128)
        signature.update_batch([" ".join(s).encode() for s in found])
        if any(len(found & sets[o]) >= THRESHOLD * len(found | sets[o]) for o in lsh.query(signature)):
            gone.add(name)
        else:
            lsh.insert(name, signature)
            sets[name] = found
    return gone


def main() -> None:
    megabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 8.0
    with tempfile.TemporaryDirectory(prefix="curation-") as folder:
        workspace = Workspace(Path(folder)).open()
        seconds, found = measured(lambda: list(records(workspace, megabytes)))
        ids, texts = [i for i, _ in found], [t for _, t in found]
        size = sum(len(t.encode()) for t in texts) / 1e6
        print(f"{len(texts):,} records, {size:.1f} MB, {sys.platform}\n")
        print(f"{'read python-docs':32}{size / seconds:8.1f} MB/s")
        for module, step in ((normalise, Normalise()), (quality, Quality()), (pii, Pii())):
            seconds, _ = measured(lambda module=module, step=step: [module.judge(step, t) for t in texts])
            print(f"{step.step:32}{size / seconds:8.1f} MB/s")
        mine, gone = measured(lambda: ours(ids, texts))
        print(f"{'near duplicates':32}{size / mine:8.1f} MB/s   {len(gone):,} found")
        peer, peers = measured(lambda: datasketch(ids, texts))
        print(f"{'near duplicates, datasketch':32}{size / peer:8.1f} MB/s   {len(peers):,} found, {len(gone & peers):,} of them the same")
        print(f"{'times faster':32}{peer / mine:8.1f}")
        try:
            cluster.up(workspace)
            begin = time.monotonic()
            run = runs.run({"word": "data", "name": "docs", "sources": [{"kind": "python-docs", "max_megabytes": megabytes}]}, workspace)
            print(f"{'whole, two workers, cluster warm':32}{time.monotonic() - begin:8.1f} s      (≤ 25 for 8 MB)   {run.output}")
        finally:
            runs.shut_down(workspace)


if __name__ == "__main__":
    main()
