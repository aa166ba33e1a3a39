"""Reads agents' requests: headers, sizes and JSON bodies become records or one clear error.

Nothing here trusts a sender: sizes are enforced while bytes arrive, names pass `fleet.names`, and
each error names the field.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request

from fleet.agents import Activity, Note
from fleet.errors import InvalidInputError, StoreUnavailableError, TooLargeError
from fleet.names import NAME_MAX_CHARS, is_name, validate_name
from resources.local.agent_meters import AgentMeters, parse_meters
from resources.local.note_vectors import parse_vector

JSON_MAX_BYTES = 1024 * 1024
RECORDS_MAX = 1000
"""Activities or notes in one request."""
TEXT_MAX_CHARS = 4096
"""Of a note, or of an activity's detail."""
METRICS_MAX = 64
UPLOADS_MAX_BYTES = 256 * 1024 * 1024
"""Bodies of all requests under way together; four of the largest states."""
BODY_TIMEOUT_S = 30.0
ID_AHEAD_MAX_S = 60
ID_BEHIND_MAX_S = 3600
"""Ids order the records of a network, so a reader's cursor must not be led far from now."""

_sequence = itertools.count()
"""Orders the ids that are made within one millisecond; that they are unique rests on chance."""
_WHOLE_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_METRIC_NAME = re.compile(r"[a-z_][a-z0-9_]{0,63}", re.ASCII)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_RECORD_ID = re.compile(r"([0-9a-f]{12})-[0-9a-f]{4,32}", re.ASCII)


class UploadBudget:
    """Memory that the bodies of all requests under way may hold; used from the event loop only."""

    def __init__(self, limit_bytes: int = UPLOADS_MAX_BYTES) -> None:
        """Start with all of `limit_bytes` free."""
        self._limit_bytes = limit_bytes
        self._used_bytes = 0

    @contextmanager
    def hold(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that counts arriving bytes; they are free again at the end.

        That function raises `StoreUnavailableError` when other requests hold all the memory.
        """
        held_bytes = 0

        def take(size_bytes: int) -> None:
            nonlocal held_bytes
            if self._used_bytes + size_bytes > self._limit_bytes:
                raise StoreUnavailableError(
                    f"requests hold {self._used_bytes} bytes, allowed {self._limit_bytes}",
                    hint="Repeat the request after a moment.",
                )
            self._used_bytes += size_bytes
            held_bytes += size_bytes

        try:
            yield take
        finally:
            self._used_bytes -= held_bytes


async def read_body(
    request: Request, max_bytes: int, advice: str, take: Callable[[int], None]
) -> bytes:
    """The body, refused as soon as it is known to be too large: by its header, or as it arrives.

    Args:
        request: the request.
        max_bytes: largest body.
        advice: what a sender of more does instead.
        take: counts bytes before they are kept (see `UploadBudget.hold`).

    Raises:
        TooLargeError: it is larger than `max_bytes`.
        TimeoutError: it did not arrive within `BODY_TIMEOUT_S`.
    """
    declared = request.headers.get("content-length")
    if declared is not None and int(declared) > max_bytes:
        raise TooLargeError(f"the body has {declared} bytes, allowed {max_bytes}", hint=advice)
    chunks = []
    size_bytes = 0
    async with asyncio.timeout(BODY_TIMEOUT_S):
        async for chunk in request.stream():
            size_bytes += len(chunk)
            if size_bytes > max_bytes:
                raise TooLargeError(f"the body has over {max_bytes} bytes", hint=advice)
            take(len(chunk))
            chunks.append(chunk)
    return b"".join(chunks)


async def read_json(request: Request, take: Callable[[int], None]) -> dict[str, Any]:
    """The body as a JSON object.

    Raises:
        InvalidInputError: it is not UTF-8, not JSON (NaN and Infinity are not), or no object.
        TooLargeError: it is larger than `JSON_MAX_BYTES`.
    """
    body = await read_body(request, JSON_MAX_BYTES, "Send fewer records in a request.", take)
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        start = body[:40].decode(errors="replace")
        raise InvalidInputError("body", start, f"a JSON object ({error})") from error
    if not isinstance(value, dict):
        raise InvalidInputError("body", type(value).__name__, "a JSON object")
    return value


def read_agent_id(request: Request) -> str:
    """The agent's name from the path, validated."""
    return validate_name("agent_id", str(request.path_params["agent_id"]))


def read_epoch(request: Request) -> int:
    """The epoch from the header `X-Epoch`, validated."""
    return _whole_number("X-Epoch", request.headers.get("x-epoch"), "the agent's EPOCH")


def read_expected_version(request: Request) -> int:
    """The version from the header `If-Match`, with or without the quotes of an entity tag."""
    value = request.headers.get("if-match")
    unquoted = value[1:-1] if value and len(value) > 2 and value[0] == value[-1] == '"' else value
    return _whole_number("If-Match", unquoted, "the version that was read, 0 when there was none")


def parse_activities(
    body: Mapping[str, Any], agent_id: str, network_id: str, now: datetime
) -> tuple[Activity, ...]:
    """Activities of a request body (`{"activities": [...]}`).

    Returns:
        One record per item, in order; ids are unique per agent, whatever other agents send.

    Raises:
        InvalidInputError: names the wrong member by its path, for example `activities[3].kind`.
    """
    return tuple(
        Activity(
            activity_id=f"{record_id}.{agent_id}",
            agent_id=agent_id,
            network_id=network_id,
            kind=_name(item, "kind", path),
            at=at,
            duration_s=_duration_s(item, path),
            ok=_boolean(item, "ok", path),
            detail=_text(item, "detail", path, required=False),
        )
        for item, path, record_id, at in _records(
            body, "activities", {"id", "kind", "duration_s", "ok", "detail"}, now
        )
    )


def parse_notes(
    body: Mapping[str, Any], agent_id: str, network_id: str, now: datetime
) -> tuple[Note, ...]:
    """Notes of a request body (`{"notes": [...]}`); see `parse_activities`."""
    return tuple(
        Note(
            f"{record_id}.{agent_id}",
            agent_id,
            network_id,
            at,
            _text(item, "text", path),
            parse_vector(item.get("vector"), f"{path}.vector"),
        )
        for item, path, record_id, at in _records(body, "notes", {"id", "text", "vector"}, now)
    )


def parse_report(body: Mapping[str, Any]) -> tuple[dict[str, float] | None, AgentMeters | None]:
    """Metrics and meters of a request body; None for what is left out.

    Raises:
        InvalidInputError: names the wrong member by its path.
    """
    _refuse_others(body, {"metrics", "meters"}, "")
    metrics, meters = body.get("metrics"), body.get("meters")
    return (
        None if metrics is None else parse_metrics(metrics),
        None if meters is None else parse_meters(meters),
    )


def parse_metrics(metrics: object) -> dict[str, float]:
    """Values of an agent's own choice (`{name: number}`)."""
    if not isinstance(metrics, dict) or len(metrics) > METRICS_MAX:
        raise InvalidInputError("metrics", metrics, f"an object of at most {METRICS_MAX} numbers")
    for name in metrics:
        if _METRIC_NAME.fullmatch(name) is None:
            raise InvalidInputError(
                "metrics", name, "names of 1 to 64 characters a-z, 0-9 and '_', no digit first"
            )
    return {name: _number(f"metrics.{name}", value) for name, value in metrics.items()}


def _records(
    body: Mapping[str, Any], field: str, members: set[str], now: datetime
) -> Iterator[tuple[dict[str, Any], str, str, datetime]]:
    """Each item of a list with its path, id and time."""
    _refuse_others(body, {field}, "")
    items = body.get(field)
    if not isinstance(items, list) or not 1 <= len(items) <= RECORDS_MAX:
        found = f"{len(items)} items" if isinstance(items, list) else items
        raise InvalidInputError(field, found, f"a list of 1 to {RECORDS_MAX} objects")
    for index, item in enumerate(items):
        path = f"{field}[{index}]"
        if not isinstance(item, dict):
            raise InvalidInputError(path, item, "an object")
        _refuse_others(item, members, f"{path}.")
        record_id, at = _record_id(item.get("id"), f"{path}.id", now)
        yield item, path, record_id, at


def _record_id(value: object, path: str, now: datetime) -> tuple[str, datetime]:
    """An id and the time in it; a new one when the sender gave none."""
    if value is None:
        milliseconds = int(now.timestamp() * 1000)
        order = next(_sequence) & 0xFFFFFFFF
        return f"{milliseconds:012x}-{order:08x}{os.urandom(8).hex()}", now
    match = _RECORD_ID.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        allowed = "12 hexadecimal digits (milliseconds since 1970), '-', 4 to 32 more"
        raise InvalidInputError(path, value, allowed, hint="Leave it out to have one made.")
    seconds = int(match[1], 16) / 1000
    if not -ID_BEHIND_MAX_S <= seconds - now.timestamp() <= ID_AHEAD_MAX_S:
        allowed = f"a time from {ID_BEHIND_MAX_S} s ago to {ID_AHEAD_MAX_S} s ahead"
        raise InvalidInputError(path, value, allowed, hint="Leave it out to have one made.")
    return match[0], datetime.fromtimestamp(seconds, UTC)


def _whole_number(field: str, value: str | None, meaning: str) -> int:
    if value is None or _WHOLE_NUMBER.fullmatch(value) is None:
        raise InvalidInputError(field, value, f"a whole number: {meaning}")
    return int(value)


def _name(item: Mapping[str, Any], member: str, path: str) -> str:
    value = item.get(member)
    if not isinstance(value, str) or not is_name(value):
        allowed = f"1 to {NAME_MAX_CHARS} letters, digits, '.', '_' or '-'"
        raise InvalidInputError(f"{path}.{member}", value, allowed)
    return value


def _text(item: Mapping[str, Any], member: str, path: str, *, required: bool = True) -> str:
    """Text that every store takes: PostgreSQL knows no NUL, UTF-8 no lone surrogate."""
    value = item.get(member, None if required else "")
    if not isinstance(value, str) or len(value) > TEXT_MAX_CHARS or (required and not value):
        found = f"{len(value)} characters" if isinstance(value, str) else value
        raise InvalidInputError(f"{path}.{member}", found, f"1 to {TEXT_MAX_CHARS} characters")
    if _UNSTORABLE.search(value):
        raise InvalidInputError(f"{path}.{member}", value[:40], "text without NUL and surrogates")
    return value


def _duration_s(item: Mapping[str, Any], path: str) -> float | None:
    value = item.get("duration_s")
    if value is None:
        return None
    duration_s = _number(f"{path}.duration_s", value)
    if duration_s < 0:
        raise InvalidInputError(f"{path}.duration_s", value, "seconds, 0 or more")
    return duration_s


def _boolean(item: Mapping[str, Any], member: str, path: str) -> bool:
    value = item.get(member, True)
    if not isinstance(value, bool):
        raise InvalidInputError(f"{path}.{member}", value, "true or false")
    return value


def _number(field: str, value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise InvalidInputError(field, value, "a finite number")


def _refuse_others(item: Mapping[str, Any], members: set[str], prefix: str) -> None:
    others = sorted(item.keys() - members)
    if others:
        raise InvalidInputError(f"{prefix}{others[0]}", "given", f"only {sorted(members)}")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")
