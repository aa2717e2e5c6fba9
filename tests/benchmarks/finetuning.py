"""SFT (all weights), LoRA and DPO against scripts of trl and peft: same base, data, seed, order, batch, optimizer and schedule.

    python -m venv /tmp/trl
    python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > /tmp/trl/lib/python3*/site-packages/base.pth
    /tmp/trl/bin/pip install -c environments/constraints.txt trl datasets
    python tests/benchmarks/finetuning.py /tmp/trl/bin/python [rounds] [size]

trl lives in an environment of its own on top of the project's, so that the project's stays what it is. Rounds alternate; losses are
compared step by step, times are medians over the steps behind the first five. trl computes the reference of DPO in each step by
default, or once before (``precompute_ref_log_probs``), as the workbench always does: both are measured.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from workbench import runs
from workbench.dataset import Dataset
from workbench.model import learn_tokenizer, llama_config, new_llama, save_tokenizer
from workbench.train.plan import planned
from workbench.train.reading import answers
from workbench.train.reading.answers import Samples
from workbench.train.spec import TrainSpec
from workbench.workspace import Workspace

SIZE = sys.argv[3] if len(sys.argv) > 3 else "10M"
BATCH, CONTEXT, STEPS, SEED, RATE = 8, 512, 30, 0, 1e-3
# trl trains where a template says "generation"; nothing stands behind the end mark, which trl would count in DPO.
TEMPLATE = ("{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}assistant:{% generation %} {{ m['content'] }}"
            "{{ eos_token }}{% endgeneration %}{% else %}{{ m['role'] }}: {{ m['content'] }}{{ '\\n' }}{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}assistant:{% endif %}")
CASES = {"SFT, all weights": ("sft", None, False), "SFT, LoRA": ("sft", {}, False), "DPO, all weights": ("dpo", None, False),
         "DPO, LoRA": ("dpo", {}, False), "DPO, LoRA, reference computed before": ("dpo", {}, True)}


def prepared(workspace: Workspace, place: Path) -> Path:
    """Two datasets of one source, and a base with random weights."""
    for name, preference in (("questions", False), ("pairs", True)):
        runs.submit({"word": "data", "name": name, "sources": [{"kind": "questions", "count": 600, "preference": preference}]}, workspace,
                    place="here").wait()
    texts = (m["content"] for chat in Dataset.open("questions", workspace).chats("train") for m in chat["messages"])
    tokenizer = learn_tokenizer(texts, 2048)
    tokenizer.chat_template = TEMPLATE
    new_llama(llama_config(SIZE, len(tokenizer), CONTEXT), SEED).save_pretrained(place / "base")
    save_tokenizer(tokenizer, place / "base")
    return place / "base"


def spec_of(kind: str, adapter: dict | None, base: Path, threads: int) -> TrainSpec:
    """So many steps over the first samples of the order."""
    return TrainSpec.load({"word": "train", "data": "pairs" if kind == "dpo" else "questions", "name": "tuned", "warmup": 0, "seed": SEED,
                           "objective": {"kind": kind, "base": str(base), "adapter": adapter, "context": CONTEXT}, "learning_rate": RATE,
                           "batch": {"sequences": BATCH}, "hardware": {"ranks": 1, "threads": threads}, "prompts": [],
                           "every": {"checkpoint": 10**6, "evaluate": 10**6, "sample": 10**6}})


def ours(spec: TrainSpec, workspace: Workspace, count: int) -> dict:
    """The loss of each step, and seconds a step."""
    run = runs.submit(TrainSpec.load(spec.to_dict() | {"epochs": STEPS * BATCH / count}), workspace, again=True).wait(600)
    found = sorted((e.step, e.value, e.at) for e in run.events(kinds=["point"]) if e.name == "loss")
    return {"losses": [v for _, v, _ in found], "step": _median([at for *_, at in found])}


def theirs(python: str, asked: dict, place: Path) -> dict:
    """The same of trl's trainer."""
    (place / "asked.json").write_text(json.dumps(asked))
    script = Path(__file__).parent / "peers" / "trl_trainers.py"
    done = subprocess.run([python, str(script), str(place / "asked.json"), str(place / "said.json")],
                          capture_output=True, text=True, check=False,
                          env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"TOKENIZERS_PARALLELISM": "false",
                                                                                         "HF_HUB_OFFLINE": "1"})
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    said = json.loads((place / "said.json").read_text())
    return {"losses": said["losses"], "step": _median(said["at"])}


def _median(at: list[float]) -> float:
    return statistics.median(b - a for a, b in itertools.pairwise(at[5:]))


def main() -> None:
    """Print a row a case."""
    if len(sys.argv) < 2:
        print("left out: needs the Python of an environment with trl; how to make one stands in this file")
        return
    python, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    threads = 1  # what more threads give depends on who else computes on the machine
    with tempfile.TemporaryDirectory(prefix="finetuning-") as folder:
        place, workspace = Path(folder), Workspace(folder).open()
        try:
            base = prepared(workspace, place)
            print(f"{SIZE} Llama, {BATCH} samples a step, {STEPS} steps, {threads} threads; medians of {rounds} rounds")
            print("| fine-tuning | largest difference of a step's loss | ms a step | trl, ms a step | trl / ours |\n|---|---|---|---|---|")
            for name, (kind, adapter, precompute) in CASES.items():
                spec = spec_of(kind, adapter, base, threads)
                dataset = Dataset.open(spec.data, workspace)
                inputs = answers.refuse(spec, workspace, dataset)
                made = answers.found(spec, workspace, dataset, inputs) or answers.make(spec, workspace, dataset,
                                                                                      answers.bases.found(str(base), workspace))
                plan = planned(spec, made.count("train"))
                order = Samples(made.split("train"), made.count("train"), plan.seed).named(range(STEPS * BATCH))
                records = list(dataset.preferences("train") if kind == "dpo" else dataset.chats("train"))
                rows = made.split("train").rows
                asked = {"kind": kind, "base": str(base), "template": TEMPLATE, "rows": [records[int(rows[n])] for n in order],
                         "batch": BATCH, "context": CONTEXT, "rate": RATE, "seed": SEED, "beta": 0.1, "precompute": precompute,
                         "rank": spec.objective.adapter.rank if spec.objective.adapter else 0,
                         "alpha": spec.objective.adapter.alpha if spec.objective.adapter else 0, "threads": threads,
                         "out": str(place / "trl")}
                mine, other = [], []
                for _ in range(rounds):
                    mine.append(ours(spec, workspace, made.count("train")))
                    other.append(theirs(python, asked, place))
                apart = max(abs(a - b) for a, b in zip(mine[0]["losses"], other[0]["losses"], strict=True))
                fast, slow = (statistics.median(r["step"] for r in found) for found in (mine, other))
                print(f"| {name} | {apart:.1e} | {fast * 1000:.0f} | {slow * 1000:.0f} | {slow / fast:.2f} |", flush=True)
        finally:
            runs.shut_down(workspace)


if __name__ == "__main__":
    main()
