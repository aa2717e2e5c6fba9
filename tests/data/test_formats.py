"""What each format gives, and what a broken file does: a record set aside and named, or a clear error."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.data.sources import Unit, formats
from workbench.errors import SourceError


def read(path, text: str | None = None, kind: str | None = None) -> list:
    return list(formats.read(Unit("files", str(path), path.name, path.stat().st_size, {"format": kind or formats.of(path), "text": text})))


def taken(records: list) -> list:
    return [(r.locator, r.text) for r in records if not r.reason]


def refused(records: list) -> list:
    return [(r.locator, r.reason, r.detail) for r in records if r.reason]


def put(folder, name: str, data: bytes | str):
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


# --- txt -------------------------------------------------------------------------------------------------------------


def test_a_short_text_is_one_record(tmp_path):
    assert taken(read(put(tmp_path, "a.txt", "One line.\r\n\r\nAnother.\r\n"))) == [("lines 1-3", "One line.\n\nAnother.")]
    assert taken(read(put(tmp_path, "b.txt", b"\xef\xbb\xbfwith a mark"))) == [("line 1", "with a mark")]
    assert taken(read(put(tmp_path, "c.txt", "two bytes a letter: é".encode("utf-16")))) == [("line 1", "two bytes a letter: é")]


def test_a_long_text_is_cut_at_paragraphs_and_lines_say_where(tmp_path):
    paragraphs = [f"Paragraph {n}. " + "Words and words. " * 30 for n in range(12)]
    path = put(tmp_path, "a.txt", "\n\n".join(paragraphs))
    found = taken(read(path))
    assert [t for _, t in found] == ["\n\n".join(paragraphs[n:n + 2]) for n in range(0, 12, 2)]
    assert found[1][0] == "lines 5-7"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(alphabet="ab .\n", min_size=0, max_size=3000), max_size=8), st.sampled_from(["\n\n", "\n \n", "\n"]))
def test_pieces_lose_no_word_and_tell_the_right_lines(blocks, between):
    text = between.join(blocks)
    lines = text.split("\n")
    pieces = list(formats.pieces(text))
    assert " ".join("".join(p for *_, p in pieces).split()).replace(" ", "") == "".join(text.split())
    assert all(len(p) <= formats.LONGEST and p.strip() for *_, p in pieces)
    for first, last, piece in pieces:
        assert piece.split("\n")[0] in lines[first - 1] and piece.split("\n")[-1] in lines[last - 1]


def test_a_paragraph_without_end_is_cut_at_words(tmp_path):
    found = taken(read(put(tmp_path, "a.txt", "word " * 3000)))
    assert len(found) > 2 and all(len(t) <= formats.LONGEST and t.split()[0] == "word" and t.split()[-1] == "word" for _, t in found)


def test_invalid_utf8_sets_its_piece_aside_and_names_it(tmp_path):
    blocks = ["good " * 250, "bad \xff byte " * 100, "good again " * 120]
    found = read(put(tmp_path, "a.txt", "\n\n".join(blocks).encode("latin-1")))
    assert [r.locator for r in found if not r.reason] == ["line 1", "line 5"]
    assert refused(found) == [("line 3", "invalid UTF-8", "line 3: byte 0xff at character 5")]
    assert "bad � byte" in next(r.text for r in found if r.reason)


# --- Markdown --------------------------------------------------------------------------------------------------------


def test_markdown_is_cut_at_headings_outside_of_code(tmp_path):
    long = "Some words that fill a section. " * 6
    text = f"Before.\n\n{long}\n# One #\n{long}\n```sh\n# no heading\n```\n## Inner\n{long}\n# Two\n#nor this\n{long}\n"
    found = taken(read(put(tmp_path, "a.md", text)))
    assert [place for place, _ in found] == ["line 1", "One, line 4", "One > Inner, line 9", "Two, line 11"]
    assert found[1][1].startswith("# One #\n") and "# no heading" in found[1][1]


def test_short_sections_go_with_their_neighbours_and_nothing_is_lost(tmp_path):
    text = "# Title\n\n## Empty\n\n## Full\n" + "Words of a section. " * 10 + "\n## Last\nshort\n"
    found = taken(read(put(tmp_path, "a.md", text)))
    assert len(found) == 1 and found[0][0] == "Title, line 1" and found[0][1] == text.strip()


@given(st.lists(st.sampled_from(["# a", "## b", "text", "", "```", "~~~", "    # code", "x" * 130]), max_size=30))
def test_sections_are_the_whole_file(lines):
    text = "\n".join(lines)
    found = list(formats.sections(text))
    assert "".join("\n".join(s for *_, s in found).split()) == "".join(text.split())
    for _, line, section in found:
        assert section.split("\n")[0] == text.split("\n")[line - 1]


# --- rows ------------------------------------------------------------------------------------------------------------


def test_jsonl_sets_broken_lines_aside_with_their_number(tmp_path):
    lines = [json.dumps({"text": "first", "label": 3}).encode(), b"", b'{"text": "cut', b'{"text": "\xff"}', b"[1, 2]", b'{"other": 1}',
             b'{"text": 5}', b'{"text": "  "}', b'{"text": "half \\ud800"}', b'"a bare text"', b'{"text": "last"}']
    for name, data in (("a.jsonl", b"\n".join(lines)), ("b.jsonl.gz", gzip.compress(b"\n".join(lines)))):
        found = read(put(tmp_path, name, data))
        assert taken(found) == [("line 1", "first"), ("line 10", "a bare text"), ("line 11", "last")]
        assert found[0].label == 3
        assert [(p, r) for p, r, _ in refused(found)] == [
            ("line 3", "broken JSON"), ("line 4", "invalid UTF-8"), ("line 5", "not an object"), ("line 6", "no text"),
            ("line 7", "no text"), ("line 8", "empty"), ("line 9", "invalid Unicode")]
        assert all(d.startswith(p) for p, _, d in refused(found))
        assert [r.text for r in found if r.locator in ("line 3", "line 4")] == ['{"text": "cut', '{"text": "�"}']


@pytest.mark.parametrize(("row", "asked", "column"), [
    ({"id": "x" * 99, "text": "t", "content": "c"}, None, "text"), ({"Content": "c", "id": "x" * 99}, None, "Content"),
    ({"id": "1", "said": "longer text"}, None, "said"), ({"text": "t", "id": "1"}, "id", "id")])
def test_the_text_column_is_asked_for_or_guessed(tmp_path, row, asked, column):
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    files = [put(tmp_path, "a.jsonl", json.dumps(row)), put(tmp_path, "a.csv", ",".join(row) + "\n" + ",".join(row.values())),
             tmp_path / "a.parquet"]
    assert [[r.text for r in read(f, asked)] for f in files] == [[row[column]]] * 3


def test_csv_with_quoted_lines_other_delimiters_and_broken_rows(tmp_path):
    text = 'name;text;label\na;"two\nlines; one field";7\nb;too few\nc;x;y;z\n\nd;last;\n'
    found = read(put(tmp_path, "a.csv", text))
    assert taken(found) == [("line 2", "two\nlines; one field"), ("line 7", "last")]
    assert [r.label for r in found if not r.reason] == [7, None]
    assert refused(found) == [("line 4", "broken row", "line 4: 2 fields where the header has 3"),
                              ("line 5", "broken row", "line 5: 4 fields where the header has 3")]
    assert taken(read(put(tmp_path, "a.tsv", "text\tn\nwith, comma\t1\n"))) == [("line 2", "with, comma")]
    assert refused(read(put(tmp_path, "b.csv", b"text,n\ncaf\xe9,1\nfine,2\n"))) == [
        ("line 2", "invalid UTF-8", "line 2: byte 0xe9 at character 4")]


def test_a_quote_that_never_ends_is_named(tmp_path):
    found = read(put(tmp_path, "a.csv", 'text,n\ngood,1\n"open,2\n'))
    assert taken(found) == [("line 2", "good")]
    assert [(p, r) for p, r, _ in refused(found)] == [("line 3", "broken row")]


def test_parquet_rows_with_null_and_label(tmp_path):
    pq.write_table(pa.table({"text": ["a", None, "c"], "label": [1, 2, None], "vector": [[1.0], [2.0], [3.0]]}), tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet")
    assert taken(found) == [("row 1", "a"), ("row 3", "c")] and [r.label for r in found] == [1, None, None]
    assert [(p, r) for p, r, _ in refused(found)] == [("row 2", "no text")]


# --- what can't be read at all ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "data", "words"), [
    ("a.parquet", b"no parquet at all", "is no Parquet file"),
    ("a.jsonl.gz", b"plain", "is damaged or cut off"), ("a.csv", b"\xff\xfet\0e\0x", "is no valid utf-16"),
    ("a.jsonl", '{"n": 1}\n', "no column holds text")])
def test_a_damaged_file_is_refused_before_a_run(tmp_path, name, data, words):
    path = put(tmp_path, name, data)
    unit = Unit("files", str(path), name, path.stat().st_size, {"format": formats.of(path), "text": None})
    with pytest.raises(SourceError, match=words):
        formats.check(unit)


def test_a_file_cut_off_far_behind_is_refused_when_it_is_read(tmp_path):
    path = put(tmp_path, "a.jsonl.gz", gzip.compress(b'{"text": "x"}\n' * 5000)[:60])
    with pytest.raises(SourceError, match="a.jsonl.gz: is damaged or cut off"):
        read(path)


def test_a_column_that_is_not_there_names_the_near_one(tmp_path):
    path = put(tmp_path, "a.jsonl", '{"body": "x", "title": "y"}\n')
    with pytest.raises(SourceError, match='has no such column.*one of body, title.*Did you mean "body"'):
        read(path, "bodi")
