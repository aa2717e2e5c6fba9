"""Notebooks as data: what a change of code is, what a parameters cell says, what is refused."""

from __future__ import annotations

import json

import pytest

from workbench.errors import WorkbenchError
from workbench.pipeline.notebook import Notebook, plain


def test_markdown_and_outputs_do_not_make_it_another_notebook_but_code_does(tmp_path, write_notebook):
    first = Notebook(write_notebook(tmp_path / "a.ipynb", "# Title", "x = 1", "y = 2")).parts()
    document = json.loads((tmp_path / "a.ipynb").read_text())
    document["cells"][0]["source"] = "# Another title"
    document["cells"][1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "1"}]
    document["cells"][1]["execution_count"] = 7
    (tmp_path / "a.ipynb").write_text(json.dumps(document))
    assert Notebook(tmp_path / "a.ipynb").parts() == first
    document["cells"][2]["source"] = ["y = ", "3"]
    (tmp_path / "a.ipynb").write_text(json.dumps(document))
    changed = Notebook(tmp_path / "a.ipynb").parts()
    assert [k for k in changed if changed[k] != first[k]] == ["code cell 2"]


def test_the_cells_that_papermill_puts_in_do_not_count(tmp_path, write_notebook):
    path = write_notebook(tmp_path / "a.ipynb", "spec = None", "x = 1")
    before = Notebook(path).parts()
    document = json.loads(path.read_text())
    document["cells"].insert(1, {**document["cells"][1], "id": "put-in", "source": "spec = 2",
                                 "metadata": {"tags": ["injected-parameters"]}})
    path.write_text(json.dumps(document))
    assert Notebook(path).parts() == before


@pytest.mark.parametrize(("cell", "expected"), [
    ("spec = 'a.yaml'", "a.yaml"), ("spec = {'word': 'data', 'n': [1, 2]}", {"word": "data", "n": [1, 2]}), ("spec = None", None),
    ("spec = open('x').read()", None)])
def test_the_parameters_cell_is_read_as_a_literal_and_never_run(tmp_path, write_notebook, cell, expected):
    assert Notebook(write_notebook(tmp_path / "a.ipynb", cell)).parameter("spec") == expected


def test_title_is_the_first_heading_or_the_file(tmp_path, write_notebook):
    assert Notebook(write_notebook(tmp_path / "a.ipynb", "x = 1", "# The title\nmore")).title == "The title"
    assert Notebook(write_notebook(tmp_path / "b.ipynb", "x = 1")).title == "b.ipynb"


@pytest.mark.parametrize(("text", "words"), [("{", "is no notebook"), ("[]", "no list of cells"), ("{}", "no list of cells"),
                                             (None, "is not there")])
def test_what_is_no_notebook_is_refused_with_its_path(tmp_path, text, words):
    if text is not None:
        (tmp_path / "a.ipynb").write_text(text)
    with pytest.raises(WorkbenchError, match=words) as told:
        _ = Notebook(tmp_path / "a.ipynb").document
    assert str(tmp_path / "a.ipynb") in str(told.value)


def test_plain_takes_colours_out():
    assert plain("\x1b[1;31mred\x1b[0m and \x1b]8;;http://x\x07link\x1b]8;;\x07") == "red and link"
