"""A client that holds each answer it gets against the OpenAPI document."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from stateroom_agent.connection import Connection, Response

DOCUMENT_PATH = Path(__file__).parents[2] / "resources" / "local" / "openapi.json"
DOCUMENT: dict[str, Any] = json.loads(DOCUMENT_PATH.read_text())


def resolved(value: dict[str, Any]) -> dict[str, Any]:
    """What a reference of the document points to; other values as they are."""
    while "$ref" in value:
        found: Any = DOCUMENT
        for part in value["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        value = found
    return value


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    """A validator of a schema that refers to the document's components."""
    return Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def operation_of(method: str, path: str) -> dict[str, Any] | None:
    """The operation that a request means; None when the document knows none."""
    bare = path.partition("?")[0]
    for template, item in DOCUMENT["paths"].items():
        if re.fullmatch(re.sub(r"\{[a-z_]+\}", "[^/]+", template), bare):
            found: dict[str, Any] | None = item.get(method.lower())
            return found
    return None


class DocumentedClient:
    """Sends requests as an agent would; fails the test when an answer breaks the document."""

    def __init__(self, socket_path: Path, agent_id: str = "agent-1", epoch: str = "1") -> None:
        """Speak for one agent."""
        self.connection = Connection(str(socket_path), 20.0)
        self.agent_id = agent_id
        self.epoch = epoch
        self.seen: set[tuple[str, int]] = set()
        """Operations and statuses that have been validated."""

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def call(
        self,
        method: str,
        operation: str,
        value: object = None,
        *,
        body: bytes | None = None,
        headers: str = "",
    ) -> Response:
        """One request of the agent; `value` is sent as JSON."""
        sent = body if body is not None else b"" if value is None else json.dumps(value).encode()
        epoch = f"X-Epoch: {self.epoch}\r\n" if self.epoch else ""
        return self.request(
            method, f"/v1/agents/{self.agent_id}/{operation}", epoch + headers, sent
        )

    def request(self, method: str, path: str, headers: str = "", body: bytes = b"") -> Response:
        """One request; the answer must be as the document says."""
        response = self.connection.request(method, path, headers, body)
        self.check(method, path, response)
        return response

    def check(self, method: str, path: str, response: Response) -> None:
        """Hold an answer against the document."""
        operation = operation_of(method, path)
        if operation is None:
            assert response.status in {404, 405}
            described = resolved({"$ref": "#/components/responses/BadRequest"})
        else:
            assert str(response.status) in operation["responses"], (
                f"{operation['operationId']} answered {response.status}, which is not documented: "
                f"{response.body[:300]!r}"
            )
            described = resolved(operation["responses"][str(response.status)])
            self.seen.add((operation["operationId"], response.status))
        for name, header in described.get("headers", {}).items():
            validator(header["schema"]).validate(response.headers[name.lower()])
        content = described.get("content", {})
        media_type = response.headers.get("content-type", "").partition(";")[0]
        if not content:
            assert response.body == b""
            return
        assert media_type in content
        if media_type != "application/octet-stream":
            validator(content[media_type]["schema"]).validate(json.loads(response.body))


def problem_of(response: Response) -> dict[str, Any]:
    """The problem document of an error answer."""
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = json.loads(response.body)
    assert problem["status"] == response.status
    assert problem["detail"]
    assert problem["hint"]
    return problem
