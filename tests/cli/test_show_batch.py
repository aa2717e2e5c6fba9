"""``--show-batch``: what a model of each kind would see first, printed or as JSON, and what is refused; nothing is started."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DistributedSampler

from workbench import chats, pictures
from workbench.dataset import drop_schema, record_id, record_schema, write_dataset
from workbench.drawing import number
from workbench.journal import Journal
from workbench.processes import listed
from workbench.workspace import Workspace

TEXT = ("docs", "--set", "model={size: 100K, vocabulary: 512, context: 64}", "--set", "batch.sequences=2")
NETS = '''
import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

print("what a module prints is no part of the answer")


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(3, 1)

    def train_dataloader(self):
        return DataLoader([{"x": torch.tensor([n, 2.0 * n, float("nan")]), "name": f"n{n}"} for n in range(8)], batch_size=2)

    def training_step(self, batch, index):
        return self.net(batch["x"]).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
'''


@pytest.fixture(scope="module")
def place(copy_of_taught, tmp_path_factory) -> Path:
    """A workspace with texts and a base, chats, pictures and a module of one's own."""
    made = copy_of_taught(tmp_path_factory.mktemp("show") / "batch")
    mute = [chats.written("chat", {"messages": [{"role": "user", "content": f"Is anybody there, at {n}?"}]}) for n in range(12)]
    written(made, "mute", "chat", mute, modality="text", form="chat")
    bars = [pictures.drawn(np.full((1, 8, 8), n % 2 * 2 - 1, np.float32)) for n in range(24)]
    written(made, "bars", "image", bars, modality="image", labels=["dark", "bright"])
    (made.root / "nets.py").write_text(NETS)
    return made.root


def written(workspace: Workspace, name: str, kind: str, contents: list, **manifest) -> None:
    """A dataset of texts or pictures, every fourth held out."""
    import pyarrow as pa

    rows = []
    for n, content in enumerate(contents):
        known = {"text": None, "image": content, "label": n % 2} if kind == "image" else {"text": content, "image": None, "label": None}
        identity = record_id(name, str(n), content if kind == "image" else content.encode())
        rows.append({"id": identity, **known, "source": name, "locator": str(n), "cluster": identity,
                     "split": "train" if n % 4 else "validation"})
    write_dataset(workspace, name, pa.Table.from_pylist(rows, schema=record_schema()), drop_schema().empty_table(), card="",
                  manifest={"spec": {}, "parents": {}, "drops": {}, "read": len(rows), **manifest})


def test_texts_are_shown_token_by_token_with_what_is_given_and_cut(cli_here, place):
    shown = cli_here("train", *TEXT, "--show-batch", cwd=place).stdout
    first, key, *rest = shown.splitlines()
    assert first.startswith("first batch of docs@") and "256 of 260 tokens trained" in first and "records cut" in first
    assert "is given and not trained" in key and [line[:6] for line in rest if line.startswith("rank ")] == ["rank 0"] * 2 + ["rank 1"] * 2
    assert "stdlib, " in shown and "✂" in shown
    parts = cli_here("train", *TEXT, "--set", "hardware={ranks: 4, tensor: 2}", "--show-batch", cwd=place).stdout
    assert [line[:11] for line in parts.splitlines() if line.startswith("rank")] == ["ranks 0, 1,"] * 2 + ["ranks 2, 3,"] * 2
    told = json.loads(cli_here("train", *TEXT, "--show-batch", "--json", cwd=place).stdout)
    assert (told["tokens"], told["trained"], told["total"], sorted(told["digests"])) == (260, 256, 4, ["0", "1"])
    assert listed(Workspace(place)) == [] == Journal(Workspace(place)).entries()


def test_pictures_are_drawn_into_a_file_with_their_labels_by_rank(cli_here, place):
    said = cli_here("train", "bars", "--objective", "gan", "--set", "batch.sequences=4", "--show-batch", cwd=place).stdout.splitlines()
    told = json.loads(cli_here("train", "bars", "--objective", "gan", "--set", "batch.sequences=4", "--show-batch", "--json",
                               cwd=place).stdout)
    assert said[0].startswith("first batch of bars@") and said[0].endswith(f"8 of 8 pictures, drawn rank by rank in {told['file']}")
    drawn = pictures.pixels_of(Path(told["file"]).read_bytes())[0, 0]
    assert drawn.shape == (2 + 2 * 50, 2 + 4 * 50)
    for rank in range(2):
        titles = [p["title"] for p in told["pictures"] if p["rank"] == rank]
        assert said[1 + rank] == f"rank {rank}: {', '.join(titles)}"
        assert [int(drawn[20 + 50 * rank, 20 + 50 * n]) for n in range(4)] == [{"dark": 0, "bright": 255}[t] for t in titles]


def test_the_batch_of_a_module_of_ones_own_is_shown_by_its_parts(cli_here, place):
    said = cli_here("train", "--objective", "module", "--set", "objective.module=nets:Net", "--show-batch", cwd=place).stdout
    expected = "first batch of nets:Net\n"
    for rank in range(2):
        a, b = list(DistributedSampler(range(8), num_replicas=2, rank=rank, seed=0))[:2]  # Lightning's, which shuffles
        expected += (f"\nrank {rank}:\n  batch['x']: float32 2 × 3, {min(a, b)} to {2 * max(a, b)}, mean {number(0.75 * (a + b))}, "
                     f"2 infinite or no number\n  batch['name']: list of 2 ['n{a}', 'n{b}']\n")
    assert said == expected


@pytest.mark.parametrize(("arguments", "words"), [
    (("mute", "--objective", "sft", "--set", "objective.base=docs-lm", "--set", "objective.template=plain"),
     "the first batch trains no token of an answer"),
    (("docs", "--objective", "gan"), "can't teach a model of objective gan"),
    (("--objective", "module", "--set", "objective.module=nets:Nte"), 'Did you mean "Net"'),
    (("--objective", "module", "--set", "objective.module=nets:Net", "--set", "batch.sequences=2"), "in its dataloader; expected none")])
def test_what_would_be_refused_is_refused_with_the_same_words(cli_here, place, arguments, words):
    left = cli_here("train", *arguments, "--show-batch", cwd=place, code=2)
    assert words in left.stderr and left.stdout == ""
