"""The agents' API on a real unix socket: durable answers, fences, limits, clear errors."""

from __future__ import annotations

import hashlib
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.agents import STATE_MAX_BYTES
from fleet.errors import CorruptObjectError, StoreUnavailableError
from fleet.names import is_name
from resources.local import agent_requests
from resources.local.agent_requests import UploadBudget
from tests.examples import examples
from tests.fakes.agent_server import AgentServer, serving
from tests.fakes.agent_states import InMemoryAgentStates
from tests.fakes.documented_client import DocumentedClient, problem_of


@pytest.fixture
def client(server: AgentServer) -> Iterator[DocumentedClient]:
    """agent-1 at the server, under epoch 1."""
    speaking = DocumentedClient(server.socket_path)
    yield speaking
    speaking.close()


def _put(client: DocumentedClient, version: object, body: bytes) -> tuple[int, dict[str, object]]:
    response = client.call("PUT", "state", body=body, headers=f"If-Match: {version}\r\n")
    return response.status, json.loads(response.body)


def test_registration_tells_the_agent_who_it_is(
    client: DocumentedClient, server: AgentServer
) -> None:
    """Network, workload, epoch, arguments and intervals; the directory knows it is up."""
    server.admit(arguments={"path": "/var"})
    answer = json.loads(client.call("POST", "register").body)
    assert answer == {
        "agent_id": "agent-1",
        "network_id": "net-1",
        "workload": "watch",
        "epoch": 1,
        "arguments": {"path": "/var"},
        "heartbeat_interval_s": 0.1,
        "checkpoint_interval_s": 0.1,
    }
    assert server.directory.entries()[0].registered_at is not None


@pytest.mark.parametrize("body", [b"", b"\x00\xff" * 5, b"{}", b"x" * 1_000_000])
def test_a_state_comes_back_byte_for_byte_with_version_epoch_and_digest(
    client: DocumentedClient, body: bytes
) -> None:
    """Any bytes are a state, also none."""
    assert client.call("GET", "state").headers["x-state-version"] == "0"
    assert _put(client, '"0"', body) == (200, {"version": 1})
    response = client.call("GET", "state")
    assert response.body == body
    assert response.headers["etag"] == '"1"'
    assert response.headers["x-state-epoch"] == "1"
    assert response.headers["x-state-digest"] == f"sha256:{hashlib.sha256(body).hexdigest()}"


def test_a_put_on_an_old_version_is_a_conflict_that_says_who_holds_the_state(
    client: DocumentedClient,
) -> None:
    """The stored state stays; the same put repeated is no conflict."""
    assert _put(client, 0, b"one") == (200, {"version": 1})
    assert _put(client, 0, b"one") == (200, {"version": 1})
    response = client.call("PUT", "state", body=b"two", headers="If-Match: 0\r\n")
    assert response.status == 409
    problem = problem_of(response)
    assert problem["type"] == "urn:stateroom:problem:version-conflict"
    assert "stored version is 1 (node node-1, epoch 1)" in problem["detail"]
    assert client.call("GET", "state").body == b"one"


def test_a_copy_with_an_old_epoch_can_do_nothing(
    client: DocumentedClient, server: AgentServer
) -> None:
    """The zombie of an agent that was placed again is refused everywhere, and told to stop."""
    server.admit(epoch=2)
    for method, operation, value in [
        ("POST", "register", None),
        ("POST", "heartbeat", None),
        ("GET", "state", None),
        ("PUT", "state", {}),
        ("POST", "activities", {"activities": [{"kind": "poll"}]}),
        ("POST", "notes", {"notes": [{"text": "x"}]}),
        ("POST", "metrics", {"metrics": {}}),
    ]:
        response = client.call(method, operation, value, headers="If-Match: 0\r\n")
        problem = problem_of(response)
        assert (response.status, problem["type"]) == (409, "urn:stateroom:problem:stale-epoch")
        assert "epoch 1 is lower than 2" in problem["detail"]
        assert "must stop" in problem["hint"]
    assert not server.store.history
    assert server.directory.entries()[0].heartbeat_at is None


def test_the_store_fences_a_copy_whose_node_has_not_heard_of_the_new_placement(
    client: DocumentedClient, server: AgentServer
) -> None:
    """The directory is the quick check; the store is the fence."""
    server.store.place("agent-1", epoch=5, node_id="node-9")
    response = client.call("PUT", "state", body=b"x", headers="If-Match: 0\r\n")
    assert response.status == 409
    assert "node node-9 holds" in problem_of(response)["detail"]
    assert not server.store.history


def test_wrong_meters_leave_the_last_good_ones(
    client: DocumentedClient, server: AgentServer
) -> None:
    """The field is named; nothing of the report is taken, not its metrics either."""
    work = {"count": 2, "errors": 0, "total_s": 0.1, "durations": [2] + [0] * 15}
    assert client.call("POST", "metrics", {"meters": {"tasks": work}}).status == 200
    bad = {"metrics": {"queue": 1}, "meters": {"tasks": work | {"count": 3}}}
    response = client.call("POST", "heartbeat", bad)
    assert (response.status, problem_of(response)["field"]) == (400, "meters.tasks.count")
    (entry,) = server.directory.entries()
    assert entry.meters.tasks is not None
    assert entry.meters.tasks.done == 2
    assert not entry.metrics
    assert problem_of(client.call("POST", "metrics", {}))["field"] == "body"


def test_a_dismissed_agent_is_told_to_stop_and_may_still_save(
    client: DocumentedClient, server: AgentServer
) -> None:
    """Its last checkpoint is taken; the reason reaches it with the heartbeat and with metrics."""
    server.directory.dismiss("agent-1", "moved to node-2")
    order = {"stop": True, "reason": "moved to node-2"}
    assert json.loads(client.call("POST", "heartbeat").body) == order
    assert json.loads(client.call("POST", "metrics", {"metrics": {}}).body) == order
    assert _put(client, 0, b"last words")[0] == 200


@pytest.mark.parametrize("transfer", ["content-length", "chunked"])
def test_a_heartbeat_may_carry_metrics_however_it_is_sent(
    client: DocumentedClient, server: AgentServer, transfer: str
) -> None:
    """A chunked body is not overlooked."""
    body = b'{"metrics": {"tasks": 3}}'
    if transfer == "chunked":
        _raw(server, _chunked_head("POST", "heartbeat"), [_chunk(body), _chunk(b"")])
    else:
        client.call("POST", "heartbeat", body=body)
    assert dict(server.directory.entries()[0].metrics) == {"tasks": 3.0}


def test_every_request_counts_as_a_sign_of_life(
    client: DocumentedClient, server: AgentServer
) -> None:
    """An agent that is busy with writes is not taken for a hung one."""
    _put(client, 0, b"x")
    assert server.directory.entries()[0].heartbeat_at is not None


@pytest.mark.parametrize(
    "epoch", ["", "x", "-1", "1.0", "+1", "1e3", " ", "0x1", "1" * 19, "\u0661", "1,1"]
)
def test_a_bad_epoch_header_is_named(client: DocumentedClient, epoch: str) -> None:
    """Also when it is missing; other alphabets' digits are no numbers here."""
    client.epoch = ""
    header = f"X-Epoch: {epoch}\r\n".encode().decode("latin-1") if epoch else ""
    response = client.call("POST", "heartbeat", headers=header)
    assert response.status == 400
    assert problem_of(response)["field"] == "X-Epoch"


@pytest.mark.parametrize("value", ["", "*", 'W/"1"', '"1', "1, 2", "-1", '""'])
def test_a_bad_if_match_header_is_named(client: DocumentedClient, value: str) -> None:
    """A put without a version would overwrite what it has not seen."""
    header = f"If-Match: {value}\r\n" if value else ""
    response = client.call("PUT", "state", body=b"x", headers=header)
    assert response.status == 400
    assert problem_of(response)["field"] == "If-Match"


@pytest.mark.parametrize(
    "name", ["..", "%2e%2e", "a%00b", "a%0ab", "%0d%0aX: y", "a..b", "-a", "%C3%A9", "a" * 129]
)
def test_a_dangerous_name_in_the_path_is_refused(server: AgentServer, name: str) -> None:
    """Traversal, control characters and foreign letters never reach the directory."""
    client = DocumentedClient(server.socket_path, agent_id=name.replace(" ", "%20"))
    response = client.call("POST", "heartbeat")
    client.close()
    assert response.status == 400
    assert problem_of(response)["field"] == "agent_id"


@pytest.mark.parametrize("name", ["..%2f..%2fetc", "%2fetc%2fpasswd", "a/b", ""])
def test_a_path_that_climbs_meets_no_operation(server: AgentServer, name: str) -> None:
    """It is a 404 problem like any unknown path."""
    client = DocumentedClient(server.socket_path)
    response = client.connection.request("POST", f"/v1/agents/{name}/heartbeat", "X-Epoch: 1\r\n")
    client.close()
    assert response.status == 404
    assert problem_of(response)["type"] == "urn:stateroom:problem:not-found"


def test_unknown_paths_and_methods_are_problems_too(client: DocumentedClient) -> None:
    """With the document's address as hint and the allowed methods."""
    missing = client.request("GET", "/v2/agents")
    assert missing.status == 404
    assert "/v1/openapi.json" in problem_of(missing)["hint"]
    wrong = client.request("DELETE", "/v1/agents/agent-1/state")
    assert wrong.status == 405
    assert set(wrong.headers["allow"].split(", ")) == {"GET", "HEAD", "PUT"}
    problem_of(wrong)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"\xff\xfe{}",
        b'{"metrics": {"a": NaN}}',
        b'{"metrics": {"a": Infinity}}',
        b'{"metrics": {"a": 1e999}}',
        b'{"metrics": {"a": ' + b"9" * 400 + b"}}",
        b'{"metrics": {"a": ' + b"9" * 5000 + b"}}",
        b"[" * 100_000,
        b'{"a":' * 50_000,
    ],
)
def test_malformed_json_is_a_400_with_the_reason(
    client: DocumentedClient, server: AgentServer, body: bytes
) -> None:
    """Truncated, too deep, not finite, no object: one clear answer, nothing recorded."""
    response = client.call("POST", "metrics", body=body)
    assert response.status == 400
    assert problem_of(response)["field"] in {"body", "metrics.a"}
    assert not server.directory.entries()[0].metrics


@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "ok \udfff"])
def test_text_that_no_database_takes_is_refused(
    client: DocumentedClient, server: AgentServer, text: str
) -> None:
    """NUL and lone surrogates are named before they can spoil a batch."""
    note = client.call("POST", "notes", {"notes": [{"text": "fine"}, {"text": text}]})
    assert (note.status, problem_of(note)["field"]) == (400, "notes[1].text")
    detail = client.call("POST", "activities", {"activities": [{"kind": "k", "detail": text}]})
    assert (detail.status, problem_of(detail)["field"]) == (400, "activities[0].detail")
    assert not server.store.note_log


def test_a_repeated_record_is_stored_once_and_agents_cannot_collide(
    client: DocumentedClient, server: AgentServer
) -> None:
    """Ids are scoped by agent, and keep the order of time."""
    server.admit("agent-2")
    record_id = f"{int(time.time() * 1000):012x}-abcd"
    for agent_id in ("agent-1", "agent-1", "agent-2"):
        client.agent_id = agent_id
        value = {"activities": [{"id": record_id, "kind": "poll"}]}
        assert json.loads(client.call("POST", "activities", value).body) == {"stored": 1}
        client.call("POST", "notes", {"notes": [{"id": record_id, "text": agent_id}]})
    assert list(server.store.activity_log) == [f"{record_id}.agent-1", f"{record_id}.agent-2"]
    assert [note.text for note in server.store.notes("net-1", "", 9)] == ["agent-1", "agent-2"]
    activity = server.store.activities("agent-1", 1)[0]
    assert abs(activity.at - datetime.now(UTC)) < timedelta(seconds=60)


def test_ids_that_the_server_makes_sort_in_the_order_of_the_request(
    client: DocumentedClient, server: AgentServer
) -> None:
    """A reader's cursor follows them."""
    texts = [f"note {n:03d}" for n in range(300)]
    for start in (0, 150):
        notes = [{"text": text} for text in texts[start : start + 150]]
        client.call("POST", "notes", {"notes": notes})
    assert [note.text for note in server.store.notes("net-1", "", 999)] == texts


@pytest.mark.parametrize("shift_s", [-7200, 120, 10**9])
def test_an_id_far_from_now_is_refused(
    client: DocumentedClient, server: AgentServer, shift_s: int
) -> None:
    """One id from the future would hide all later notes behind a reader's cursor."""
    record_id = f"{int((time.time() + shift_s) * 1000):012x}-abcd"
    response = client.call("POST", "notes", {"notes": [{"id": record_id, "text": "x"}]})
    assert (response.status, problem_of(response)["field"]) == (400, "notes[0].id")
    assert not server.store.note_log


def _raw(server: AgentServer, head: bytes, chunks: list[bytes]) -> bytes:
    """Send bytes as they are; returns the first answer up to the end of its headers."""
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(20)
        raw.connect(str(server.socket_path))
        try:
            raw.sendall(head)
            for chunk in chunks:
                raw.sendall(chunk)
        except (BrokenPipeError, ConnectionResetError):
            pass
        received = b""
        while b"\r\n\r\n" not in received:
            received += raw.recv(65536)
        return received


def _chunked_head(method: str, operation: str) -> bytes:
    return (
        f"{method} /v1/agents/agent-1/{operation} HTTP/1.1\r\nHost: x\r\nX-Epoch: 1\r\n"
        "If-Match: 0\r\nTransfer-Encoding: chunked\r\n\r\n"
    ).encode()


def _chunk(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)


def test_a_state_over_64_mib_is_refused_by_its_declared_size_unread(server: AgentServer) -> None:
    """The answer comes although not one byte of the body was sent; it says what to do instead."""
    head = (
        "PUT /v1/agents/agent-1/state HTTP/1.1\r\nHost: x\r\nX-Epoch: 1\r\nIf-Match: 0\r\n"
        f"Content-Length: {STATE_MAX_BYTES + 1}\r\n\r\n"
    ).encode()
    answer = _raw(server, head, [])
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()
    assert not server.store.history


def test_a_state_of_unknown_size_is_refused_while_it_streams(server: AgentServer) -> None:
    """One byte over the limit ends it, though the sender would go on for ever."""
    piece = _chunk(b"x" * (4 * 1024 * 1024))
    answer = _raw(server, _chunked_head("PUT", "state"), [piece] * 17)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert not server.store.history


def test_a_state_of_exactly_64_mib_is_stored(client: DocumentedClient, server: AgentServer) -> None:
    """The limit itself is allowed."""
    assert _put(client, 0, bytes(STATE_MAX_BYTES)) == (200, {"version": 1})
    assert len(server.store.stored["agent-1"].body) == STATE_MAX_BYTES


def test_a_json_body_over_its_limit_is_refused(
    client: DocumentedClient, server: AgentServer
) -> None:
    """With the advice to send fewer records."""
    response = client.call("POST", "notes", body=b" " * (agent_requests.JSON_MAX_BYTES + 1))
    assert response.status == 413
    assert "fewer" in problem_of(response)["hint"]
    assert client.call("POST", "heartbeat").status == 200


def test_bodies_of_all_requests_together_are_bounded() -> None:
    """The budget refuses what does not fit and is whole again after each request."""
    budget = UploadBudget(100)
    with budget.hold() as first:
        first(60)
        with budget.hold() as second:
            second(30)
            with pytest.raises(StoreUnavailableError, match="requests hold 90 bytes, allowed 100"):
                second(11)
        with budget.hold() as third:
            third(40)
    with budget.hold() as whole:
        whole(100)


def test_a_sender_that_goes_away_midway_leaves_nothing_and_harms_nobody(
    client: DocumentedClient, server: AgentServer
) -> None:
    """The half of a state is not a state."""
    for body in (b"", b"half"):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(str(server.socket_path))
            raw.sendall(_chunked_head("PUT", "state") + (_chunk(body) if body else b""))
    assert client.call("POST", "heartbeat").status == 200
    assert client.call("GET", "state").status == 204
    assert not server.store.history


def test_a_sender_that_stalls_is_cut_off(
    server: AgentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its memory and connection are free again; it hears 408."""
    monkeypatch.setattr(agent_requests, "BODY_TIMEOUT_S", 0.05)
    answer = _raw(server, _chunked_head("PUT", "state"), [_chunk(b"half")])
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"application/problem+json" in answer
    assert not server.store.history


def test_bytes_that_are_no_http_close_the_connection(
    client: DocumentedClient, server: AgentServer
) -> None:
    """The HTTP parser answers 400 before any operation is reached; others are served on."""
    assert _raw(server, b"\x16\x03\x01 hello\r\n\r\n", []).startswith(b"HTTP/1.1 400 ")
    assert client.call("POST", "heartbeat").status == 200


def test_pipelined_and_parallel_writers_get_every_version_once(server: AgentServer) -> None:
    """Eight copies of one agent race on each version: one wins, the others hear who did."""

    def race(number: int) -> list[int]:
        client = DocumentedClient(server.socket_path)
        won = []
        for version in range(10):
            status, answer = _put(client, version, f"{number}".encode())
            if status == 200:
                won.append(int(str(answer["version"])))
            while client.call("GET", "state").headers["x-state-version"] == str(version):
                time.sleep(0.001)
        client.close()
        return won

    with ThreadPoolExecutor(8) as pool:
        winners = list(pool.map(race, range(8)))
    assert sorted(version for won in winners for version in won) == list(range(1, 11))
    assert len(server.store.history) == 10


def test_a_damaged_state_is_an_error_with_its_name_not_an_empty_state() -> None:
    """An agent must not start from nothing because a disk failed."""

    class Damaged(InMemoryAgentStates):
        def state(self, agent_id: str) -> None:
            raise CorruptObjectError(f"state of {agent_id} is damaged", hint="Restore it.")

    with (
        TemporaryDirectory(prefix="sr-") as folder,
        serving(Path(folder) / "s", Damaged()) as running,
    ):
        running.admit()
        client = DocumentedClient(running.socket_path)
        response = client.call("GET", "state")
        client.close()
    assert response.status == 500
    assert problem_of(response)["detail"] == "state of agent-1 is damaged"


def test_a_defect_is_a_500_problem_and_the_server_lives_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The traceback is in the log, not in the answer."""

    class Defective(InMemoryAgentStates):
        def state(self, agent_id: str) -> None:
            raise ZeroDivisionError("secret detail")

    with (
        TemporaryDirectory(prefix="sr-") as folder,
        serving(Path(folder) / "s", Defective()) as running,
    ):
        running.admit()
        client = DocumentedClient(running.socket_path)
        response = client.call("GET", "state")
        assert client.call("POST", "heartbeat").status == 200
        client.close()
    assert response.status == 500
    assert problem_of(response)["type"] == "urn:stateroom:problem:defect"
    assert b"secret" not in response.body
    assert "secret detail" in caplog.text


@settings(
    max_examples=examples(60),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(name=st.text(st.characters(min_codepoint=0, max_codepoint=0x24F), min_size=1, max_size=20))
def test_no_text_in_the_path_gets_through_unless_it_is_a_name(
    server: AgentServer, name: str
) -> None:
    """Whatever is escaped into the path: a name is unknown (409), anything else 400 or 404."""
    escaped = "".join(f"%{byte:02x}" for byte in name.encode())
    client = DocumentedClient(server.socket_path)
    try:
        response = client.connection.request(
            "POST", f"/v1/agents/{escaped}/heartbeat", "X-Epoch: 1\r\n"
        )
    finally:
        client.close()
    problem_of(response)
    if is_name(name) and name != "agent-1":
        assert response.status == 409
    else:
        assert response.status in {400, 404}
