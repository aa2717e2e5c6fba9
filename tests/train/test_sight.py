"""What the model sees is what the ranks read; cuts and texts are told as they are."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import runs
from workbench.dataset import Dataset, drop_schema, record_id, record_schema, write_dataset
from workbench.errors import RunFailedError, SourceError
from workbench.model import learn_tokenizer, save_tokenizer
from workbench.train.fit import objective
from workbench.train.plan import planned
from workbench.train.reading import sight, tokens
from workbench.train.reading.windows import digest_rows
from workbench.train.spec import TrainSpec


def marks(run: runs.Run, name: str) -> list[dict]:
    return [{"step": e.step, **e.data} for e in run.events(kinds=["mark"]) if e.name == name]


def made(workspace, name: str, texts: list[str]):
    """A dataset of these texts, and enough held out."""
    import pyarrow as pa

    rows = [{"id": record_id(name, f"{n:04d}", t.encode()), "text": t, "image": None, "label": None, "source": name, "locator": f"{n:04d}",
             "cluster": str(n), "split": "train"} for n, t in enumerate(texts)]
    rows.append({**rows[0], "id": "held", "text": "held out words " * 40, "locator": "held", "split": "validation"})
    return write_dataset(workspace, name, pa.Table.from_pylist(rows, schema=record_schema()), drop_schema().empty_table(), card="",
                         manifest={"modality": "text", "spec": {}, "parents": {}, "drops": {}})


@pytest.mark.parametrize("changes", [{}, {"batch": {"sequences": 2, "accumulate": 2}, "seed": 3, "tokens": 40 * 512}])
def test_it_is_the_batch_that_training_takes(undisturbed, live, small, changes):
    spec = TrainSpec.load(small(**changes))
    seen = sight.look(spec, live)
    run = runs.run(spec, live)  # the first of the two was made already
    read = {m["rank"]: m for m in marks(run, "reads")}
    assert set(read) == {0, 1} and seen["ranks"] == 2
    for rank, mark in read.items():
        assert [s["start"] for s in seen["sequences"] if rank in s["ranks"]][:len(mark["windows"])] == mark["windows"]
        assert seen["digests"][str(rank)][0] == mark["digest"]
    sequences = 2 * spec.sequences * spec.batch.accumulate
    assert (seen["total"], seen["tokens"], seen["trained"]) == (sequences, sequences * 65, sequences * 64)


def test_ranks_that_share_out_a_matrix_see_the_same_batch(undisturbed, live, small):
    spec = TrainSpec.load(small(hardware={"ranks": 4, "tensor": 2}, batch={"sequences": 2, "accumulate": 2}))
    seen = sight.first_batch(spec, live)
    found = tokens.cached(live, Dataset.open("docs", live).digest, 512)
    told = planned(spec, found.count("train")).to_dict() | found.told()
    for rank in range(4):  # what ``fit`` says that a rank reads
        module = objective(told, rank, 4)
        batches = [module.share.batch(n)[1] for n in range(module.share.accumulate)]
        assert seen["digests"][str(rank)] == [digest_rows(module.reading.rows(positions)) for positions in batches]
        starts = [start for positions in batches for start in module.reading.named(positions)]
        assert [s["start"] for s in seen["sequences"] if rank in s["ranks"]] == starts
    assert [s["ranks"] for s in seen["sequences"]] == [[0, 1]] * 4 + [[2, 3]] * 4 and seen["total"] == 8


def test_a_run_that_goes_on_reads_what_is_seen_of_its_step(live, small):
    spec = TrainSpec.load(small(name="seen", seed=11))
    run = runs.submit(spec, live)
    assert any(e.step == 30 for e in run.follow())
    run.stop()
    run.wait(60, check=False)
    run.resume().wait(120)
    again = [m for m in marks(run, "reads") if m["step"]]
    assert len(again) == 2
    seen = sight.first_batch(spec, live, step=again[0]["step"] + 1)
    assert {m["digest"] for m in again} == {d[0] for d in seen["digests"].values()}


def test_texts_and_records_are_those_of_the_dataset(undisturbed, live, small):
    seen = sight.first_batch(TrainSpec.load(small()), live)
    tokenizer = undisturbed.output.tokenizer()
    stream = tokens.cached(live, Dataset.open("docs", live).digest, 512).stream("train")
    texts = {r["id"]: r["text"] for r in Dataset.open("docs", live).table("train").to_pylist()}
    for sequence in seen["sequences"]:
        ids = stream[sequence["start"]:sequence["start"] + 65].tolist()
        assert sequence["ends"] == [n for n, i in enumerate(ids) if i == 0]
        assert "".join(sequence["texts"]) == tokenizer.decode([i for i in ids if i])
        for record in sequence["records"]:
            text = "".join(sequence["texts"][record["first"]:record["last"] + 1])
            whole = texts[record["id"]]
            assert text.strip("\ufffd") in whole
            assert (record["begins"] == "whole") <= whole.startswith(text) and (record["ends"] == "whole") <= whole.endswith(text)
            assert (record["begins"] == record["ends"] == "whole") == (text == whole)
    assert any(r["begins"] == "cut" for s in seen["sequences"] for r in s["records"])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=30, max_size=90), st.integers(0, 20))
def test_each_token_of_text_is_in_one_piece_of_its_record(ids, start):
    stream = np.array([0, *ids, 0])

    class Stream:
        def stream(self, _):
            return stream

    numbers = np.cumsum(stream == 0) - 1  # which record a token of text belongs to
    found = sight._records(Stream(), start, stream[start:start + 10])
    covered = {n: r["number"] for r in found for n in range(r["first"], r["last"] + 1)}
    assert covered == {n: numbers[start + n] for n in range(10) if stream[start + n] != 0}
    for record in found:
        assert (record["begins"] == "whole") == (stream[start + record["first"] - 1] == 0)
        assert (record["ends"] == "whole") == (stream[start + record["last"] + 1] == 0)


def test_characters_of_several_tokens_are_whole(tmp_path):
    tokenizer = learn_tokenizer(["plain words"], 300)
    save_tokenizer(tokenizer, tmp_path)
    ids = np.array([0, *tokenizer("añ 日本 🙂\n\t").input_ids, 0])
    texts = sight._pieces(tokens.Tokens(tmp_path)).texts(ids)
    assert len(texts) == len(ids) and "".join(texts) == "añ 日本 🙂\n\t" and "\ufffd" not in "".join(texts)


def test_a_batch_that_trains_nothing_is_refused(live, small):
    made(live, "blank", [""] * 700)
    spec = TrainSpec.load(small(data="blank", model={"size": "100K", "context": 16}))
    for ask in (sight.first_batch, sight.look):
        with pytest.raises(SourceError, match=r"trains no token of text.*their text is empty"):
            ask(spec, live)
    with pytest.raises(RunFailedError, match="trains no token of text"):
        runs.run(spec, live)


def test_asking_loads_no_torch(undisturbed, live, small):
    import subprocess
    import sys

    code = ("import json, sys; from workbench.train.reading import sight; from workbench.train.spec import TrainSpec; "
            "from workbench.workspace import Workspace; spec, root = json.loads(sys.argv[1]); "
            "sight.first_batch(TrainSpec.load(spec), Workspace(root)); "
            "print([m for m in ('torch', 'transformers', 'distributed', 'mlflow') if m in sys.modules])")
    loaded = subprocess.run([sys.executable, "-c", code, json.dumps([small(), str(live.root)])], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
