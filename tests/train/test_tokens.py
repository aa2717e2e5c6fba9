"""Streams of ids: what goes in comes out, cached by digest and vocabulary, the same on every machine."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.dataset import Dataset
from workbench.train.reading import tokens
from workbench.workspace import Workspace


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    from workbench import runs

    workspace = Workspace(tmp_path_factory.mktemp("tokens")).open()
    docs = {"word": "data", "name": "docs", "sources": [{"kind": "python-docs", "max_megabytes": 0.2}]}
    runs.submit(docs, workspace, place="here").wait()
    dataset = Dataset.open("docs", workspace)
    return workspace, dataset, tokens.make(workspace, dataset, 400)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_documents_stand_between_ids_0_and_decode_to_the_text(made, split):
    from transformers import PreTrainedTokenizerFast

    _, dataset, found = made
    stream, tokenizer = found.stream(split), PreTrainedTokenizerFast.from_pretrained(found.path)
    assert stream.dtype == np.uint16 and stream[0] == stream[-1] == 0 and len(stream) == found.count(split)
    documents = np.split(stream, np.flatnonzero(stream == 0))[1:-1]
    assert [tokenizer.decode(d[1:].tolist()) for d in documents] == list(dataset.texts(split))
    assert found.lengths()[stream].sum() == found.meta["splits"][split]["bytes"] == sum(len(t.encode()) for t in dataset.texts(split))


def test_the_cache_is_found_by_digest_and_vocabulary_and_bytes_are_the_same_again(made, tmp_path):
    workspace, dataset, found = made
    assert tokens.cached(workspace, dataset.digest, 400) == found
    assert tokens.cached(workspace, dataset.digest, 401) is tokens.cached(workspace, "0" * 64, 400) is None
    again = tokens.make(Workspace(tmp_path).open(), dataset, 400)
    for name in ("train.bin", "validation.bin", "tokenizer.json", "meta.json"):
        assert (again.path / name).read_bytes() == (found.path / name).read_bytes()


def test_a_text_that_spells_the_end_mark_ends_nothing(tmp_path):
    import pyarrow as pa

    from workbench.dataset import drop_schema, record_schema, write_dataset

    texts = ["it ends with <|endoftext|> in most models", "<|endoftext|>", "plain " * 40]
    rows = [{"id": str(n), "text": t, "image": None, "label": None, "source": "s", "locator": str(n), "cluster": str(n), "split": split}
            for n, t in enumerate(texts) for split in (("train", "validation") if n == 2 else ("train",))]
    workspace = Workspace(tmp_path).open()
    dataset = write_dataset(workspace, "marks", pa.Table.from_pylist(rows, schema=record_schema()), drop_schema().empty_table(), card="",
                            manifest={"modality": "text", "spec": {}, "parents": {}, "drops": {}})
    found = tokens.make(workspace, dataset, 300)
    stream = found.stream("train")
    assert (stream == 0).sum() == len(texts) + 1
    assert found.lengths()[stream].sum() == sum(len(t.encode()) for t in texts)
