"""The HTTP endpoints of a node on loopback TCP: health, metrics, and two orders.

`GET /health` (the process answers), `GET /ready` (it may run agents), `GET /health/deep` (store,
lake and lease, tried now; 503 when one fails), `GET /probe?node=` (look at another declared node
for an observer that cannot reach it; no address is ever taken from outside), `GET /metrics` (of
the node), `GET /metrics/agents` (of each agent), `POST /reconcile` (read the placements now;
harmless, so open) and `POST /evict` (needs the token of the run file, since any local process can
reach the port).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fleet.errors import InvalidInputError, NotFoundError, StateroomError, TransientError
from resources.local.node_health import CheckResult
from resources.probe_client import Sight

GRACE_MAX_S = 3600.0
"""Longest grace period of an eviction."""


class Readiness(NamedTuple):
    """Whether the node may run agents, and why not."""

    ready: bool
    reason: str


class NodeService(Protocol):
    """What the endpoints ask of the supervisor."""

    def readiness(self) -> Readiness:
        """Whether agents may run."""
        ...

    async def check_deep(self) -> list[CheckResult]:
        """Try everything the node needs."""
        ...

    def metrics(self) -> bytes:
        """Prometheus exposition text."""
        ...

    def agent_metrics(self) -> bytes:
        """The same of the node's agents, one by one."""
        ...

    async def reconcile_now(self) -> int:
        """Read the placements and act; returns the number of actions."""
        ...

    async def look_for(self, node_id: str) -> Sight:
        """Look at another node now."""
        ...

    async def evict(self, agent_id: str, epoch: int, grace_s: float) -> str:
        """Stop an agent; returns when it is gone, with the reason."""
        ...


def build_node_app(service: NodeService, *, node_id: str, boot_id: str, token: str) -> Starlette:
    """The ASGI application of one node."""
    endpoints = _Endpoints(service, {"node_id": node_id, "boot_id": boot_id}, token)
    return Starlette(
        routes=[
            Route("/health", endpoints.get_health, methods=["GET"]),
            Route("/ready", endpoints.get_ready, methods=["GET"]),
            Route("/health/deep", endpoints.get_deep, methods=["GET"]),
            Route("/probe", endpoints.get_probe, methods=["GET"]),
            Route("/metrics", endpoints.get_metrics, methods=["GET"]),
            Route("/metrics/agents", endpoints.get_agent_metrics, methods=["GET"]),
            Route("/reconcile", endpoints.post_reconcile, methods=["POST"]),
            Route("/evict", endpoints.post_evict, methods=["POST"]),
        ],
    )


class _Endpoints:
    def __init__(self, service: NodeService, identity: dict[str, str], token: str) -> None:
        self._service = service
        self._identity = identity
        self._token = token

    async def get_health(self, _request: Request) -> Response:
        return JSONResponse({"status": "live", **self._identity})

    async def get_ready(self, _request: Request) -> Response:
        ready, reason = self._service.readiness()
        body = {"status": "ready" if ready else "not ready", "reason": reason, **self._identity}
        return JSONResponse(body, status_code=200 if ready else 503)

    async def get_deep(self, _request: Request) -> Response:
        checks = await self._service.check_deep()
        ok = all(check.ok for check in checks)
        body = {
            "status": "ok" if ok else "failing",
            **self._identity,
            "checks": {
                check.name: {"ok": check.ok, "latency_ms": check.latency_ms, "detail": check.detail}
                for check in checks
            },
        }
        return JSONResponse(body, status_code=200 if ok else 503)

    async def get_probe(self, request: Request) -> Response:
        node_id = request.query_params.get("node", "")

        async def probe() -> dict[str, Any]:
            sight = await self._service.look_for(node_id)
            return {
                "observer_id": self._identity["node_id"],
                "node_id": node_id,
                "answered": sight.answered,
                "boot_id": sight.boot_id,
                "reason": sight.reason,
            }

        return await _answer(probe)

    async def get_metrics(self, _request: Request) -> Response:
        return Response(self._service.metrics(), media_type=CONTENT_TYPE_LATEST)

    async def get_agent_metrics(self, _request: Request) -> Response:
        return Response(self._service.agent_metrics(), media_type=CONTENT_TYPE_LATEST)

    async def post_reconcile(self, _request: Request) -> Response:
        return await _answer(self._reconcile)

    async def post_evict(self, request: Request) -> Response:
        given = request.headers.get("authorization", "")
        if not secrets.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            return JSONResponse({"error": "token of the node's run file missing"}, status_code=401)

        async def evict() -> dict[str, Any]:
            agent_id, epoch, grace_s = _parse_evict(await request.body())
            return {"reason": await self._service.evict(agent_id, epoch, grace_s)}

        return await _answer(evict)

    async def _reconcile(self) -> dict[str, Any]:
        return {"actions": await self._service.reconcile_now()}


async def _answer(order: Callable[[], Awaitable[dict[str, Any]]]) -> Response:
    try:
        return JSONResponse(await order())
    except StateroomError as error:
        body = {"error": str(error), "hint": error.hint, "kind": type(error).__name__}
        return JSONResponse(body, status_code=_status(error))


def _status(error: StateroomError) -> int:
    known = {InvalidInputError: 400, NotFoundError: 404, TransientError: 503}
    return next((status for kind, status in known.items() if isinstance(error, kind)), 409)


def _parse_evict(body: bytes) -> tuple[str, int, float]:
    allowed = '{"agent_id": text, "epoch": whole number, "grace_s": 0 to 3600}'
    try:
        raw = json.loads(body)
        agent_id, epoch, grace_s = raw["agent_id"], raw["epoch"], raw["grace_s"]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInputError("body", body[:200].decode(errors="replace"), allowed) from error
    valid = isinstance(agent_id, str) and type(epoch) is int and type(grace_s) in {int, float}
    if not valid or not 0 <= grace_s <= GRACE_MAX_S:
        raise InvalidInputError("body", raw, allowed)
    return agent_id, epoch, float(grace_s)
