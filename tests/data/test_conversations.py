"""Chats and preferences: every layout makes the same record, steps work on the words, and what is no chat is named with its reason."""

from __future__ import annotations

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import chats, runs
from workbench.data.guess import guess
from workbench.data.preview import preview
from workbench.data.review import Review
from workbench.data.sources import conversations, files
from workbench.data.spec import DataSpec, Files
from workbench.errors import SourceError, SpecError

ASKED, SAID = "What is the capital of the river?", "A river has none; a country does."
CHAT = {"messages": [{"role": "user", "content": ASKED}, {"role": "assistant", "content": SAID}]}
LAYOUTS = {
    "messages": CHAT, "conversations": {"conversations": [{"from": "human", "value": ASKED}, {"from": "gpt", "value": SAID}], "id": "x1"},
    "prompt and completion": {"prompt": ASKED, "completion": SAID},
    "instruction and output": {"instruction": ASKED, "input": "", "output": SAID},
    "parts": {"messages": [{**m, "content": [{"type": "text", "text": m["content"]}], "name": None} for m in CHAT["messages"]]}}
ENDINGS = ("jsonl", "csv", "parquet")


def put(workspace, name: str, rows: list) -> Files:
    path = workspace.root / name
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    elif name.endswith(".csv"):
        flat = [[v if isinstance(v, str) else json.dumps(v) for v in row.values()] for row in rows]
        quoted = [",".join('"' + v.replace('"', '""') + '"' for v in row) for row in flat]
        path.write_text("\n".join([",".join(rows[0]), *quoted]) + "\n")
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return Files(paths=(name,))


def read(workspace, source: Files) -> list:
    files.inputs(source, workspace)
    return [record for unit in files.units(source, workspace) for record in files.read(unit)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_in_every_format_makes_the_same_chat(workspace, layout):
    for ending in ENDINGS:
        source = put(workspace, f"a.{ending}", [LAYOUTS[layout]])
        assert files.form(source, workspace) == "chat"
        [record] = read(workspace, source)
        assert record.reason == "" and json.loads(record.text) == CHAT
        assert record.text == f'{{"messages": [{{"role": "user", "content": "{ASKED}"}}, {{"role": "assistant", "content": "{SAID}"}}]}}'


def test_what_stands_beside_goes_in(workspace):
    row = {"system": "Be brief.", "instruction": "Add.", "input": "1 and 2", "output": "3", "text": "the whole prompt as one text"}
    text = conversations.taken(row, "instruction and output")
    assert chats.spoken("chat", text) == "system: Be brief.\n\nuser: Add.\n\n1 and 2\n\nassistant: 3"
    assert files.form(put(workspace, "a.jsonl", [row]), workspace) == "chat"
    assert [r.text for r in read(workspace, put(workspace, "a.jsonl", [row]).model_copy(update={"text": "text"}))] == [row["text"]]
    assert [r.text for r in read(workspace, put(workspace, "a.jsonl", [row]).model_copy(update={"form": "text"}))] == [row["text"]]
    with pytest.raises(SpecError, match="expected one of the two"):
        DataSpec.load({"name": "x", "sources": [{"kind": "files", "paths": ["a"], "text": "text", "form": "chat"}]})


PREFERENCES = [
    {"prompt": ASKED, "chosen": SAID, "rejected": "Paris."},
    {"prompt": [CHAT["messages"][0]], "chosen": [CHAT["messages"][1]], "rejected": [{"role": "assistant", "content": "Paris."}], "n": 3},
    {"prompt": ASKED, "chosen": CHAT["messages"], "rejected": [CHAT["messages"][0], {"role": "assistant", "content": "Paris."}],
     "messages": CHAT["messages"]},
    {"chosen": CHAT["messages"], "rejected": [CHAT["messages"][0], {"role": "assistant", "content": "Paris."}]}]


def test_preferences_with_texts_messages_or_a_prompt_in_both(workspace):
    for row in PREFERENCES:
        for ending in ENDINGS:
            source = put(workspace, f"a.{ending}", [row])
            [record] = read(workspace, source)
            assert files.form(source, workspace) == "preference" and record.reason == ""
            assert chats.parsed("preference", record.text) == {"prompt": CHAT["messages"][:1], "chosen": CHAT["messages"][1:],
                                                               "rejected": [{"role": "assistant", "content": "Paris."}]}


FAULTY = [
    ({"messages": [{"content": "x"}, CHAT["messages"][1]]}, "no role", "message 1 of messages with content; expected role: one of system"),
    ({"messages": [{"role": "bot", "content": "x"}]}, "unknown role", "bot in message 1.*expected one of system, user, assistant, tool"),
    ({"messages": [{"role": ["user"], "content": "x"}]}, "unknown role", "message 1"),
    ({"messages": CHAT["messages"][:1]}, "no assistant answer", "messages by user; expected a message by assistant"),
    ({"messages": [{"role": "user", "value": "x"}]}, "layouts mixed", "message 1 of messages with role, value; expected role and content"),
    ({"messages": CHAT["messages"], "conversations": []}, "layouts mixed", "messages.*conversations.*as the file's others"),
    ({"prompt": "a", "completion": "b"}, "layouts mixed", "prompt and completion"), ({"other": 1}, "no chat", "other"),
    ({"messages": []}, "no messages", "a list of objects with role and content"), ({"messages": "hello"}, "no messages", "hello"),
    ({"messages": [{"role": "user", "content": None, "tool_calls": 1}]}, "no content", "message 1.*expected content: a text"),
    ({"messages": [{"role": "user", "content": "  "}, CHAT["messages"][1]]}, "empty message", "message 1 of messages, by user"),
    ("bare", "not an object", "a text where an object is due")]


def test_what_is_no_chat_is_set_aside_with_the_record_what_was_received_and_what_is_allowed(workspace):
    # Behind the first rows, where another layout would have refused the file.
    records = read(workspace, put(workspace, "a.jsonl", [CHAT] * 100 + [row for row, *_ in FAULTY]))
    assert all(r.reason == "" for r in records[:100]) and len(records) == 100 + len(FAULTY)
    for number, (record, (_, reason, words)) in enumerate(zip(records[100:], FAULTY, strict=True), 101):
        assert (record.locator, record.reason) == (f"line {number}", reason)
        assert re.search(f"^line {number}: .*{words}", record.detail), record.detail


@pytest.mark.parametrize(("rows", "words"), [
    ([{"messages": [{"content": "x"}]}], "no row among the first 1 is a chat: no role; received .*expected role: one of system, user"),
    ([CHAT, LAYOUTS["conversations"]], "mixes layouts of chats; received .*'messages', 'conversations'.*one of them in a file"),
    ([{"chosen": "a", "rejected": "b"}], "no row .* is a preference: no prompt"),
    ([{"prompt": "p", "chosen": "a", "rejected": "a"}], "nothing to choose")])
def test_a_file_without_a_chat_is_refused_before_a_run(workspace, rows, words):
    put(workspace, "a.jsonl", rows)
    with pytest.raises(SourceError, match=words):
        runs.submit({"word": "data", "name": "x", "sources": [{"kind": "files", "paths": ["a.jsonl"]}]}, workspace)
    assert runs.listed(workspace) == [] and guess(Files(paths=("a.jsonl",)), workspace)["files"][0]["problem"]


def test_files_of_several_forms_are_refused_and_a_said_form_holds(workspace):
    put(workspace, "a.jsonl", [CHAT])
    put(workspace, "b.jsonl", [{"text": "plain"}])
    with pytest.raises(SourceError, match=r"several forms; received 'a.jsonl holds chat, b.jsonl holds text'"):
        files.inputs(Files(paths=("a.jsonl", "b.jsonl")), workspace)
    with pytest.raises(SourceError, match=r"b.jsonl: holds no chats; received \['text'\]; expected keys messages, or conversations"):
        files.inputs(Files(paths=("a.jsonl", "b.jsonl"), form="chat"), workspace)
    with pytest.raises(SourceError, match="several forms can't be in one dataset"):
        runs.submit({"word": "data", "name": "x", "sources": [{"kind": "files", "paths": ["a.jsonl"]}, {"kind": "tunes"}]}, workspace)


def test_marks_on_answers_stay_text(workspace):
    asked = {"messages": CHAT["messages"][:1], "prompt": None, "answer": SAID, "text": f"{ASKED} {SAID}"}
    source = put(workspace, "feedback.jsonl", [asked, {**asked, "messages": None, "prompt": ASKED}])
    assert files.form(source, workspace) == "text" and [r.text for r in read(workspace, source)] == [asked["text"]] * 2


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(chats.ROLES), st.text(max_size=20)), min_size=1, max_size=5))
def test_what_is_written_is_read_again(turns):
    value = {"messages": [{"role": role, "content": content} for role, content in turns]}
    text = chats.written("chat", value)
    assert chats.parsed("chat", text) == value and chats.written("chat", chats.parsed("chat", text)) == text
    assert chats.contents("chat", text) == [content for _, content in turns]
    assert chats.replaced("chat", text, str.upper) == chats.written("chat", {"messages": [
        {"role": r, "content": c.upper()} for r, c in turns]})


def test_steps_work_on_the_words(workspace):
    rows = [{"messages": [{"role": "user", "content": f"Tell me  about town {n} \r\nand its river, please."}, {
        "role": "assistant", "content": f"Town {n} has {n * n} bridges; ada@example.org counted them in the year {1800 + n}, one by one."}]}
        for n in range(30)]
    rows[7]["messages"][1]["content"] = "It is " + "very " * 40 + "large."
    rows[8]["messages"] = [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "b"}]
    rows[9]["messages"][0]["content"] = " \x00"
    rows += [rows[3]]
    put(workspace, "a.jsonl", rows)
    spec = {"word": "data", "name": "towns", "sources": [{"kind": "files", "paths": ["a.jsonl"]}]}
    told = preview(DataSpec.load(spec), workspace)
    run = runs.submit(spec, workspace, place="here")
    assert run.state == "done", run.failure
    dataset = run.output
    assert dataset.form == "chat" and dataset.modality == "text"
    assert dataset.manifest["drops"] == {"normalise": {"nothing left": 1}, "exact-duplicates": {"same content": 1},
                                         "quality": {"repeated words": 1, "too short": 1}}
    assert dataset.manifest["pii"] == {"email": 27} and told["kept"] == dataset.table().num_rows == 27
    found = {m["messages"][0]["content"]: m["messages"] for split in ("train", "validation", "test") for m in dataset.chats(split)}
    user, assistant = found["Tell me  about town 5\nand its river, please."]
    assert assistant == {"role": "assistant", "content": "Town 5 has 25 bridges; <EMAIL> counted them in the year 1805, one by one."}
    review = Review(dataset, workspace)
    shown = [review.row(n) for n in range(review.total)]
    assert any(row["text"] == f"user: {user['content']}\n\nassistant: {assistant['content']}" for row in shown)
    assert {r["text"] for r in told["records"] if not r["reason"]} == {r["text"] for r in shown if not r["reason"]}
    assert all(0 < r["scores"]["symbols"] < .1 for r in shown if not r["reason"])
    assert dataset.beginnings(1)[0].startswith("Tell me")
    with pytest.raises(SourceError, match="holds no preferences; received 'records of form chat'"):
        dataset.preferences("train")


def test_quality_asks_nothing_of_a_rejected_answer_and_pii_looks_into_it(workspace):
    answer = "The bridge stands on nine piers.\nIt was built of the stone of the old town wall.\nThe river rises in spring."
    bad = f"{answer}\n{answer}\nMail ada@example.org."
    rows = [{"prompt": f"Tell me of bridge {n}, please.", "chosen": f"{n}. {answer}", "rejected": bad} for n in range(3)]
    rows += [{"prompt": "Tell me of the bridge, please.", "chosen": "word " * 40, "rejected": answer}]
    put(workspace, "a.jsonl", rows)
    dataset = runs.submit({"word": "data", "name": "x", "sources": [{"kind": "files", "paths": ["a.jsonl"]}], "steps": [
        {"step": "quality"}, {"step": "pii"}], "split": {"validation": 0, "test": 0}}, workspace, place="here").output
    assert dataset.manifest["drops"] == {"quality": {"repeated words": 1}} and dataset.manifest["pii"] == {"email": 3}
    first = next(dataset.preferences("train"))
    assert first["rejected"][0]["content"].endswith("Mail <EMAIL>.") and first["chosen"][0]["content"].endswith(answer)


def test_near_duplicates_are_judged_by_their_words_and_not_by_the_json_around_them(workspace):
    words = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen".split()
    rows = [{"messages": [{"role": "user", "content": f"{a} {b}"}, {"role": "assistant", "content": f"{b} {a}"}]}
            for n, a in enumerate(words) for b in words[n + 1:]]
    put(workspace, "a.jsonl", rows)
    run = runs.submit({"word": "data", "name": "x", "sources": [{"kind": "files", "paths": ["a.jsonl"]}],
                       "steps": [{"step": "near-duplicates", "words": 1, "threshold": 0.5}]}, workspace, place="here")
    assert run.state == "done" and run.result["dropped"] == 0 and run.result["splits"]["validation"] == 5
