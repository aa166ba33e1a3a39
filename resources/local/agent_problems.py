"""Errors of the agents' API as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import json
import logging
import re
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from fleet.errors import (
    FencedError,
    InvalidInputError,
    NotFoundError,
    StateroomError,
    TooLargeError,
    TransientError,
)

RETRY_AFTER_S = 1
"""Told to an agent with each 503; its client waits so long before it repeats the request."""

_logger = logging.getLogger(__name__)

_STATUS: tuple[tuple[type[StateroomError], HTTPStatus], ...] = (
    (InvalidInputError, HTTPStatus.BAD_REQUEST),
    (NotFoundError, HTTPStatus.NOT_FOUND),
    (FencedError, HTTPStatus.CONFLICT),
    (TooLargeError, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (TransientError, HTTPStatus.SERVICE_UNAVAILABLE),
)


def problem_response(
    status: HTTPStatus, problem: str, detail: str, hint: str, field: str | None = None
) -> Response:
    """One problem document.

    Args:
        status: also gives the title.
        problem: short name of the kind, the end of `type`.
        detail: what happened, with names and values.
        hint: what the agent or its author does next.
        field: the header, path segment or member of the body that is wrong.
    """
    body = {
        "type": f"urn:stateroom:problem:{problem}",
        "title": status.phrase,
        "status": int(status),
        "detail": detail,
        "hint": hint,
    }
    if field is not None:
        body["field"] = field
    response = Response(json.dumps(body), status, media_type="application/problem+json")
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    if status in {HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.REQUEST_TIMEOUT}:
        # The rest of the body is not read, so the connection cannot carry another request.
        response.headers["Connection"] = "close"
    return response


async def on_stateroom_error(_request: Request, error: Exception) -> Response:
    """Answer an error that was raised on purpose."""
    assert isinstance(error, StateroomError)
    status = next(
        (status for kind, status in _STATUS if isinstance(error, kind)),
        HTTPStatus.INTERNAL_SERVER_ERROR,
    )
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        _logger.error("agent request failed", exc_info=error)
    field = error.field if isinstance(error, InvalidInputError) else None
    hint = error.hint or "The request is described at /v1/openapi.json."
    return problem_response(status, _problem_name(error), str(error), hint, field)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Answer an unknown path or method."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    response = problem_response(
        status,
        status.phrase.lower().replace(" ", "-"),
        f"{request.method} {request.url.path}: {error.detail}",
        "The operations are listed at /v1/openapi.json.",
    )
    response.headers.update(error.headers or {})
    return response


async def on_unexpected_error(request: Request, error: Exception) -> Response:
    """Answer a defect of this program; the server logs its traceback and ends the connection."""
    response = problem_response(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "defect",
        f"{request.method} {request.url.path}: {type(error).__name__}",
        "Nothing was acknowledged. Look into the supervisor's log and report it.",
    )
    response.headers["Connection"] = "close"
    return response


async def on_client_gone(_request: Request, _error: Exception) -> Response:
    """End a request whose sender went away; nobody reads this answer, nothing was stored."""
    return problem_response(
        HTTPStatus.BAD_REQUEST,
        "incomplete-request",
        "the connection closed before the body was complete",
        "Repeat the request.",
    )


async def on_slow_body(_request: Request, _error: Exception) -> Response:
    """End a request whose body does not arrive, so that it holds no memory."""
    return problem_response(
        HTTPStatus.REQUEST_TIMEOUT,
        "request-timeout",
        "the body did not arrive in time",
        "Nothing was stored. Repeat the request.",
    )


# Coroutines, because Starlette would run plain functions in a thread pool.
EXCEPTION_HANDLERS = {
    StateroomError: on_stateroom_error,
    HTTPException: on_http_exception,
    ClientDisconnect: on_client_gone,
    TimeoutError: on_slow_body,
    Exception: on_unexpected_error,
}
"""For `Starlette(exception_handlers=...)`."""


def _problem_name(error: StateroomError) -> str:
    """`StaleEpochError` -> `stale-epoch`."""
    name = type(error).__name__.removesuffix("Error")
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()
