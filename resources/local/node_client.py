"""Speaks to the HTTP endpoints of a node of this machine, bounded in time."""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

from fleet.errors import (
    InvalidInputError,
    NodeUnavailableError,
    NotFoundError,
    StaleEpochError,
    StateroomError,
)
from resources.local.node_spec import NodeRun

NUDGE_TIMEOUT_S = 2.0
"""A node that does not answer by then looks at its placements by itself a little later."""

EVICT_MARGIN_S = 5.0
"""Added to the grace period before an eviction counts as unanswered."""


def is_ready(run: NodeRun) -> bool:
    """Tell whether a node says that it may run agents."""
    try:
        return _request(run, "GET", "/ready", timeout_s=NUDGE_TIMEOUT_S)[0] == 200
    except NodeUnavailableError:
        return False


def nudge(runs: Sequence[NodeRun]) -> list[str]:
    """Let nodes read their placements now, all at once.

    Returns:
        The nodes that did not answer; they will read by themselves within their interval.
    """
    if not runs:
        return []
    with ThreadPoolExecutor(min(16, len(runs))) as threads:
        answered = list(threads.map(_nudged, runs))
    return [run.node_id for run, ok in zip(runs, answered, strict=True) if not ok]


def evict(run: NodeRun, agent_id: str, epoch: int, grace_s: float) -> str:
    """Let a node stop an agent; returns the reason it gives once the agent is gone.

    Raises:
        NotFoundError: the node does not have the agent.
        StaleEpochError: it has it under another epoch.
        NodeUnavailableError: the node does not answer in time.
    """
    order = {"agent_id": agent_id, "epoch": epoch, "grace_s": grace_s}
    timeout_s = grace_s + EVICT_MARGIN_S
    status, answer = _request(run, "POST", "/evict", timeout_s=timeout_s, body=order)
    if status == 200:
        return str(answer["reason"])
    kinds: dict[int, type[StateroomError]] = {404: NotFoundError, 409: StaleEpochError}
    if status == 400:
        raise InvalidInputError("eviction", order, str(answer.get("error")))
    kind = kinds.get(status, NodeUnavailableError)
    raise kind(str(answer.get("error")), hint=str(answer.get("hint", "")))


def _nudged(run: NodeRun) -> bool:
    try:
        return _request(run, "POST", "/reconcile", timeout_s=NUDGE_TIMEOUT_S)[0] == 200
    except NodeUnavailableError:
        return False


def _request(
    run: NodeRun, method: str, path: str, *, timeout_s: float, body: object = None
) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(run.address, timeout=timeout_s)
    headers = {"Authorization": f"Bearer {run.token}", "Content-Type": "application/json"}
    with closing(connection):
        try:
            connection.request(method, path, json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NodeUnavailableError(
                f"node {run.node_id} at {run.address} does not answer {path}: "
                f"{str(error) or type(error).__name__}",
                hint=f"Look at its phase: stateroom status; its pid is {run.process.pid}.",
            ) from error
