"""An endpoint as an artefact: opened by name, asked, drawn, with lines that work as pasted, and stopped without a trace."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time

import psutil
import pytest

from workbench import runs
from workbench.endpoint import Endpoint
from workbench.errors import NotFoundError, WorkbenchError
from workbench.model import Model


@pytest.fixture(scope="module")
def endpoint(copy_of_taught, tmp_path_factory):
    workspace = copy_of_taught(tmp_path_factory.mktemp("endpoint") / "it's a workspace")  # a quote and spaces must survive pasting
    yield runs.run({"word": "serve", "name": "bot", "port": 0, "replicas": 1, "models": [{"model": "docs-lm"}]}, workspace).output
    runs.shut_down(workspace)


def until(condition, patience: float = 20) -> None:
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_it_is_opened_by_name_and_an_unknown_one_names_the_near_one(endpoint):
    assert Endpoint.open("bot", endpoint.workspace) == endpoint and Endpoint.listed(endpoint.workspace) == [endpoint]
    with pytest.raises(NotFoundError, match='Did you mean "bot"'):
        Endpoint.open("bott", endpoint.workspace)
    assert endpoint.alive and endpoint.address.endswith("/v1") and endpoint.metrics_url.endswith("/metrics")


def test_it_answers_and_leads_back(endpoint):
    answer = endpoint.complete("Return the", max_tokens=12, temperature=0, stop=["zzz"])
    assert str(answer) == answer.text != "" and answer.model == Model.open("docs-lm", endpoint.workspace).reference
    assert answer.usage["completion_tokens"] == 12 and answer.finish == "length"
    assert endpoint.trace(answer)["answer"]["text"] == answer.text
    with pytest.raises(WorkbenchError, match='endpoint bot: .*did you mean "max_tokens"'):
        endpoint.complete("x", max_token=3)


def test_it_answers_piece_by_piece_in_both_protocols_and_the_same_as_whole(endpoint):
    stream = endpoint.stream("Return the", max_tokens=12, seed=3)
    pieces = list(stream)
    assert "".join(pieces) == stream.text == endpoint.complete("Return the", max_tokens=12, seed=3).text and len(pieces) > 1
    assert stream.finish == "length" and stream.usage["completion_tokens"] == 12
    assert 0 < stream.first <= stream.seconds and stream.tokens_a_second > 0
    assert endpoint.trace(stream)["answer"]["text"] == stream.text
    chat = endpoint.stream(messages=[{"role": "user", "content": "hi"}], max_tokens=3, seed=1)
    assert list(chat) and chat.id.startswith("chatcmpl-")
    with pytest.raises(WorkbenchError, match="no model 'bott' answers here"):
        list(endpoint.stream("x", model="bott"))


def test_a_stream_is_stopped_from_another_thread_and_its_place_is_free(endpoint):
    stream = endpoint.stream("Return", max_tokens=90, temperature=0)
    pieces = []
    for piece in stream:
        pieces.append(piece)
        stopping = threading.Thread(target=stream.stop)
        stopping.start()
        stopping.join()
    assert stream.finish == "stopped" and stream.text == "".join(pieces) and len(pieces) < 90
    until(lambda: endpoint.status()["versions"][0]["working"] == 0)
    ready = endpoint.stream("Return")
    ready.stop()  # before it was asked
    assert list(ready) == [] and ready.finish == "stopped"


@pytest.mark.parametrize(("name", "program"), [("curl", ["/bin/sh", "-c"]), ("python", [sys.executable, "-c"]),
                                               ("urllib", [sys.executable, "-c"]), ("javascript", ["node", "--input-type=module", "-e"])])
def test_the_programs_for_clients_work_as_pasted(endpoint, name, program):
    if not shutil.which("curl" if name == "curl" else program[0]):
        pytest.skip(f"no {program[0]} here")
    code = endpoint.client_programs('Return the "value" of the caller\'s $HOME\nso')[name]
    assert endpoint.token not in code
    told = subprocess.run([*program, code], capture_output=True, text=True, timeout=60)
    assert told.returncode == 0 and told.stdout.strip("\n") and "error" not in told.stdout[:20], told.stderr or told.stdout


def test_the_lines_for_clients_work_as_pasted(endpoint):
    lines = endpoint.client_code("Return the")
    told = subprocess.run([sys.executable, "-c", lines["python"]], capture_output=True, text=True, timeout=60)
    assert told.returncode == 0 and told.stdout.strip("\n"), told.stderr
    if not shutil.which("curl"):
        pytest.skip("no curl here")
    told = subprocess.run(["/bin/sh", "-c", lines["curl"]], capture_output=True, text=True, timeout=60)
    assert '"text_completion"' in told.stdout, told.stderr


def test_it_draws_itself(endpoint):
    drawn = endpoint._repr_html_()
    assert "docs-lm@" in drawn and endpoint.address in drawn and endpoint.token not in drawn
    assert str(endpoint).startswith(f"endpoint bot at {endpoint.address} (up): docs-lm@")


def test_the_record_that_taught_an_answer_is_read_with_its_words(endpoint):
    text = endpoint.complete("Return the", max_tokens=40, temperature=0)
    spans = endpoint.trace(text)["spans"]
    assert spans  # else nothing of it stands in the training text, and this shows nothing
    record = endpoint.record(text, spans[0]["records"][0]["id"])
    assert spans[0]["text"] in [record["text"][a:b] for a, b in record["spans"]]
    assert record["dataset"]["name"] == "docs" and record["dataset"]["version"] == 1 and record["source"] == "stdlib"
    with pytest.raises(WorkbenchError, match="no record"):
        endpoint.record(text, "nothing")


def test_killed_it_is_lost_with_the_time_and_brought_back_where_it_was(endpoint):
    run, port, before = endpoint.document["run"], endpoint.document["port"], time.time()
    psutil.Process(endpoint.document["pid"]).kill()
    until(lambda: endpoint.state == "lost")
    assert before - 8 < endpoint.last_sign < time.time() and not endpoint.alive
    with pytest.raises(WorkbenchError, match="does not answer|broke off"):  # its children end a moment after it
        list(endpoint.stream("x"))
    again = runs.run(runs.attach(run, endpoint.workspace).spec, endpoint.workspace)
    assert again.id != run and endpoint.state == "up" and endpoint.document["port"] == port
    psutil.Process(endpoint.document["pid"]).kill()
    until(lambda: endpoint.state == "lost")
    assert not endpoint.stop() and endpoint.state == "down"
    runs.run(again.spec, endpoint.workspace)


def test_stopped_it_leaves_no_process_and_says_how_to_start_it(endpoint):
    pids = [endpoint.document["pid"], *(p["pid"] for p in endpoint.document["processes"])]
    assert endpoint.stop() and not endpoint.stop()
    assert not [p for p in pids if psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE]
    assert not endpoint.alive and endpoint.document["state"] == "down"
    with pytest.raises(WorkbenchError, match="does not answer.*workbench serve"):
        endpoint.complete("x")
