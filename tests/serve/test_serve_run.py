"""The serve run: what it refuses, what it pins, when it stands, and that a broken version takes nothing down."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat

import psutil
import pytest
from conftest import client_of, teach_slow

from workbench import processes, runs
from workbench.endpoint import Endpoint
from workbench.errors import NotFoundError, PolicyError, RunFailedError, SpecError, UnsafeFileError
from workbench.model import Model

SPEC = {"word": "serve", "name": "solo", "port": 0, "replicas": 1, "models": [{"model": "docs-lm"}]}


@pytest.fixture(scope="module")
def place(copy_of_taught, tmp_path_factory):
    workspace = copy_of_taught(tmp_path_factory.mktemp("serve") / "workspace")
    yield workspace
    runs.shut_down(workspace)


def test_a_taken_port_is_said_and_the_same_spec_is_found_while_it_stands(place):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = runs.run({**SPEC, "port": port}, place)
        assert run.result["port"] != port and run.result["note"] == f"port {port} is taken; {run.result['port']} is used instead"
        assert run.result["note"] in [e.data["text"] for e in run.events(kinds=["log"])]
        assert runs.submit({**SPEC, "port": port}, place).id == run.id
        run.output.stop()
        again = runs.run({**SPEC, "port": port}, place)
        assert again.id != run.id and again.output.alive


def test_a_missing_verdict_warns_on_loopback_and_names_what_is_missing(place):
    run = runs.run(SPEC, place)
    assert "memorised has no evidence" in run.result["warning"]
    assert run.result["verdicts"][Model.open("docs-lm", place).reference].startswith("must not be deployed")
    assert any(e.name == "warning" and "must not be deployed" in e.data["text"] for e in run.events(kinds=["log"]))


def test_the_digest_is_pinned_when_submitted(place):
    model = Model.open("docs-lm", place)
    run = runs.run(SPEC, place)
    _, found, takes = runs.foresee({**SPEC, "name": "foreseen", "replicas": 3}, place)
    assert found is None and takes["processes"] == 4 and takes["seconds"] >= 1  # as long as the last took to answer
    assert run.entry.inputs == {"docs-lm": model.digest}
    assert run.output.document["models"] == [{"name": "docs-lm", "digest": model.digest, "weight": 100}]
    assert json.loads((run.output.folder / "wanted.json").read_text())["models"][0]["digest"] == model.digest


def test_what_can_not_be_served_is_refused_before_anything_starts(place):
    before = len(runs.listed(place))
    with pytest.raises(NotFoundError, match='Did you mean "docs-lm"'):
        runs.submit({**SPEC, "models": [{"model": "docs-ml"}]}, place)
    with pytest.raises(SpecError, match="stands here already"):
        runs.submit({**SPEC, "models": [{"model": "docs-lm"}, {"model": "docs-lm@v1"}]}, place)
    with pytest.raises(NotFoundError, match="secret"):
        runs.submit({**SPEC, "token": "door"}, place)
    assert len(runs.listed(place)) == before


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org"])
def test_a_public_bind_without_a_passing_assessment_is_refused_by_policy(place, host):
    with pytest.raises(PolicyError, match="must not be deployed") as caught:
        runs.submit({**SPEC, "host": host}, place)
    assert caught.value.exit_code == 3
    assert "refusal" in [e["action"] for e in place.audit.entries()]


def test_an_edited_state_file_opens_no_public_door(place):
    runs.run(SPEC, place)
    endpoint = Endpoint.open("solo", place)
    kept = (endpoint.folder / "wanted.json").read_text()
    try:
        (endpoint.folder / "wanted.json").write_text(json.dumps({**json.loads(kept), "host": "0.0.0.0", "generation": "edited"}))
        _until(lambda: (endpoint.document["problem"] or {}).get("kind") == "PolicyError")
        assert endpoint.document["host"] == "127.0.0.1" and endpoint.complete("x", max_tokens=1).id
        assert _addresses(endpoint) == {"127.0.0.1"}
        endpoint.stop()
        # And from the supervisor's own door, with nothing in force before.
        process = processes.start(place, "endpoint/solo", "workbench.serve.supervisor", "solo")
        _until(lambda: not process.alive)
        refused = json.loads((endpoint.folder / "refused.json").read_text())
        assert refused["kind"] == "PolicyError" and "must not be deployed" in refused["what"]
    finally:
        (endpoint.folder / "wanted.json").write_text(kept)


def test_the_gateway_itself_does_not_answer_on_a_public_socket(place):
    """Past run and supervisor: the gateway looks at the socket that it is given."""
    from multiprocessing.reduction import send_handle

    from workbench.forkserver import Forkserver

    model = Model.open("docs-lm", place)
    server = Forkserver([])
    try:
        with socket.create_server(("0.0.0.0", 0)) as sock:
            child = server.fork("workbench.serve.gateway:main", {"root": str(place.root), "name": "open"})
            child.connection.send(("listen", None))
            send_handle(child.connection, sock.fileno(), child.pid)
            child.connection.send(("route", [{"name": model.name, "digest": model.digest, "weight": 1.0}],
                                   {"max_tokens": 5, "concurrent": 1, "waiting": 1, "seconds": 1.0}))
            word, why = child.connection.recv()
            assert word == "refused" and "must not be deployed" in why and child.wait(10) == 3
    finally:
        server.close()


def test_with_a_permit_the_door_opens_and_metrics_then_need_the_token(place):
    import httpx

    _permit(place, Model.open("docs-lm", place))
    run = runs.run({**SPEC, "name": "open", "host": "0.0.0.0"}, place)
    try:
        endpoint = run.output
        assert run.result["warning"] is None and _addresses(endpoint) == {"0.0.0.0"}
        assert httpx.get(endpoint.metrics_url).status_code == 401
        told = httpx.get(f"{endpoint.address}/models").json()["error"]["message"]
        assert str(place.root) not in told and "Ask whoever runs this endpoint" in told
        assert httpx.get(endpoint.metrics_url, headers={"Authorization": f"Bearer {endpoint.token}"}).status_code == 200
        # A version without a permit gets no traffic, though the door is open already.
        teach_slow(place, "other-lm", seed=8)
        with pytest.raises(PolicyError):
            runs.submit({**SPEC, "name": "open", "host": "0.0.0.0", "models": [{"model": "docs-lm"}, {"model": "other-lm"}]}, place)
    finally:
        run.output.stop()


def test_a_broken_version_fails_its_run_and_what_answered_goes_on(place):
    run = runs.run(SPEC, place)
    broken = teach_slow(place, "broken-lm", seed=6)
    weights = broken.path / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1  # one byte of one weight
    weights.write_bytes(data)
    with pytest.raises(RunFailedError) as caught:
        runs.run({**SPEC, "models": [{"model": "broken-lm"}]}, place)
    assert "does not match its digest" in str(caught.value)
    endpoint = Endpoint.open("solo", place)
    assert endpoint.alive and endpoint.complete("x", max_tokens=1).model == Model.open("docs-lm", place).reference
    _until(lambda: {r["model"] for r in endpoint.document["replicas"]} == {Model.open("docs-lm", place).reference})
    _until(lambda: endpoint.document["problem"] is None)
    assert runs.submit(SPEC, place).id == run.id  # what was wanted before is wanted again


def test_weights_as_a_pickle_are_refused_at_every_door(place):
    model = teach_slow(place, "pickled-lm", seed=7)
    mark = model.path / "ran"
    (model.path / "model.safetensors").unlink()
    (model.path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch " + os.fsencode(mark) + b"'\ntR.")
    with pytest.raises(UnsafeFileError, match="pickle"):
        runs.submit({**SPEC, "models": [{"model": "pickled-lm"}]}, place)
    # Asked past the run: a pickle under the name of safetensors, and the replica looks for itself.
    runs.run(SPEC, place)
    endpoint = Endpoint.open("solo", place)
    shutil.move(model.path / "pytorch_model.bin", model.path / "model.safetensors")
    kept = (endpoint.folder / "wanted.json").read_text()
    asked = {**json.loads(kept), "generation": "edited", "models": [{"name": "pickled-lm", "digest": model.digest, "weight": 1}]}
    try:
        (endpoint.folder / "wanted.json").write_text(json.dumps(asked))
        _until(lambda: (endpoint.document["problem"] or {}).get("generation") == "edited")
        assert endpoint.complete("x", max_tokens=1).model.startswith("docs-lm@")
    finally:
        (endpoint.folder / "wanted.json").write_text(kept)
    assert not mark.exists()


def test_a_secret_of_the_settings_is_the_token_and_stands_in_no_spec(place, monkeypatch):
    (place.root / "workbench.toml").write_text('[secrets]\ndoor = "WB_TEST_DOOR"\n')
    monkeypatch.setenv("WB_TEST_DOOR", "open-sesame-123")
    from workbench.workspace import Workspace

    fresh = Workspace(place.root)
    run = runs.run({**SPEC, "token": "door"}, fresh)
    endpoint = run.output
    assert endpoint.token == "open-sesame-123" and stat.S_IMODE(endpoint.token_file.stat().st_mode) == 0o600
    assert client_of(endpoint).models.list().data
    kept = [p for p in endpoint.folder.rglob("*") if p.is_file() and b"open-sesame-123" in p.read_bytes()]
    assert kept == [endpoint.token_file] and "open-sesame" not in json.dumps(run.entry.spec)


def test_down_leaves_nothing(place):
    run = runs.run(SPEC, place)
    document = run.output.document
    pids = [document["pid"], document["gateway"]["pid"], *(p["pid"] for p in document["processes"])]
    assert all(_lives(p) for p in pids)
    runs.shut_down(place)
    assert not any(_lives(p) for p in pids) and not run.output.alive


def _lives(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def _permit(workspace, model) -> None:
    """Evidence as the assess word writes it, good enough for the built-in policy."""
    import time

    from workbench.assessment import workspace_policy, write_assessment
    from workbench.policy import Evidence

    policy = workspace_policy(workspace)
    evidence = [Evidence(r.metric, 0.01, 0.0, 0.02, 1000, r.variant or "test", model.digest, model.manifest["dataset"]["digest"],
                         policy.digest(), time.time(), beside={r.below: 9.0} if r.below else None) for r in policy.rules]
    write_assessment(workspace, model.name, model={"name": model.name, "digest": model.digest}, dataset=model.manifest["dataset"],
                     taught=model.manifest["dataset"]["digest"], policy=policy, evidence=evidence, card="")


def _addresses(endpoint) -> set[str]:
    gateway = psutil.Process(endpoint.document["gateway"]["pid"])
    return {c.laddr.ip for c in gateway.net_connections("tcp") if c.status == psutil.CONN_LISTEN}


def _until(condition, seconds: float = 20) -> None:
    import time

    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)
