"""The OpenAPI document and the server cannot differ."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from openapi_spec_validator import validate
from starlette.routing import Route

from fleet.agents import STATE_MAX_BYTES
from fleet.errors import StoreUnavailableError
from fleet.names import NAME_MAX_CHARS
from fleet.vectors.records import DIMENSIONS_MAX
from resources.clock import SystemClock
from resources.local import agent_requests, agent_search, note_vectors
from resources.local.agent_api import build_agent_app
from resources.local.agent_directory import AgentDirectory
from resources.local.write_batcher import BatchLimits, WriteBatcher
from tests.fakes.agent_server import AgentServer, serving
from tests.fakes.agent_states import FailingAgentStates, InMemoryAgentStates
from tests.fakes.documented_client import DOCUMENT, DocumentedClient, validator

METHODS = {"get", "put", "post", "delete", "patch"}


def _with_vector(model: str, values: list[object]) -> dict[str, object]:
    return {"notes": [{"text": "x", "vector": {"model": model, "values": values}}]}


@pytest.fixture
def client(server: AgentServer) -> Iterator[DocumentedClient]:
    """agent-1 at the server."""
    speaking = DocumentedClient(server.socket_path)
    yield speaking
    speaking.close()


def test_the_document_is_valid_openapi() -> None:
    """By the specification's own schema."""
    validate(DOCUMENT)


def test_every_route_is_in_the_document_and_every_documented_operation_has_a_route() -> None:
    """HEAD follows from GET and is not listed."""
    clock = SystemClock()
    batcher = WriteBatcher(InMemoryAgentStates(), clock)
    app = build_agent_app(AgentDirectory(clock), batcher, InMemoryAgentStates(), clock)
    batcher.close()
    served = {
        (route.path, method.lower())
        for route in app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    documented = {
        (path, method)
        for path, item in DOCUMENT["paths"].items()
        for method in item.keys() & METHODS
    }
    assert served == documented


def test_the_limits_in_the_document_are_those_of_the_code() -> None:
    """Numbers are written twice, here is where they are compared."""
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["Name"]["maxLength"] == NAME_MAX_CHARS
    for name in ("activities", "notes"):
        records = schemas[name.capitalize()]["properties"][name]
        assert records["maxItems"] == agent_requests.RECORDS_MAX
    assert schemas["Activity"]["properties"]["detail"]["maxLength"] == agent_requests.TEXT_MAX_CHARS
    assert schemas["Note"]["properties"]["text"]["maxLength"] == agent_requests.TEXT_MAX_CHARS
    values = schemas["Vector"]["properties"]["values"]
    assert values["maxItems"] == note_vectors.DIMENSIONS_MAX == DIMENSIONS_MAX
    question = schemas["Question"]["properties"]
    assert question["k"]["maximum"] == schemas["SearchAnswer"]["properties"]["hits"]["maxItems"]
    assert question["k"]["maximum"] == agent_search.K_MAX
    assert question["text"]["maxLength"] == agent_search.QUESTION_MAX_CHARS
    assert question["where"]["maxLength"] == agent_search.WHERE_MAX_CHARS
    assert schemas["MetricValues"]["maxProperties"] == agent_requests.METRICS_MAX
    put = DOCUMENT["paths"]["/v1/agents/{agent_id}/state"]["put"]
    assert f"{STATE_MAX_BYTES // 2**20} MiB" in put["description"]


def test_the_document_is_served_as_it_is_shipped(client: DocumentedClient) -> None:
    """Agents can read what they may do from the socket itself."""
    response = client.request("GET", "/v1/openapi.json")
    assert json.loads(response.body) == DOCUMENT


def test_every_operation_answers_as_the_document_says(client: DocumentedClient) -> None:
    """Each operation succeeds once and refuses an unknown agent once; each answer validates."""
    calls: list[tuple[str, str, object, str]] = [
        ("POST", "register", None, ""),
        ("POST", "heartbeat", None, ""),
        ("POST", "heartbeat", {"metrics": {"tasks": 1}}, ""),
        ("POST", "metrics", {"metrics": {"tasks": 1, "cpu_usage": 0.5}}, ""),
        ("GET", "state", None, ""),
        ("PUT", "state", {"any": "bytes"}, 'If-Match: "0"\r\n'),
        ("GET", "state", None, ""),
        ("POST", "activities", {"activities": [{"kind": "poll", "ok": False}]}, ""),
        ("POST", "notes", {"notes": [{"text": "Das Öl ist kalt."}]}, ""),
        ("POST", "search", {"text": "Ist das Öl warm?"}, ""),
    ]
    for method, operation, value, headers in calls:
        assert client.call(method, operation, value, headers=headers).status in {200, 204}
    client.request("GET", "/v1/openapi.json")
    answered = {name for name, status in client.seen if status < 300}
    client.agent_id = "nobody"
    for method, operation, value, headers in calls:
        assert client.call(method, operation, value, headers=headers).status == 409
    documented = {
        operation["operationId"]
        for item in DOCUMENT["paths"].values()
        for method, operation in item.items()
        if method in METHODS
    }
    assert answered == documented
    assert {name for name, status in client.seen if status == 409} == documented - {"getDocument"}


@pytest.mark.parametrize(
    ("schema", "operation", "value"),
    [
        ("Activities", "activities", {"activities": []}),
        ("Activities", "activities", {"activities": [{"kind": "a b"}]}),
        ("Activities", "activities", {"activities": [{"kind": "poll", "ok": "yes"}]}),
        ("Activities", "activities", {"activities": [{"kind": "poll", "duration_s": -1}]}),
        ("Activities", "activities", {"activities": [{"kind": "poll", "id": "1"}]}),
        ("Activities", "activities", {"activities": [{"kind": "poll", "extra": 1}]}),
        ("Activities", "activities", {"activities": [{"ok": True}]}),
        ("Activities", "activities", {"activities": [3]}),
        ("Activities", "activities", {"activities": [{"kind": "poll", "detail": "x" * 4097}]}),
        ("Activities", "activities", {}),
        ("Notes", "notes", {"notes": [{"text": ""}]}),
        ("Notes", "notes", {"notes": [{"text": "x" * 4097}]}),
        ("Notes", "notes", {"notes": [{"text": 5}]}),
        ("Notes", "notes", {"notes": [{"text": "x"}] * 1001}),
        ("Notes", "notes", {"notes": [{"text": "x"}], "more": 1}),
        ("Notes", "notes", {"notes": [{"text": "x", "vector": [1]}]}),
        ("Notes", "notes", {"notes": [{"text": "x", "vector": {"model": "m"}}]}),
        ("Notes", "notes", _with_vector("a b", [1.0])),
        ("Notes", "notes", _with_vector("m", [])),
        ("Notes", "notes", _with_vector("m", ["1"])),
        ("Notes", "notes", _with_vector("m", [1e300])),
        ("Notes", "notes", _with_vector("m", [10**400])),
        ("Notes", "notes", _with_vector("m", [0.5] * 8193)),
        ("Question", "search", {}),
        ("Question", "search", {"text": " "}),
        ("Question", "search", {"text": "x" * 4097}),
        ("Question", "search", {"text": "x", "k": 0}),
        ("Question", "search", {"text": "x", "k": 101}),
        ("Question", "search", {"text": "x", "k": True}),
        ("Question", "search", {"text": "x", "where": 1}),
        ("Question", "search", {"text": "x", "where": "x" * 8193}),
        ("Question", "search", {"text": "x", "hybrid": "yes"}),
        ("Question", "search", {"text": "x", "network": "other"}),
        ("Question", "search", {"text": "x", "vector": {"model": "m", "values": [None]}}),
        ("Metrics", "metrics", {"metrics": {"Tasks": 1}}),
        ("Metrics", "metrics", {"metrics": {"tasks": "1"}}),
        ("Metrics", "metrics", {"metrics": {"tasks": True}}),
        ("Metrics", "metrics", {"metrics": {f"m{n}": 1 for n in range(65)}}),
        ("Metrics", "metrics", {"metrics": [1]}),
        ("Metrics", "metrics", {}),
        ("OptionalMetrics", "heartbeat", {"metric": {}}),
    ],
)
def test_what_the_document_forbids_the_server_refuses(
    client: DocumentedClient, server: AgentServer, schema: str, operation: str, value: object
) -> None:
    """A body that its schema does not admit is a 400 that names the field; nothing is stored."""
    assert not validator({"$ref": f"#/components/schemas/{schema}"}).is_valid(value)
    response = client.call("POST", operation, value)
    assert response.status == 400
    assert json.loads(response.body)["field"]
    assert not server.store.activity_log
    assert not server.store.note_log
    assert not server.directory.entries()[0].metrics


@pytest.mark.parametrize(
    ("schema", "operation", "value"),
    [
        ("Activities", "activities", {"activities": [{"kind": "a.b", "duration_s": None}]}),
        ("Activities", "activities", {"activities": [{"kind": "k", "id": None, "detail": ""}]}),
        ("Activities", "activities", {"activities": [{"kind": "k" * 128}] * 1000}),
        ("Notes", "notes", {"notes": [{"text": "x" * 4096}]}),
        ("Notes", "notes", {"notes": [{"text": "x", "vector": None}]}),
        ("Notes", "notes", _with_vector("m", [0.0, -3.4e38] * 4096)),
        ("Question", "search", {"text": "x", "k": 100, "where": None, "hybrid": True}),
        ("Question", "search", {"text": "x", "where": "region is not null", "vector": None}),
        ("Metrics", "metrics", {"metrics": {}}),
        ("Metrics", "metrics", {"metrics": {"_a9": -1e300}}),
        ("OptionalMetrics", "heartbeat", {"metrics": None}),
        ("OptionalMetrics", "heartbeat", {}),
    ],
)
def test_what_the_document_admits_the_server_takes(
    client: DocumentedClient, schema: str, operation: str, value: object
) -> None:
    """The corners of each schema."""
    validator({"$ref": f"#/components/schemas/{schema}"}).validate(value)
    assert client.call("POST", operation, value).status == 200


def test_a_store_that_is_down_is_a_documented_503() -> None:
    """With Retry-After, and no acknowledgement; reads say so too."""

    class Down(FailingAgentStates):
        def state(self, agent_id: str) -> None:
            raise StoreUnavailableError("the disk is gone", hint="Mount it.")

    limits = BatchLimits(deadline_s=0.02, retry_delay_s=0.001)
    with (
        TemporaryDirectory(prefix="sr-") as folder,
        serving(Path(folder) / "s", Down(1, 1.0), limits) as running,
    ):
        running.admit()
        client = DocumentedClient(running.socket_path)
        answers = [
            client.call("PUT", "state", body=b"x", headers="If-Match: 0\r\n"),
            client.call("POST", "activities", {"activities": [{"kind": "poll"}]}),
            client.call("POST", "notes", {"notes": [{"text": "x"}]}),
            client.call("GET", "state"),
        ]
        client.close()
        assert [answer.status for answer in answers] == [503] * 4
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
        assert not running.store.history
