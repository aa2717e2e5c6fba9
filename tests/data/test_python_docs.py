"""python-docs: found without imports, at the place that the locator says."""

from __future__ import annotations

import io
import re
import sysconfig
import tokenize
from pathlib import Path

import pytest

from workbench.data import fingerprints
from workbench.data.sources import python_docs
from workbench.data.spec import PythonDocs
from workbench.errors import NotFoundError

LIBRARY = Path(sysconfig.get_path("stdlib"))
MODULE = '''# A comment of the module
# over two lines.
"""What the module is for."""
raise RuntimeError("must not be imported")


class Tea:
    """Leaves and water."""

    def brew(self, minutes):
        r"""Wait. \\d"""
        text = """
        # no comment
        # either
        """  # one line says little
        # Longer than five minutes
        #  makes it bitter.
        if minutes:
            def inner():
                "Nested."

    if True:
        async def pour(self): """Carefully."""
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of our own among the installed ones."""
    folder = tmp_path / "site" / "ours_to_read"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text('"""The package."""\n')
    (folder / "tea.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return folder


def records(source: PythonDocs, workspace, name: str) -> list:
    return [r for u in python_docs.units(source, workspace) if u.name == name for r in python_docs.read(u)]


def test_docstrings_and_comments_with_module_object_and_line(workspace, package):
    source = PythonDocs(packages=("ours_to_read",), max_megabytes=100)
    found = records(source, workspace, "ours_to_read.tea")
    assert [(r.locator, r.text) for r in found] == [
        ("ours_to_read.tea, comment, line 1", "A comment of the module\nover two lines."),
        ("ours_to_read.tea, line 3", "What the module is for."),
        ("ours_to_read.tea.Tea, line 8", "Leaves and water."),
        ("ours_to_read.tea.Tea.brew, line 11", r"Wait. \d"),
        ("ours_to_read.tea.Tea.brew, comment, line 16", "Longer than five minutes\n makes it bitter."),
        ("ours_to_read.tea.Tea.brew.inner, line 20", "Nested."),
        ("ours_to_read.tea.Tea.pour, line 23", "Carefully.")]
    assert [r.text for r in records(source, workspace, "ours_to_read")] == ["The package."]


@pytest.mark.parametrize("name", ["argparse", "inspect", "typing", "_pydecimal", "tokenize", "subprocess", "json.decoder", "turtle"])
def test_comments_are_those_that_tokenize_finds(name):
    code = (LIBRARY / (name.replace(".", "/") + ".py")).read_text("utf-8")
    lines = code.split("\n")
    own, last = {}, (-9, -9)
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.COMMENT and not lines[token.start[0] - 1][:token.start[1]].strip() \
                and not python_docs._ABOUT_CODE.match(token.string):
            line, column = token.start
            begin = own[last] if last == (line - 1, column) else line
            own[line, column] = begin
            last = (line, column)
    begins = sorted({b for b in own.values() if list(own.values()).count(b) > 1})
    said = {b: "".join(lines[line - 1].strip().lstrip("#:") for (line, _), begin in own.items() if begin == b) for b in begins}
    said = {b: t for b, t in said.items() if t.strip()}
    found = dict(python_docs.comments(code))
    assert list(found) == list(said)
    assert [re.sub(r"\W", "", t) for t in found.values()] == [re.sub(r"\W", "", t) for t in said.values()]


def test_the_line_of_a_locator_is_where_the_text_begins(workspace):
    source = PythonDocs(max_megabytes=0.2)
    checked = 0
    for unit in python_docs.units(source, workspace)[:40]:
        lines = Path(unit.path).read_text("utf-8").split("\n")
        for record in python_docs.read(unit):
            line = int(record.locator.rpartition(" ")[2])
            first = re.findall(r"\w{3,}", record.text)[:1]
            assert not first or first[0] in "\n".join(lines[line - 1:line + 8]), record.locator
            checked += 1
    assert checked > 50


def test_a_changed_byte_changes_the_input_and_taken_back_it_is_the_old_one(workspace, package):
    source = PythonDocs(packages=("ours_to_read",), max_megabytes=100)
    first = python_docs.inputs(source, workspace)
    (package / "tea.py").write_text(MODULE.replace("Leaves", "Leafs!"))
    assert python_docs.inputs(source, workspace) != first
    (package / "tea.py").write_text(MODULE)
    assert python_docs.inputs(source, workspace) == first
    (package / "more.py").write_text("")
    assert python_docs.inputs(source, workspace) != first


def test_a_module_that_is_no_python_is_set_aside_and_named(workspace, package):
    (package / "old.py").write_text("print 'as in Python 2'\n")
    (package / "odd.py").write_bytes(b'"""\xff"""\n')
    (package / "half.py").write_text('def f():\n    "\\ud800 is half a character"\n')
    (package / "latin.py").write_bytes(b'# -*- coding: latin-1 -*-\n"""caf\xe9"""\n')
    source = PythonDocs(packages=("ours_to_read",), max_megabytes=100)
    reasons = {name: [r.reason for r in records(source, workspace, f"ours_to_read.{name}")] for name in ("old", "odd", "half", "latin")}
    assert reasons == {"old": ["not readable as Python"], "odd": ["not readable as Python"], "half": ["invalid Unicode"], "latin": [""]}
    assert records(source, workspace, "ours_to_read.latin")[0].text == "café"


def test_little_is_read_for_little_and_spread_over_packages(workspace):
    few, many = (python_docs.units(PythonDocs(max_megabytes=m), workspace) for m in (0.5, 3))
    assert many[:len(few)] == few and len(few) < len(many)
    assert 0.5e6 * python_docs.REACH <= sum(u.weight for u in few) < 0.5e6 * python_docs.REACH + few[-1].weight + 1
    assert len({u.name.split(".")[0] for u in few}) > 10


def test_a_distribution_may_be_named_as_it_is_installed(workspace):
    source = PythonDocs(packages=("PyYAML", "scikit-learn"), max_megabytes=1000)
    tops = {u.name.split(".")[0] for u in python_docs.units(source, workspace)}
    assert {"yaml", "sklearn", "argparse"} <= tops and "torch" not in tops


def test_a_package_that_is_not_installed_names_the_near_one(workspace):
    with pytest.raises(NotFoundError, match='no installed Python package "nunpy".*Did you mean "numpy"'):
        python_docs.inputs(PythonDocs(packages=("nunpy",)), workspace)


def test_inputs_read_no_file_again_once_it_is_known(workspace, monkeypatch):
    monkeypatch.setattr("workbench.data.fingerprints.SETTLED", -1.0)
    source, digested = PythonDocs(), []
    inside = fingerprints.digest_file
    monkeypatch.setattr(fingerprints, "digest_file", lambda *given: (digested.append(given), inside(*given))[1])
    first = python_docs.inputs(source, workspace)
    known = len(digested)
    assert known > 100 and python_docs.inputs(source, workspace) == first and len(digested) == known
