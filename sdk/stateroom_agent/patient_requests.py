"""Requests that are repeated until they are answered, refused, or the time for them is over."""

from __future__ import annotations

import _thread
import json
import math
import os
import time
from typing import Protocol

from stateroom_agent.connection import Connection, Response
from stateroom_agent.errors import (
    AgentError,
    ConflictError,
    FencedError,
    NotOfferedError,
    RefusedError,
    TooLargeError,
    UnreachableError,
)

REQUEST_TIMEOUT_S = 15.0
"""For one attempt; the supervisor answers a write that it cannot store after about 5 s."""
LAST_CHECKPOINT_S = 5.0
"""For all attempts of a request once the agent is stopping."""
RETRY_DELAY_S = 0.05
RETRY_DELAY_MAX_S = 2.0
JSON_HEADER = "Content-Type: application/json\r\n"


class Waiter(Protocol):
    """Who asks: knows whether it must stop, and is woken from a wait when it must."""

    stop_reason: str

    def _wait(self, delay_s: float) -> None: ...


class PatientRequests:
    """One agent's requests to its supervisor; safe to share between threads.

    Args:
        socket_path: the supervisor's unix socket.
        prefix: what every path begins with.
        headers: header lines of every request.
        give_up_s: how long a request is repeated before `UnreachableError`.
        waiter: the agent.
    """

    def __init__(
        self, socket_path: str, prefix: str, headers: str, give_up_s: float, waiter: Waiter
    ) -> None:
        """Nothing is sent yet."""
        self._socket_path = socket_path
        self._prefix = prefix
        self._headers = headers
        self._give_up_s = give_up_s
        self._waiter = waiter
        self._lock = _thread.allocate_lock()
        self.connection = Connection(socket_path, REQUEST_TIMEOUT_S)
        """The one that stays open."""
        self.response_time_s = 0.0
        """How long the supervisor took for the last answered request of that connection."""

    def call(self, method: str, operation: str, headers: str = "", body: bytes = b"") -> Response:
        """One request, repeated with growing delays until it is answered.

        Raises:
            AgentError: the answer is a refusal, or there was none in time.
        """
        return self._repeat(None, method, operation, headers, body, math.inf)

    def call_aside(self, operation: str, body: bytes, patience_s: float) -> Response:
        """The same as a POST of JSON on a connection of its own: it holds up no other request.

        Args:
            operation: last part of the path.
            body: JSON.
            patience_s: gives up after this, or after the agent's own time when that is shorter.

        Raises:
            AgentError: the answer is a refusal, or there was none in time.
        """
        own = Connection(self._socket_path, REQUEST_TIMEOUT_S)
        try:
            return self._repeat(own, "POST", operation, JSON_HEADER, body, patience_s)
        finally:
            own.close()

    def _repeat(
        self,
        own: Connection | None,
        method: str,
        operation: str,
        headers: str,
        body: bytes,
        patience_s: float,
    ) -> Response:
        delay_s, started_s = RETRY_DELAY_S, time.monotonic()
        while True:
            try:
                response = self._request(own, method, operation, headers, body)
            except OSError as error:
                cause: Exception | None = error
                trouble = f"{type(error).__name__}: {error}"
            else:
                if response.status < 400:
                    return response
                if response.status != 503:
                    raise _refusal(response)
                cause, trouble = None, _problem(response)["detail"]
                delay_s = max(delay_s, float(response.headers.get("retry-after", "1")))
            limit_s = LAST_CHECKPOINT_S if self._waiter.stop_reason else self._give_up_s
            limit_s = min(limit_s, patience_s)
            if time.monotonic() + delay_s > started_s + limit_s:
                raise UnreachableError(
                    f"{operation}: no success in {limit_s:g} s; last: {trouble}",
                    "Look whether the node's supervisor is running.",
                ) from cause
            self._retry_wait(delay_s)
            delay_s = min(2 * delay_s, RETRY_DELAY_MAX_S)

    def _request(
        self, own: Connection | None, method: str, operation: str, headers: str, body: bytes
    ) -> Response:
        path, lines = self._prefix + operation, self._headers + headers
        if own is not None:
            return own.request(method, path, lines, body)
        sent_s = time.monotonic()
        with self._lock:
            response = self.connection.request(method, path, lines, body)
        self.response_time_s = time.monotonic() - sent_s
        return response

    def _retry_wait(self, delay_s: float) -> None:
        """Wait between half of the delay and all of it, so that agents do not come back at once."""
        delay_s *= 0.5 + os.urandom(1)[0] / 512
        if self._waiter.stop_reason:
            time.sleep(delay_s)
        else:
            self._waiter._wait(delay_s)  # noqa: SLF001 - the agent's own part


def _problem(response: Response) -> dict[str, str]:
    try:
        problem = json.loads(response.body)
        return {name: str(problem.get(name, "")) for name in ("type", "detail", "hint")}
    except (ValueError, AttributeError):
        return {"type": "", "detail": f"status {response.status}", "hint": ""}


def _refusal(response: Response) -> AgentError:
    problem = _problem(response)
    kinds: dict[int, type[AgentError]] = {
        404: NotOfferedError,
        405: NotOfferedError,
        409: FencedError,
        413: TooLargeError,
    }
    kind = kinds.get(response.status, RefusedError)
    if problem["type"].endswith(":version-conflict"):
        kind = ConflictError
    return kind(problem["detail"], problem["hint"])
