"""The HTTP API that a node's supervisor serves to its agents, on a unix socket.

Any program that speaks HTTP can be an agent. `openapi.json` beside this module describes each
operation and is served at `/v1/openapi.json`; `docs/agents.md` tells the story. Invariant: a 2xx
answer to a write is sent only after the write is durable in the control store.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fleet.agents import STATE_MAX_BYTES, Activity, AgentState, Note, StatePut
from fleet.errors import InvalidInputError
from fleet.ports.clock import Clock
from fleet.vectors.declaration import VectorDeclaration
from resources.local.agent_directory import GO_ON, AgentDirectory, AgentEntry, StopOrder
from resources.local.agent_problems import EXCEPTION_HANDLERS
from resources.local.agent_requests import (
    UploadBudget,
    parse_activities,
    parse_notes,
    parse_report,
    read_agent_id,
    read_body,
    read_epoch,
    read_expected_version,
    read_json,
)
from resources.local.agent_search import (
    NoteSearcher,
    answer_question,
    demand_fitting,
    parse_question,
)
from resources.local.write_batcher import Write, WriteBatcher

OPENAPI_PATH = Path(__file__).with_name("openapi.json")
STATE_ADVICE = (
    f"A state has at most {STATE_MAX_BYTES} bytes. Keep what is larger in a file or in the lake, "
    "and its reference in the state."
)


class StateReader(Protocol):
    """Where states are read: the control store, or a cache in front of it."""

    def state(self, agent_id: str) -> AgentState | None:
        """The newest state; None when there is none."""
        ...


class AgentMemory(NamedTuple):
    """What notes are found with again."""

    searcher: NoteSearcher | None = None
    """Answers searches; None: nothing does."""
    declaration: VectorDeclaration | None = None
    """Which vectors networks take; None: notes may carry any."""


@dataclass(frozen=True, slots=True)
class AgentApiSettings:
    """What the API tells each agent when it registers."""

    heartbeat_interval_s: float = 2.0
    checkpoint_interval_s: float = 5.0


def build_agent_app(
    directory: AgentDirectory,
    batcher: WriteBatcher,
    states: StateReader,
    clock: Clock,
    settings: AgentApiSettings | None = None,
    memory: AgentMemory | None = None,
) -> Starlette:
    """The ASGI application; it holds no thread, socket or file of its own.

    Args:
        directory: which agents this node serves.
        batcher: takes their writes; closed by the caller, after the server has stopped.
        states: answers reads, from worker threads.
        clock: stamps activities and notes.
        settings: None means the defaults.
        memory: what notes are searched with; None: nothing, and every search is told so.
    """
    api = _AgentApi(
        directory, batcher, states, clock, settings or AgentApiSettings(), memory or AgentMemory()
    )
    agent = "/v1/agents/{agent_id}"
    return Starlette(
        # In order of frequency: Starlette tries routes one after the other.
        routes=[
            Route(f"{agent}/heartbeat", api.post_heartbeat, methods=["POST"]),
            Route(f"{agent}/state", api.state, methods=["PUT", "GET"]),
            Route(f"{agent}/activities", api.post_activities, methods=["POST"]),
            Route(f"{agent}/notes", api.post_notes, methods=["POST"]),
            Route(f"{agent}/search", api.post_search, methods=["POST"]),
            Route(f"{agent}/metrics", api.post_metrics, methods=["POST"]),
            Route(f"{agent}/register", api.post_register, methods=["POST"]),
            Route("/v1/openapi.json", api.get_openapi, methods=["GET"]),
        ],
        exception_handlers=EXCEPTION_HANDLERS,
    )


class _AgentApi:
    """The operations; each method is one of the document's."""

    def __init__(
        self,
        directory: AgentDirectory,
        batcher: WriteBatcher,
        states: StateReader,
        clock: Clock,
        settings: AgentApiSettings,
        memory: AgentMemory,
    ) -> None:
        self._directory = directory
        self._batcher = batcher
        self._states = states
        self._clock = clock
        self._settings = settings
        self._memory = memory
        self._uploads = UploadBudget()
        self._openapi = OPENAPI_PATH.read_bytes()

    async def post_register(self, request: Request) -> Response:
        entry = self._directory.register(read_agent_id(request), read_epoch(request))
        return _json_response(
            {
                "agent_id": entry.agent_id,
                "network_id": entry.network_id,
                "workload": entry.workload.workload,
                "epoch": entry.epoch,
                "arguments": entry.workload.arguments,
                "heartbeat_interval_s": self._settings.heartbeat_interval_s,
                "checkpoint_interval_s": self._settings.checkpoint_interval_s,
            }
        )

    async def post_heartbeat(self, request: Request) -> Response:
        agent_id, epoch = read_agent_id(request), read_epoch(request)
        metrics, meters = None, None
        headers = request.headers
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            with self._uploads.hold() as take:
                metrics, meters = parse_report(await read_json(request, take))
        return _stop_response(self._directory.beat(agent_id, epoch, metrics, meters))

    async def post_metrics(self, request: Request) -> Response:
        agent_id, epoch = read_agent_id(request), read_epoch(request)
        with self._uploads.hold() as take:
            metrics, meters = parse_report(await read_json(request, take))
        if metrics is None and meters is None:
            raise InvalidInputError("body", "{}", "an object with `metrics`, `meters` or both")
        return _stop_response(self._directory.beat(agent_id, epoch, metrics, meters))

    async def state(self, request: Request) -> Response:
        put = request.method == "PUT"
        return await (self.put_state(request) if put else self.get_state(request))

    async def get_state(self, request: Request) -> Response:
        entry = self._touch(request)
        state = await run_in_threadpool(self._states.state, entry.agent_id)
        if state is None:
            return Response(status_code=204, headers={"ETag": '"0"', "X-State-Version": "0"})
        headers = {
            "ETag": f'"{state.version}"',
            "X-State-Version": str(state.version),
            "X-State-Epoch": str(state.epoch),
            "X-State-Digest": f"sha256:{state.digest}",
        }
        return Response(state.body, headers=headers, media_type="application/octet-stream")

    async def put_state(self, request: Request) -> Response:
        entry = self._touch(request)
        expected_version = read_expected_version(request)
        with self._uploads.hold() as take:
            body = await read_body(request, STATE_MAX_BYTES, STATE_ADVICE, take)
            version = await self._durable(
                StatePut(entry.agent_id, entry.epoch, expected_version, body)
            )
        response = _json_response({"version": version})
        response.headers["ETag"] = f'"{version}"'
        return response

    async def post_activities(self, request: Request) -> Response:
        return await self._post_records(request, parse_activities)

    async def post_notes(self, request: Request) -> Response:
        return await self._post_records(request, self._parse_notes)

    async def post_search(self, request: Request) -> Response:
        entry = self._touch(request)
        with self._uploads.hold() as take:
            question = parse_question(await read_json(request, take))
        answer = await answer_question(self._memory.searcher, entry.network_id, question)
        return _json_response(answer)

    async def get_openapi(self, _request: Request) -> Response:
        return Response(self._openapi, media_type="application/json")

    async def _post_records(
        self,
        request: Request,
        parse: Callable[..., tuple[Activity, ...] | tuple[Note, ...]],
    ) -> Response:
        entry = self._touch(request)
        with self._uploads.hold() as take:
            body = await read_json(request, take)
            records = parse(body, entry.agent_id, entry.network_id, self._clock.now())
            stored = await self._durable(records)
        return _json_response({"stored": stored})

    def _parse_notes(
        self, body: Mapping[str, Any], agent_id: str, network_id: str, now: datetime
    ) -> tuple[Note, ...]:
        notes = parse_notes(body, agent_id, network_id, now)
        for place, note in enumerate(notes):
            path = f"notes[{place}].vector"
            demand_fitting(note.vector, network_id, self._memory.declaration, path)
        return notes

    def _touch(self, request: Request) -> AgentEntry:
        return self._directory.touch(read_agent_id(request), read_epoch(request))

    async def _durable(self, write: Write) -> int:
        return await asyncio.wrap_future(self._batcher.submit(write))


def _json_response(value: object) -> Response:
    return Response(json.dumps(value), media_type="application/json")


_GO_ON_BODY = json.dumps(GO_ON._asdict()).encode()


def _stop_response(order: StopOrder) -> Response:
    body = json.dumps(order._asdict()).encode() if order.stop else _GO_ON_BODY
    return Response(body, media_type="application/json")
